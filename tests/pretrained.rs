//! Published weights, fetched from a server of the tests' own on the loopback device.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use candle_core::{DType, Device, Tensor};
use common::server::{Reply, Server, sha256};
use convzoo::models::{Config, Model, find};
use convzoo::weights::{self, PUBLISHED, Published};

/// The smallest network that weights are published for.
const MODEL: &str = "squeezenet1_1";

/// A network's weights as `torch.save` would have them, but that they are safetensors: the content
/// decides, not the name.
fn file(seed: u64) -> (BTreeMap<String, Tensor>, Vec<u8>) {
    let config = Config { aux: false, ..find(MODEL).unwrap().config() };
    let model = Model::new(MODEL, config, seed, &Device::Cpu).unwrap();
    let entries = model.network.params().entries().iter();
    let tensors: BTreeMap<_, _> =
        entries.map(|e| (e.spec.name.clone(), e.var.as_detached_tensor())).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w");
    weights::write(&path, tensors.iter().map(|(n, t)| (n.as_str(), t)), None).unwrap();
    (tensors, fs::read(path).unwrap())
}

/// The table's row for [`MODEL`], but with the hash of these bytes.
fn row(bytes: &[u8]) -> Published {
    let hash: &'static str = Box::leak(sha256(bytes)[..8].to_owned().into_boxed_str());
    Published { sha256: hash, ..weights::published(MODEL, None).unwrap().clone() }
}

fn fetch(server: &Server, row: &Published, cache: &Path) -> convzoo::Result<std::path::PathBuf> {
    weights::fetch_published(&server.hub(), row, Some(&server.endpoint), cache)
}

fn address(row: &Published) -> String {
    format!("/{}", row.file)
}

/// What is in the cache, without lock files.
fn names(cache: &Path) -> Vec<String> {
    let Ok(folder) = fs::read_dir(cache.join("weights")) else { return Vec::new() };
    let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| !name.ends_with(".lock")).collect();
    names.sort();
    names
}

#[test]
fn the_table_fits_the_zoo() {
    for row in PUBLISHED {
        let architecture = find(row.model).unwrap();
        let plain = architecture.params == row.params;
        let layers = architecture.layers(&architecture.config()).unwrap();
        assert!(plain || layers.parameter_count() == row.params, "{}", row.file);
        let is_hash = row.sha256.bytes().all(|digit| digit.is_ascii_hexdigit());
        assert!(is_hash && [8, 64].contains(&row.sha256.len()), "{}", row.file);
        assert!(row.file.contains(&row.sha256[..8]), "{}", row.file);
        let metadata = row.metadata().unwrap();
        assert_eq!(metadata.classes.len(), 1000);
        assert_eq!(metadata.input.1, row.crop);
        assert!((30.0..100.0).contains(&row.top1) && row.top1 < row.top5, "{}", row.file);
    }
    let error = weights::published("lenet5", None).unwrap_err().to_string();
    assert!(error.contains("resnet18"), "{error}");
    let error = weights::published("resnet50", Some("V9")).unwrap_err().to_string();
    assert!(error.contains("IMAGENET1K_V2"), "{error}");
}

#[test]
fn the_table_is_torchvisions() {
    let Some(shared) = common::shared() else { return };
    let json = common::json(&shared.join("fixtures/pretrained/torchvision.json"));
    for row in PUBLISHED {
        let recorded = &json["weights"][row.model][row.tag];
        assert_eq!(recorded["file"], row.file);
        assert_eq!(recorded["sha256_prefix"], row.sha256[..8]);
        assert_eq!(recorded["num_params"], row.params);
        assert_eq!(recorded["metrics"]["ImageNet-1K"]["acc@1"], row.top1);
        assert_eq!(recorded["metrics"]["ImageNet-1K"]["acc@5"], row.top5);
        assert_eq!(recorded["transform"]["resize"][0], row.resize);
        assert_eq!(recorded["transform"]["crop"][0], row.crop);
        let url = format!("{}/{}", weights::TORCHVISION, row.file);
        assert_eq!(recorded["url"], url);
        assert_eq!(recorded["transform"]["interpolation"], "bilinear");
    }
}

#[test]
fn weights_are_fetched_once_and_converted() {
    let (server, cache) = (Server::start(), tempfile::tempdir().unwrap());
    let (tensors, bytes) = file(1);
    let row = row(&bytes);
    // By a redirect, as servers of large files have it.
    server.on(&address(&row), Reply::Redirect("/elsewhere".to_owned(), None));
    server.on("/elsewhere", Reply::Bytes(bytes));
    let path = fetch(&server, &row, cache.path()).unwrap();
    assert_eq!(fetch(&server, &row, cache.path()).unwrap(), path);
    assert_eq!(server.asked_for(&address(&row)).len(), 1);
    let name = "squeezenet1_1-b8a52dc0.safetensors";
    assert_eq!(names(cache.path()), [name.to_owned(), format!("{name}.sha256")]);

    let file = weights::load(&path, &Device::Cpu).unwrap();
    let metadata = file.metadata().unwrap();
    assert_eq!(metadata.architecture, MODEL);
    assert_eq!(metadata.classes[281], "tabby");
    for (name, tensor) in &tensors {
        assert_eq!(common::rel_l2(&file.tensors[name], tensor), 0.0);
    }
    file.model(&Device::Cpu).unwrap();
}

/// What is in the cache is compared with what came, and what comes again with what came first.
#[test]
fn cached_weights_that_have_changed_are_noticed() {
    let (server, cache) = (Server::start(), tempfile::tempdir().unwrap());
    let [first, second] = [file(1).1, file(2).1];
    // Nothing is known of its hash but what is recorded.
    let row = Published { sha256: "", ..row(&first) };
    server.on(&address(&row), Reply::Bytes(first.clone()));
    let path = fetch(&server, &row, cache.path()).unwrap();
    let whole = fs::read(&path).unwrap();
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(&path, changed).unwrap();
    let error = fetch(&server, &row, cache.path()).unwrap_err().to_string();
    assert!(error.contains("has changed since it was downloaded"), "{error}");

    fs::remove_file(&path).unwrap();
    server.on(&address(&row), Reply::Bytes(second));
    let error = fetch(&server, &row, cache.path()).unwrap_err().to_string();
    assert!(error.contains(&sha256(&first)) && error.contains("first downloaded"), "{error}");
    fs::remove_file(cache.path().join("weights").join(row.file)).unwrap();
    server.on(&address(&row), Reply::Bytes(first));
    assert_eq!(fs::read(fetch(&server, &row, cache.path()).unwrap()).unwrap(), whole);
}

#[test]
fn weights_of_the_hub_that_have_changed_are_noticed() {
    let (server, cache) = (Server::start(), tempfile::tempdir().unwrap());
    offer(&server, "o/m", &[("config.json", b"{}"), ("model.safetensors", b"weights")]);
    let fetch = || weights::fetch_from_hub(&server.hub(), "o/m", None, cache.path());
    let path = fetch().unwrap();
    assert_eq!(fetch().unwrap(), path);
    for name in ["config.json", "model.safetensors"] {
        let file = path.with_file_name(name);
        let before = fs::read(&file).unwrap();
        fs::write(&file, "other").unwrap();
        let error = fetch().unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("has changed"), "{error}");
        fs::write(&file, before).unwrap();
    }
    assert_eq!(fetch().unwrap(), path);
}

#[test]
fn a_broken_connection_is_resumed_in_this_run_and_the_next() {
    let (server, cache) = (Server::start(), tempfile::tempdir().unwrap());
    let (_, bytes) = file(1);
    let row = row(&bytes);
    server.on(&address(&row), Reply::Cut(bytes.clone(), 2_000_000));
    fetch(&server, &row, cache.path()).unwrap();
    let ranges: Vec<_> = server.asked_for(&address(&row)).iter().map(|a| a.range).collect();
    assert_eq!(ranges, [None, Some(2_000_000), Some(4_000_000)]);

    let cache = tempfile::tempdir().unwrap();
    fs::create_dir(cache.path().join("weights")).unwrap();
    let part = cache.path().join("weights").join(format!("{}.part", row.file));
    fs::write(&part, &bytes[..1000]).unwrap();
    server.on(&address(&row), Reply::Stall(bytes.clone(), 0));
    let error = fetch(&server, &row, cache.path()).unwrap_err().to_string();
    assert!(error.contains(MODEL) && error.contains("stopped sending"), "{error}");
    assert_eq!(fs::metadata(part).unwrap().len(), 1000);
    server.on(&address(&row), Reply::Bytes(bytes));
    fetch(&server, &row, cache.path()).unwrap();
    let last = server.asked_for(&address(&row)).pop().unwrap();
    assert_eq!(last.range, Some(1000));
}

#[test]
fn a_server_without_ranges_sends_it_all_again() {
    let (server, cache) = (Server::start(), tempfile::tempdir().unwrap());
    let (_, bytes) = file(1);
    let row = row(&bytes);
    server.on(&address(&row), Reply::CutNoRange(bytes, 100_000));
    fetch(&server, &row, cache.path()).unwrap();
}

#[test]
fn nothing_wrong_is_taken_for_whole() {
    let (server, cache) = (Server::start(), tempfile::tempdir().unwrap());
    let (_, bytes) = file(1);
    let fails = |row: &Published, reply, expected: &str| {
        server.on(&address(row), reply);
        let error = fetch(&server, row, cache.path()).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        let part = cache.path().join("weights").join(format!("{}.part", row.file));
        assert!(fs::metadata(part).map_or(0, |part| part.len()) == 0, "after {expected}");
        assert!(names(cache.path()).iter().all(|name| name.ends_with(".part")), "{expected}");
    };
    let good = row(&bytes);
    fails(&good, Reply::Status(404), "does not exist");
    fails(&good, Reply::Status(503), "busy or broken");
    fails(&good, Reply::Bytes(file(2).1), "SHA-256");
    fails(&good, Reply::Bytes(b"<html>no such luck</html>".to_vec()), "SHA-256");
    // A right hash for what is no such network: a table that is wrong, say.
    let other = b"not weights".to_vec();
    let wrong = row(&other);
    server.on(&address(&wrong), Reply::Bytes(other));
    let error = fetch(&server, &wrong, cache.path()).unwrap_err().to_string();
    assert!(error.contains(".pth"), "{error}");
    assert!(!names(cache.path()).iter().any(|name| name.ends_with("safetensors")));
}

#[test]
fn a_download_of_another_version_begins_again() {
    let (server, cache) = (Server::start(), tempfile::tempdir().unwrap());
    let (_, bytes) = file(1);
    let row = row(&bytes);
    let folder = cache.path().join("weights");
    fs::create_dir_all(&folder).unwrap();
    for old in [vec![7; 1000], vec![7; bytes.len()], vec![7; bytes.len() + 5]] {
        let _ = fs::remove_file(folder.join("squeezenet1_1-b8a52dc0.safetensors"));
        fs::write(folder.join(format!("{}.part", row.file)), old).unwrap();
        server.on(&address(&row), Reply::Bytes(bytes.clone()));
        fetch(&server, &row, cache.path()).unwrap();
    }
}

/// Where the disk is full there is an error that names the file, and nothing passes for whole.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_an_error() {
    let (server, cache) = (Server::start(), tempfile::tempdir().unwrap());
    let (_, bytes) = file(1);
    let row = row(&bytes);
    let folder = cache.path().join("weights");
    fs::create_dir_all(&folder).unwrap();
    let part = folder.join(format!("{}.part", row.file));
    std::os::unix::fs::symlink("/dev/full", &part).unwrap();
    server.on(&address(&row), Reply::Bytes(bytes));
    let error = fetch(&server, &row, cache.path()).unwrap_err().to_string();
    assert!(error.contains(".part"), "{error}");
    assert!(!names(cache.path()).iter().any(|name| name.ends_with("safetensors")));
}

fn convzoo(server: &Server, cache: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_convzoo"));
    let repo = server.endpoint.clone();
    command.env("HF_ENDPOINT", &repo).env("CONVZOO_CACHE", cache).env_remove("HF_HUB_OFFLINE");
    command.env_remove("HF_TOKEN").args(args);
    command
}

fn good(output: Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Offers `files` as the model repository `repo`.
fn offer(server: &Server, repo: &str, files: &[(&str, &[u8])]) {
    let entry = |(path, bytes): &(&str, &[u8])| {
        let size = bytes.len();
        serde_json::json!({"type": "file", "path": path, "size": size, "oid": "0",
            "lfs": {"oid": sha256(bytes), "size": size, "pointerSize": 134}})
    };
    let list: Vec<_> = files.iter().map(entry).collect();
    let list = serde_json::to_vec(&list).unwrap();
    server.on(&format!("/api/models/{repo}/tree/main"), Reply::Bytes(list));
    for (path, bytes) in files {
        server.on(&format!("/{repo}/resolve/main/{path}"), Reply::Bytes(bytes.to_vec()));
    }
}

#[test]
fn two_processes_fetch_once_and_predict_from_the_hub() {
    let (server, here) = (Server::start(), tempfile::tempdir().unwrap());
    let (_, bytes) = file(1);
    let config = br#"{"architecture": "squeezenet1_1", "num_classes": 1000, "pretrained_cfg":
        {"input_size": [3, 64, 64], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5],
         "crop_pct": 0.95, "interpolation": "bicubic", "tag": "x"}}"#;
    let files =
        [("README.md", &b"hello"[..]), ("config.json", config), ("model.safetensors", &bytes)];
    offer(&server, "someone/squeeze", &files);
    let picture = here.path().join("a, b.png");
    image::RgbImage::from_pixel(40, 30, image::Rgb([200, 120, 30])).save(&picture).unwrap();
    let picture = picture.to_str().unwrap();
    let run = || {
        let args = ["predict", "--weights", "hf:someone/squeeze", "--csv", picture];
        let mut command = convzoo(&server, here.path(), &args);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        command.spawn().unwrap()
    };
    let both = [run(), run()].map(|child| good(child.wait_with_output().unwrap()));
    assert_eq!(both[0], both[1]);
    let lines: Vec<_> = both[0].lines().collect();
    assert_eq!(lines[0], "image,rank,class,probability,error");
    assert!(lines.len() == 6 && lines[1].starts_with('"') && lines[1].contains("a, b.png\",1,"));
    let asked = server.asked_for("/someone/squeeze/resolve/main/model.safetensors");
    assert_eq!(asked.len(), 1);

    let path = here.path().join("hub/models/someone--squeeze/model.safetensors");
    let file = weights::load(&path, &Device::Cpu).unwrap().described(None).unwrap();
    let metadata = file.metadata().unwrap();
    assert_eq!((metadata.architecture.as_str(), metadata.input), (MODEL, (3, 64, 64)));
    let steps = metadata.preprocessing.to_string();
    assert!(steps.contains("\"size\":67") && steps.contains("bicubic"), "{steps}");

    let missing = ["predict", "--weights", "hf:someone/squeeze/other.bin", picture];
    let output = convzoo(&server, here.path(), &missing).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("other.bin") && error.contains("README.md"), "{error}");
    let nowhere = ["predict", "--weights", "hf:someone/else", picture];
    let output = convzoo(&server, here.path(), &nowhere).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.starts_with("error: weights someone/else: ") && error.lines().count() == 1);
}

#[test]
fn folders_are_predicted_in_batches_with_json() {
    let here = tempfile::tempdir().unwrap();
    let (_, bytes) = file(3);
    let path = here.path().join("w.pth");
    fs::write(&path, bytes).unwrap();
    let folder = here.path().join("pictures");
    fs::create_dir(&folder).unwrap();
    for i in 0..5u8 {
        let colour = image::Rgb([40 * i, 200 - 40 * i, 90]);
        let path = folder.join(format!("{i}.png"));
        image::RgbImage::from_fn(
            40,
            30,
            |x, _| if x % 7 < 3 { colour } else { image::Rgb([9; 3]) },
        )
        .save(path)
        .unwrap();
    }
    let ask = |images: &str, batch: &str| -> serde_json::Value {
        let weights = path.to_str().unwrap();
        let args = ["predict", "--weights", weights, "--json", "--batch-size", batch, images];
        let mut command = Command::new(env!("CARGO_BIN_EXE_convzoo"));
        serde_json::from_str(&good(command.args(args).output().unwrap())).unwrap()
    };
    let together = ask(folder.to_str().unwrap(), "2");
    assert_eq!(together.as_array().unwrap().len(), 5);
    for row in together.as_array().unwrap() {
        let alone = &ask(row["image"].as_str().unwrap(), "1")[0];
        assert_eq!(alone["top"][0]["class"], row["top"][0]["class"]);
        let difference = alone["top"][0]["probability"].as_f64().unwrap()
            - row["top"][0]["probability"].as_f64().unwrap();
        assert!(difference.abs() < 1e-6);
    }
    let classes = convzoo::data::imagenet::classes();
    assert!(classes.iter().any(|class| together[0]["top"][0]["class"] == class.as_str()));
}

#[test]
fn the_mirror_is_asked_instead() {
    let (server, here) = (Server::start(), tempfile::tempdir().unwrap());
    let args = ["predict", "--model", "resnet18", "--weights", "pretrained", "--mirror"];
    let args = [&args[..], &[&server.endpoint, "a.png"]].concat();
    let output = convzoo(&server, here.path(), &args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("resnet18-f37072fd.pth does not exist"), "{error}");
    assert_eq!(server.asked_for("/resnet18-f37072fd.pth").len(), 1);
    let output = convzoo(&server, here.path(), &["predict", "--weights", "pretrained", "a.png"]);
    let error = String::from_utf8_lossy(&{ output }.output().unwrap().stderr).into_owned();
    assert!(error.contains("--model"), "{error}");
}

#[test]
fn files_are_inspected_and_converted() {
    let here = tempfile::tempdir().unwrap();
    let (tensors, bytes) = file(1);
    let path = here.path().join("w.bin");
    fs::write(&path, bytes).unwrap();
    let run = |args: &[&str]| {
        good(Command::new(env!("CARGO_BIN_EXE_convzoo")).args(args).output().unwrap())
    };
    let text = run(&["weights", "inspect", path.to_str().unwrap()]);
    assert!(text.contains("fits: squeezenet1_1 with 1000 classes"), "{text}");
    let json = run(&["weights", "inspect", "--json", path.to_str().unwrap()]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["tensors"].as_array().unwrap().len(), tensors.len());
    let half: BTreeMap<_, _> = tensors
        .iter()
        .map(|(name, t)| (format!("module.{name}"), t.to_dtype(DType::F16).unwrap()))
        .collect();
    weights::write(&path, half.iter().map(|(n, t)| (n.as_str(), t)), None).unwrap();
    let out = here.path().join("out.safetensors");
    run(&["weights", "convert", path.to_str().unwrap(), out.to_str().unwrap()]);
    let converted = weights::load(&out, &Device::Cpu).unwrap();
    assert!(converted.tensors.keys().eq(tensors.keys()));
}
