//! Where weights come from: a file, torchvision's published ones, or a repository of the Hugging
//! Face hub.

use std::path::{Path, PathBuf};

use candle_core::Device;

use super::{Published, TORCHVISION, fits, folder, load, published, write};
use crate::data::hub::lock::{Lock, beside};
use crate::data::hub::sums::{self, Sums};
use crate::data::hub::{Hub, RemoteFile, cache_dir, trusted};
use crate::files::plain::is_plain;
use crate::visible::{tell, visible_line};
use crate::{Error, Result};

/// What a repository's weights may be called, the best first; else any of these endings.
const NAMES: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];
const ENDINGS: [&str; 4] = [".safetensors", ".bin", ".pth", ".pt"];

/// What a repository says of how its weights want images.
const CONFIG: &str = "config.json";

/// Where weights come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WeightSource {
    /// A file here, or a run's folder, which stands for its best weights; `FILE#KEY` takes what a
    /// checkpoint of PyTorch's keeps under that key.
    File(PathBuf),
    /// `pretrained`, or `pretrained:TAG`: what torchvision publishes.
    Pretrained {
        /// Which of several.
        tag: Option<String>,
    },
    /// `hf:ORG/REPO`, or `hf:ORG/REPO/FILE`.
    Hub {
        /// `ORG/REPO`
        repo: String,
        /// The file's path in the repository.
        file: Option<String>,
    },
}

impl WeightSource {
    /// Reads what follows `--weights`.
    ///
    /// # Errors
    /// An address on the hub that is none.
    pub fn parse(text: &str) -> Result<Self> {
        if let Some(address) = text.strip_prefix("hf:") {
            return hub_address(address).ok_or_else(|| {
                let message = format!("{text} is no address on the hub; write hf:ORG/REPO[/FILE]");
                Error::Setting(message)
            });
        }
        Ok(match text.split_once(':').unwrap_or((text, "")) {
            ("pretrained", "") => WeightSource::Pretrained { tag: None },
            ("pretrained", tag) => WeightSource::Pretrained { tag: Some(tag.to_owned()) },
            _ => WeightSource::File(PathBuf::from(text)),
        })
    }

    /// A file with these weights: the one named, or one in the cache, downloaded if it is not there.
    /// `model` says whose published weights are meant; `mirror` is where torchvision's files are to be
    /// had instead, which
    /// else `CONVZOO_MIRROR` says.
    ///
    /// # Errors
    /// Weights that are not published, or cannot be downloaded whole.
    pub fn fetch(&self, model: Option<&str>, mirror: Option<&str>) -> Result<PathBuf> {
        let hub = Hub::from_env();
        let of_env = std::env::var("CONVZOO_MIRROR").ok().filter(|mirror| !mirror.is_empty());
        let mirror = mirror.or(of_env.as_deref());
        match self {
            // Where there is something to say about the choice, `load` makes it again and says it.
            WeightSource::File(path) => match folder::weights_in(path)? {
                (file, None) => Ok(file),
                (_, Some(_)) => Ok(path.clone()),
            },
            WeightSource::Pretrained { tag } => {
                let model = model.ok_or_else(|| {
                    let message = "--weights pretrained: say of which network with --model NAME";
                    Error::Setting(message.to_owned())
                })?;
                fetch_published(&hub, published(model, tag.as_deref())?, mirror, &cache_dir()?)
            }
            WeightSource::Hub { repo, file } => {
                fetch_from_hub(&hub, repo, file.as_deref(), &cache_dir()?)
            }
        }
    }
}

/// `ORG/REPO[/FILE]`, without anything that leads elsewhere.
fn hub_address(address: &str) -> Option<WeightSource> {
    let parts: Vec<_> = address.splitn(3, '/').collect();
    let plain = |part: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && !part.starts_with('.') && part.chars().all(fits)
    };
    let file = parts.get(2).map(|file| (*file).to_owned());
    let file_fits = file.as_ref().is_none_or(|file| file.split('/').all(plain));
    let fits = parts.len() >= 2 && plain(parts[0]) && plain(parts[1]) && file_fits;
    fits.then(|| WeightSource::Hub { repo: format!("{}/{}", parts[0], parts[1]), file })
}

/// Downloads a published file, once, checks it against its hash, and returns where it is in `cache`
/// as safetensors with metadata: `cache/weights/NAME.safetensors`. Beside it, in `.sha256`, are the whole
/// hashes of both; every later use compares with them.
///
/// # Errors
/// The download fails; the file's tensors are not those of its network; a file in the cache has
/// changed; others may write to the cache.
pub fn fetch_published(
    hub: &Hub,
    row: &Published,
    mirror: Option<&str>,
    cache: &Path,
) -> Result<PathBuf> {
    trusted(cache)?;
    let original = cache.join("weights").join(row.file);
    let target = original.with_extension("safetensors");
    if target.is_file() {
        return sums::verify(&target).map(|()| target);
    }
    let name = format!("{} {}", row.model, row.tag);
    let _lock = Lock::take(beside(&target, ".lock"), &name, hub.quiet)?;
    if target.is_file() {
        return sums::verify(&target).map(|()| target);
    }
    let base = mirror.unwrap_or(TORCHVISION).trim_end_matches('/');
    hub.fetch_weights(&name, &format!("{base}/{}", row.file), row.sha256, &original)?;
    let mut sums = Sums::beside(&target)?;
    let sum = same_as_before(row, &original, &sums)?;
    convert(row, &original, &target)?;
    if row.sha256.len() < sum.len() && !hub.quiet {
        tell(&partly_known(row));
    }
    sums.record(row.file, sum)?;
    sums::record(&target)?;
    // What is needed of it is in the target now.
    let _ = std::fs::remove_file(&original);
    Ok(target)
}

/// The whole hash of a file, which is that of an earlier download if there was one: of some files, the
/// publisher gives only a part of it.
fn same_as_before(row: &Published, original: &Path, sums: &Sums) -> Result<String> {
    let found = sums::sum_of(original)?;
    match sums.of(row.file).filter(|known| *known != found) {
        None => Ok(found),
        Some(known) => Err(Error::file(
            original,
            format!(
                "its SHA-256 is {found}, and was {known} when it was first downloaded: one of the two \
                 is not the publisher's; to take this one, delete the .sha256 file beside it"
            ),
        )),
    }
}

fn partly_known(row: &Published) -> String {
    format!(
        "{}: only the first {} digits of its SHA-256 are known from its publisher, and they are right; \
         all of them are recorded in the cache, and compared from now on",
        row.file,
        row.sha256.len()
    )
}

fn convert(row: &Published, original: &Path, target: &Path) -> Result<()> {
    let file = load(original, &Device::Cpu)?;
    let tensors = file.torchvision()?;
    let fits = fits(&tensors);
    if !fits.iter().any(|fit| fit.architecture.name == row.model && fit.config.classes == 1000) {
        let cause = format!("its tensors are not those of {} with 1000 classes", row.model);
        return Err(Error::file(original, cause));
    }
    let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    write(target, named, Some(&row.metadata()?))
}

/// Downloads a weight file of a repository of the hub, once, and returns where it is:
/// `cache/hub/models/ORG--REPO/FILE`. Without `file`, the safetensors file, or what else there is.
///
/// # Errors
/// There is no such repository or file, or the download fails.
pub fn fetch_from_hub(hub: &Hub, repo: &str, file: Option<&str>, cache: &Path) -> Result<PathBuf> {
    trusted(cache)?;
    let folder = cache.join("hub").join("models").join(repo.replace('/', "--"));
    let known = file.map_or_else(|| NAMES.to_vec(), |file| vec![file]);
    if let Some(there) = known.iter().map(|name| folder.join(name)).find(|path| path.is_file()) {
        return as_it_came(there);
    }
    let files = hub.model_files(repo)?;
    let chosen = match file {
        Some(name) => files.iter().find(|file| file.path == name),
        None => choose(&files),
    };
    let chosen = chosen.ok_or_else(|| {
        let names: Vec<_> = files.iter().map(|file| file.path.as_str()).take(20).collect();
        let wanted = file.unwrap_or("a weight file");
        Error::weights(repo, format!("it has not {wanted}; it has {}", names.join(", ")))
    })?;
    // A server's path must not lead out of the folder.
    if !chosen.path.split('/').all(is_plain) {
        let path = visible_line(&chosen.path);
        return Err(Error::weights(repo, format!("{path} is not a name for a file")));
    }
    let target = folder.join(&chosen.path);
    if target.is_file() {
        return as_it_came(target);
    }
    // How pictures are prepared, first: where the weights are, nothing is missing.
    if let Some(config) = files.iter().find(|file| file.path == CONFIG) {
        let beside = target.with_file_name(CONFIG);
        let is_new = !beside.is_file();
        hub.fetch_of_model(repo, config, &beside)?;
        if is_new {
            sums::record(&beside)?;
        }
    }
    hub.fetch_of_model(repo, chosen, &target)?;
    // Another process may have brought it meanwhile; both record the same.
    sums::record(&target)?;
    Ok(target)
}

/// A file of the hub that is in the cache, unless it or the settings beside it have changed.
fn as_it_came(target: PathBuf) -> Result<PathBuf> {
    let config = target.with_file_name(CONFIG);
    if config.is_file() {
        sums::verify(&config)?;
    }
    sums::verify(&target)?;
    Ok(target)
}

fn choose(files: &[RemoteFile]) -> Option<&RemoteFile> {
    let named = NAMES.iter().find_map(|name| files.iter().find(|file| file.path == *name));
    let ending = |ending: &str| files.iter().find(|file| file.path.ends_with(ending));
    named.or_else(|| ENDINGS.iter().find_map(|end| ending(end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_apart() {
        let parse = |text| WeightSource::parse(text).unwrap();
        assert_eq!(parse("runs/a.safetensors"), WeightSource::File("runs/a.safetensors".into()));
        assert_eq!(parse("pretrained"), WeightSource::Pretrained { tag: None });
        let tag = Some("IMAGENET1K_V2".to_owned());
        assert_eq!(parse("pretrained:IMAGENET1K_V2"), WeightSource::Pretrained { tag });
        let repo = "timm/resnet18.tv_in1k".to_owned();
        assert_eq!(parse("hf:timm/resnet18.tv_in1k"), WeightSource::Hub { repo, file: None });
        let (repo, file) = ("a/b".to_owned(), Some("c/d.bin".to_owned()));
        assert_eq!(parse("hf:a/b/c/d.bin"), WeightSource::Hub { repo, file });
        for bad in ["hf:", "hf:a", "hf:a/", "hf:../b", "hf:a/b/../../c", "hf:a/b?c", "hf:a/b/"] {
            assert!(WeightSource::parse(bad).is_err(), "{bad}");
        }
    }
}
