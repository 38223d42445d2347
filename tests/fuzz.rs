//! Damaged and hostile files: whatever the bytes are, reading them ends in an answer, soon, and
//! within bounded memory.
//!
//! Each target mutates good files for a moment. For longer, twenty minutes each, say:
//!
//! ```text
//! CONVZOO_FUZZ_SECONDS=1200 cargo test --test fuzz -- --nocapture --test-threads 1
//! ```
//!
//! `CONVZOO_FUZZ_SEED` begins elsewhere. The input under way is kept in the temporary folder as
//! `convzoo-fuzz-TARGET`, so that one that ends the process is there; the slowest, where that took a
//! second, as `convzoo-fuzz-TARGET.slow`.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::panic::catch_unwind;
use std::path::Path;
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use common::pickled::{Py, dict, saved, saved_the_old_way, text, zip};
use common::run::Small;
use convzoo::data::{self, DataRequest, Limits, decode};
use convzoo::rng::Rng;
use convzoo::train::{RunFolder, TrainConfig, Trainer};
use convzoo::weights;

/// No input may take longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// No target may need more memory than this, in kilobytes.
const MOST_MEMORY: u64 = 1 << 20;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Feeds mutations of `seeds` to `read`, which says whether it took the input for good.
fn fuzz(target: &str, seeds: &[Vec<u8>], read: impl Fn(&[u8]) -> bool + std::panic::RefUnwindSafe) {
    assert!(seeds.iter().all(|seed| read(seed)), "{target}: a good file was refused");
    let seconds = setting("CONVZOO_FUZZ_SECONDS", 1);
    let (start, kept) =
        (Instant::now(), std::env::temp_dir().join(format!("convzoo-fuzz-{target}")));
    let mut rng = Rng::stream(setting("CONVZOO_FUZZ_SEED", 1), target, &[]);
    let (mut count, mut good, mut slowest) = (0u64, 0u64, Duration::ZERO);
    while start.elapsed() < Duration::from_secs(seconds) {
        let input = mutated(seeds, &mut rng);
        fs::write(&kept, &input).expect("a temporary file");
        let begun = Instant::now();
        let result = catch_unwind(|| read(&input));
        let Ok(taken) = result else { panic!("{target}: a panic; see {}", kept.display()) };
        if begun.elapsed() > slowest.max(Duration::from_secs(1)) {
            let _ = fs::copy(&kept, kept.with_extension("slow"));
        }
        slowest = slowest.max(begun.elapsed());
        assert!(slowest < PATIENCE, "{target}: {slowest:?}; see {}", kept.display());
        (count, good) = (count + 1, good + u64::from(taken));
    }
    let _ = fs::remove_file(kept);
    let memory = peak_memory();
    assert!(memory < MOST_MEMORY, "{target}: {memory} kB were needed");
    let milliseconds = slowest.as_millis();
    println!(
        "{target}: {count} inputs in {seconds} s, {good} of them readable, the slowest took \
         {milliseconds} ms; at most {} MB in use",
        memory >> 10
    );
}

/// The most memory this process has had, in kilobytes; 0 where that cannot be known.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// One of the seeds with a few changes.
fn mutated(seeds: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = seeds[rng.below(seeds.len())].clone();
    for _ in 0..1 + rng.below(4) {
        change(&mut bytes, seeds, rng);
    }
    bytes.truncate(1 << 20);
    bytes
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], rng: &mut Rng) {
    const SPECIAL: [u64; 12] = [
        0,
        1,
        0x7f,
        0xff,
        0x7fff,
        0xffff,
        0x7fff_ffff,
        0xffff_ffff,
        1 << 32,
        0x7fff_ffff_ffff_ffff,
        u64::MAX,
        u64::MAX - 7,
    ];
    // Instructions of pickles, and what JSON is made of.
    const WORDS: &[u8] =
        b"()]}.012NJKMIGFXTUBlthdaesuqrjcQRb\x80\x85\x86\x87\x88\x8a\x8c\x93\x94\x95{[\":,-9";
    let at = rng.below(bytes.len() + 1);
    let length = rng.below(24).min(bytes.len() - at);
    match rng.below(9) {
        0 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
        1 if at < bytes.len() => bytes[at] = WORDS[rng.below(WORDS.len())],
        2 => bytes.insert(at, WORDS[rng.below(WORDS.len())]),
        3 => drop(bytes.drain(at..at + length)),
        4 => bytes.truncate(at),
        5 => {
            let piece = bytes[at..at + length].to_vec();
            let times = 1 + rng.below(64);
            bytes.splice(at..at, piece.repeat(times));
        }
        6 => {
            let other = &seeds[rng.below(seeds.len())];
            let from = rng.below(other.len());
            let piece = &other[from..(from + 1 + rng.below(64)).min(other.len())];
            bytes.splice(at..at + length.min(piece.len()), piece.iter().copied());
        }
        _ => {
            let value = SPECIAL[rng.below(SPECIAL.len())];
            let size = [1, 2, 4, 8][rng.below(4)];
            let value = if rng.chance(0.5) { value.to_le_bytes() } else { value.to_be_bytes() };
            let value = &value[if rng.chance(0.5) { 0..size } else { 8 - size..8 }];
            let end = (at + size).min(bytes.len());
            bytes[at..end].copy_from_slice(&value[..end - at]);
        }
    }
}

/// Recorded files of PyTorch's, and how each is written: `zip` or `legacy`.
fn recorded(format: &str) -> Vec<Vec<u8>> {
    let Some(shared) = common::shared() else { return Vec::new() };
    let names = [format!("views_dtypes_{format}.pth"), format!("checkpoint_{format}.pth")];
    names.iter().map(|name| fs::read(shared.join("fixtures/pth").join(name)).unwrap()).collect()
}

/// A tensor file of the old format, small enough that most changes hit the pickles.
fn small_legacy() -> Vec<u8> {
    let mut file = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec();
    file.extend(
        b"\x80\x02M\xe9\x03.\x80\x02}q\x00(X\x0d\x00\x00\x00little_endianq\x01\x88u.\x80\x02}",
    );
    file.extend(b"q\x00U\x01xctorch._utils\n_rebuild_tensor_v2\nq\x01((U\x07storageq\x02");
    file.extend(b"ctorch\nFloatStorage\nq\x03U\x010U\x03cpuK\x04NtQK\x00K\x02K\x02\x86K\x02");
    file.extend(b"K\x01\x86\x89ccollections\nOrderedDict\n)RtRs.\x80\x02]q\x01U\x010a.");
    file.extend(4u64.to_le_bytes());
    file.extend([1f32, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()));
    file
}

/// The pickle of [`small_legacy`] in an archive whose check sums are right.
fn zipped(pickle: &[u8]) -> Vec<u8> {
    zip(&[("a/data.pkl", pickle), ("a/byteorder", b"little"), ("a/data/0", &[7; 16])])
}

fn small_pickle() -> Vec<u8> {
    let file = small_legacy();
    let from = file.windows(4).position(|w| w == b"}q\0U").expect("the state dict") - 2;
    let end = file.windows(3).position(|w| w == b"Rs.").expect("its end") + 3;
    file[from..end].to_vec()
}

/// A checkpoint with other objects beside its tensors.
fn checkpoint() -> Py {
    let tensor = Py::Tensor(Tensor::zeros((2, 2), DType::F32, &Device::Cpu).unwrap());
    let namespace = Py::New("argparse", "Namespace", Vec::new());
    let lr = Py::Call("numpy.core.multiarray", "scalar", vec![Py::None]);
    let state = Py::Holding(
        Box::new(Py::Call("collections", "OrderedDict", Vec::new())),
        vec![(text("a"), tensor.clone())],
    );
    dict([
        ("state_dict", state.clone()),
        ("state_dict_ema", state),
        ("args", Py::With(Box::new(namespace), Box::new(dict([("lr", lr)])))),
        ("best", tensor),
        ("seen", Py::Call("builtins", "set", vec![Py::List(vec![Py::Int(1)])])),
    ])
}

fn reads(bytes: &[u8]) -> bool {
    weights::parse(Path::new("fuzzed"), bytes).is_ok()
}

#[test]
fn pickles_of_the_old_format() {
    let made = vec![small_legacy(), saved_the_old_way(&checkpoint())];
    fuzz("pth-legacy", &[recorded("legacy"), made].concat(), reads);
}

#[test]
fn archives() {
    let made = vec![zipped(&small_pickle()), saved(&checkpoint())];
    let seeds = [recorded("zip"), made].concat();
    fuzz("pth-zip", &seeds, reads);
}

#[test]
fn pickles_in_archives() {
    fuzz("pth-pickle", &[small_pickle()], |pickle| reads(&zipped(pickle)));
}

#[test]
fn safetensors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w");
    let tensor = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu).unwrap();
    let tensors = BTreeMap::from([
        ("a.weight", tensor(&[2, 3], DType::F32)),
        ("a.bias", tensor(&[2], DType::F16)),
        ("n", tensor(&[], DType::I64)),
        ("empty", tensor(&[0, 4], DType::U8)),
    ]);
    weights::write(&path, tensors.iter().map(|(n, t)| (*n, t)), None).unwrap();
    fuzz("safetensors", &[fs::read(path).unwrap()], reads);
}

#[test]
fn idx_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let images = [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28][..], &[5; 2 * 784]].concat();
    let labels = [0, 0, 8, 1, 0, 0, 0, 2, 3, 9].to_vec();
    for part in ["train", "t10k"] {
        fs::write(file(&format!("{part}-images-idx3-ubyte")), &images).unwrap();
        fs::write(file(&format!("{part}-labels-idx1-ubyte")), &labels).unwrap();
    }
    let open = || {
        let data_dir = Some(folder.path().to_owned());
        let request =
            DataRequest { data_dir, fallback: false, ..DataRequest::new("mnist".to_owned()) };
        data::open_eval(&request, Some(data::Part::Train)).is_ok()
    };
    let (images_file, labels_file) =
        (file("train-images-idx3-ubyte"), file("train-labels-idx1-ubyte"));
    // Both files in one input: the last ten bytes are the labels.
    fuzz("idx", &[[images, labels].concat()], |bytes| {
        let (images, labels) = bytes.split_at(bytes.len().saturating_sub(10));
        fs::write(&images_file, images).unwrap();
        fs::write(&labels_file, labels).unwrap();
        open()
    });
}

#[test]
fn picture_headers() {
    use common::pictures::{Bundle, cmyk_jpeg, encoded, giants, rotated_jpeg};
    use image::ImageFormat::{Bmp, Gif, Jpeg, Png, WebP};
    let small =
        || image::RgbImage::from_fn(6, 5, |x, y| image::Rgb([9 * x as u8, 40, 7 * y as u8]));
    let mut seeds: Vec<Vec<u8>> =
        [Bmp, Gif, Jpeg, Png, WebP].map(|format| encoded(small(), format)).to_vec();
    seeds.push(encoded(image::DynamicImage::from(small()).to_rgba16(), Png));
    seeds.push(encoded(image::DynamicImage::from(small()).to_luma8(), Jpeg));
    seeds.extend([cmyk_jpeg([1, 2, 3, 4]), rotated_jpeg(6)]);
    let odd = Bundle::open();
    let readable = odd.images.iter().filter(|image| image.refused.is_none());
    seeds.extend(readable.step_by(7).map(|image| odd.part(image.file).to_vec()));
    let reads = |bytes: &[u8]| match decode(bytes, Limits::default()) {
        Ok(picture) => {
            let values = picture.width * picture.height * picture.channels;
            assert_eq!(picture.pixels.len(), values);
            true
        }
        Err(error) => {
            assert!(!error.to_string().contains('\n'));
            false
        }
    };
    assert!(giants(60_000).iter().all(|(_, bytes)| !reads(bytes)));
    fuzz("pictures", &seeds, reads);
}

/// A finished run of one epoch.
fn small_run(folder: &Path) -> Small {
    let settings = TrainConfig { epochs: 1, batch_size: 16, ..Default::default() };
    let small = Small::new(settings).expect("a small run");
    small.start(folder, &mut ()).expect("an epoch");
    small
}

#[test]
fn resume_states() {
    let folder = tempfile::tempdir().unwrap();
    let small = std::panic::AssertUnwindSafe(small_run(folder.path()));
    let [newest, before] =
        ["resume.safetensors", "resume.previous.safetensors"].map(|name| folder.path().join(name));
    let seed = fs::read(&newest).unwrap();
    fuzz("resume", &[seed], |bytes| {
        let mut bytes = bytes.to_vec();
        right_sum(&mut bytes);
        fs::write(&newest, bytes).unwrap();
        let _ = fs::remove_file(&before);
        Trainer::resume(small.job(), folder.path()).is_ok()
    });
}

/// Gives a resume state the right check sum, so that what is behind it is read.
fn right_sum(bytes: &mut [u8]) {
    const KEY: &[u8] = b"\"convzoo.progress\":\"";
    let Some(at) = bytes.windows(KEY.len()).position(|w| w == KEY).map(|at| at + KEY.len()) else {
        return;
    };
    if at + 8 <= bytes.len() {
        bytes[at..at + 8].fill(b'0');
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        let sum = format!("{:08x}", crc.sum());
        bytes[at..at + 8].copy_from_slice(sum.as_bytes());
    }
}

#[test]
fn settings_of_runs() {
    let folder = tempfile::tempdir().unwrap();
    small_run(folder.path());
    let run = RunFolder::open(folder.path()).unwrap();
    let [config, summary] = ["config.json", "summary.json"].map(|name| folder.path().join(name));
    let seeds = [&config, &summary].map(|path| fs::read(path).unwrap());
    fuzz("settings", &seeds, |bytes| {
        fs::write(&config, bytes).unwrap();
        fs::write(&summary, bytes).unwrap();
        let settings = run.config();
        let sensible = settings.as_ref().map(|config| config.train.check().is_ok());
        run.summary().is_ok() || sensible.is_ok()
    });
}
