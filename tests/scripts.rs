//! The program in scripts: what it prints where, how it ends, what it refuses.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::program::error_line;
use image::{GrayImage, Luma};
use serde_json::Value;

/// A LeNet that knows white digits on black.
fn digits() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/lenet5-relu-mnist.safetensors")
}

fn convzoo(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_convzoo"));
    command.current_dir(folder).env("HF_HUB_OFFLINE", "1").env_remove("CONVZOO_DATA");
    command
}

/// `predict` with the digits' weights.
fn predict(folder: &Path, args: &[&str]) -> Output {
    let mut command = convzoo(folder);
    command.args(["predict", "--weights"]).arg(digits()).args(args);
    command.output().expect("the program runs")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A one: a white stroke on black, or its negative.
fn one(path: &Path, negative: bool) {
    let (stroke, ground) = if negative { (0, 255) } else { (255, 0) };
    let inside = |x, y| (13..16).contains(&x) && (4..24).contains(&y);
    let image =
        GrayImage::from_fn(28, 28, |x, y| Luma([if inside(x, y) { stroke } else { ground }]));
    image.save(path).expect("an image");
}

/// Weights whose metadata are changed.
fn with_metadata(path: &Path, change: impl Fn(&mut BTreeMap<String, String>)) {
    let bytes = fs::read(digits()).expect("the weights");
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).expect("a header");
    let mut metadata = serde_json::from_value(header["__metadata__"].take()).expect("metadata");
    change(&mut metadata);
    header["__metadata__"] = serde_json::to_value(metadata).expect("JSON");
    let header = serde_json::to_vec(&header).expect("JSON");
    let parts = [&(header.len() as u64).to_le_bytes()[..], &header, &bytes[8 + length..]];
    fs::write(path, parts.concat()).expect("a file");
}

/// A folder with images deep within, litter, and a file that is no image although it says so.
fn folder_of_images() -> tempfile::TempDir {
    let here = tempfile::tempdir().unwrap();
    let at = |name: &str| here.path().join(name);
    fs::create_dir_all(at("d/deep/er")).unwrap();
    for name in ["d/=1+1.png", "d/a.png", "d/deep/er/2.png", "d/z.png"] {
        one(&at(name), false);
    }
    fs::write(at("d/bad.jpg"), "no image").unwrap();
    for litter in ["d/.DS_Store", "d/Thumbs.db", "d/desktop.ini", "d/deep/notes.txt"] {
        fs::write(at(litter), "x").unwrap();
    }
    here
}

#[test]
fn every_file_has_its_row() {
    let here = folder_of_images();
    let run = |args: &[&str]| predict(here.path(), &[args, &["d", "lost.png"]].concat());
    let names = ["d/=1+1.png", "d/a.png", "d/bad.jpg", "d/deep/er/2.png", "d/z.png", "lost.png"];

    let output = run(&["--json"]);
    assert!(output.status.success(), "{}", err(&output));
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let of = |row: &Value| row["image"].as_str().unwrap().to_owned();
    assert_eq!(rows.iter().map(of).collect::<Vec<_>>(), names);
    for (row, name) in rows.iter().zip(names) {
        let bad = ["d/bad.jpg", "lost.png"].contains(&name);
        assert_eq!(row["error"].as_str().is_some_and(|error| error.contains(name)), bad, "{row}");
        // All of ten classes.
        assert_eq!(row["top"].as_array().map(Vec::len), (!bad).then_some(10), "{row}");
    }
    let said = err(&output);
    assert!(said.contains("left out: 4 files") && said.contains(".DS_Store"), "{said}");
    assert!(said.contains("2 of 6 images could not be read"), "{said}");

    let lines = out(&run(&["--jsonl"]));
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, rows);

    let csv = out(&run(&["--csv", "--top", "1"]));
    let csv: Vec<_> = csv.lines().collect();
    assert_eq!(csv[0], "image,rank,class,probability,error");
    assert!(csv[1].starts_with("d/=1+1.png,1,1,"), "{}", csv[1]);
    assert!(csv[3].starts_with("d/bad.jpg,,,,") && csv[3].contains("not a picture"), "{}", csv[3]);
    assert!(csv.len() == 7 && csv[6].starts_with("lost.png,,,,"), "{csv:?}");

    let wide = out(&run(&["--wide"]));
    let wide: Vec<_> = wide.lines().collect();
    assert_eq!(wide[0], "image,0,1,2,3,4,5,6,7,8,9,error");
    let cells: Vec<_> = wide[2].split(',').collect();
    assert_eq!((cells[0], cells.len()), ("d/a.png", 12));
    let shares: Vec<f64> = cells[1..11].iter().map(|cell| cell.parse().unwrap()).collect();
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-5 && shares[1] > 0.5, "{shares:?}");
    assert!(wide[3].starts_with("d/bad.jpg,,,,,,,,,,,") && wide.len() == 7);

    let output = run(&[]);
    assert_eq!(out(&output).lines().count(), 4);
    assert_eq!(err(&output).lines().filter(|line| line.starts_with("error: ")).count(), 2);
}

#[test]
fn only_what_a_script_must_notice_fails() {
    let here = folder_of_images();
    let fails = |args: &[&str]| {
        let output = predict(here.path(), args);
        assert_eq!(output.status.code(), Some(1), "{}", err(&output));
        error_line(&output)
    };
    assert!(
        fails(&["d", "--on-bad", "fail", "--jsonl"]).contains("1 of 5 images could not be read")
    );
    assert!(fails(&["lost.png", "--csv"]).contains("1 of 1 image could not be read"));
    fs::create_dir(here.path().join("empty")).unwrap();
    assert!(fails(&["empty", "--json"]).contains("could not be read"));
    fs::write(here.path().join("list"), "\n").unwrap();
    assert!(fails(&["--files-from", "list"]).contains("no images were named"));
    assert!(fails(&["--files-from", "nowhere"]).contains("nowhere"));
    let output = predict(here.path(), &["d", "empty", "--json"]);
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success() && rows[5]["error"].as_str().unwrap().contains("no images"));
}

#[test]
fn lists_of_images_come_from_files_and_standard_input() {
    let here = folder_of_images();
    one(&here.path().join("new\nline.png"), false);
    let with_input = |args: &[&str], input: &[u8]| {
        fs::write(here.path().join("list"), input).unwrap();
        let mut command = convzoo(here.path());
        command.args(["predict", "--jsonl", "--weights"]).arg(digits()).args(args);
        command.stdin(fs::File::open(here.path().join("list")).unwrap());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", err(&output));
        let name = |line: &str| {
            let row: Value = serde_json::from_str(line).unwrap();
            row["image"].as_str().unwrap().to_owned()
        };
        out(&output).lines().map(name).collect::<Vec<_>>()
    };
    let wanted = ["d/z.png", "d/a.png", "d/deep/er/2.png"];
    let lines = b"d/z.png\nd/a.png\r\n\nd/deep";
    assert_eq!(with_input(&["-"], lines), wanted);
    assert_eq!(with_input(&["--files-from", "-"], lines), wanted);
    assert_eq!(with_input(&["--files-from", "list"], lines), wanted);
    let zeros = b"d/z.png\0new\nline.png";
    assert_eq!(with_input(&["-0", "--files-from", "-"], zeros), ["d/z.png", "new\nline.png"]);
    let both = with_input(&["d/a.png", "--files-from", "list"], lines);
    assert_eq!(both[0], "d/a.png");
    assert_eq!(both[1..], wanted);
}

#[cfg(unix)]
#[test]
fn names_of_any_bytes_have_rows() {
    use std::os::unix::ffi::OsStrExt;
    let here = tempfile::tempdir().unwrap();
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9.png");
    one(&here.path().join("a.png"), false);
    fs::rename(here.path().join("a.png"), here.path().join(name)).unwrap();
    for path in [".", "caf"] {
        let mut command = convzoo(here.path());
        command.args(["predict", "--json", "--weights"]).arg(digits());
        if path == "." {
            command.arg(path)
        } else {
            command.arg(name)
        };
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", err(&output));
        let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        assert!(rows[0]["image"].as_str().unwrap().ends_with("caf\u{fffd}.png"), "{}", rows[0]);
        assert!(rows[0]["image_bytes"].is_string() && rows[0]["top"].is_array());
    }
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let here = folder_of_images();
    for format in ["--csv", "--json", "--jsonl"] {
        let mut command = convzoo(here.path());
        command.args(["predict", "--batch-size", "1", format, "--weights"]).arg(digits());
        command.args(["d"; 20]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && !err(&output).contains("panicked"), "{}", err(&output));
    }
}

#[test]
fn a_dark_digit_on_light_is_noticed_and_can_be_inverted() {
    let here = tempfile::tempdir().unwrap();
    one(&here.path().join("a.png"), false);
    one(&here.path().join("b.png"), true);
    let run = |args: &[&str]| {
        let output = predict(here.path(), &[args, &["--json", "a.png", "b.png"]].concat());
        let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        (rows, err(&output))
    };
    let (plain, said) = run(&[]);
    assert!(said.contains("note: 1 of 2 images") && said.contains("--invert"), "{said}");
    assert!(plain[0]["looks_inverted"].is_null() && plain[1]["looks_inverted"] == true);
    let (turned, said) = run(&["--invert"]);
    assert_eq!(turned[1]["top"], plain[0]["top"]);
    assert!(said.contains("note: 1 of 2 images"), "{said}");
    let silent = predict(here.path(), &["--json", "--invert", "b.png"]);
    assert_eq!(err(&silent), "");
}

/// Text from a weight file, a file's name or a folder reaches the terminal as text.
#[test]
fn nothing_from_outside_moves_the_cursor() {
    const NAME: &str = "\x1b[31mcat\x1b]0;owned\x07\u{9b}2J\u{202e}";
    let here = tempfile::tempdir().unwrap();
    with_metadata(&here.path().join("w.safetensors"), |metadata| {
        let mut about: Value = serde_json::from_str(&metadata["convzoo"]).unwrap();
        let classes: Vec<String> = (0..10).map(|class| format!("{NAME}{class}")).collect();
        about["classes"] = serde_json::to_value(classes).unwrap();
        about["dataset"] = NAME.into();
        metadata.insert("convzoo".into(), about.to_string());
        metadata.insert(format!("key{NAME}"), NAME.into());
    });
    one(&here.path().join("\x1b[2Ja\nb.png"), false);
    fs::write(here.path().join("\x1b[2Jbad.png"), "x").unwrap();
    fs::create_dir_all(here.path().join("data/\x1b[31mdark")).unwrap();
    fs::create_dir_all(here.path().join("data/light")).unwrap();
    for i in 0..4 {
        one(&here.path().join(format!("data/\x1b[31mdark/\x1b[1m{i}.png")), false);
        one(&here.path().join(format!("data/light/{i}.png")), true);
    }
    fs::write(here.path().join("data/light/\x1b[2Jbad.png"), "x").unwrap();
    let mut all = String::new();
    for args in [
        "predict --weights w.safetensors .",
        "predict --weights w.safetensors --csv .",
        "predict --weights w.safetensors --wide .",
        "predict --weights w.safetensors --jsonl .",
        "predict --weights \x1b[2J.safetensors .",
        "weights inspect w.safetensors",
        "weights inspect w.safetensors --json",
        "weights check \x1b[2J",
        "data check data",
        "data check \x1b[2J",
        "summary \x1b[2J",
        "train simpleconvnet --dataset folder --data-dir data --epochs 1 --out \x1b[1mrun",
        "eval --weights \x1b[1mrun/best.safetensors",
        "eval --weights w.safetensors --dataset folder --data-dir data",
        "report \x1b[1mrun",
        "train simpleconvnet --dataset \x1b[2J",
        "train \x1b[2J",
    ] {
        let output = convzoo(here.path()).args(args.split(' ')).output().unwrap();
        all += &(out(&output) + &err(&output));
        let raw = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!all.contains(raw), "{args:?} printed {all:?}");
    }
    assert!(all.contains("\\x1b[31mcat") && all.contains("\\u{202e}"), "{all}");
    assert!(all.contains("\\u001b[31mcat") && all.contains("\\u202e"), "{all}");
}

/// Whatever prints goes through the module that makes text visible.
#[test]
fn only_one_module_prints() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut waiting: Vec<PathBuf> = ["cli", "report", "data/hub"].map(|at| source.join(at)).into();
    let mut files = 0;
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        files += 1;
        let text = fs::read_to_string(&path).unwrap_or_default();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in lines {
            let prints = ["println!", "print!", "stdout()", "stderr().write", "stderr(), "];
            let found = prints.iter().any(|print| line.contains(print));
            assert!(!found || path.ends_with("cli/terminal.rs"), "{}: {line}", path.display());
        }
    }
    assert!(files > 40, "{files} files were looked at");
}

/// How a process ended, and what it had said.
struct Ended {
    code: Option<i32>,
    text: String,
}

/// Starts a command, sends it these signals once it has said `when`, and waits for its end.
#[cfg(unix)]
fn signalled(mut command: Command, when: &str, signals: &[&str]) -> Ended {
    use std::io::{BufRead, BufReader, Read};
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains(when) {
        assert_ne!(lines.read_line(&mut text).unwrap(), 0, "it ended before {when}: {text}");
    }
    for signal in signals {
        let sent = Command::new("kill").arg(signal).arg(child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }
    lines.read_to_string(&mut text).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    Ended { code: child.wait().unwrap().code(), text }
}

/// A program that was asked to end says so by its exit code, after its state is saved.
#[cfg(unix)]
#[test]
fn signals_end_a_run_with_their_own_codes() {
    let bench = common::program::Bench::new();
    for (signal, code) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        let run = bench.run(&format!("run{signal}"));
        let command = bench.train(&run, &["--epochs", "100000"]);
        let ended = signalled(command, "epoch  ", &[signal]);
        assert_eq!(ended.code, Some(code), "{}", ended.text);
        assert!(ended.text.contains("--resume"), "{}", ended.text);
        assert!(run.join("resume.safetensors").exists(), "{}", ended.text);
    }
    // The same for a comparison, whose runs are in processes of their own.
    let mut command = convzoo(bench.folder.path());
    command.args("compare --models simpleconvnet --dataset folder --data-dir data".split(' '));
    command.args("--batch-size 6 --epochs 100000 --runs compared".split(' '));
    let ended = signalled(command, "epoch  ", &["-TERM"]);
    assert_eq!(ended.code, Some(143), "{}", ended.text);
    assert!(ended.text.contains("go on with the same command"), "{}", ended.text);
}

/// The same command, run by a shell after a setting of its own.
#[cfg(unix)]
fn behind(setting: &str, train: &Command) -> Command {
    let mut command = Command::new("sh");
    command.current_dir(train.get_current_dir().unwrap());
    command.args(["-c", &format!("{setting}; exec \"$0\" \"$@\"")]);
    command.arg(train.get_program()).args(train.get_args());
    command
}

/// As `nohup` has it: a run outlives the terminal that it was begun at.
#[cfg(unix)]
#[test]
fn a_signal_that_is_ignored_stays_ignored() {
    let bench = common::program::Bench::new();
    let run = bench.run("run");
    let train = bench.train(&run, &["--epochs", "100000"]);
    let command = behind("trap '' HUP", &train);
    let ended = signalled(command, "epoch  ", &["-HUP", "-HUP", "-TERM"]);
    assert_eq!(ended.code, Some(143), "{}", ended.text);
}

/// A file that outgrows its limit is an error that names it, not the death of the process.
#[cfg(unix)]
#[test]
fn a_file_limit_is_an_error_that_names_the_file() {
    let bench = common::program::Bench::new();
    let run = bench.run("run");
    let train = bench.train(&run, &["--epochs", "1"]);
    let output = behind("ulimit -f 100", &train).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = error_line(&output);
    assert!(error.contains(".safetensors") && error.contains("too large"), "{error}");
}

/// What a flag of another command, or a number beyond all reason, is answered with.
#[test]
fn flags_without_meaning_and_absurd_numbers_are_refused() {
    let here = tempfile::tempdir().unwrap();
    one(&here.path().join("a.png"), false);
    fs::write(here.path().join("run.toml"), "model = \"lenet5\"\nepochs = 3\nlr = 0.5").unwrap();
    let fails = |args: &str, code: i32| {
        let output = convzoo(here.path()).args(args.split_whitespace()).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{args}: {}", err(&output));
        assert!(!err(&output).contains("panicked"), "{}", err(&output));
        err(&output)
    };
    for flag in ["--lr 1", "--epochs 3", "--resume x", "--eval", "--ema 0.9", "--schedule step"] {
        let said = fails(&format!("lr-find lenet5 --dataset cats-dogs-drawn {flag}"), 1);
        let name = flag.split(' ').next().unwrap();
        assert!(said.contains(&format!("error: {name} does not go with this command")), "{said}");
    }
    for flag in ["--out x", "--eval", "--resume x", "--tta flip", "--top-k 2"] {
        assert!(fails(&format!("compare {flag}"), 1).contains("does not go with"), "{flag}");
    }
    let digits = digits().display().to_string();
    let predict = format!("predict --weights {digits} a.png");
    fails(&format!("{predict} --top 0"), 2);
    fails(&format!("{predict} --batch-size 60000"), 2);
    fails(&format!("{predict} --wide --top 3"), 2);
    fails(&format!("{predict} --csv --json"), 2);
    fails("predict --weights x", 2);
    let train = "train lenet5 --dataset cats-dogs-drawn --limit 8 --image-size 32";
    for (args, told) in [
        (format!("{predict} --threads 100000"), "--threads: got 100000"),
        (format!("{train} --threads 100000"), "--threads: got 100000"),
        ("data check . --threads 100000".to_owned(), "--threads: got 100000"),
        (format!("{train} --workers 100000"), "loader threads: got 100000"),
        (format!("{train} --batch-size 99999999999"), "the batch size: got 99999999999"),
        (format!("{train} --epochs 9999999999999999999"), "epochs: got 9999999999999999999"),
        ("receptive-field --layers conv3 --input 0".to_owned(), "--input"),
        (format!("receptive-field --layers {}", "pool10000,".repeat(5)), "too large"),
        ("summary vgg16 --input 3x99999999x99999999".to_owned(), "65536 pixels"),
        ("summary vgg16 --input 99999999x9x9".to_owned(), "4096 channels"),
        ("diagram vgg16 -o a.svg --input 3x99999999x9".to_owned(), "65536 pixels"),
        ("summary resnet18 --batch 70000".to_owned(), "--batch"),
        (
            "compare --models lenet5 --seed 18446744073709551615 --seeds 2".to_owned(),
            "leaves no room for 2 seeds",
        ),
    ] {
        let output = convzoo(here.path()).args(args.split_whitespace()).output().unwrap();
        assert!(!output.status.success(), "{args}");
        assert!(
            err(&output).contains(told) && !err(&output).contains("panicked"),
            "{args}: {}",
            err(&output)
        );
    }
}

/// `lr-find` makes the steps that training would make, and its help shows what counts.
#[test]
fn a_range_test_obeys_what_its_help_shows() {
    let here = tempfile::tempdir().unwrap();
    let base = "lr-find lenet5-relu --dataset cats-dogs-drawn --limit 12 --image-size 32 \
                --batch-size 4 --steps 10 --from 1e-3 --to 0.5 --json";
    let points = |flags: &str| {
        let args = base.split_whitespace().chain(flags.split_whitespace());
        let output = convzoo(here.path()).args(args).output().unwrap();
        assert!(output.status.success(), "{flags}: {}", err(&output));
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        found["points"].clone()
    };
    let plain = points("");
    assert_eq!(points("--clip-norm 1e9"), plain, "a norm that is never reached");
    for flags in [
        "--clip-norm 0.01",
        "--clip-value 1e-4",
        "--accumulate 2",
        "--class-weights 1,9",
        "--precision bf16",
        "--precision f16",
        "--label-smoothing 0.2",
        "--mixup 0.4",
        "--weight-decay 0.5",
        "--optimizer adamw",
        "--no-norm-decay --weight-decay 0.5",
        "--freeze backbone",
        "--lr-decay 0.1",
        "--augment trivial",
        "--seed 3",
    ] {
        assert_ne!(points(flags), plain, "{flags} changes nothing");
    }
    let cached = points("--freeze backbone --cache-features");
    assert!(cached.as_array().is_some_and(|points| points.len() > 5));

    fs::write(here.path().join("run.toml"), "epochs = 3\nlr = 0.5\nschedule = \"step\"").unwrap();
    assert_eq!(points("--config run.toml"), plain, "a file is for several commands");

    let help = out(&convzoo(here.path()).args(["lr-find", "--help"]).output().unwrap());
    for hidden in ["--epochs", "--resume", "--ema", "--eval", "--tta", "--schedule", "--lr "] {
        assert!(!help.contains(hidden), "{hidden} is in {help}");
    }
    assert!(help.contains("--clip-norm") && help.contains("--accumulate"), "{help}");
    let help = out(&convzoo(here.path()).args(["compare", "--help"]).output().unwrap());
    assert!(!help.contains("--resume") && !help.contains("--out ") && help.contains("--epochs"));
}
