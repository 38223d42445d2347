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

// ---- parts

#[test]
fn parts_go_by_the_names_that_people_use() {
    for (train, val, test) in [
        ("train", "val", "test"),
        ("training", "validation", "testing"),
        ("Train_Set", "Valid", "TEST-SET"),
        ("training set", "dev", "Test Data"),
        ("seg_train/seg_train", "val-set", "seg_test/seg_test"),
    ] {
        let mut files = Vec::new();
        for (part, count) in [(train, 3), (val, 2), (test, 1)] {
            for class in ["cat", "dog", "zebra"] {
                files.extend((0..count).map(|i| format!("{part}/{class}/{i}.png")));
            }
        }
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let dir = folder(&files);
        let dataset = open(dir.path());
        let lengths = (dataset.train.len(), dataset.val.len(), dataset.test.map(|t| t.len()));
        assert_eq!(lengths, (9, 6, Some(3)), "{train}");
        assert_eq!(dataset.classes, ["cat", "dog", "zebra"]);
        assert!(dataset.notes.is_empty(), "{:?}", dataset.notes);
    }
    // The same names for cats and dogs.
    let dir = folder(&[
        "training/cat/1.png",
        "training/dog/1.png",
        "testing/cats/1.png",
        "testing/dogs/1.png",
    ]);
    let dataset = data::open(&request("cats-dogs", dir.path())).expect("a data set");
    assert_eq!((dataset.train.len(), dataset.val.len()), (2, 2));
    assert!(dataset.notes[0].contains("the test part is used instead"), "{:?}", dataset.notes);
}

#[test]
fn two_folders_for_one_part_are_refused() {
    let dir = folder(&["train/a/1.png", "train/b/1.png", "val/a/1.png", "valid/a/1.png"]);
    let text = refusal(dir.path());
    assert!(text.contains("val and valid are both names for the part val"), "{text}");
}

#[test]
fn class_folders_that_hold_nothing_but_folders_are_refused() {
    let dir = folder(&["fold1/a/1.png", "fold1/b/1.png", "fold2/a/1.png", "fold2/b/1.png"]);
    for text in [
        refusal(dir.path()),
        data::open_eval(&request("folder", dir.path()), None).err().expect("an error").to_string(),
    ] {
        assert!(
            text.contains("class folders fold1, fold2") && text.contains("fold1 has a, b"),
            "{text}"
        );
        assert!(text.contains("call them train, val and test"), "{text}");
    }
    let dir = folder(&["images/a/1.png", "images/b/1.png"]);
    let text = refusal(dir.path());
    assert!(text.contains("give ") && text.contains("images instead"), "{text}");
    // Where some have images of their own, folders within a class count as the class, which is said.
    let dir = folder(&["a/1.png", "a/2.png", "b/more/1.png", "b/more/2.png"]);
    let notes = open(dir.path()).notes;
    assert_eq!(notes, ["images in folders within a class folder count as its class: b"]);
}

#[test]
fn a_part_without_labels_is_not_used() {
    let files = ["train/a/1.png", "train/a/2.png", "train/b/1.png", "train/b/2.png"];
    for (more, said) in [
        (&["test/1.png", "test/2.png"][..], "the parts test (2 images outside class folders)"),
        (&["test/test/1.png"][..], "the parts test (1 image outside class folders)"),
        (&["test/unknown/1.png"][..], "test is not used: its only folder, unknown,"),
        (&["val/"][..], "the parts val (no images)"),
        (&["seg_pred/seg_pred/1.png"][..], "the folders seg_pred"),
    ] {
        let dir = folder(&[&files[..], more].concat());
        let dataset = open(dir.path());
        assert_eq!((dataset.train.len(), dataset.val.len()), (2, 2), "{more:?}");
        assert!(dataset.test.is_none() && dataset.notes.len() == 1, "{:?}", dataset.notes);
        assert!(dataset.notes[0].contains(said), "{:?}", dataset.notes);
    }
    let dir = folder(&["train/1.png", "train/2.png"]);
    assert!(
        refusal(dir.path()).contains("has 0 class folders and 2 files"),
        "{}",
        refusal(dir.path())
    );
}

#[test]
fn a_part_beside_class_folders_is_asked_about() {
    for files in [
        &["oak/1.png", "pine/1.png", "test/1.png"][..],
        &["oak/1.png", "pine/1.png", "test/oak/1.png"][..],
        &["bus/1.png", "car/1.png", "Train/1.png"][..],
        &["bus/1.png", "car/1.png", "train/steam/1.png", "train/diesel/1.png"][..],
    ] {
        let dir = folder(files);
        for text in [
            refusal(dir.path()),
            data::open_eval(&request("folder", dir.path()), None)
                .err()
                .expect("an error")
                .to_string(),
        ] {
            assert!(text.contains("lies beside folders that look like classes"), "{text}");
            assert!(
                text.contains("If it is a part") && text.contains("if it is a class"),
                "{text}"
            );
        }
    }
    // The way out that it names.
    let dir =
        folder(&["train/bus/1.png", "train/bus/2.png", "train/train/1.png", "train/train/2.png"]);
    assert_eq!(open(dir.path()).classes, ["bus", "train"]);
    // With two parts there is no doubt.
    let dir =
        folder(&["train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.png", "samples/1.png"]);
    let notes = open(dir.path()).notes;
    assert!(notes.len() == 1 && notes[0].ends_with(": the folders samples"), "{notes:?}");
}

#[test]
fn what_is_not_used_is_said_in_one_line() {
    let dir = folder(&[
        "a/1.png",
        "a/2.png",
        "b/1.png",
        "b/2.png",
        "extra.png",
        "a/list.txt",
        "README.md",
    ]);
    let notes = open(dir.path()).notes;
    assert_eq!(notes.len(), 1);
    let said = notes[0].split_once(": ").expect("a list").1;
    assert_eq!(said, "1 file outside class folders; 2 other files (.md, .txt)");
    #[cfg(unix)]
    {
        let pipe = dir.path().join("a/pipe.png");
        assert!(std::process::Command::new("mkfifo").arg(pipe).status().expect("mkfifo").success());
        let dataset = open(dir.path());
        assert_eq!(dataset.train.len() + dataset.val.len(), 4);
        assert!(
            dataset.notes[0].ends_with("1 pipe or device among the files"),
            "{:?}",
            dataset.notes
        );
    }
}

// ---- classes

#[test]
fn a_third_class_is_never_dropped_without_a_word() {
    let files = ["Cat/1.png", "Cat/2.png", "dogs/1.png", "dogs/2.png"];
    let dir = folder(&files);
    for usual in ["cats-dogs", "cifar-10", "mnist"] {
        assert_eq!(dataset_in(dir.path(), usual), "cats-dogs");
    }
    put(dir.path(), "zebra/1.png");
    assert_eq!(dataset_in(dir.path(), "cats-dogs"), "folder");
    assert_eq!(data::open(&request("cats-dogs", dir.path())).expect("two of three").train.len(), 2);
    let notes = data::open(&request("cats-dogs", dir.path())).expect("two of three").notes;
    assert!(notes[0].contains("the class folders zebra"), "{notes:?}");
    assert!(notes[1].contains("--dataset folder takes every class"), "{notes:?}");
    // Told by their names, in one folder.
    let dir = folder(&["cat.1.png", "cat.2.png", "dog.1.png", "dog.2.png"]);
    assert_eq!(dataset_in(dir.path(), "cats-dogs"), "cats-dogs");
    put(dir.path(), "bird.1.png");
    assert_eq!(dataset_in(dir.path(), "cats-dogs"), "folder");
    // In one part alone.
    let dir = folder(&["train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "val/dog/1.png"]);
    assert_eq!(dataset_in(dir.path(), "cats-dogs"), "cats-dogs");
    put(dir.path(), "test/1.png");
    assert_eq!(dataset_in(dir.path(), "cats-dogs"), "cats-dogs");
    put(dir.path(), "val/wolf/1.png");
    assert_eq!(dataset_in(dir.path(), "cats-dogs"), "folder");
    let text = refusal(dir.path());
    assert!(text.contains("has class wolf, which train has not"), "{text}");
}

#[test]
fn a_folder_says_which_data_set_it_holds() {
    let dir = folder(&["oak/1.png", "pine/1.png"]);
    for usual in ["cats-dogs", "cifar-10", "mnist"] {
        assert_eq!(dataset_in(dir.path(), usual), "folder");
    }
    let empty = folder(&[]);
    assert_eq!(dataset_in(empty.path(), "cats-dogs"), "folder");
    // So that the error says which files are needed.
    assert_eq!(dataset_in(empty.path(), "mnist"), "mnist");
    assert_eq!(dataset_in(empty.path(), "cifar-10"), "cifar-10");
    put(empty.path(), "raw/train-images-idx3-ubyte");
    assert_eq!(dataset_in(empty.path(), "cats-dogs"), "mnist");
    let dir = folder(&["cifar-10-batches-bin/data_batch_1.bin"]);
    assert_eq!(dataset_in(dir.path(), "cats-dogs"), "cifar-10");
}

#[test]
fn class_names_are_compared_in_composed_form() {
    // As macOS writes it in one part, and as others do in the other.
    let dir = folder(&[
        "train/cafe\u{301}/1.png",
        "train/bar/1.png",
        "val/caf\u{e9}/1.png",
        "val/bar/1.png",
    ]);
    let dataset = open(dir.path());
    assert_eq!(dataset.classes, ["bar", "caf\u{e9}"]);
    assert_eq!((dataset.val.len(), dataset.val.label(1)), (2, 1));
    assert!(dataset.train.picture(1).is_ok());
    assert_eq!(measure(dir.path(), Some(Part::All)).classes, ["bar", "caf\u{e9}"]);
    let dir = folder(&["cafe\u{301}/1.png", "bar/1.png"]);
    // A file system that composes names itself has one folder here.
    put(dir.path(), "caf\u{e9}/2.png");
    if fs::read_dir(dir.path()).expect("a folder").count() == 3 {
        let text = refusal(dir.path());
        assert!(text.contains("are two folders for one class"), "{text}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn names_that_are_not_utf_8_are_read_and_told_apart() {
    use std::os::unix::ffi::OsStrExt;
    let made = |names: [&[u8]; 2]| {
        let dir = folder(&["a/1.png", "b/1.png", "b/2.png"]);
        for name in names {
            let path = dir.path().join("a").join(std::ffi::OsStr::from_bytes(name));
            fs::copy(dir.path().join("a/1.png"), path).expect("a copy");
        }
        dir
    };
    let dir = made([b"\xff.png", b"\xfe.png"]);
    let dataset = open(dir.path());
    let all = measure(dir.path(), None).source;
    assert!((0..all.len()).all(|index| all.picture(index).is_ok()));
    let found: Vec<String> = names(all.as_ref()).into_iter().map(|found| found.0).collect();
    assert_eq!(found, ["a/1.png", "a/\\xfe.png", "a/\\xff.png", "b/1.png", "b/2.png"]);
    assert_ne!(open(made([b"\xfd.png", b"\xfe.png"]).path()).identity, dataset.identity);
    let report = data::check_folder(dir.path(), "folder", &|_, _| {}).expect("a report");
    assert!(serde_json::to_string(&report).expect("JSON").contains("xfe.png"));
}

// ---- the check

#[test]
fn the_check_understands_the_same_layouts() {
    let check = |dir: &Path| data::check_folder(dir, "folder", &|_, _| {});
    let dir = folder(&["testing/cat/1.png", "testing/dog/1.png", "notes.txt"]);
    let report = check(dir.path()).expect("a report");
    let rows: Vec<_> = report.classes.iter().map(|row| (row.part, row.class.as_str())).collect();
    assert_eq!(rows, [("test", "cat"), ("test", "dog")]);
    assert!(report.notes[0].ends_with("1 other file (.txt)"), "{:?}", report.notes);
    let dir = folder(&["fold1/a/1.png", "fold2/a/1.png"]);
    assert!(check(dir.path()).expect_err("no classes").to_string().contains("nothing but folders"));
}

#[test]
fn training_and_testing_are_parts_in_a_public_layout() {
    let Some(shared) = common::shared() else { return };
    let dataset = open(&shared.join("cases/training_testing"));
    let lengths = (dataset.train.len() + dataset.val.len(), dataset.test.map(|test| test.len()));
    assert_eq!((lengths, dataset.classes.len()), ((24, Some(12)), 3));
}
