//! The loader: the same batches for every number of workers, kept or not, resumed or not.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use convzoo::data::{
    self, Batch, DataKind, DataRequest, Loader, LoaderOptions, OnBad, Picture, Pipeline, Source,
};
use convzoo::rng::Rng;
use convzoo::{Error, Result};

/// Pictures of noise, of many sizes; some cannot be read. Counts how often it is asked.
struct Noise {
    count: usize,
    bad: Vec<usize>,
    reads: AtomicUsize,
}

impl Noise {
    fn new(count: usize, bad: &[usize]) -> Arc<Self> {
        Arc::new(Noise { count, bad: bad.to_vec(), reads: AtomicUsize::new(0) })
    }
}

impl Source for Noise {
    fn len(&self) -> usize {
        self.count
    }
    fn label(&self, index: usize) -> u32 {
        (index % 3) as u32
    }
    fn name(&self, index: usize) -> String {
        format!("noise-{index}.png")
    }
    fn picture(&self, index: usize) -> Result<Picture> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if self.bad.contains(&index) {
            return Err(Error::Setting("all static".into()));
        }
        let mut rng = Rng::stream(9, "noise", &[index as u64]);
        let (width, height) = (40 + rng.below(30), 40 + rng.below(30));
        let channels = if index.is_multiple_of(5) { 1 } else { 3 };
        let pixels = (0..width * height * channels).map(|_| rng.below(256) as u8).collect();
        Picture::new(width, height, channels, pixels)
    }
}

fn pipeline() -> Pipeline {
    Pipeline::train(DataKind::Pictures, 24, 3, &[0.5; 3], &[0.25; 3]).expect("a pipeline")
}

fn options() -> LoaderOptions {
    LoaderOptions { batch_size: 4, shuffle: true, seed: 3, ..LoaderOptions::default() }
}

fn loader(source: Arc<dyn Source>, options: LoaderOptions) -> Loader {
    Loader::new(source, pipeline(), options).expect("a loader")
}

/// All there is to a batch, bit for bit.
fn bits(batch: &Batch) -> (usize, Vec<usize>, Vec<u32>, Vec<u32>) {
    let values: Vec<f32> =
        batch.images.flatten_all().and_then(|t| t.to_vec1()).expect("values on the CPU");
    let values = values.into_iter().map(f32::to_bits).collect();
    (batch.number, batch.indices.clone(), batch.labels.clone(), values)
}

type Bits = (usize, Vec<usize>, Vec<u32>, Vec<u32>);

fn all(loader: &Loader, epoch: u64, first: usize) -> Vec<Bits> {
    loader.epoch(epoch, first).map(|batch| bits(&batch.expect("a batch"))).collect()
}

#[test]
fn batches_do_not_depend_on_workers_or_on_what_is_kept() {
    let epochs = |options| {
        let loader = loader(Noise::new(23, &[]), options);
        assert_eq!(loader.batches(), 6);
        [0, 1, 1, 2].map(|epoch| all(&loader, epoch, 0))
    };
    let wanted = epochs(options());
    assert_eq!(wanted[1], wanted[2], "an epoch repeats itself");
    assert_ne!(wanted[0], wanted[1], "epochs differ");
    for workers in [1, 2, 4] {
        // Nothing, a part, and all of it kept; a queue of one batch, and a long one.
        for (keep_bytes, ahead) in [(0, 1), (30_000, 3), (1 << 30, 9)] {
            let found = epochs(LoaderOptions { workers, keep_bytes, ahead, ..options() });
            assert!(found == wanted, "{workers} workers, {keep_bytes} bytes kept");
        }
    }
    let mut seen: Vec<usize> = wanted[0].iter().flat_map(|batch| batch.1.clone()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..23).collect::<Vec<_>>());
    let other = epochs(LoaderOptions { seed: 4, ..options() });
    assert!(other != wanted, "the seed matters");
}

#[test]
fn an_epoch_goes_on_in_the_middle() {
    let whole = all(&loader(Noise::new(23, &[]), options()), 5, 0);
    for first in 0..=7 {
        let rest = all(&loader(Noise::new(23, &[]), options()), 5, first);
        assert_eq!(rest, whole[first.min(6)..]);
    }
}

#[test]
fn order_and_sizes_of_batches() {
    let plain = LoaderOptions { shuffle: false, ..options() };
    let in_order = all(&loader(Noise::new(10, &[]), plain.clone()), 0, 0);
    let indices: Vec<Vec<usize>> = in_order.iter().map(|batch| batch.1.clone()).collect();
    assert_eq!(indices, [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]);
    assert_eq!(in_order[1].2, [1, 2, 0, 1]);
    let dropped = loader(Noise::new(10, &[]), LoaderOptions { drop_last: true, ..plain.clone() });
    assert_eq!((dropped.batches(), all(&dropped, 0, 0).len()), (2, 2));
    let first = dropped.epoch(0, 0).next().expect("a batch").expect("no error");
    assert_eq!(first.images.dims(), [4, 3, 24, 24]);

    let refused = |count, options| Loader::new(Noise::new(count, &[]), pipeline(), options).err();
    assert!(refused(0, options()).is_some());
    assert!(refused(3, LoaderOptions { drop_last: true, ..options() }).is_some());
    assert!(refused(3, LoaderOptions { batch_size: 0, ..options() }).is_some());
    assert!(refused(3, LoaderOptions { workers: 0, ..options() }).is_some());
}

#[test]
fn pictures_are_decoded_once_if_they_are_kept() {
    let source = Noise::new(20, &[]);
    let loader = loader(source.clone(), LoaderOptions { workers: 2, ..options() });
    (0..3).for_each(|epoch| drop(all(&loader, epoch, 0)));
    assert_eq!(source.reads.load(Ordering::Relaxed), 20);
    assert!(loader.kept_bytes() > 20 * 32 * 32);

    let source = Noise::new(20, &[]);
    let few = LoaderOptions { workers: 2, keep_bytes: 20_000, ..options() };
    let loader = self::loader(source.clone(), few);
    (0..3).for_each(|epoch| drop(all(&loader, epoch, 0)));
    assert!(loader.kept_bytes() <= 20_000);
    assert!(source.reads.load(Ordering::Relaxed) > 40);
}

#[test]
fn bad_pictures_are_left_out_named_once_and_tried_once() {
    for workers in [1, 3] {
        let source = Noise::new(12, &[2, 7]);
        let options = LoaderOptions { workers, shuffle: false, ..options() };
        let loader = loader(source.clone(), options);
        for epoch in 0..3 {
            let sizes: Vec<usize> = all(&loader, epoch, 0).iter().map(|b| b.1.len()).collect();
            assert_eq!(sizes, [3, 3, 4]);
        }
        let bad = loader.bad_files();
        let names: Vec<&str> = bad.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["noise-2.png", "noise-7.png"]);
        assert!(bad[0].1.contains("all static"));
        assert_eq!(source.reads.load(Ordering::Relaxed), 12);
    }
}

#[test]
fn a_batch_without_a_readable_picture_is_passed_over() {
    let plain = LoaderOptions { shuffle: false, ..options() };
    let loader = loader(Noise::new(12, &[4, 5, 6, 7]), plain.clone());
    let numbers: Vec<usize> = all(&loader, 0, 0).iter().map(|batch| batch.0).collect();
    assert_eq!(numbers, [0, 2]);

    let hopeless = self::loader(Noise::new(5, &[0, 1, 2, 3, 4]), plain);
    let mut epoch = hopeless.epoch(0, 0);
    let text = epoch.next().expect("an answer").expect_err("an error").to_string();
    assert!(text.contains("none of the 5 pictures") && text.contains("noise-0.png"), "{text}");
    assert!(epoch.next().is_none());
}

#[test]
fn a_batch_that_shrinks_to_one_image_is_passed_over_where_that_is_asked_for() {
    let plain = LoaderOptions { shuffle: false, ..options() };
    let training = LoaderOptions { pass_over_single: true, ..plain.clone() };
    let sizes = |bad: &[usize], options: &LoaderOptions, count: usize| -> Vec<(usize, usize)> {
        let loader = loader(Noise::new(count, bad), options.clone());
        all(&loader, 0, 0).iter().map(|batch| (batch.0, batch.1.len())).collect()
    };
    // Measuring counts every image.
    assert_eq!(sizes(&[4, 5, 6, 9], &plain, 10), [(0, 4), (1, 1), (2, 1)]);
    assert_eq!(sizes(&[4, 5, 6, 9], &training, 10), [(0, 4)]);
    // A batch that is of one image by design stays, as in a data set of one.
    assert_eq!(sizes(&[], &training, 9), [(0, 4), (1, 4), (2, 1)]);
    let singles = LoaderOptions { batch_size: 1, ..training.clone() };
    assert_eq!(sizes(&[1], &singles, 3), [(0, 1), (2, 1)]);
    // Nothing at all would be an endless wait for whoever repeats epochs.
    let loader = loader(Noise::new(8, &[0, 1, 2, 4, 5, 6]), training);
    for _ in 0..2 {
        let mut epoch = loader.epoch(0, 0);
        let text = epoch.next().expect("an answer").expect_err("an error").to_string();
        assert!(text.contains("no batch of the epoch has two images: 6 of 8"), "{text}");
        assert!(text.contains("noise-0.png"), "{text}");
        assert!(epoch.next().is_none());
    }
}

#[test]
fn on_bad_fail_names_the_picture_and_ends_the_epoch() {
    let options = LoaderOptions { on_bad: OnBad::Fail, shuffle: false, workers: 2, ..options() };
    let loader = loader(Noise::new(40, &[9]), options);
    let mut epoch = loader.epoch(0, 0);
    assert!(epoch.next().expect("a batch").is_ok());
    assert!(epoch.next().expect("a batch").is_ok());
    let text = epoch.next().expect("an answer").expect_err("an error").to_string();
    assert!(text.contains("noise-9.png") && text.contains("all static"), "{text}");
    assert!(epoch.next().is_none());
}

#[test]
fn giving_up_an_epoch_stops_its_workers() {
    let source = Noise::new(4000, &[]);
    let options = LoaderOptions { workers: 3, keep_bytes: 0, ahead: 2, ..options() };
    let loader = loader(source.clone(), options);
    let mut epoch = loader.epoch(0, 0);
    assert!(epoch.next().is_some());
    drop(epoch);
    let reads = source.reads.load(Ordering::Relaxed);
    assert!(reads <= 4 * (1 + 3 + 2), "no more than was asked ahead: {reads}");
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(source.reads.load(Ordering::Relaxed), reads, "the workers have ended");
    drop(loader.epoch(1, 0));
}

/// Panics on its last picture.
struct Panics;

impl Source for Panics {
    fn len(&self) -> usize {
        12
    }
    fn label(&self, _: usize) -> u32 {
        0
    }
    fn name(&self, index: usize) -> String {
        format!("{index}")
    }
    fn picture(&self, index: usize) -> Result<Picture> {
        assert!(index < 11, "picture {index} explodes");
        Picture::new(30, 30, 3, vec![0; 2700])
    }
}

#[test]
fn a_panic_is_an_error_not_a_hang() {
    for workers in [1, 2] {
        let options = LoaderOptions { workers, shuffle: false, ..options() };
        let loader = loader(Arc::new(Panics), options);
        let batches: Vec<_> = loader.epoch(0, 0).collect();
        assert_eq!(batches.len(), 3);
        let text = batches[2].as_ref().expect_err("an error").to_string();
        assert!(text.contains("picture 11 explodes"), "{text}");
    }
}

#[test]
fn a_bad_file_in_a_folder_is_skipped_and_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let put = |name: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).expect("folders");
        image::RgbImage::from_pixel(30, 30, image::Rgb([200, 0, 0])).save(path).expect("a file");
    };
    for class in ["cat", "dog"] {
        (0..8).for_each(|i| put(&format!("train/{class}/{i}.png")));
        put(&format!("val/{class}/1.png"));
    }
    std::fs::write(dir.path().join("train/dog/text.jpg"), "no picture").expect("a file");
    let mut request = DataRequest::new("cats-dogs");
    request.data_dir = Some(dir.path().to_path_buf());
    let dataset = data::open(&request).expect("a data set");
    assert_eq!(dataset.train.len(), 17);
    let loader = loader(dataset.train.clone(), options());
    let count: usize = all(&loader, 0, 0).iter().map(|batch| batch.1.len()).sum();
    assert_eq!(count, 16);
    let bad = loader.bad_files();
    assert_eq!((bad.len(), bad[0].0.as_str()), (1, "train/dog/text.jpg"));
    let strict = LoaderOptions { on_bad: OnBad::Fail, ..options() };
    let loader = self::loader(dataset.train, strict);
    let error = loader.epoch(0, 0).find_map(Result::err).expect("an error").to_string();
    assert!(error.contains("text.jpg") && error.contains("not a picture"), "{error}");
}
