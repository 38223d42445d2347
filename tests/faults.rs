//! Disks that are full, folders that are read-only or gone, pictures that change: one clear line, and
//! the state before can be gone on from.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::folder::{end_state, parts};
use common::program::{Bench, FAULT, failure, succeed};

const FLAGS: [&str; 8] =
    ["--threads", "2", "--epochs", "2", "--save-every", "0.000001", "--ema", "0.9"];

/// Every so many points of a run fail: all of them with `CONVZOO_ALL`.
fn stride() -> usize {
    if std::env::var_os("CONVZOO_ALL").is_some() { 1 } else { 17 }
}

#[test]
fn every_write_may_fail() {
    let bench = Bench::new();
    let whole = bench.run("whole");
    succeed(bench.train(&whole, &FLAGS));
    let expected = end_state(&whole);
    let (mut point, mut failed) = (1, 0);
    loop {
        let run = bench.run(&format!("failed{point}"));
        let mut command = bench.train(&run, &FLAGS);
        command.env(FAULT, format!("fail:{point}"));
        let output = command.output().expect("the program runs");
        if output.status.success() {
            assert_eq!(end_state(&run), expected);
            break;
        }
        let line = common::program::error_line(&output);
        assert!(line.contains("cannot be written: no space left"), "{line}");
        assert_eq!(parts(&run), 0, "a part is left at {point}: {line}");
        succeed(bench.train(&run, &FLAGS));
        assert_eq!(end_state(&run), expected, "after {line}");
        fs::remove_dir_all(&run).expect("a folder");
        (point, failed) = (point + stride(), failed + 1);
    }
    println!("{failed} of {} points failed", point - 1);
    assert!(failed * stride() > 60, "there should be more points than {point}");
}

/// Fails in a resumed run, which rotates states from its first save on.
#[test]
fn every_write_of_a_resumed_run_may_fail() {
    let bench = Bench::new();
    let whole = bench.run("whole");
    succeed(bench.train(&whole, &FLAGS));
    let expected = end_state(&whole);
    let run = bench.run("run");
    let mut point = 1 + stride() / 2;
    let mut begin = bench.train(&run, &FLAGS);
    begin.env(FAULT, "fail:40");
    failure(begin);
    loop {
        let mut command = bench.train(&run, &FLAGS);
        command.env(FAULT, format!("fail:{point}"));
        let output = command.output().expect("the program runs");
        if output.status.success() {
            break;
        }
        let line = common::program::error_line(&output);
        assert!(line.contains("no space left"), "{line}");
        point += stride();
    }
    assert_eq!(end_state(&run), expected);
}

#[test]
fn a_damaged_state_gives_way_to_the_one_before() {
    let bench = Bench::new();
    let [whole, run] = ["whole", "run"].map(|name| bench.run(name));
    succeed(bench.train(&whole, &FLAGS));
    let newest = run.join("resume.safetensors");
    for damage in [flip_a_bit, cut_in_half, empty, delete] {
        let _ = fs::remove_dir_all(&run);
        let mut begin = bench.train(&run, &FLAGS);
        begin.env(FAULT, "fail:64");
        failure(begin);
        damage(&newest);
        let text = succeed(bench.train(&run, &FLAGS));
        assert!(text.contains("goes on from the one before it, after epoch"), "{text}");
        assert_eq!(end_state(&run), end_state(&whole));
    }
    // Both gone: said, with both names, and nothing is trained.
    flip_a_bit(&newest);
    flip_a_bit(&run.join("resume.previous.safetensors"));
    let line = failure(bench.train(&run, &FLAGS));
    assert!(line.contains("resume.safetensors") && line.contains("resume.previous"), "{line}");
    assert!(line.contains("damaged"), "{line}");
}

fn flip_a_bit(path: &Path) {
    let mut bytes = fs::read(path).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(path, bytes).expect("a write");
}

fn cut_in_half(path: &Path) {
    let bytes = fs::read(path).expect("a file");
    fs::write(path, &bytes[..bytes.len() / 2]).expect("a write");
}

fn empty(path: &Path) {
    fs::write(path, "").expect("a write");
}

fn delete(path: &Path) {
    fs::remove_file(path).expect("a file");
}

#[test]
fn a_folder_has_one_run_at_a_time() {
    let bench = Bench::new();
    let run = bench.run("run");
    let mut first = bench.train(&run, &FLAGS);
    first.env(FAULT, "pause:30").stderr(std::process::Stdio::piped());
    let mut child = first.stdout(std::process::Stdio::null()).spawn().expect("the program runs");
    use std::io::{BufRead, BufReader};
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line.contains("paused"))));
    let line = failure(bench.train(&run, &FLAGS));
    assert!(line.contains(&format!("process {} is writing", child.id())), "{line}");
    child.kill().expect("a kill");
    child.wait().expect("an end");
    succeed(bench.train(&run, &FLAGS)); // a lock of the dead does not hinder
    assert_eq!(parts(&run), 0);
}

#[test]
fn a_folder_that_is_deleted_ends_the_run() {
    let bench = Bench::new();
    let run = bench.run("run");
    // Long enough that the folder goes while it runs.
    let mut command = bench.train(&run, &[&FLAGS[..2], &["--epochs", "100000"]].concat());
    let child = command.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
    let child = child.spawn().expect("the program runs");
    while !run.join("metrics.csv").exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // The program may write a file while its folder is being emptied.
    while run.exists() && fs::remove_dir_all(&run).is_err() {}
    let output = child.wait_with_output().expect("an end");
    let line = common::program::error_line(&output);
    let expected = ["was deleted or replaced", "there is no folder", "No such file"];
    assert!(expected.iter().any(|text| line.contains(text)), "{line}");
    assert!(!run.exists(), "nothing is written after that");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let bench = Bench::new();
    fs::write(bench.run("file"), "no folder").expect("a file");
    let line = failure(bench.train(&bench.run("file/run"), &FLAGS));
    assert!(line.contains("file/run"), "{line}");
    let place = bench.run("disk");
    let Some(disk) = SmallDisk::new(&place, "size=64m") else { return };
    let run = disk.path.join("run");
    succeed(bench.train(&run, &["--epochs", "1"]));
    disk.mount("remount,ro");
    let mut command = bench.train(&run, &FLAGS);
    command.args(["--epochs", "2"]);
    let line = failure(command);
    assert!(line.contains("Read-only file system"), "{line}");
    disk.mount("remount,rw");
    let mut command = bench.train(&run, &FLAGS);
    command.args(["--epochs", "2"]);
    succeed(command);
}

/// Without the right to write a folder; root has every right, so it becomes nobody for this.
#[cfg(unix)]
#[test]
fn a_folder_without_permission_is_named() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let bench = Bench::new();
    let allow = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
    };
    allow(bench.folder.path(), 0o755);
    let run = bench.run("run");
    succeed(bench.train(&run, &FLAGS));
    allow(&run, 0o555);
    let as_nobody = |run: &Path, flags: &[&str]| {
        let mut command = bench.train(run, &FLAGS);
        command.args(flags);
        if fs::File::create(bench.run("run/try")).is_ok() {
            fs::remove_file(bench.run("run/try")).expect("a file");
            command.uid(65_534);
        }
        failure(command)
    };
    let line = as_nobody(&run, &["--epochs", "3"]);
    assert!(line.contains("run.lock") && line.contains("Permission denied"), "{line}");
    let line = as_nobody(&run.join("deeper"), &[]);
    assert!(line.contains("run/deeper") && line.contains("Permission denied"), "{line}");
    allow(&run, 0o755);
    let mut command = bench.train(&run, &FLAGS);
    command.args(["--epochs", "3"]);
    succeed(command);
}

#[test]
fn a_full_disk_leaves_the_state_before() {
    let bench = Bench::new();
    let whole = bench.run("whole");
    succeed(bench.train(&whole, &FLAGS));
    // The run needs some 13 MB, and a state more while it writes.
    for megabytes in [3, 6, 9, 12] {
        let place = bench.run(&format!("disk{megabytes}"));
        let Some(disk) = SmallDisk::new(&place, &format!("size={megabytes}m")) else { return };
        let run = disk.path.join("run");
        let line = failure(bench.train(&run, &FLAGS));
        assert!(line.contains("No space left on device"), "{line}");
        disk.mount("remount,size=64m");
        succeed(bench.train(&run, &FLAGS));
        assert_eq!(end_state(&run), end_state(&whole), "{megabytes} MB: {line}");
    }
}

/// A disk in memory, where the test may make one: as root on Linux.
struct SmallDisk<'a> {
    path: &'a Path,
}

impl<'a> SmallDisk<'a> {
    fn new(path: &'a Path, options: &str) -> Option<Self> {
        fs::create_dir_all(path).expect("a folder");
        let mut mount = Command::new("mount");
        let mount = mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path).output();
        if !mount.is_ok_and(|output| output.status.success()) {
            println!("skipped: no disk in memory can be mounted here (it takes root, on Linux)");
            return None;
        }
        Some(SmallDisk { path })
    }

    fn mount(&self, options: &str) {
        let done = Command::new("mount").args(["-o", options]).arg(self.path).status();
        assert!(done.expect("mount").success(), "mount -o {options}");
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path).status();
    }
}

#[test]
fn pictures_that_change_are_noticed() {
    let bench = Bench::new();
    let run = bench.run("run");
    succeed(bench.train(&run, &FLAGS));
    let longer = |flags: &[&str]| {
        let mut command = bench.train(&run, &FLAGS);
        command.args(flags);
        command
    };
    // The same files, written anew: said.
    let picture = bench.data().join("train/light/00.png");
    let bytes = fs::read(&picture).expect("a picture");
    fs::write(&picture, &bytes).expect("a write");
    let text = succeed(longer(&["--epochs", "4"]));
    assert!(text.contains("were written anew"), "{text}");
    // One picture less: refused, unless that is wanted.
    fs::remove_file(&picture).expect("a picture");
    let line = failure(longer(&["--epochs", "5"]));
    assert!(line.contains("28 for training and 12 for validation, before 29 and 12"), "{line}");
    assert!(line.contains("--allow-changed-data"), "{line}");
    let text = succeed(longer(&["--epochs", "5", "--allow-changed-data"]));
    assert!(text.contains("other bits"), "{text}");
    succeed(longer(&["--epochs", "6"])); // from now on this is its data
}

#[test]
fn a_picture_that_cannot_be_read_any_more_is_named() {
    let bench = Bench::new();
    let run = bench.run("run");
    let text = succeed(bench.train(&run, &FLAGS));
    assert!(text.contains("left out: ") && text.contains("train/dark/99.png"), "{text}");
    // The size stays, the content does not.
    let picture = bench.data().join("train/light/03.png");
    let bytes = fs::read(&picture).expect("a picture");
    fs::write(&picture, vec![7; bytes.len()]).expect("a write");
    let mut command = bench.train(&run, &FLAGS);
    command.args(["--epochs", "4"]);
    let text = succeed(command);
    assert!(text.contains("left out: ") && text.contains("train/light/03.png"), "{text}");
    let summary = fs::read_to_string(run.join("summary.json")).expect("a summary");
    assert!(summary.contains("\"skipped_images\": 2"), "{summary}");
    fs::write(&picture, vec![8; bytes.len()]).expect("a write");
    let mut command = bench.train(&run, &FLAGS);
    command.args(["--epochs", "5", "--on-bad", "fail"]);
    let line = failure(command);
    assert!(line.contains(".png"), "{line}");
}

#[test]
fn numbers_that_are_not_finite_name_the_layer() {
    let bench = Bench::new();
    let run = bench.run("run");
    let wild = [&FLAGS[..], &["--lr", "1e30", "--schedule", "constant"]].concat();
    let line = failure(bench.train(&run, &wild));
    assert!(line.contains("the first layer whose output is not finite is"), "{line}");
    assert!(line.contains("step 1 (epoch 1, batch 2)"), "{line}");
    assert!(line.contains("--lr") && line.contains("--warmup"), "{line}");
}

#[test]
fn batches_that_do_not_fit_are_refused_with_advice() {
    if convzoo::train::available_memory().is_none_or(|bytes| bytes > 40 << 30) {
        println!("skipped: memory cannot be known here, or there is very much of it");
        return;
    }
    let bench = Bench::new();
    let line = |side: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_convzoo"));
        command.current_dir(bench.folder.path()).args(["train", "resnet18", "--out", "run"]);
        command.args(["--dataset", "folder", "--data-dir", "data", "--image-size", side]);
        failure(command)
    };
    let large = line("2000");
    assert!(large.contains("of memory") && large.contains("try --batch-size "), "{large}");
    let huge = line("6000");
    assert!(huge.contains("try a smaller --image-size"), "{huge}");
    assert!(!bench.run("run").exists(), "nothing has begun");
}

/// Sizes for which there is no memory: said before anything is made, whatever the command.
#[test]
fn networks_that_do_not_fit_are_refused_before_they_are_made() {
    if convzoo::train::available_memory().is_none_or(|bytes| bytes > 250 << 30) {
        println!("skipped: memory cannot be known here, or there is very much of it");
        return;
    }
    let bench = Bench::new();
    let line = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_convzoo"));
        command.current_dir(bench.folder.path()).args(arguments);
        command.args(["--dataset", "folder", "--data-dir", "data"]);
        failure(command)
    };
    // The first linear layer of a LeNet grows with the picture: 1.6 TB of weights.
    for command in ["train", "lr-find"] {
        let said = line(&[command, "lenet5", "--image-size", "60000"]);
        assert!(said.contains("of memory") && said.contains("--image-size"), "{said}");
    }
    let said = line(&["train", "lenet5", "--image-size", "60000", "--ignore-memory"]);
    assert!(said.contains("the network's parameters would take"), "{said}");
    let said = line(&["train", "lenet5", "--image-size", "4000000000"]);
    assert!(said.contains("at most 1000000000"), "{said}");
}
