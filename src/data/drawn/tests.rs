//! What must hold of the drawn pictures.

use super::*;

#[test]
fn writes_a_contact_sheet() {
    let folder = tempfile::tempdir().unwrap();
    let path = std::env::var_os("CONVZOO_SHEET")
        .map_or_else(|| folder.path().join("sheet.png"), std::path::PathBuf::from);
    let set = cats_dogs(1, 80, 4);
    let start = std::time::Instant::now();
    let sheet = sheet(set.train.as_ref(), 10, 8).unwrap();
    println!("{:.2} ms a picture", start.elapsed().as_secs_f64() * 1e3 / 80.0);
    let (width, height) = (sheet.width as u32, sheet.height as u32);
    image::save_buffer(&path, &sheet.pixels, width, height, image::ColorType::Rgb8).unwrap();
    let read = image::open(&path).unwrap().to_rgb8();
    assert_eq!((read.width(), read.height()), (1280, 1024));
    assert_eq!(read.into_raw(), sheet.pixels);
}

fn pixels(set: &Dataset) -> Vec<Vec<u8>> {
    (0..set.train.len()).map(|i| set.train.picture(i).unwrap().pixels).collect()
}

#[test]
fn the_seed_decides_every_pixel() {
    let set = cats_dogs(7, 6, 6);
    assert_eq!(pixels(&set), pixels(&cats_dogs(7, 6, 6)));
    // A longer set begins with the shorter one.
    assert_eq!(pixels(&set), pixels(&cats_dogs(7, 8, 2))[..6]);
    let other = pixels(&cats_dogs(8, 6, 6));
    let val: Vec<_> = (0..6).map(|i| set.val.picture(i).unwrap().pixels).collect();
    for (i, picture) in pixels(&set).iter().enumerate() {
        assert_ne!(*picture, other[i]);
        assert_ne!(*picture, val[i]);
    }
    assert_ne!(set.identity, cats_dogs(8, 6, 6).identity);
}

#[test]
fn threads_change_nothing() {
    let set = cats_dogs(7, 16, 2);
    let parallel: Vec<_> =
        (0..16).into_par_iter().map(|i| set.train.picture(i).unwrap().pixels).collect();
    assert_eq!(parallel, pixels(&set));
}

#[test]
fn classes_are_balanced_and_named() {
    let set = cats_dogs(1, TRAIN, VAL);
    for source in [&set.train, &set.val] {
        let dogs = (0..source.len()).filter(|&i| source.label(i) == 1).count();
        assert_eq!(2 * dogs, source.len());
    }
    assert_eq!((set.train.len(), set.val.len()), (2000, 400));
    assert_eq!(set.kind, DataKind::Drawn);
    assert_eq!(set.train.name(3), "drawn dog 3 of train");
    assert!(set.train.picture(TRAIN).unwrap_err().to_string().contains("no picture 2000"));
}

#[test]
fn statistics_are_those_of_the_pixels() {
    let set = cats_dogs(3, 20, 2);
    for channel in 0..3 {
        let values: Vec<f64> = pixels(&set)
            .iter()
            .flat_map(|picture| picture.iter().skip(channel).step_by(3))
            .map(|&value| f64::from(value) / 255.0)
            .collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n;
        assert!((f64::from(set.mean[channel]) - mean).abs() < 1e-5);
        assert!((f64::from(set.std[channel]) - variance.sqrt()).abs() < 1e-5);
    }
    // Neither black, nor white, nor flat.
    assert!(set.mean.iter().all(|mean| (0.25..0.75).contains(mean)), "{:?}", set.mean);
    assert!(set.std.iter().all(|std| (0.1..0.4).contains(std)), "{:?}", set.std);
}

#[test]
fn sheets_need_pictures_of_one_size() {
    struct Uneven;
    impl Source for Uneven {
        fn len(&self) -> usize {
            2
        }
        fn label(&self, _: usize) -> u32 {
            0
        }
        fn name(&self, index: usize) -> String {
            format!("number {index}")
        }
        fn picture(&self, index: usize) -> Result<Picture> {
            let side = index + 1;
            Ok(Picture { width: side, height: side, channels: 1, pixels: vec![0; side * side] })
        }
    }
    assert!(sheet(&Uneven, 2, 1).unwrap_err().to_string().contains("number 1"));
    assert!(sheet(&Uneven, 0, 1).is_err());
    let one = sheet(&Uneven, 1, 1).unwrap();
    assert_eq!((one.width, one.height, one.pixels.len()), (1, 1, 1));
}

/// 16x16 colour thumbnails, each value standardised over `train`, and their labels as -1 and 1.
fn thumbnails(source: &dyn Source) -> Vec<(Vec<f32>, f32)> {
    let shrink = |index: usize| {
        let picture = source.picture(index).unwrap();
        let mut sums = vec![0.0f32; 16 * 16 * 3];
        for (i, &value) in picture.pixels.iter().enumerate() {
            let (x, y) = (i / 3 % SIDE, i / 3 / SIDE);
            sums[(y / 8 * 16 + x / 8) * 3 + i % 3] += f32::from(value) / (255.0 * 64.0);
        }
        (sums, source.label(index) as f32 * 2.0 - 1.0)
    };
    (0..source.len()).into_par_iter().map(shrink).collect()
}

/// Gives every picture mean 0, so that only its pattern is left.
fn flatten(pictures: &mut [(Vec<f32>, f32)]) {
    for (values, _) in pictures {
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        values.iter_mut().for_each(|value| *value -= mean);
    }
}

/// Gives every value mean 0 and deviation 1 over the first `count` pictures.
fn standardise(pictures: &mut [(Vec<f32>, f32)], count: usize) {
    for i in 0..pictures[0].0.len() {
        let values = || pictures[..count].iter().map(|picture| picture.0[i]);
        let mean = values().sum::<f32>() / count as f32;
        let variance = values().map(|value| (value - mean).powi(2)).sum::<f32>() / count as f32;
        let scale = 1.0 / variance.sqrt();
        pictures.iter_mut().for_each(|picture| picture.0[i] = (picture.0[i] - mean) * scale);
    }
}

/// Share of `pictures` whose side of the plane is their class.
fn accuracy(pictures: &[(Vec<f32>, f32)], score: impl Fn(&[f32]) -> f32) -> f64 {
    let right = pictures.iter().filter(|(values, label)| score(values) * label > 0.0).count();
    right as f64 / pictures.len() as f64
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Logistic regression by gradient descent with weight decay; returns weights, bias last.
fn regress(pictures: &[(Vec<f32>, f32)]) -> Vec<f32> {
    let inputs = pictures[0].0.len();
    let mut weights = vec![0.0f32; inputs + 1];
    for _ in 0..200 {
        let mut gradient: Vec<f32> = weights.iter().map(|weight| 0.05 * weight).collect();
        for (values, label) in pictures {
            let score = dot(values, &weights) + weights[inputs];
            let slope = -label / (1.0 + (label * score).exp()) / pictures.len() as f32;
            gradient.iter_mut().zip(values).for_each(|(g, value)| *g += slope * value);
            gradient[inputs] += slope;
        }
        weights.iter_mut().zip(gradient).for_each(|(weight, g)| *weight -= 0.02 * g);
    }
    weights
}

#[test]
fn no_linear_classifier_of_thumbnails_tells_them_apart() {
    let set = cats_dogs(5, 1600, 2);
    let drawn = thumbnails(set.train.as_ref());
    for without_brightness in [false, true] {
        let mut pictures = drawn.clone();
        if without_brightness {
            flatten(&mut pictures);
        }
        standardise(&mut pictures, 1200);
        let (train, val) = pictures.split_at(1200);
        let weights = regress(train);
        let inputs = weights.len() - 1;
        let score = |values: &[f32]| dot(values, &weights) + weights[inputs];
        let (seen, unseen) = (accuracy(train, score), accuracy(val, score));
        println!("logistic regression: {seen:.3} on what it learnt from, {unseen:.3} on the rest");
        assert!(seen > 0.6, "the classifier is too weak to show anything: {seen}");
        assert!(unseen < 0.75, "{unseen}");
    }
}

#[test]
fn colour_tells_nothing() {
    let set = cats_dogs(6, 800, 2);
    let train = thumbnails(set.train.as_ref());
    for channel in 0..3 {
        let mean_of = |label: f32| {
            let of_class = train.iter().filter(|picture| picture.1 == label);
            let values: Vec<f64> = of_class
                .flat_map(|picture| picture.0.iter().skip(channel).step_by(3))
                .map(|&value| f64::from(value))
                .collect();
            values.iter().sum::<f64>() / values.len() as f64
        };
        let (cats, dogs) = (mean_of(-1.0), mean_of(1.0));
        assert!((cats - dogs).abs() < 0.03, "channel {channel}: cats {cats}, dogs {dogs}");
    }
}
