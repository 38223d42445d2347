//! The changes of pictures against PIL's recorded ones (`tests/fixtures/augment.py`), and their speed.

mod common;

use std::sync::Arc;
use std::time::Instant;

use convzoo::Result;
use convzoo::data::{
    self, Change, DataRequest, Loader, LoaderOptions, Mixing, Picture, Pipeline, Step,
};
use convzoo::rng::Rng;

/// As `tests/fixtures/augment.py` makes it.
fn picture(width: usize, height: usize, channels: usize) -> Picture {
    let sample = |i: usize| {
        let (x, y, c) = (i / channels % width, i / channels / width, i % channels);
        ((x * 7 + y * 13 + c * 50 + (x * y * (c + 3)) % 31) % 256 / (1 + c % 2)) as u8
    };
    let pixels = (0..width * height * channels).map(sample).collect();
    Picture::new(width, height, channels, pixels).expect("a picture")
}

#[test]
fn changes_are_pils() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/augment.json");
    let recorded = common::json(path.as_ref());
    let size = |key: &str| recorded[key].as_u64().expect("a size") as usize;
    let (width, height) = (size("width"), size("height"));
    let cases = recorded["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 44);
    for case in cases {
        let channels = case["channels"].as_u64().expect("channels") as usize;
        let change: Change = serde_json::from_value(case["change"].clone()).expect("a change");
        let mut found = picture(width, height, channels);
        change.apply(&mut found);
        let hex: String = found.pixels.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = case["pixels"].as_str().expect("pixels");
        let differing = hex.as_bytes().chunks(2).zip(expected.as_bytes().chunks(2));
        let differing = differing.filter(|(a, b)| a != b).count();
        assert_eq!(differing, 0, "{change:?}, {channels} channels: bytes that differ");
    }
}

#[test]
fn pipelines_say_what_they_do_and_draw_anew_each_time() -> Result<()> {
    let dataset = data::drawn::cats_dogs(1, 4, 4);
    let light = dataset.train_pipeline(32, 3)?;
    let trivial = light.clone().with_changes(Step::TrivialAugment)?.with_erasing(0.25)?;
    let line = trivial.to_string();
    assert!(line.contains("flip > trivial-augment > rgb > erase 0.25 > normalise"), "{line}");
    let rand = light.with_changes(Step::RandAugment { changes: 2, magnitude: 9 })?;
    assert!(rand.to_string().contains("rand-augment 2 of 9"), "{rand}");
    let json = serde_json::to_string(&trivial).expect("JSON");
    assert_eq!(serde_json::from_str::<Pipeline>(&json).expect("a pipeline"), trivial);
    assert!(dataset.train_pipeline(32, 3)?.with_erasing(1.5).is_err());
    let strong = Step::RandAugment { changes: 2, magnitude: 31 };
    assert!(dataset.train_pipeline(32, 3)?.with_changes(strong).is_err());

    let picture = dataset.train.picture(0)?;
    let make = |pipeline: &Pipeline, seed| -> Result<Vec<f32>> {
        let mut out = vec![0.0; 3 * 32 * 32];
        pipeline.apply(&picture, &mut Rng::new(seed), &mut out)?;
        Ok(out)
    };
    for pipeline in [&trivial, &rand] {
        assert!(make(pipeline, 1)? == make(pipeline, 1)?);
        assert!(make(pipeline, 1)? != make(pipeline, 2)?);
    }
    Ok(())
}

/// Pictures a second of one worker at 96x96 with everything on, once they are decoded.
#[test]
#[ignore = "a measurement: cargo test --test augment -- --ignored --nocapture"]
fn rate_of_full_augmentation() -> Result<()> {
    let request = DataRequest { limit: Some(512), ..DataRequest::new("cats-dogs-drawn") };
    let dataset = data::open(&request)?;
    let light = dataset.train_pipeline(96, 3)?;
    let trivial = light.clone().with_changes(Step::TrivialAugment)?.with_erasing(0.25)?;
    let rand = light.clone().with_changes(Step::RandAugment { changes: 2, magnitude: 9 })?;
    let rand = rand.with_erasing(0.25)?;
    for (name, pipeline) in [("light", light), ("trivial", trivial), ("rand", rand)] {
        let mix = match name {
            "light" => Mixing::default(),
            _ => Mixing { mixup: 0.2, cutmix: 1.0 },
        };
        let options = LoaderOptions { batch_size: 32, shuffle: true, mix, ..Default::default() };
        let loader = Loader::new(Arc::clone(&dataset.train), pipeline, options)?;
        loader.epoch(0, 0).try_for_each(|batch| batch.map(drop))?; // draws the pictures
        let (start, cpu) = (Instant::now(), cpu_seconds());
        for epoch in 1..=8 {
            loader.epoch(epoch, 0).try_for_each(|batch| batch.map(drop))?;
        }
        let count = 8.0 * dataset.train.len() as f64;
        let rate = count / start.elapsed().as_secs_f64();
        let of_cpu = count / (cpu_seconds() - cpu);
        println!("{name:<8} {rate:>8.0} images/s, {of_cpu:>8.0} a second of one core");
    }
    Ok(())
}

/// Seconds that this process has computed; only Linux says.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks = after.split(' ').skip(11).take(2).filter_map(|n| n.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}
