//! Decoding, transforms and finding data sets: on files made here, and on real ones where they are.

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use common::pictures::{cmyk_jpeg, encoded, giants, quarters, rotated_jpeg};
use convzoo::data::{
    self, DataKind, DataRequest, Filter, Limits, Picture, Pipeline, Source, Step, decode,
    decode_file,
};
use convzoo::rng::Rng;
use image::{ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};

fn decoded(bytes: &[u8]) -> Picture {
    decode(bytes, Limits::default()).expect("a picture")
}

fn complaint(bytes: &[u8]) -> String {
    decode(bytes, Limits::default()).expect_err("no picture").to_string()
}

/// The colour at a point, given in quarters of the sides.
fn at(picture: &Picture, x: usize, y: usize) -> &[u8] {
    let (x, y) = (picture.width * x / 4, picture.height * y / 4);
    &picture.pixels[(y * picture.width + x) * picture.channels..][..picture.channels]
}

fn near(found: &[u8], wanted: &[u8], most: u8) -> bool {
    found.len() == wanted.len() && found.iter().zip(wanted).all(|(a, b)| a.abs_diff(*b) <= most)
}

#[test]
fn every_format_decodes_to_the_same_picture() {
    for (format, most) in [
        (ImageFormat::Png, 0),
        (ImageFormat::Bmp, 0),
        (ImageFormat::WebP, 0),
        (ImageFormat::Gif, 8),
        (ImageFormat::Jpeg, 8),
    ] {
        let picture = decoded(&encoded(quarters(), format));
        assert_eq!((picture.width, picture.height, picture.channels), (24, 16, 3), "{format:?}");
        for (x, y, colour) in [
            (1, 1, [250, 10, 10]),
            (3, 1, [10, 250, 10]),
            (1, 3, [10, 10, 250]),
            (3, 3, [240, 240, 240]),
        ] {
            let found = at(&picture, x, y);
            assert!(near(found, &colour, most), "{format:?} at {x},{y}: {found:?}");
        }
    }
}

#[test]
fn deep_grey_and_transparent_pictures_become_8_bit_grey_or_rgb() {
    let deep = image::ImageBuffer::<Rgb<u16>, _>::from_pixel(3, 2, Rgb([65535, 257, 32896]));
    let picture = decoded(&encoded(deep, ImageFormat::Png));
    assert_eq!((picture.channels, &picture.pixels[..3]), (3, &[255, 1, 128][..]));

    let grey = image::GrayImage::from_pixel(3, 2, image::Luma([77]));
    let picture = decoded(&encoded(grey, ImageFormat::Png));
    assert_eq!((picture.channels, picture.pixels), (1, vec![77; 6]));

    // The colour under the transparency shows, as with PIL's convert("RGB").
    let clear = RgbaImage::from_pixel(3, 2, Rgba([9, 80, 200, 0]));
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        let picture = decoded(&encoded(clear.clone(), format));
        assert_eq!((picture.channels, &picture.pixels[..3]), (3, &[9, 80, 200][..]), "{format:?}");
    }
}

#[test]
fn the_first_frame_of_a_gif_counts() {
    let mut bytes = Vec::new();
    {
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
        for colour in [[200, 0, 0, 255], [0, 0, 200, 255]] {
            let frame = image::Frame::new(RgbaImage::from_pixel(5, 4, Rgba(colour)));
            encoder.encode_frame(frame).expect("a frame");
        }
    }
    let picture = decoded(&bytes);
    assert_eq!((picture.width, picture.height), (5, 4));
    assert!(near(&picture.pixels[..3], &[200, 0, 0], 4), "{:?}", &picture.pixels[..3]);
}

#[test]
fn exif_orientation_is_applied() {
    let red = [250, 10, 10];
    // Where the red quarter of the stored picture must appear for each orientation.
    for (orientation, swapped, x, y) in [
        (1, false, 1, 1),
        (2, false, 3, 1),
        (3, false, 3, 3),
        (4, false, 1, 3),
        (5, true, 1, 1),
        (6, true, 3, 1),
        (7, true, 3, 3),
        (8, true, 1, 3),
    ] {
        let picture = decoded(&rotated_jpeg(orientation));
        let size = if swapped { (16, 24) } else { (24, 16) };
        assert_eq!((picture.width, picture.height), size, "orientation {orientation}");
        let found = at(&picture, x, y);
        assert!(near(found, &red, 12), "orientation {orientation}: {found:?}");
    }
    // An orientation that does not exist is no orientation.
    assert_eq!(decoded(&rotated_jpeg(77)).width, 24);
}

#[test]
fn cmyk_jpegs_become_rgb() {
    for (inks, rgb) in [
        ([255, 0, 0, 255], [255, 0, 0]),
        ([255, 255, 255, 255], [255, 255, 255]),
        ([0, 0, 255, 255], [0, 0, 255]),
        ([255, 255, 255, 0], [0, 0, 0]),
    ] {
        let picture = decoded(&cmyk_jpeg(inks));
        assert_eq!((picture.width, picture.height, picture.channels), (8, 8, 3));
        assert!(near(&picture.pixels[..3], &rgb, 3), "{inks:?}: {:?}", &picture.pixels[..3]);
    }
}

#[test]
fn what_is_no_whole_picture_is_refused() {
    assert!(complaint(b"").contains("empty"));
    assert!(complaint(b"This is a text that somebody named cat.jpg.").contains("not a picture"));
    assert!(complaint(b"\xff\xd8\xff\xe0\0").starts_with("picture: JPEG: "));
    // A format that is known but not read.
    assert!(complaint(b"II*\0\x08\0\0\0\0\0\0\0").contains("not a picture"));
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP, ImageFormat::Jpeg] {
        let mut rng = Rng::new(5);
        let noise = RgbImage::from_fn(40, 30, |_, _| Rgb([0; 3].map(|_: u8| rng.below(256) as u8)));
        let bytes = encoded(noise, format);
        for share in [0.02, 0.1, 0.5, 0.9] {
            let cut = &bytes[..(bytes.len() as f64 * share) as usize];
            let found = decode(cut, Limits::default());
            assert!(found.is_err(), "{format:?} cut to {share}");
        }
    }
}

#[test]
fn damaged_bytes_never_panic() {
    let mut rng = Rng::new(11);
    for format in
        [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP, ImageFormat::Gif, ImageFormat::Jpeg]
    {
        let bytes = encoded(quarters(), format);
        for _ in 0..300 {
            let mut broken = bytes.clone();
            for _ in 0..1 + rng.below(8) {
                let at = rng.below(broken.len());
                broken[at] = rng.below(256) as u8;
            }
            let limits = Limits { pixels: 1_000_000, bytes: 16 << 20 };
            if let Ok(picture) = decode(&broken, limits) {
                assert_eq!(picture.pixels.len(), picture.width * picture.height * picture.channels);
            }
        }
    }
}

#[test]
fn headers_that_promise_giants_are_refused_before_anything_is_allocated() {
    for (name, bytes) in giants(60_000) {
        let text = complaint(&bytes);
        assert!(text.contains("pixels") && text.contains("at most"), "{name}: {text}");
    }
    let small = Limits { pixels: 24 * 16 - 1, ..Limits::default() };
    assert!(decode(&encoded(quarters(), ImageFormat::Png), small).is_err());
}

#[test]
fn files_are_named_in_errors() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("cat.7.jpg");
    fs::write(&path, "no picture").expect("a file");
    let text = decode_file(&path, Limits::default()).expect_err("no picture").to_string();
    assert!(text.contains("cat.7.jpg") && text.contains("not a picture"), "{text}");
    let text = decode_file(dir.path(), Limits::default()).expect_err("a folder").to_string();
    assert!(text.contains("is a folder, not a file"), "{text}");
    let limits = Limits { bytes: 4, ..Limits::default() };
    assert!(decode_file(&path, limits).is_err());
    assert!(decode_file(&dir.path().join("absent.png"), Limits::default()).is_err());
}

#[test]
fn the_odd_originals_all_decode() {
    let Some(shared) = common::shared() else { return };
    let mut request = DataRequest::new("cats-dogs");
    request.data_dir = Some(shared.join("data/cats-dogs-original"));
    let dataset = data::open(&request).expect("the originals");
    assert_eq!((dataset.train.len(), dataset.val.len()), (36, 4));
    let (mut count, mut grey) = (0, 0);
    for part in [&dataset.train, &dataset.val] {
        for index in 0..part.len() {
            let picture = part.picture(index).unwrap_or_else(|error| panic!("{error}"));
            assert!(picture.width >= 45 && picture.height >= 45, "{}", part.name(index));
            let spread = picture.pixels.iter().max().unwrap_or(&0)
                - picture.pixels.iter().min().unwrap_or(&0);
            assert!(spread > 50, "{} is flat", part.name(index));
            count += 1;
            grey += usize::from(picture.channels == 1);
        }
    }
    assert_eq!((count, grey), (40, 3));
}

// ---- transforms

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/preprocess")
}

/// The largest difference between 8-bit samples.
fn worst(found: &[u8], wanted: &[u8]) -> u8 {
    assert_eq!(found.len(), wanted.len());
    found.iter().zip(wanted).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

#[test]
fn resize_crop_and_normalise_agree_with_torchvision() {
    let recorded = common::tensors(&fixtures().join("preprocess.safetensors"));
    let bytes = |name: &str| -> Vec<u8> {
        recorded[name].flatten_all().and_then(|t| t.to_vec1()).expect("8-bit values")
    };
    let picture = decode_file(&fixtures().join("image.png"), Limits::default()).expect("a PNG");
    assert_eq!((picture.width, picture.height), (113, 75));
    for (name, width, height, filter) in [
        ("resize48_crop40_bicubic", 72, 48, Filter::Bicubic),
        ("resize64_crop56_bilinear", 96, 64, Filter::Bilinear),
        ("resize90_crop80_bilinear", 135, 90, Filter::Bilinear),
    ] {
        let resized = picture.resized(width, height, filter).expect("sizes that fit");
        let off = worst(&resized.pixels, &bytes(&format!("{name}.resized_u8")));
        assert!(off <= 1, "{name}: 8-bit values differ by {off}");
    }

    let (mean, std) = (vec![0.485, 0.456, 0.406], vec![0.229, 0.224, 0.225]);
    let pipeline = Pipeline::new(vec![
        Step::Resize { size: 48, filter: Filter::Bicubic },
        Step::CentreCrop { size: 40 },
        Step::Channels { channels: 3 },
        Step::Normalise { mean, std },
    ])
    .expect("a sound pipeline");
    let mut out = vec![0.0; 3 * 40 * 40];
    pipeline.apply(&picture, &mut Rng::new(0), &mut out).expect("room for the result");
    let wanted: Vec<f32> = recorded["resize48_crop40_bicubic.normalized"]
        .flatten_all()
        .and_then(|t| t.to_vec1())
        .expect("f32 values");
    // One step of 8 bits, over the smallest deviation.
    let off = out.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off < 1.01 / 255.0 / 0.224, "normalised values differ by {off}");
    // Differences are of rounding: most values are the same, and the rest lean to neither side.
    let equal = out.iter().zip(&wanted).filter(|(a, b)| (*a - *b).abs() < 1e-5).count();
    assert!(equal * 10 > out.len() * 7, "only {equal} of {} values are equal", out.len());
    let lean = out.iter().zip(&wanted).map(|(a, b)| a - b).sum::<f32>() / out.len() as f32;
    assert!(lean.abs() < 0.05 / 255.0 / 0.224, "the values are {lean} too large on average");
}

#[test]
fn grey_agrees_with_pil() {
    let recorded = common::tensors(&fixtures().join("preprocess.safetensors"));
    let wanted: Vec<u8> =
        recorded["gray_u8"].flatten_all().and_then(|t| t.to_vec1()).expect("8-bit values");
    let stored = decode_file(&fixtures().join("image_gray.png"), Limits::default()).expect("grey");
    assert_eq!((stored.channels, &stored.pixels), (1, &wanted));

    let picture = decode_file(&fixtures().join("image.png"), Limits::default()).expect("a PNG");
    let pipeline = Pipeline::new(vec![
        Step::CentreCrop { size: 75 },
        Step::Channels { channels: 1 },
        Step::Normalise { mean: vec![0.0], std: vec![1.0 / 255.0] },
    ])
    .expect("a sound pipeline");
    let mut out = vec![0.0; 75 * 75];
    pipeline.apply(&picture, &mut Rng::new(0), &mut out).expect("room for the result");
    let middle = |row: usize| &wanted[row * 113 + 19..row * 113 + 19 + 75];
    let wanted: Vec<u8> = (0..75).flat_map(middle).copied().collect();
    let found: Vec<u8> = out.iter().map(|&value| value.round() as u8).collect();
    assert_eq!(worst(&found, &wanted), 0);
}

#[test]
fn pipelines_survive_json_and_read_as_one_line() {
    let (mean, std) = ([0.5; 3], [0.25; 3]);
    let train = Pipeline::train(DataKind::Photographs, 96, 3, &mean, &std).expect("a pipeline");
    assert_eq!(
        train.to_string(),
        "resize 128 > random-resized-crop 96 (0.35-1) > flip > colour-jitter 0.2 > rgb > normalise"
    );
    let text = serde_json::to_string(&train).expect("JSON");
    assert_eq!(serde_json::from_str::<Pipeline>(&text).expect("the same pipeline"), train);
    assert!(serde_json::from_str::<Pipeline>("[]").is_err());

    let digits = |size| Pipeline::eval(DataKind::Digits, size, 1, &[0.1307], &[0.3081]);
    let line = |size| digits(size).expect("a pipeline").to_string();
    assert_eq!(line(28), "resize 28x28 > grey > normalise");
    assert_eq!(line(32), "resize 28x28 > pad 2 > grey > normalise");
    assert_eq!(line(96), "resize 96x96 > grey > normalise");
    let shifted = digits(28).and_then(|p| p.with_shift(2)).expect("a pipeline");
    assert_eq!(shifted.to_string(), "resize 28x28 > grey > random-crop 28 (padding 2) > normalise");
    assert_eq!(digits(32).expect("a pipeline").output(), [1, 32, 32]);
}

#[test]
fn senseless_pipelines_are_refused() {
    let rgb = Step::Channels { channels: 3 };
    let normalise = Step::Normalise { mean: vec![0.0; 3], std: vec![1.0; 3] };
    let crop = Step::CentreCrop { size: 8 };
    for (steps, why) in [
        (vec![crop.clone(), rgb.clone()], "normalise"),
        (vec![rgb.clone(), normalise.clone()], "fix the size"),
        (vec![crop.clone(), normalise.clone()], "channels"),
        (vec![Step::CentreCrop { size: 0 }, rgb.clone(), normalise.clone()], "size"),
        (vec![Step::Flip { chance: 2.0 }, crop.clone(), rgb.clone(), normalise.clone()], "chance"),
        (vec![crop, rgb, Step::Normalise { mean: vec![0.0; 3], std: vec![0.0; 3] }], "deviations"),
    ] {
        let text = Pipeline::new(steps).expect_err("a senseless pipeline").to_string();
        assert!(text.contains(why), "{text}");
    }
    let text = Pipeline::eval(DataKind::Photographs, 96, 4, &[0.0; 3], &[1.0; 3])
        .expect_err("four channels")
        .to_string();
    assert!(text.contains("4 channels"), "{text}");
}

#[test]
fn augmentation_varies_with_the_stream_and_with_nothing_else() {
    let picture = decode_file(&fixtures().join("image.png"), Limits::default()).expect("a PNG");
    let pipeline =
        Pipeline::train(DataKind::Photographs, 32, 3, &[0.5; 3], &[0.5; 3]).expect("a pipeline");
    let made = |seed| {
        let mut out = vec![0.0; 3 * 32 * 32];
        pipeline.apply(&picture, &mut Rng::new(seed), &mut out).expect("room for the result");
        out
    };
    assert_eq!(made(1), made(1));
    assert_ne!(made(1), made(2));
    assert!(made(3).iter().all(|x| (-1.0..=1.0).contains(x)));
}

#[test]
fn extreme_proportions_are_an_error_or_a_picture_never_a_crash() {
    let pipeline =
        Pipeline::train(DataKind::Pictures, 224, 3, &[0.5; 3], &[0.5; 3]).expect("a pipeline");
    let mut out = vec![0.0; 3 * 224 * 224];
    for (width, height) in [(1, 1), (1, 300), (300, 1), (2, 200)] {
        let picture =
            Picture::new(width, height, 3, vec![90; width * height * 3]).expect("a picture");
        for seed in 0..5 {
            pipeline.apply(&picture, &mut Rng::new(seed), &mut out).expect("an input");
        }
    }
    let line = Picture::new(1, 60_000, 3, vec![90; 180_000]).expect("a picture");
    let text = pipeline.apply(&line, &mut Rng::new(0), &mut out).expect_err("too large");
    assert!(text.to_string().contains("67108864 pixels"), "{text}");
}

// ---- folders

/// Writes a small picture, and the folders it lies in.
fn put(root: &Path, name: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
    fs::write(path, encoded(quarters(), ImageFormat::Png)).expect("a file");
}

fn request(dataset: &str, dir: &Path) -> DataRequest {
    let mut request = DataRequest::new(dataset);
    request.data_dir = Some(dir.to_path_buf());
    request
}

fn names(source: &dyn Source) -> Vec<(String, u32)> {
    (0..source.len()).map(|index| (source.name(index), source.label(index))).collect()
}

fn refusal(request: &DataRequest) -> String {
    data::open(request).expect_err("no data set").to_string()
}

#[test]
fn a_folder_with_train_and_val() {
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["train/b/2.png", "train/b/10.png", "train/a/x/1.png", "train/a/.hidden.png"] {
        put(dir.path(), name);
    }
    put(dir.path(), "val/a/3.png");
    put(dir.path(), "val/b/4.png");
    fs::write(dir.path().join("train/a/Thumbs.db"), "no picture").expect("a file");
    let dataset = data::open(&request("folder", dir.path())).expect("a data set");
    assert_eq!((dataset.kind, dataset.channels), (DataKind::Pictures, 3));
    assert_eq!(dataset.classes, ["a", "b"]);
    let name = |text: &str, label| (text.to_string(), label);
    assert_eq!(
        names(dataset.train.as_ref()),
        [name("train/a/x/1.png", 0), name("train/b/10.png", 1), name("train/b/2.png", 1)]
    );
    assert_eq!(names(dataset.val.as_ref()), [name("val/a/3.png", 0), name("val/b/4.png", 1)]);
    assert!(dataset.test.is_none());

    // The identity stays with the data, not with the place, and changes with a file.
    let again = data::open(&request("folder", dir.path())).expect("a data set");
    assert_eq!(again.identity, dataset.identity);
    put(dir.path(), "train/a/5.png");
    let more = data::open(&request("folder", dir.path())).expect("a data set");
    assert_ne!(more.identity, dataset.identity);
}

#[test]
fn one_folder_of_classes_is_split_by_the_seed() {
    let dir = tempfile::tempdir().expect("a folder");
    for class in ["oak", "pine"] {
        (0..20).for_each(|i| put(dir.path(), &format!("{class}/{i}.png")));
    }
    let mut request = request("folder", dir.path());
    let dataset = data::open(&request).expect("a data set");
    assert_eq!((dataset.train.len(), dataset.val.len()), (36, 4));
    request.val_split = Some(0.25);
    request.limit = Some(7);
    let dataset = data::open(&request).expect("a data set");
    assert_eq!((dataset.train.len(), dataset.val.len()), (7, 7));
    let all = [names(dataset.train.as_ref()), names(dataset.val.as_ref())].concat();
    let pines = all.iter().filter(|(_, label)| *label == 1).count();
    assert!((6..=8).contains(&pines), "{pines} of 14");
    request.seed = 1;
    let other = data::open(&request).expect("a data set");
    assert_ne!(other.identity, dataset.identity);
    for share in [0.0, 1.0, -0.5, f64::NAN] {
        request.val_split = Some(share);
        assert!(refusal(&request).contains("between 0 and 1"));
    }
}

#[test]
fn folders_that_cannot_be_used_are_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let request = request("folder", dir.path());
    assert!(refusal(&request).contains("0 class folders"), "{}", refusal(&request));
    put(dir.path(), "train/a/1.png");
    put(dir.path(), "train/b/1.png");
    put(dir.path(), "val/a/1.png");
    put(dir.path(), "val/c/1.png");
    let text = refusal(&request);
    assert!(text.contains("val") && text.contains("class b"), "{text}");
    fs::remove_dir_all(dir.path().join("val")).expect("removed");
    fs::remove_file(dir.path().join("train/b/1.png")).expect("removed");
    let text = refusal(&request);
    assert!(text.contains("train") && text.contains("empty class"), "{text}");

    let mut absent = request.clone();
    absent.data_dir = Some(dir.path().join("absent"));
    assert!(refusal(&absent).contains("absent"));
    absent.data_dir = None;
    assert!(refusal(&absent).contains("--data-dir"));
    assert!(refusal(&DataRequest::new("dogs-cats")).contains("cats-dogs-drawn"));
    let mut none = request.clone();
    none.limit = Some(0);
    assert!(refusal(&none).contains("limit"));
}

#[test]
fn cats_and_dogs_in_every_layout() {
    for (files, train, val) in [
        (
            vec!["train/cat/1.png", "train/dog/1.png", "val/cat/2.png", "val/dog/2.png"],
            vec!["train/cat/1.png", "train/dog/1.png"],
            2,
        ),
        (
            vec![
                "training_set/cats/1.png",
                "training_set/dogs/1.png",
                "test_set/cats/1.png",
                "test_set/dogs/1.png",
            ],
            vec!["training_set/cats/1.png", "training_set/dogs/1.png"],
            2,
        ),
        (
            vec!["PetImages/Dog/1.png", "PetImages/Cat/1.png", "PetImages/Dog/2.png"],
            vec!["PetImages/Cat/1.png"],
            1,
        ),
        (vec!["Dog/1.png", "Cat/1.png", "Cat/2.png", "Dog/2.png"], vec![], 2),
        (vec!["train/dog.1.jpg", "train/cat.1.jpg", "train/cat.2.jpg", "test/1.jpg"], vec![], 1),
        (vec!["cats-dogs/dog.1.jpg", "cats-dogs/cat.1.jpg", "cats-dogs/cat.2.jpg"], vec![], 1),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        files.iter().for_each(|name| put(dir.path(), name));
        let dataset = data::open(&request("cats-dogs", dir.path()))
            .unwrap_or_else(|error| panic!("{files:?}: {error}"));
        assert_eq!(dataset.kind, DataKind::Photographs);
        assert_eq!(dataset.classes, ["cat", "dog"]);
        assert_eq!(dataset.val.len(), val, "{files:?}");
        let found = names(dataset.train.as_ref());
        for (name, label) in &found {
            assert_eq!(
                *label,
                u32::from(
                    name.to_lowercase().contains("dog") && !name.starts_with("cats-dogs/cat")
                ),
                "{name}"
            );
        }
        for name in train {
            assert!(found.iter().any(|(found, _)| found == name), "{name} of {found:?}");
        }
    }
}

#[test]
fn a_data_folder_that_was_given_is_used_or_is_an_error() {
    let dir = tempfile::tempdir().expect("a folder");
    let request = request("cats-dogs", dir.path());
    let text = refusal(&request);
    assert!(text.contains("no photographs") && text.contains("PetImages"), "{text}");
    put(dir.path(), "train/cat/1.png");
    assert!(refusal(&request).contains("none of dogs"), "{}", refusal(&request));
    fs::create_dir_all(dir.path().join("train/dog")).expect("a folder");
    assert!(refusal(&request).contains("empty class"), "{}", refusal(&request));
}

#[test]
fn photographs_are_found_in_the_data_folder() {
    let root = tempfile::tempdir().expect("a folder");
    for class in ["cat", "dog"] {
        (0..3).for_each(|i| put(root.path(), &format!("cats-dogs/{class}/{i}.png")));
    }
    let mut request = DataRequest::new("cats-dogs");
    request.data_root = Some(root.path().to_path_buf());
    let dataset = data::open(&request).expect("a data set");
    assert_eq!(dataset.kind, DataKind::Photographs);
    assert_eq!((dataset.train.len(), dataset.val.len()), (4, 2));
    assert!(dataset.notes.is_empty());
}

#[test]
fn the_drawn_sample_says_drawn() {
    let mut request = DataRequest::new("cats-dogs-drawn");
    request.limit = Some(6);
    let dataset = data::open(&request).expect("drawings need nothing");
    assert_eq!((dataset.kind, dataset.name.as_str()), (DataKind::Drawn, "cats-dogs-drawn"));
    assert_eq!((dataset.train.len(), dataset.val.len()), (6, 6));
    assert!(dataset.train.picture(0).is_ok());
}

// ---- MNIST

fn idx(sizes: &[u32], bytes: &[u8]) -> Vec<u8> {
    let magic = 0x800 + sizes.len() as u32;
    let mut file = magic.to_be_bytes().to_vec();
    file.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    file.extend_from_slice(bytes);
    file
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// Twenty training and ten test digits; picture i is all i.
fn tiny_mnist(dir: &Path) {
    for (name, count) in [("train", 20u8), ("t10k", 10)] {
        let pixels: Vec<u8> = (0..count).flat_map(|i| [i; 784]).collect();
        let labels: Vec<u8> = (0..count).map(|i| i % 10).collect();
        let images = idx(&[count.into(), 28, 28], &pixels);
        fs::write(dir.join(format!("{name}-images-idx3-ubyte.gz")), gzip(&images)).expect("file");
        fs::write(dir.join(format!("{name}-labels-idx1-ubyte")), idx(&[count.into()], &labels))
            .expect("file");
    }
}

#[test]
fn idx_files_are_read_packed_or_not() {
    let dir = tempfile::tempdir().expect("a folder");
    tiny_mnist(dir.path());
    let mut request = request("mnist", dir.path());
    let dataset = data::open(&request).expect("digits");
    assert_eq!((dataset.kind, dataset.channels, dataset.classes.len()), (DataKind::Digits, 1, 10));
    // The official test digits are for the end, and those to choose by are held out.
    assert_eq!((dataset.train.len(), dataset.val.len()), (10, 10));
    assert_eq!(dataset.test.expect("the official test digits").len(), 10);
    let train = data::open_eval(&request, Some(data::Part::Train)).expect("digits").source;
    assert_eq!((train.len(), train.label(13)), (20, 3));
    assert_eq!(train.picture(13).expect("a digit").pixels, [13; 784]);

    request.val_split = Some(0.5);
    let dataset = data::open(&request).expect("digits");
    let test = dataset.test.expect("the official test digits");
    assert_eq!((dataset.train.len(), dataset.val.len(), test.len()), (10, 10, 10));
    assert_eq!(test.name(3), "test/3");
}

#[test]
fn idx_files_that_lie_are_refused_precisely() {
    let pixels = vec![0; 20 * 784];
    let labels = [0; 20];
    for (file, bytes, why) in [
        ("train-images-idx3-ubyte.gz", idx(&[20, 28, 28], &pixels[1..]), "cut off: 15679 of the"),
        ("train-images-idx3-ubyte.gz", idx(&[u32::MAX; 3], &pixels), "4294967295x4294967295"),
        (
            "train-images-idx3-ubyte.gz",
            idx(&[1_000_000, 28, 28], &pixels),
            "1000000 digits; at most",
        ),
        ("train-images-idx3-ubyte.gz", idx(&[200_000, 28, 28], &pixels), "cannot hold them"),
        ("train-images-idx3-ubyte.gz", b"<!DOCTYPE html><html><body>".to_vec(), "is a web page"),
        (
            "t10k-labels-idx1-ubyte",
            b"version https://git-lfs.github.com".to_vec(),
            "a git-lfs pointer",
        ),
        ("train-images-idx3-ubyte.gz", idx(&[19, 28, 28], &pixels), "longer than"),
        ("train-images-idx3-ubyte.gz", idx(&[20, 49, 16], &pixels), "16x49"),
        ("train-images-idx3-ubyte.gz", idx(&[20, 784], &pixels), "begins with 2050, not 2051"),
        ("train-images-idx3-ubyte.gz", vec![0, 0, 8], "within its header"),
        ("train-images-idx3-ubyte.gz", b"\x1f\x8bno gzip in here".to_vec(), "cannot be read"),
        ("train-labels-idx1-ubyte", idx(&[19], &labels[1..]), "19 labels for 20 images"),
        ("train-labels-idx1-ubyte", idx(&[20], &[10; 20]), "label 0 is 10"),
        ("t10k-labels-idx1-ubyte", Vec::new(), "within its header"),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        tiny_mnist(dir.path());
        fs::write(dir.path().join(file), bytes).expect("a file");
        let text = refusal(&request("mnist", dir.path()));
        assert!(text.contains(file) && text.contains(why), "{text}");
    }
    let dir = tempfile::tempdir().expect("a folder");
    tiny_mnist(dir.path());
    fs::remove_file(dir.path().join("t10k-labels-idx1-ubyte")).expect("removed");
    let text = refusal(&request("mnist", dir.path()));
    assert!(text.contains("t10k-labels-idx1-ubyte"), "{text}");
}

#[test]
fn digits_that_are_not_the_published_ones_are_said() {
    let dir = tempfile::tempdir().expect("a folder");
    tiny_mnist(dir.path());
    let dataset = data::open(&request("mnist", dir.path())).expect("digits");
    let says = |text: &str| dataset.notes.iter().any(|note| note.contains(text));
    assert!(
        says("the train part in") && says("20 digits, and MNIST has 60000"),
        "{:?}",
        dataset.notes
    );
    assert!(says("the test part in"), "{:?}", dataset.notes);
    // As many as MNIST has, and as many of each class as others have.
    let labels: Vec<u8> = (0..10_000).map(|i| (i % 10) as u8).collect();
    fs::write(
        dir.path().join("t10k-images-idx3-ubyte.gz"),
        gzip(&idx(&[10_000, 28, 28], &vec![7; 7_840_000])),
    )
    .expect("a file");
    fs::write(dir.path().join("t10k-labels-idx1-ubyte"), idx(&[10_000], &labels)).expect("a file");
    let set = data::open_eval(&request("mnist", dir.path()), None).expect("digits");
    assert_eq!((set.source.len(), set.part.as_str()), (10_000, "the official test part of mnist"));
    assert!(set.notes[0].contains("Fashion-MNIST, KMNIST and EMNIST"), "{:?}", set.notes);
    let text = data::open_eval(&request("mnist", dir.path()), Some(data::Part::Val)).err();
    assert!(text.expect("no such part").to_string().contains("no validation part of its own"));
    #[cfg(unix)]
    {
        let pipe = dir.path().join("t10k-images-idx3-ubyte");
        assert!(
            std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success()
        );
        let text = refusal(&request("mnist", dir.path()));
        assert!(text.contains("t10k-images-idx3-ubyte: is not a regular file"), "{text}");
    }
}

/// One part of MNIST under the names of the other.
#[test]
fn a_part_of_mnist_is_not_taken_for_the_other() {
    let Some(shared) = common::shared() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    for (from, to) in [("train", "t10k"), ("train", "train")] {
        for what in ["images-idx3-ubyte.gz", "labels-idx1-ubyte.gz"] {
            let from = shared.join(format!("data/mnist/{from}-{what}"));
            fs::copy(from, dir.path().join(format!("{to}-{what}"))).expect("a copy");
        }
    }
    let text = refusal(&request("mnist", dir.path()));
    assert!(text.contains("MNIST's images of the part train"), "{text}");
}

#[test]
fn the_whole_of_mnist() {
    let Some(shared) = common::shared() else { return };
    let dataset = data::open(&request("mnist", &shared.join("data/mnist"))).expect("MNIST");
    let test = dataset.test.as_ref().map(|test| test.len());
    assert_eq!((dataset.train.len(), dataset.val.len(), test), (54_000, 6_000, Some(10_000)));
    assert!(dataset.notes.is_empty(), "{:?}", dataset.notes);
    let set =
        data::open_eval(&request("mnist", &shared.join("data/mnist")), Some(data::Part::Train));
    let train = set.expect("MNIST").source;
    let mut counts = [0; 10];
    (0..60_000).for_each(|i| counts[train.label(i) as usize] += 1);
    assert_eq!(counts, [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]);
    let sum: u64 = (0..60_000)
        .map(|i| train.picture(i).expect("a digit"))
        .map(|digit| digit.pixels.iter().map(|&p| u64::from(p)).sum::<u64>())
        .sum();
    let mean = sum as f64 / (60_000.0 * 784.0 * 255.0);
    assert!((mean - 0.1307).abs() < 1e-4, "{mean}");
}
