//! How folders of images are laid out: parts, classes, what is measured, and what is said of the rest.

mod common;

use std::fs;
use std::path::Path;

use common::pictures::{encoded, quarters};
use convzoo::data::{self, DataKind, DataRequest, Dataset, EvalSet, Part, Source, dataset_in};
use image::ImageFormat;

/// A folder of small images, and of texts where a name ends in `.txt`.
fn folder(files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    files.iter().for_each(|name| put(dir.path(), name));
    dir
}

fn put(root: &Path, name: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
    match name.ends_with('/') {
        true => fs::create_dir_all(path).expect("a folder"),
        false => fs::write(path, encoded(quarters(), ImageFormat::Png)).expect("a file"),
    }
}

fn request(dataset: &str, dir: &Path) -> DataRequest {
    let mut request = DataRequest::new(dataset);
    request.data_dir = Some(dir.to_path_buf());
    request
}

fn open(dir: &Path) -> Dataset {
    data::open(&request("folder", dir)).unwrap_or_else(|error| panic!("{error}"))
}

fn refusal(dir: &Path) -> String {
    data::open(&request("folder", dir)).expect_err("no data set").to_string()
}

fn measure(dir: &Path, part: Option<Part>) -> EvalSet {
    data::open_eval(&request("folder", dir), part).unwrap_or_else(|error| panic!("{error}"))
}

fn names(source: &dyn Source) -> Vec<(String, u32)> {
    (0..source.len()).map(|index| (source.name(index), source.label(index))).collect()
}

fn name(text: &str, label: u32) -> (String, u32) {
    (text.to_owned(), label)
}

// ---- what is measured

#[test]
fn a_folder_of_classes_is_measured_whole() {
    let dir = folder(&["oak/1.png", "oak/2.png", "pine/1.png"]);
    for part in [None, Some(Part::All)] {
        let set = measure(dir.path(), part);
        assert_eq!((set.source.len(), &set.classes[..]), (3, &["oak".into(), "pine".into()][..]));
        assert!(set.part.starts_with("all images of "), "{}", set.part);
        assert!(set.notes.is_empty(), "{:?}", set.notes);
    }
    let text = data::open_eval(&request("folder", dir.path()), Some(Part::Test)).err();
    let text = text.expect("no part").to_string();
    assert!(text.contains("no parts") && text.contains("oak, pine are its classes"), "{text}");
    // One class is enough, and one without images is said.
    let dir = folder(&["pine/1.png", "oak/"]);
    let set = measure(dir.path(), None);
    assert_eq!((set.source.len(), &set.classes[..]), (1, &["pine".to_owned()][..]));
    assert_eq!(set.notes, ["class folders without images: oak"]);
}

#[test]
fn a_folder_with_parts_is_measured_by_part() {
    let files = ["train/a/1.png", "train/b/1.png", "train/c/1.png", "valid/a/1.png"];
    let dir = folder(&files);
    let set = measure(dir.path(), None);
    assert_eq!(names(set.source.as_ref()), [name("valid/a/1.png", 0)]);
    assert!(set.part.contains("part val of") && set.part.contains("no test part"), "{}", set.part);
    // Labels are those of the classes that are measured.
    put(dir.path(), "Test-Set/c/1.png");
    put(dir.path(), "Test-Set/b/1.png");
    let set = measure(dir.path(), None);
    assert_eq!(set.classes, ["b", "c"]);
    let found = names(set.source.as_ref());
    assert_eq!(found, [name("Test-Set/b/1.png", 0), name("Test-Set/c/1.png", 1)]);
    let all = measure(dir.path(), Some(Part::All));
    assert_eq!((all.source.len(), all.classes.len()), (6, 3));
    let labels: Vec<u32> = names(all.source.as_ref()).iter().map(|found| found.1).collect();
    assert_eq!(labels, [0, 1, 2, 0, 1, 2]);
    assert_eq!(measure(dir.path(), Some(Part::Train)).source.len(), 3);
    let mut few = request("folder", dir.path());
    few.limit = Some(4);
    let set = data::open_eval(&few, Some(Part::All)).expect("a set");
    assert_eq!(set.source.len(), 4);
    assert!(set.part.ends_with(": 4 of 6 images (--limit)"), "{}", set.part);
}

#[test]
fn one_part_alone_can_be_measured() {
    for (part, files) in [
        (Part::Val, ["val/a/1.png", "val/b/1.png"]),
        (Part::Test, ["test/a/1.png", "test/b/1.png"]),
    ] {
        let dir = folder(&files);
        let set = measure(dir.path(), None);
        assert_eq!(set.source.len(), 2);
        assert!(set.part.contains(&format!("part {part} of")), "{}", set.part);
        let text = refusal(dir.path());
        assert!(text.contains("no folder train") && text.contains("can be measured"), "{text}");
        let text = data::open_eval(&request("folder", dir.path()), Some(Part::Train)).err();
        let text = text.expect("no such part").to_string();
        assert!(text.contains("no part train") && text.contains(part.as_str()), "{text}");
    }
    let dir = folder(&["training/a/1.png"]);
    let set = measure(dir.path(), None);
    assert!(set.part.contains("no test or val part"), "{}", set.part);
    assert!(set.notes[0].contains("looks better than it is"), "{:?}", set.notes);
}

#[test]
fn cats_dogs_and_drawings_are_measured_too() {
    let dir = folder(&["cats/1.png", "dogs/1.png", "dogs/2.png"]);
    let set = data::open_eval(&request("cats-dogs", dir.path()), None).expect("a set");
    assert_eq!((set.kind, set.source.len(), set.classes.len()), (DataKind::Photographs, 3, 2));
    let drawn = DataRequest::new("cats-dogs-drawn");
    let set = data::open_eval(&drawn, None).expect("drawings");
    assert_eq!((set.kind, set.source.len()), (DataKind::Drawn, data::drawn::VAL));
    let all = data::open_eval(&drawn, Some(Part::All)).expect("drawings");
    assert_eq!(all.source.len(), data::drawn::VAL + data::drawn::TRAIN);
    assert!(all.source.name(data::drawn::TRAIN).contains("of val"));
    assert!(data::open_eval(&drawn, Some(Part::Test)).err().is_some());
}
