//! A thousand damaged and odd picture files: each one that cannot be read is named, and nothing else
//! comes of it.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use common::pictures::{Bundle, Odd, cmyk_jpeg, encoded, giants, rotated_jpeg};
use convzoo::data::{self, Limits, decode_file};
use convzoo::rng::Rng;
use image::{DynamicImage, ImageFormat};

const FORMATS: [ImageFormat; 5] =
    [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Gif];
/// Mutations of each kind.
const EACH: usize = 230;
/// What the program may need, in kilobytes: a limit for one picture is 512 MiB.
const MOST_MEMORY: u64 = 600 << 10;

/// One of our own drawings.
fn drawing(index: usize) -> DynamicImage {
    let set = data::drawn::cats_dogs(3, 8, 2);
    let picture = set.train.picture(index % 8).expect("a drawing");
    let (width, height) = (picture.width as u32, picture.height as u32);
    let image = image::RgbImage::from_raw(width, height, picture.pixels).expect("RGB");
    DynamicImage::from(image).thumbnail(48, 48)
}

fn extension(format: ImageFormat) -> &'static str {
    format.extensions_str()[0]
}

/// Good files, by name.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let drawings: Vec<DynamicImage> = (0..4).map(drawing).collect();
    let mut seeds = Vec::new();
    for (i, drawing) in drawings.iter().enumerate() {
        for format in FORMATS {
            let bytes = encoded(drawing.to_rgb8(), format);
            seeds.push((format!("{i}.{}", extension(format)), bytes));
        }
        seeds.push((format!("{i}-deep.png"), encoded(drawing.to_rgb16(), ImageFormat::Png)));
        seeds.push((format!("{i}-clear.png"), encoded(drawing.to_rgba8(), ImageFormat::Png)));
        seeds.push((format!("{i}-grey.jpg"), encoded(drawing.to_luma8(), ImageFormat::Jpeg)));
        seeds.push((format!("{i}-cmyk.jpg"), cmyk_jpeg([200, 30, 90, 255 - i as u8])));
        seeds.push((format!("{i}-turned.jpg"), rotated_jpeg(5 + i as u8)));
    }
    seeds
}

/// The files of the test: odd ones that can be read, and damaged ones, most of which cannot.
fn files() -> BTreeMap<String, Vec<u8>> {
    let (seeds, mut rng) = (seeds(), Rng::new(9));
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (i, (name, bytes)) in seeds.iter().enumerate() {
        files.insert(format!("good-{name}"), bytes.clone());
        let other = extension(FORMATS[i % FORMATS.len()]);
        files.insert(format!("ending-{name}.{other}"), bytes.clone());
    }
    for i in 0..EACH {
        let (name, good) = &seeds[rng.below(seeds.len())];
        files.insert(format!("cut-{i}-{name}"), good[..rng.below(good.len())].to_vec());
        let mut flipped = good.clone();
        for _ in 0..1 + rng.below(6) {
            let at = rng.below(flipped.len());
            flipped[at] ^= 1 << rng.below(8);
        }
        files.insert(format!("flipped-{i}-{name}"), flipped);
        let mut zeros = good.clone();
        let at = rng.below(zeros.len());
        let end = (at + 1 + rng.below(200)).min(zeros.len());
        zeros[at..end].fill(0);
        files.insert(format!("zeros-{i}-{name}"), zeros);
        let mut header = good.clone();
        let end = header.len().min(64);
        header[rng.below(end)] = rng.below(256) as u8;
        files.insert(format!("header-{i}-{name}"), header);
        let (_, other) = &seeds[rng.below(seeds.len())];
        let joined = [&good[..rng.below(good.len())], &other[rng.below(other.len())..]].concat();
        files.insert(format!("joined-{i}-{name}"), joined);
    }
    for side in [60_000, 65_535, 20_000] {
        for (name, bytes) in giants(side) {
            files.insert(format!("giant-{side}.{name}"), bytes);
        }
    }
    files.insert("empty.jpg".to_owned(), Vec::new());
    files.insert("text.png".to_owned(), b"I am no picture".to_vec());
    files
}

/// Runs the program; its output, and the most memory it had, in kilobytes.
fn run(command: &mut Command) -> (Output, u64) {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = child.spawn().expect("the program runs");
    let status = format!("/proc/{}/status", child.id());
    let watch = std::thread::spawn(move || {
        let mut peak = 0;
        // Gone, or a zombie without memory: it has ended.
        while let Some(now) = fs::read_to_string(&status).ok().as_deref().and_then(high_water) {
            peak = now;
            std::thread::sleep(Duration::from_millis(5));
        }
        peak
    });
    let output = child.wait_with_output().expect("an end");
    (output, watch.join().expect("a number"))
}

fn high_water(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

fn convzoo(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_convzoo"));
    command.current_dir(folder).args(args);
    command
}

#[test]
fn every_bad_picture_is_named_and_nothing_else_happens() {
    let (folder, files) = (tempfile::tempdir().expect("a folder"), files());
    let class = folder.path().join("data/train/odd");
    fs::create_dir_all(&class).expect("a folder");
    files.iter().for_each(|(name, bytes)| fs::write(class.join(name), bytes).expect("a file"));
    for part in ["train/good", "val/good", "val/odd"] {
        let at = folder.path().join("data").join(part);
        fs::create_dir_all(&at).expect("a folder");
        let picture = encoded(drawing(7 + part.len()).to_rgb8(), ImageFormat::Png);
        fs::write(at.join("a.png"), picture).expect("a file");
    }
    assert!(files.len() > 1000, "{} files", files.len());

    // What reading one by one says.
    let mut bad = BTreeMap::new();
    for name in files.keys() {
        let path = class.join(name);
        match decode_file(&path, Limits::default()) {
            Ok(picture) => {
                assert_eq!(picture.pixels.len(), picture.width * picture.height * picture.channels);
            }
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains(name.as_str()) && !text.contains('\n'), "{text}");
                bad.insert(format!("train/odd/{name}"), text);
            }
        }
    }
    assert!(bad.len() > 400, "only {} are bad", bad.len());
    let always_bad = |name: &&String| name.contains("giant") || name.starts_with("train/odd/e");
    assert_eq!(bad.keys().filter(always_bad).count(), 12 + 1, "giants and the empty file");
    assert!(!bad.keys().any(|name| name.contains("good-") || name.contains("ending-")));

    // The check names the same ones.
    let check = ["data", "check", "data", "--json", "--threads", "2"];
    let (output, memory) = run(&mut convzoo(folder.path(), &check));
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let listed = report["bad_files"].as_array().expect("a list").iter();
    let listed: Vec<&str> = listed.map(|bad| bad["file"].as_str().expect("a name")).collect();
    assert_eq!(listed, bad.keys().map(String::as_str).collect::<Vec<_>>());
    assert!(memory < MOST_MEMORY, "{memory} kB");

    // Training leaves the same ones out, and names them.
    let train = ["train", "simpleconvnet", "--dataset", "folder", "--data-dir", "data"];
    let train = [&train[..], &["--epochs", "1", "--out", "run", "--threads", "2"]].concat();
    let (output, training) = run(&mut convzoo(folder.path(), &train));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let named =
        |name: &&String| text.lines().any(|l| l.starts_with("left out") && l.contains(*name));
    assert_eq!(bad.keys().filter(named).count(), bad.len());
    let summary = fs::read_to_string(folder.path().join("run/summary.json")).expect("a summary");
    let summary: serde_json::Value = serde_json::from_str(&summary).expect("JSON");
    assert_eq!(summary["skipped_images"], bad.len());
    assert!(training < MOST_MEMORY, "{training} kB");
    println!(
        "{} files, {} bad; at most {} MB to check them, {} MB to train on them",
        files.len(),
        bad.len(),
        memory >> 10,
        training >> 10
    );
}

#[test]
fn the_check_counts_sizes_and_duplicates() {
    let folder = tempfile::tempdir().expect("a folder");
    let save = |name: &str, width: u32, height: u32, light: u8| {
        let path = folder.path().join("pets").join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        let picture = image::RgbImage::from_pixel(width, height, image::Rgb([light; 3]));
        picture.save(path).expect("a picture");
    };
    for (name, width, height, light) in [
        ("train/cat/1.png", 10, 20, 1),
        ("train/cat/2.png", 30, 30, 2),
        ("train/cat/3.png", 8, 8, 3),
        ("train/dog/1.png", 40, 10, 4),
        ("train/dog/twin.png", 40, 10, 4),
        ("val/cat/1.png", 12, 12, 5),
        ("val/dog/1.png", 13, 13, 6),
    ] {
        save(name, width, height, light);
    }
    let check = |args: &[&str]| {
        let args = [&["data", "check", "pets"], args].concat();
        run(&mut convzoo(folder.path(), &args)).0
    };
    // A twin within a class is listed, and is no fault.
    let clean = check(&[]);
    let text = String::from_utf8_lossy(&clean.stdout).into_owned();
    assert!(clean.status.success(), "{text}");
    assert!(text.contains("train/dog/1.png = train/dog/twin.png"), "{text}");
    assert!(text.contains("7 pictures, all can be read"), "{text}");
    let row = "train  cat        3    0  0.0       8x8   10x20    30x30";
    assert!(text.lines().any(|line| line == row), "{text}");

    fs::copy(folder.path().join("pets/train/cat/2.png"), folder.path().join("pets/val/cat/2.png"))
        .expect("a copy");
    fs::copy(folder.path().join("pets/val/dog/1.png"), folder.path().join("pets/val/cat/9.png"))
        .expect("a copy");
    fs::write(folder.path().join("pets/val/dog/2.png"), "").expect("a file");
    let output = check(&["--json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["files"], 10);
    assert_eq!(report["bad_files"][0]["file"], "val/dog/2.png");
    assert_eq!(report["bad_files"][0]["reason"], "an empty file");
    let across: Vec<_> = report["duplicates"].as_array().expect("a list").iter().collect();
    assert_eq!(across.len(), 3);
    assert_eq!(across[0]["files"], serde_json::json!(["train/cat/2.png", "val/cat/2.png"]));
    assert_eq!(across[0]["across_parts"], true);
    assert_eq!(across[2]["across_classes"], true);
    let text = String::from_utf8_lossy(&check(&[]).stdout).into_owned();
    assert!(
        text.contains("10 files, 1 cannot be read, 2 pictures in two parts or classes"),
        "{text}"
    );

    let gone = run(&mut convzoo(folder.path(), &["data", "check", "nowhere"])).0;
    assert!(String::from_utf8_lossy(&gone.stderr).contains("nowhere"));
    assert!(!gone.status.success());
}

/// What is wrong with our pixels of an image, if anything is.
fn flaw(bundle: &Bundle, odd: &Odd) -> Option<String> {
    let picture = match (data::decode(bundle.part(odd.file), Limits::default()), &odd.refused) {
        (Ok(picture), None) => picture,
        (Ok(_), Some(words)) => return Some(format!("was read, not refused: {words}")),
        (Err(error), Some(words)) if error.to_string().contains(words.as_str()) => return None,
        (Err(error), _) => return Some(error.to_string()),
    };
    if (picture.width, picture.height) != (odd.width, odd.height) {
        return Some(format!("{}x{} pixels", picture.width, picture.height));
    }
    let (most, mean) = difference(&rgb(&picture), bundle.part(odd.pixels));
    (most > odd.most || mean > odd.mean).then(|| format!("off by {most}, on average {mean:.2}"))
}

fn rgb(picture: &data::Picture) -> Vec<u8> {
    match picture.channels {
        1 => picture.pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
        _ => picture.pixels.clone(),
    }
}

/// The largest and the mean difference of samples.
fn difference(a: &[u8], b: &[u8]) -> (u8, f64) {
    assert_eq!(a.len(), b.len());
    let differences = || a.iter().zip(b).map(|(a, b)| a.abs_diff(*b));
    let sum: f64 = differences().map(f64::from).sum();
    (differences().max().unwrap_or(0), sum / a.len() as f64)
}

#[test]
fn odd_images_are_pils() {
    let bundle = Bundle::open();
    let flaws = bundle.images.iter().filter_map(|odd| Some((&odd.name, flaw(&bundle, odd)?)));
    let flaws: Vec<String> = flaws.map(|(name, flaw)| format!("{name}: {flaw}")).collect();
    assert!(flaws.is_empty(), "{} differ:\n{}", flaws.len(), flaws.join("\n"));
    let refused = bundle.images.iter().filter(|odd| odd.refused.is_some()).count();
    println!(
        "{} files as PIL reads them, {refused} refused by name",
        bundle.images.len() - refused
    );
    assert!(bundle.images.len() - refused >= 300);
}

/// A file that has been cut off anywhere is refused, or all its pixels are there.
#[test]
fn no_image_is_read_in_part() {
    let bundle = Bundle::open();
    let decoded = |bytes: &[u8]| data::decode(bytes, Limits::default()).ok();
    // The file, and how few bytes at its end may be missing.
    let files = [
        ("jpeg/420-whole.jpg", 2),
        ("jpeg/420-split.jpg", 2),
        ("jpeg/420-split-2-1.jpg", 2),
        ("jpeg/420-progressive-split.jpg", 2),
        ("jpeg/pil-q20-s2-p.jpg", 2),
        ("jpeg/cmyk-split.jpg", 2),
        ("png/rgb8.png", 16),
        ("png/p4.png", 16),
        ("png/7-parts.png", 16),
        ("gif/16-colours.gif", 1),
        ("bmp/p4.bmp", 0),
        ("bmp/rle8.bmp", 0),
        ("webp/lossless-50.webp", 0),
        ("webp/q60-m4.webp", 0),
    ];
    for (name, spare) in files {
        let file = bundle.file(name);
        let whole = decoded(file).expect(name);
        for length in 0..file.len() {
            let found = decoded(&file[..length]);
            let missing = file.len() - length;
            let right = found.as_ref().is_none_or(|part| *part == whole);
            assert!(right, "{name}: other pixels without its last {missing} bytes");
            assert!(found.is_some() || missing > spare, "{name} without its last {missing} bytes");
        }
    }
}

/// The same coefficients in one scan and in one for each component.
#[test]
fn scans_one_by_one_give_the_same_pixels() {
    let bundle = Bundle::open();
    let decoded = |bytes: &[u8]| rgb(&data::decode(bytes, Limits::default()).expect("a JPEG"));
    for sampling in ["444", "422", "440", "420", "411"] {
        let whole = decoded(bundle.file(&format!("jpeg/{sampling}-whole.jpg")));
        for order in ["split", "split-back", "split-1-2", "split-2-1", "split-restart"] {
            let split = decoded(bundle.file(&format!("jpeg/{sampling}-{order}.jpg")));
            assert_eq!(difference(&whole, &split), (0, 0.0), "{sampling} {order}");
        }
    }
    let Some(shared) = common::shared() else { return };
    let read = |name: &str| fs::read(shared.join("cases/noninterleaved").join(name));
    let names = ["cat_128x128_420.jpg", "cat_128x128_420_noninterleaved.jpg"];
    let [Ok(whole), Ok(split)] = names.map(read) else { return };
    assert_eq!(decoded(&whole), decoded(&split));
}

/// Pipes and devices are refused at once; a name of any bytes is as good as another.
#[cfg(unix)]
#[test]
fn only_regular_files_are_read_whatever_their_names() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().expect("a folder");
    let told = |path: &Path| decode_file(path, Limits::default()).unwrap_err().to_string();
    let pipe = folder.path().join("pipe.png");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let link = folder.path().join("link.png");
    std::os::unix::fs::symlink("/dev/zero", &link).expect("a link");
    for path in [&pipe, &link] {
        let text = told(path);
        assert!(text.ends_with("png: is not a regular file"), "{text}");
    }
    assert!(told(folder.path()).contains("is a folder"));
    let path = folder.path().join(OsStr::from_bytes(b"caf\xe9 \xff.png"));
    let Ok(()) = fs::write(&path, encoded(drawing(1).to_rgb8(), ImageFormat::Png)) else {
        return; // such names do not exist on this file system
    };
    assert_eq!(decode_file(&path, Limits::default()).expect("an image").channels, 3);
    let few = Limits { bytes: 20, ..Limits::default() };
    let text = decode_file(&path, few).unwrap_err().to_string();
    assert!(text.contains("a file of this kind may have 20"), "{text}");
}

/// A thin image is read in little memory, or refused by its name.
#[test]
fn thin_images_are_named_and_take_no_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let class = folder.path().join("data");
    for (part, name) in [("cat", "thin.png"), ("cat", "a.png"), ("dog", "a.png"), ("dog", "b.png")]
    {
        fs::create_dir_all(class.join(part)).expect("a folder");
        let path = class.join(part).join(name);
        let bytes = match name {
            "thin.png" => encoded(image::GrayImage::new(1, 3_000_000), ImageFormat::Png),
            _ => encoded(drawing(path.as_os_str().len()).to_rgb8(), ImageFormat::Png),
        };
        fs::write(path, bytes).expect("a file");
    }
    let train = ["train", "simpleconvnet", "--data-dir", "data", "--dataset", "folder"];
    let train = [&train[..], &["--on-bad", "fail", "--epochs", "1", "--out", "run"]].concat();
    let (output, memory) = run(&mut convzoo(folder.path(), &train));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(text.contains("thin.png") && text.contains("resize of a 1x3000000"), "{text}");
    assert!(memory < MOST_MEMORY, "{memory} kB");
}
