//! Downloads from servers that mean no good, and caches that others may write to.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::server::{Reply, Server, resolve, sha256};
use convzoo::data::hub::{self, Hub, Limits, RemoteFile};

const LIST: &str = "/api/datasets/o/d/tree/main";

fn listed(path: &str, bytes: &[u8]) -> RemoteFile {
    RemoteFile { path: path.to_owned(), size: bytes.len() as u64, sha256: Some(sha256(bytes)) }
}

/// Names in a folder, without the lock files.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.ends_with(".lock")).collect()
}

/// Fetches weights of unknown size that the server answers with `reply`; returns the error and what is
/// left.
fn fetch_badly(reply: Reply, change: impl FnOnce(&mut Hub)) -> (String, Vec<String>) {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    server.on("/w.pth", reply);
    let mut hub = server.hub();
    change(&mut hub);
    let (url, target) = (format!("{}/w.pth", server.endpoint), folder.path().join("w.pth"));
    let error = hub.fetch_weights("w", &url, "00", &target).unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    (error, names(folder.path()))
}

/// A client that wants 1000 bytes a second.
fn hurried(server: &Server) -> Hub {
    Hub { least_rate: 1000, rate_window: Duration::from_millis(200), ..server.hub() }
}

#[test]
fn a_trickle_is_a_stall() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    let (bytes, target) = (vec![3; 4000], folder.path().join("f"));
    let trickle = |pause| Reply::Trickle(bytes.clone(), Duration::from_millis(pause));
    server.on(&resolve("o/d", "f"), trickle(20));
    let start = Instant::now();
    let error = hurried(&server).fetch("o/d", &listed("f", &bytes), &target).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("sent less than 1000 bytes a second for 0.2 s, 3 times"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    // Small pieces are fine as long as they come fast enough.
    server.on(&resolve("o/d", "f"), trickle(0));
    hurried(&server).fetch("o/d", &listed("f", &bytes), &target).unwrap();
    assert_eq!(fs::read(target).unwrap(), bytes);
}

#[test]
fn a_listing_may_not_trickle_either() {
    let server = Server::start();
    server.on(LIST, Reply::Trickle(vec![b' '; 4000], Duration::from_millis(20)));
    let error = hurried(&server).files("o/d").unwrap_err().to_string();
    assert!(error.contains("sent less than 1000 bytes a second"), "{error}");
}

#[test]
fn what_is_too_large_is_refused_before_a_byte_is_written() {
    let small = |hub: &mut Hub| hub.limits.weights = 1000;
    let (error, left) = fetch_badly(Reply::Claims(1001), small);
    assert!(error.contains("w.pth has 1001 bytes or more") && error.contains("may have 1000"));
    assert_eq!(left, [""; 0]);
    // What a list says is believed at once.
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    let hub = Hub { limits: Limits { table: 1000, ..Limits::default() }, ..server.hub() };
    let file = listed("f", &[0; 1001]);
    let error = hub.fetch("o/d", &file, &folder.path().join("f")).unwrap_err().to_string();
    assert!(error.contains("f has 1001 bytes"), "{error}");
    assert!(server.asked.lock().unwrap().is_empty());
}

#[test]
fn a_body_without_end_is_cut_off() {
    let (error, left) = fetch_badly(Reply::Endless, |hub| hub.limits.weights = 200_000);
    assert!(error.contains("may have 200000"), "{error}");
    assert_eq!(left, [""; 0]);
    let server = Server::start();
    server.on(LIST, Reply::Endless);
    let hub = Hub { limits: Limits { listing: 9000, ..Limits::default() }, ..server.hub() };
    let error = hub.files("o/d").unwrap_err().to_string();
    assert!(error.contains("more than 9000 bytes"), "{error}");
}

#[test]
#[cfg(unix)]
fn what_the_disk_has_no_room_for_is_not_begun() {
    let (error, left) = fetch_badly(Reply::Claims(1 << 60), |hub| hub.limits.weights = u64::MAX);
    assert!(error.contains("free") && error.contains("CONVZOO_CACHE"), "{error}");
    assert_eq!(left, ["w.pth.part"]);
}

#[test]
fn only_the_web_is_asked() {
    for to in ["ftp://h/w", "file:///etc/passwd", "//h/w", "javascript:x"] {
        let (error, _) = fetch_badly(Reply::Redirect(to.to_owned(), None), |_| ());
        assert!(error.contains(to) && error.contains("not a web address"), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub { endpoint: "file:///etc".to_owned(), quiet: true, ..Hub::default() };
    let error = hub.mnist(folder.path()).unwrap_err().to_string();
    assert!(error.contains("is not an https address"), "{error}");
}

#[test]
fn a_list_stays_at_its_server() {
    let server = Server::start();
    let page = br#"[{"type": "file", "path": "a", "size": 1}]"#.to_vec();
    let next = "<http://127.0.0.1:1/elsewhere>; rel=\"next\"".to_owned();
    server.on(LIST, Reply::Page(page.clone(), next));
    let error = server.hub().files("o/d").unwrap_err().to_string();
    assert!(error.contains("continues at 127.0.0.1:1, which is refused"), "{error}");
    server.on(LIST, Reply::Page(page.clone(), format!("<{}/2>; rel=\"next\"", server.endpoint)));
    server.on("/2", Reply::Bytes(page));
    assert_eq!(server.hub().files("o/d").unwrap().len(), 2);
}

/// Names in a list become names of files: they stay inside, or are refused.
#[test]
fn hostile_names_stay_inside() {
    let list = |paths: &[&str]| {
        let entry = |path: &&str| serde_json::json!({"type": "file", "path": path, "size": 3});
        serde_json::to_vec(&paths.iter().map(entry).collect::<Vec<_>>()).unwrap()
    };
    let path = "/api/datasets/microsoft/cats_vs_dogs/tree/main";
    for (paths, expected) in [
        (&["data/.parquet"][..], "data/.parquet does not end with the name of a file"),
        (&["data/..\\..\\x.parquet"], "does not end with the name of a file"),
        (&["C:x.parquet"], "C:x.parquet does not end"),
        (&["a\u{1b}[31m.parquet"], "a\\x1b[31m.parquet does not end"),
        (&["a/0.parquet", "b/0.parquet"], "two files called 0.parquet"),
    ] {
        let (server, here) = (Server::start(), tempfile::tempdir().unwrap());
        server.on(path, Reply::Bytes(list(paths)));
        let error = server.hub().cats_vs_dogs(&here.path().join("cache")).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(names(here.path()), ["cache"]);
    }
    for file in ["../x.safetensors", "/x.safetensors", "a/../../x.bin", "a\\..\\x.pth", ".x.pt"] {
        let (server, here) = (Server::start(), tempfile::tempdir().unwrap());
        server.on("/api/models/o/m/tree/main", Reply::Bytes(list(&[file])));
        let cache = here.path().join("cache");
        let found = convzoo::weights::fetch_from_hub(&server.hub(), "o/m", None, &cache);
        let error = found.unwrap_err().to_string();
        assert!(error.contains("is not a name for a file"), "{error}");
        assert_eq!(names(here.path()), [""; 0]);
    }
    let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    let server = Server::start();
    server.on(LIST, Reply::Bytes(deep));
    assert!(server.hub().files("o/d").unwrap_err().to_string().contains("cannot be read"));
}

fn convzoo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_convzoo"));
    for name in ["HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "CONVZOO_CACHE", "CONVZOO_DATA"] {
        command.env_remove(name);
    }
    command.env("HF_ENDPOINT", "http://127.0.0.1:1").args(args);
    command
}

fn fails(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const PREDICT: [&str; 6] = ["predict", "--model", "resnet18", "--weights", "pretrained", "a.png"];

#[test]
fn without_a_home_there_is_no_cache() {
    let error = fails(convzoo(&PREDICT));
    assert!(error.contains("set CONVZOO_CACHE to a folder of your own"), "{error}");
}

#[test]
#[cfg(unix)]
fn a_cache_that_anybody_may_write_to_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let cache = tempfile::tempdir().unwrap();
    let weights = cache.path().join("weights");
    fs::create_dir(&weights).unwrap();
    fs::write(weights.join("resnet18-f37072fd.safetensors"), "planted").unwrap();
    fs::create_dir_all(cache.path().join("mnist")).unwrap();
    fs::set_permissions(cache.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let mut command = convzoo(&PREDICT);
    command.env("CONVZOO_CACHE", cache.path());
    let error = fails(command);
    assert!(error.contains("may be written to by every user"), "{error}");
    let hub = Hub { offline: true, ..Hub::default() };
    for error in
        [hub.mnist(cache.path()), hub.cifar_10(cache.path()), hub.cats_vs_dogs(cache.path())]
    {
        assert!(error.unwrap_err().to_string().contains("by every user"));
    }
    assert!(hub::trusted(cache.path()).is_err());
}
