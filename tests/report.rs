//! Comparisons: which runs are taken, what the table and the page say, how the page behaves.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::run::Small;
use convzoo::report::{Record, Report, csv};
use convzoo::train::{RunFolder, TrainConfig};

/// A run of the small network under a known one's name.
fn run(folder: &Path, model: &str, seed: u64) -> PathBuf {
    let settings = TrainConfig { epochs: 3, batch_size: 8, lr: 0.02, seed, ..Default::default() };
    let mut small = Small::new(settings).unwrap();
    small.config.model.name = model.to_owned();
    small.config.model.macs = 1_000_000 * (1 + model.len() as u64);
    let path = folder.join(format!("{model}-{seed}"));
    small.start(&path, &mut ()).unwrap();
    path
}

/// Three runs of two networks.
fn runs(folder: &Path) -> Vec<PathBuf> {
    [("resnet18", 2), ("alexnet", 1), ("resnet18", 1)]
        .map(|(model, seed)| run(folder, model, seed))
        .to_vec()
}

#[test]
fn runs_that_differ_in_their_seed_make_one_row() {
    let here = tempfile::tempdir().unwrap();
    let report = Report::read(&runs(here.path())).unwrap();
    let [group] = &report.groups[..] else { panic!("one data set") };
    let labels: Vec<_> =
        group.rows.iter().map(|row| (row.label.as_str(), row.runs.len())).collect();
    assert_eq!(labels, [("resnet18", 2), ("alexnet", 1)]);
    let seeds: Vec<u64> = group.rows[0].runs.iter().map(|run| run.config.train.seed).collect();
    assert_eq!(seeds, [1, 2]);
    let each: Vec<f64> = group.rows[0].runs.iter().map(|run| run.val_top1().unwrap()).collect();
    let spread = group.rows[0].spread(Record::val_top1).unwrap();
    assert_eq!(spread.mean, (each[0] + each[1]) / 2.0);
    let deviation = (each[0] - each[1]).abs() / 2f64.sqrt();
    assert!((spread.deviation.unwrap() - deviation).abs() < 1e-12);

    let table = csv(std::slice::from_ref(group));
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{table}");
    let column = |name| lines[0].iter().position(|head| *head == name).expect(name);
    assert_eq!(lines[1][column("val_top1")].parse::<f64>().unwrap(), spread.mean);
    assert_eq!(lines[1][column("seeds")], "1 2");
    assert_eq!(lines[2][column("data_kind")], "drawn");
}

#[test]
fn other_settings_and_other_data_are_kept_apart() {
    let here = tempfile::tempdir().unwrap();
    let folders = runs(here.path());
    edit(&folders[0], "config.json", |config| config["train"]["lr"] = 0.5.into());
    edit(&folders[1], "config.json", |config| config["data"]["name"] = "other".into());
    let report = Report::read(&folders).unwrap();
    assert_eq!(report.groups.len(), 2);
    let labels: Vec<_> = report.groups[0].rows.iter().map(|row| row.label.as_str()).collect();
    assert_eq!(labels, ["resnet18 (resnet18-2)", "resnet18 (resnet18-1)"]);
}

/// Folders of one's own share the name `folder`, and no more than that.
#[test]
fn folders_of_pictures_are_kept_apart() {
    let here = tempfile::tempdir().unwrap();
    let folders = runs(here.path());
    for run in &folders {
        edit(run, "config.json", |config| {
            config["data"]["name"] = "folder".into();
            config["data"]["origin"] = "pets".into();
        });
    }
    let groups = || Report::read(&folders).unwrap().groups;
    assert_eq!(groups().len(), 1);
    // A split of the same folder that follows the seed.
    edit(&folders[2], "config.json", |config| config["data"]["identity"] = "b".into());
    assert_eq!(groups()[0].rows[0].runs.len(), 2);
    assert!(groups()[0].caution().unwrap().starts_with("resnet18-2, alexnet-1 saw another"));
    // The same names of classes, but other pictures.
    edit(&folders[2], "config.json", |config| config["data"]["origin"] = "zoo".into());
    let names: Vec<String> = groups().into_iter().map(|group| group.dataset).collect();
    assert_eq!(names, ["folder-1", "folder-2"]);
    let report = Report::read(&folders).unwrap();
    report.write(here.path()).unwrap();
    let table = std::fs::read_to_string(here.path().join("compare.csv")).unwrap();
    assert_eq!(table.matches("dataset,").count(), 1, "one header: {table}");
    assert!(here.path().join("folder-2-accuracy-macs.svg").exists());
    // Other classes.
    edit(&folders[1], "config.json", |config| config["data"]["classes"][0] = "horse".into());
    assert_eq!(groups().len(), 3);
}

fn edit(run: &Path, file: &str, change: impl FnOnce(&mut serde_json::Value)) {
    let path = run.join(file);
    let mut value = common::json(&path);
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

#[test]
fn the_page_stands_alone_and_says_what_it_is() {
    let here = tempfile::tempdir().unwrap();
    let mut folders = runs(here.path());
    for run in &folders {
        edit(run, "config.json", |config| {
            config["data"]["classes"][0] = "<script>alert(1)</script>".into();
        });
    }
    edit(&folders[1], "config.json", |config| {
        config["command"] = serde_json::json!(["/a/b/convzoo", "train", "it's"]);
        config["train"]["finetune"]["head_lr"] = 0.001.into();
    });
    std::fs::remove_file(folders[2].join("summary.json")).unwrap();
    folders.rotate_left(1);
    let report = Report::read(&folders).unwrap();
    report.write(here.path()).unwrap();
    let page = std::fs::read_to_string(here.path().join("report.html")).unwrap();
    for wanted in [
        "Drawn pictures, not photographs",
        "&lt;script&gt;alert(1)",
        "<code>convzoo train &#39;it&#39;\\&#39;&#39;s&#39;</code>",
        "unfinished: 3 of 3 epochs",
        "the last layer at rate 0.001",
        "what torchvision publishes",
        "56.52 %",
    ] {
        assert!(page.contains(wanted), "{wanted} is missing");
    }
    assert_eq!(page.matches("<script>").count(), 1, "only the page's own");
    let addresses = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!addresses.contains("http"), "the page names something on the network");
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    for figure in [
        "accuracy-macs",
        "accuracy-params",
        "accuracy-time",
        "error-train",
        "error-val",
        "published",
    ] {
        let svg = std::fs::read_to_string(here.path().join(format!("{figure}.svg"))).unwrap();
        assert!(
            svg.starts_with("<svg") && svg.contains("<style>") && svg.contains("resnet18"),
            "{figure}"
        );
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let here = tempfile::tempdir().unwrap();
    let empty = Report::read(&[here.path().to_owned()]).unwrap_err().to_string();
    assert!(empty.contains("holds no run"), "{empty}");
    let run = run(here.path(), "resnet18", 1);
    std::fs::write(run.join("metrics.csv"), "epoch,train_loss\n1,much\n").unwrap();
    let broken = Report::read(std::slice::from_ref(&run)).unwrap_err().to_string();
    assert!(broken.contains("metrics.csv") && broken.contains("train_loss is much"), "{broken}");
    std::fs::write(run.join("summary.json"), "{").unwrap();
    assert!(Report::read(&[run]).unwrap_err().to_string().contains("summary.json"));
}

/// All files under a folder, with their sizes.
fn tree(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(tree(&path)),
            false => found.push((path.clone(), path.metadata().unwrap().len())),
        }
    }
    found.sort();
    found
}

/// Names in a run are for its author to choose; files are made where the reader said, and only there.
#[test]
fn names_in_a_run_do_not_lead_out_of_the_folder() {
    let here = tempfile::tempdir().unwrap();
    let deep = here.path().join("a/b/c");
    std::fs::create_dir_all(&deep).unwrap();
    let folders = runs(&deep);
    let absolute = here.path().join("escaped").display().to_string();
    let long = "x".repeat(300);
    let names = ["../../escaped", &absolute, "..", "a\\..\\b", "con", "\u{1b}[31m", &long];
    for name in names {
        edit(&folders[0], "config.json", |config| config["data"]["name"] = name.into());
        edit(&folders[1], "config.json", |config| config["model"]["name"] = name.into());
        let before = tree(here.path());
        let figures = here.path().join("figures");
        std::fs::create_dir(&figures).unwrap();
        Report::read(&folders).unwrap().write(&figures).unwrap();
        for (path, _) in tree(&figures) {
            let made = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(path.parent().unwrap(), figures);
            assert!(!made.starts_with('.') && made.len() < 120, "{made}");
            assert!(made.chars().all(|c| !c.is_control() && !"/\\:".contains(c)), "{made:?}");
        }
        assert!(tree(&figures).len() > 6, "every figure has a file");
        std::fs::remove_dir_all(&figures).unwrap();
        assert_eq!(tree(here.path()), before, "{name}");
    }
    // Names that would become the same file.
    edit(&folders[0], "config.json", |config| config["data"]["name"] = "squares".into());
    edit(&folders[0], "config.json", |config| config["model"]["name"] = "猫".into());
    edit(&folders[1], "config.json", |config| config["model"]["name"] = "犬".into());
    Report::read(&folders).unwrap().write(here.path()).unwrap();
    for name in ["loss--.svg", "loss---2.svg", "loss-resnet18.svg"] {
        assert!(here.path().join(name).exists(), "{name} is missing");
    }
}

/// Whatever a run says of itself is text in the page and in figures, never markup.
#[test]
fn a_run_cannot_bring_markup() {
    const MARKUP: &str = "<img src=x onerror=alert(1)>\"'&</script></style></svg>\u{0}\u{1b}";
    // These are plain names, or the run is not read.
    const NAME: &str = "<img src=x onerror=alert(1)>'&";
    let here = tempfile::tempdir().unwrap();
    let folders = runs(here.path());
    for run in &folders {
        edit(run, "config.json", |config| {
            for field in ["/model/name", "/data/name"] {
                *config.pointer_mut(field).unwrap() = NAME.into();
            }
            for field in ["/model/weights", "/data/origin", "/data/identity"] {
                if let Some(value) = config.pointer_mut(field) {
                    *value = MARKUP.into();
                }
            }
            config["model"]["weights"] = MARKUP.into();
            for class in config["data"]["classes"].as_array_mut().unwrap() {
                *class = format!("{MARKUP}{class}").into();
            }
            config["command"] = serde_json::json!([MARKUP, MARKUP]);
            config["resumed_by"] = serde_json::json!([[MARKUP, MARKUP]]);
            config["started"] = MARKUP.into();
            config["device"] = MARKUP.into();
            config["machine"] = serde_json::json!({"cpu": MARKUP, "cores": 1, "system": MARKUP});
            config["versions"] = serde_json::json!({"convzoo": MARKUP, "candle": MARKUP});
        });
        edit(run, "summary.json", |summary| summary["finished"] = MARKUP.into());
        if run.join("evaluation.json").exists() {
            edit(run, "evaluation.json", |found| {
                for class in found["classes"].as_array_mut().unwrap() {
                    *class = format!("{MARKUP}{class}").into();
                }
            });
        }
    }
    let out = tempfile::tempdir().unwrap();
    let damaged = here.path().join("<img src=x>");
    std::fs::create_dir(&damaged).unwrap();
    let all = [&folders[..], &[damaged]].concat();
    Report::read(&all).unwrap().write(out.path()).unwrap();
    for (path, _) in tree(out.path()) {
        let text = std::fs::read_to_string(&path).unwrap();
        if path.extension().is_some_and(|kind| kind == "csv") {
            continue;
        }
        assert!(!text.contains("<img src=x"), "{}", path.display());
        assert!(text.contains("&lt;img src=x") || path.ends_with("published.svg"));
        assert!(!text.contains(['\u{0}', '\u{1b}']), "{}", path.display());
    }
    let page = std::fs::read_to_string(out.path().join("report.html")).unwrap();
    assert_eq!((page.matches("</script>").count(), page.matches("</style>").count()), (1, 1));
}

#[test]
fn damaged_runs_are_named_and_the_others_shown() {
    let here = tempfile::tempdir().unwrap();
    let folders = runs(here.path());
    let deep = "[".repeat(100_000);
    for (file, content, expected) in [
        ("config.json", "{", "config.json"),
        ("config.json", deep.as_str(), "config.json"),
        ("summary.json", "{}", "summary.json"),
        ("summary.json", "[1e999]", "summary.json"),
        ("metrics.csv", "epoch,train_loss\n1,much\n", "train_loss is much"),
        ("evaluation.json", "{", "evaluation.json"),
    ] {
        let path = folders[0].join(file);
        let before = std::fs::read(&path).ok();
        std::fs::write(&path, content).unwrap();
        let report = Report::read(&folders).unwrap();
        assert_eq!((report.groups[0].runs().count(), report.left_out.len()), (2, 1), "{file}");
        assert_eq!(report.left_out[0].folder, folders[0]);
        assert!(report.left_out[0].cause.contains(expected), "{:?}", report.left_out);
        match before {
            Some(before) => std::fs::write(&path, before).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
    }
    edit(&folders[0], "summary.json", |summary| summary["test_top1"] = 1.5.into());
    let output = convzoo("report . -o page.html", here.path());
    let [text, errors] = [&output.stdout, &output.stderr].map(|out| String::from_utf8_lossy(out));
    assert_eq!(output.status.code(), Some(1), "{text}{errors}");
    for said in [&text, &errors] {
        assert!(said.contains("1 run left out: ") && said.contains("test_top1 is 1.5"), "{said}");
    }
    assert!(text.contains("alexnet") && text.contains("resnet18"), "{text}");
    let page = std::fs::read_to_string(here.path().join("page.html")).unwrap();
    assert!(page.contains("Not all runs are here.") && page.contains("test_top1 is 1.5"));
    let output = convzoo("report . -o page.html --json", here.path());
    let data: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), data["left_out"].as_array().unwrap().len()), (Some(1), 1));
}

#[test]
#[cfg(unix)]
fn pipes_in_a_run_are_not_waited_for() {
    let here = tempfile::tempdir().unwrap();
    let folder = run(here.path(), "resnet18", 1);
    for file in ["metrics.csv", "summary.json", "evaluation.json"] {
        let (path, aside) = (folder.join(file), here.path().join("aside"));
        let kept = std::fs::rename(&path, &aside).is_ok();
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let error = Report::read(std::slice::from_ref(&folder)).unwrap_err().to_string();
        assert!(error.contains(file) && error.contains("not a regular file"), "{error}");
        std::fs::remove_file(&path).unwrap();
        if kept {
            std::fs::rename(&aside, &path).unwrap();
        }
    }
    Report::read(&[folder]).unwrap();
}

/// A loss that is not finite is part of a run; the figures leave it out and the page says so.
#[test]
fn losses_that_went_astray_are_said_and_not_drawn() {
    let here = tempfile::tempdir().unwrap();
    let folders = runs(here.path());
    let path = folders[0].join("metrics.csv");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let loss = lines[0].split(',').position(|name| name == "train_loss").unwrap();
    for (line, value) in [(1, "NaN"), (2, "1e300"), (3, "inf")] {
        let mut cells: Vec<&str> = lines[line].split(',').collect();
        cells[loss] = value;
        lines[line] = cells.join(",");
    }
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    let out = tempfile::tempdir().unwrap();
    Report::read(&folders).unwrap().write(out.path()).unwrap();
    for (path, _) in tree(out.path()) {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("NaN,") && !text.contains(",NaN") && !text.contains("inf,"));
    }
    let page = std::fs::read_to_string(out.path().join("report.html")).unwrap();
    assert!(page.contains("are not drawn: there are some in resnet18-2"), "not said");
}

#[test]
fn what_does_not_compare_is_said() {
    let here = tempfile::tempdir().unwrap();
    let folders = runs(here.path());
    let caution = || Report::read(&folders).unwrap().groups[0].caution();
    assert_eq!(caution(), None);
    edit(&folders[1], "config.json", |config| config["threads"] = 64.into());
    let text = caution().unwrap();
    assert!(
        text.contains("alexnet-1 ran on another machine, device or number of threads"),
        "{text}"
    );
    edit(&folders[2], "summary.json", |summary| summary["skipped_images"] = 3.into());
    let text = caution().unwrap();
    assert!(text.contains("resnet18-1 left out 3 images that could not be read"), "{text}");
    Report::read(&folders).unwrap().write(here.path()).unwrap();
    let page = std::fs::read_to_string(here.path().join("report.html")).unwrap();
    assert!(page.contains("Not one machine.") && page.contains("Images are missing."));
}

#[test]
fn absurd_flags_of_compare_are_refused() {
    let here = tempfile::tempdir().unwrap();
    for (flags, expected) in [
        ("--seeds 0", "--seeds"),
        ("--seeds=-1", "--seeds"),
        ("--seeds 18446744073709551615", "--seeds"),
        ("--seed 18446744073709551615 --seeds 2", "leaves no room for 2 seeds"),
        ("--budget 1e400min", "is no budget"),
        ("--budget=-5min", "is no budget"),
        ("--budget 0epochs", "is no budget"),
        ("--budget 18446744073709551615epochs", "is no budget"),
        ("--models lenet5-relu,lenet5-relu", "names lenet5-relu twice"),
        ("--models ../x", "../x"),
    ] {
        let output = convzoo(&format!("compare {DRAWN} {flags}"), here.path());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && errors.contains(expected), "{flags}: {errors}");
    }
    assert!(!here.path().join("runs").exists(), "nothing was begun");
}

/// In a real browser: see the script.
#[test]
fn the_page_behaves_in_a_browser() {
    let here = tempfile::tempdir().unwrap();
    Report::read(&runs(here.path())).unwrap().write(here.path()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/report_in_browser.py");
    let mut python = Command::new("python3");
    let Ok(output) = python.arg(script).arg(here.path().join("report.html")).output() else {
        println!("skipped: no python3 here");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    match output.status.code() {
        Some(0) => assert!(text.lines().count() >= 12, "{text}"),
        Some(2) => println!("{}", text.trim()),
        _ => panic!("{text}{}", String::from_utf8_lossy(&output.stderr)),
    }
}

fn command(args: &str, folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_convzoo"));
    command
        .current_dir(folder)
        .env("HF_HUB_OFFLINE", "1")
        .env("CONVZOO_CACHE", folder.join("cache"));
    command.env_remove("CONVZOO_DATA").args(args.split(' '));
    command
}

fn convzoo(args: &str, folder: &Path) -> Output {
    command(args, folder).output().expect("the binary runs")
}

fn succeeds(args: &str, folder: &Path) -> String {
    let output = convzoo(args, folder);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const DRAWN: &str = "--dataset cats-dogs-drawn --limit 8 --threads 1 --workers 1";

#[test]
fn compare_trains_what_is_missing_and_takes_what_is_there() {
    let here = tempfile::tempdir().unwrap();
    let compare =
        format!("compare {DRAWN} --models lenet5-relu,simpleconvnet --budget 2epochs --seeds 2");
    let text = succeeds(&compare, here.path());
    assert_eq!(text.matches("to be trained").count(), 4, "{text}");
    let runs = here.path().join("runs/compare");
    for file in [
        "report.html",
        "compare.csv",
        "accuracy-macs.svg",
        "lenet5-relu-cats-dogs-drawn-seed1/summary.json",
    ] {
        assert!(runs.join(file).is_file(), "{file} is missing");
    }
    let first = |run: &str| RunFolder::open(&runs.join(run)).unwrap().config().unwrap();
    let [a, b] = [0, 1].map(|seed| first(&format!("lenet5-relu-cats-dogs-drawn-seed{seed}")));
    assert_eq!(a.data.identity, b.data.identity, "seeds see the same pictures");
    assert_eq!((a.train.epochs, b.train.seed), (2, 1));

    let again = succeeds(&format!("{compare} --json"), here.path());
    let again: serde_json::Value =
        serde_json::from_str(&again).expect("JSON alone on standard output");
    let rows = again["groups"][0]["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["val_top1"]["count"]), (2, &2.into()));
    assert_eq!(rows[1]["params"], first("simpleconvnet-cats-dogs-drawn-seed0").model.params);
    assert_eq!(
        first("lenet5-relu-cats-dogs-drawn-seed0").started,
        a.started,
        "nothing is trained again"
    );

    let other = convzoo(&format!("{compare} --lr 0.01"), here.path());
    let error = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(!other.status.success());
    for wanted in
        ["lenet5-relu-cats-dogs-drawn-seed0", "train.lr was 0.05 and is now 0.01", "--any-settings"]
    {
        assert!(error.contains(wanted), "{wanted} is missing in {error}");
    }
    let taken = succeeds(&format!("{compare} --lr 0.01 --any-settings"), here.path());
    assert_eq!(taken.matches("finished before").count(), 4, "{taken}");

    let page = here.path().join("one.html");
    succeeds("report runs/compare/lenet5-relu-cats-dogs-drawn-seed0 -o one.html", here.path());
    assert!(std::fs::read_to_string(page).unwrap().contains("lenet5-relu on cats-dogs-drawn"));
    let run = "runs/compare/lenet5-relu-cats-dogs-drawn-seed0";
    let once = succeeds(&format!("report {run} -o two.html"), here.path());
    let twice = succeeds(&format!("report {run} {run}/ -o two.html"), here.path());
    assert_eq!(once, twice, "a run that is given twice is one run");
    let output = convzoo(&format!("report {run} one.html -o two.html"), here.path());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("one.html: a file"), "{errors}");
}

#[test]
fn compare_goes_on_where_it_was_killed() {
    let here = tempfile::tempdir().unwrap();
    let compare = format!("compare {DRAWN} --models simpleconvnet --epochs 12 --runs runs");
    let mut child = command(&compare, here.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("the binary runs");
    let run = here.path().join("runs/simpleconvnet-cats-dogs-drawn-seed0");
    let done = || Record::read(&run).map_or(0, |record| record.epochs.len());
    let begun = Instant::now();
    while done() < 1 && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // The run's own process notices, saves and ends a moment later.
    std::thread::sleep(Duration::from_secs(1));
    let before = done();
    assert!((1..12).contains(&before), "{before} epochs before it was killed");
    let text = succeeds(&compare, here.path());
    assert!(text.contains("goes on after epoch"), "{text}");
    let record = Record::read(&run).unwrap();
    assert_eq!((record.epochs.len(), record.is_finished()), (12, true));
    // How it began is kept beside how it went on.
    assert!(record.config.command.contains(&"compare".to_owned()));
    assert_eq!(record.config.resumed_by.len(), 1);
}

#[test]
fn a_budget_of_time_becomes_epochs() {
    let here = tempfile::tempdir().unwrap();
    let compare = format!("compare {DRAWN} --models lenet5-relu --budget 2s --runs runs");
    let text = succeeds(&compare, here.path());
    assert!(text.contains("epochs of about"), "{text}");
    let run = Record::read(&here.path().join("runs/lenet5-relu-cats-dogs-drawn-seed0")).unwrap();
    assert!(run.is_finished() && run.config.train.epochs >= 1);
    assert!(!here.path().join("runs/.speed").exists());
    assert!(succeeds(&compare, here.path()).contains("finished before"));
}
