//! What a weight file remembers of the images it was trained on: enough to find the same split of the
//! same images again, and to notice images that were trained on among others.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::data::Source;

/// Fingerprints that are kept: enough to estimate how many of some images are known, few enough to be
/// 11 kB of a file.
const MOST: usize = 1024;

/// The images that weights were trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainedOn {
    /// The data set's name.
    pub dataset: String,
    /// [`Dataset::identity`](crate::data::Dataset::identity) with this seed, split and limit.
    pub identity: String,
    /// The seed of the split and the limit.
    pub seed: u64,
    /// The share that was held out for validation, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_split: Option<f64>,
    /// The most images that were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// How many images there were.
    pub images: usize,
    /// Which ones.
    pub sketch: Sketch,
}

/// How many of some images were trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Overlap {
    /// Those that were trained on; an estimate unless `exact`.
    pub trained_on: usize,
    /// All of them.
    pub images: usize,
    /// Whether every image that was trained on is known, not only a sample of them.
    pub exact: bool,
}

impl TrainedOn {
    /// How many images of `source` have the name and the [`stamp`](Source::stamp) of one that was
    /// trained on, wherever they are now.
    pub fn overlap(&self, source: &dyn Source) -> Overlap {
        let known = (0..source.len()).filter(|&index| {
            let wanted = fingerprint(source, index);
            self.sketch.0.binary_search(&wanted).is_ok()
        });
        let (known, images) = (known.count(), source.len());
        let exact = self.sketch.0.len() < MOST;
        let trained_on = match exact {
            true => known,
            false => {
                let share = self.images as f64 / self.sketch.0.len() as f64;
                ((known as f64 * share).round() as usize).clamp(known, images)
            }
        };
        Overlap { trained_on, images, exact }
    }
}

/// The smallest fingerprints of some images, in ascending order: a sample that does not depend on where
/// the images are or in which order they come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sketch(Vec<u64>);

impl Sketch {
    /// Of all images of a source.
    pub fn of(source: &dyn Source) -> Self {
        let mut all: Vec<u64> = (0..source.len()).map(|i| fingerprint(source, i)).collect();
        all.sort_unstable();
        all.dedup();
        all.truncate(MOST);
        Sketch(all)
    }

    /// Whether there is no fingerprint in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Sketch> for String {
    fn from(sketch: Sketch) -> String {
        let bytes: Vec<u8> = sketch.0.iter().flat_map(|value| value.to_le_bytes()).collect();
        STANDARD.encode(bytes)
    }
}

impl TryFrom<String> for Sketch {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let broken = || "the fingerprints of its training images cannot be read".to_owned();
        let bytes = STANDARD.decode(text).map_err(|_| broken())?;
        let (values, rest) = bytes.as_chunks::<8>();
        let values: Vec<u64> = values.iter().map(|value| u64::from_le_bytes(*value)).collect();
        match rest.is_empty() && values.len() <= MOST && values.is_sorted() {
            true => Ok(Sketch(values)),
            false => Err(broken()),
        }
    }
}

/// A number for image `index`, the same wherever its folder is: of the file's own name and its stamp,
/// or of the whole name where there is no stamp to tell images of one name apart.
fn fingerprint(source: &dyn Source, index: usize) -> u64 {
    let (name, stamp) = (source.name(index), source.stamp(index));
    let own = match stamp {
        0 => &name,
        _ => name.rsplit('/').next().unwrap_or(&name),
    };
    let hash = Sha256::new().chain_update(own).chain_update(stamp.to_le_bytes());
    hash.finalize().iter().take(8).fold(0, |sum, &byte| (sum << 8) | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Picture;

    /// Images `folder/first.jpg` and so on, of which only names and stamps are asked.
    struct Named(&'static str, std::ops::Range<usize>);

    impl Source for Named {
        fn len(&self) -> usize {
            self.1.len()
        }
        fn label(&self, _: usize) -> u32 {
            0
        }
        fn name(&self, index: usize) -> String {
            format!("{}/{}.jpg", self.0, self.1.start + index)
        }
        fn picture(&self, _: usize) -> crate::Result<Picture> {
            Picture::new(1, 1, 1, vec![0])
        }
        fn stamp(&self, index: usize) -> u64 {
            (self.1.start + index) as u64 * 7 + 1
        }
    }

    fn trained_on(images: std::ops::Range<usize>) -> TrainedOn {
        let source = Named("train/cat", images);
        TrainedOn {
            dataset: "folder".to_owned(),
            identity: String::new(),
            seed: 0,
            val_split: None,
            limit: None,
            images: source.len(),
            sketch: Sketch::of(&source),
        }
    }

    #[test]
    fn few_images_are_all_known_wherever_they_are() {
        let about = trained_on(0..100);
        let overlap = |images| about.overlap(&Named("elsewhere", images));
        assert_eq!(overlap(0..100), Overlap { trained_on: 100, images: 100, exact: true });
        assert_eq!(overlap(90..120).trained_on, 10);
        assert_eq!(overlap(100..200).trained_on, 0);
    }

    #[test]
    fn many_images_are_estimated() {
        let about = trained_on(0..20_000);
        let overlap = |images| about.overlap(&Named("elsewhere", images));
        let found = overlap(0..20_000);
        assert_eq!((found.trained_on, found.exact), (20_000, false));
        assert_eq!(overlap(20_000..60_000).trained_on, 0);
        let half = overlap(10_000..30_000).trained_on;
        assert!((9_000..11_000).contains(&half), "{half} of 10000");
    }

    #[test]
    fn a_sketch_survives_json_and_a_broken_one_is_refused() {
        let about = trained_on(0..2000);
        let json = serde_json::to_string(&about).unwrap();
        assert!(json.len() < 11_200, "{}", json.len());
        assert_eq!(serde_json::from_str::<TrainedOn>(&json).unwrap(), about);
        for bad in ["?", "AAAA", &STANDARD.encode([1u8; 8 * (MOST + 1)])] {
            assert!(Sketch::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
