//! Downloads, from a server of the tests' own on the loopback device.

mod common;

use std::fs::{self, File};
use std::io::Cursor;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use common::server::{Asked, Reply, Server, resolve, sha256};
use convzoo::data::hub::{Hub, RemoteFile};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// Bytes that differ from place to place.
fn noise(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn listed(path: &str, bytes: &[u8]) -> RemoteFile {
    let (size, sha256) = (bytes.len() as u64, Some(sha256(bytes)));
    RemoteFile { path: path.to_string(), size, sha256 }
}

/// Names in a folder, without the lock files.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| !name.ends_with(".lock")).collect();
    names.sort();
    names
}

/// Fetches `bytes` as file "f" of data set "o/d", which the server answers with `reply`; returns
/// the server, what came of it and the folder.
fn fetch(bytes: &[u8], reply: Reply) -> (Server, convzoo::Result<()>, tempfile::TempDir) {
    let server = Server::start();
    server.on(&resolve("o/d", "f"), reply);
    let folder = tempfile::tempdir().unwrap();
    let done = server.hub().fetch("o/d", &listed("f", bytes), &folder.path().join("f"));
    (server, done, folder)
}

/// As [`fetch`], where all must go well; returns the ranges that were asked for.
fn fetch_well(bytes: &[u8], reply: Reply) -> Vec<Option<usize>> {
    let (server, done, folder) = fetch(bytes, reply);
    done.unwrap();
    assert_eq!(fs::read(folder.path().join("f")).unwrap(), bytes);
    assert_eq!(names(folder.path()), ["f"]);
    server.asked_for(&resolve("o/d", "f")).iter().map(|asked| asked.range).collect()
}

/// As [`fetch`], where it must fail; returns the error and the names left behind.
fn fetch_badly(bytes: &[u8], reply: Reply) -> (String, Vec<String>) {
    let (_server, done, folder) = fetch(bytes, reply);
    let error = done.unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    assert!(error.contains("o/d"), "{error}");
    (error, names(folder.path()))
}

#[test]
fn a_file_arrives_whole() {
    let bytes = noise(300_000);
    assert_eq!(fetch_well(&bytes, Reply::Bytes(bytes.clone())), [None]);
    assert_eq!(fetch_well(&[], Reply::Bytes(Vec::new())), []);
}

#[test]
fn a_file_that_is_there_is_not_asked_for() {
    let bytes = noise(1000);
    let (server, done, folder) = fetch(&bytes, Reply::Bytes(bytes.clone()));
    done.unwrap();
    let target = folder.path().join("f");
    server.hub().fetch("o/d", &listed("f", &bytes), &target).unwrap();
    let offline = Hub { offline: true, ..server.hub() };
    offline.fetch("o/d", &listed("f", &bytes), &target).unwrap();
    assert_eq!(server.asked_for(&resolve("o/d", "f")).len(), 1);
}

#[test]
fn a_cut_off_body_is_resumed() {
    let bytes = noise(250_000);
    let ranges = fetch_well(&bytes, Reply::Cut(bytes.clone(), 100_000));
    assert_eq!(ranges, [None, Some(100_000), Some(200_000)]);
}

#[test]
fn an_earlier_run_is_resumed() {
    let bytes = noise(250_000);
    let server = Server::start();
    server.on(&resolve("o/d", "f"), Reply::Bytes(bytes.clone()));
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("f.part"), &bytes[..70_000]).unwrap();
    let target = folder.path().join("f");
    server.hub().fetch("o/d", &listed("f", &bytes), &target).unwrap();
    assert_eq!(fs::read(target).unwrap(), bytes);
    assert_eq!(server.asked_for(&resolve("o/d", "f"))[0].range, Some(70_000));
}

#[test]
fn an_earlier_run_of_another_version_is_not_trusted() {
    let bytes = noise(250_000);
    let whole: Vec<u8> = bytes.iter().map(|byte| byte ^ 1).collect();
    for old in [&whole[..70_000], &whole[..], &noise(300_000)] {
        let server = Server::start();
        server.on(&resolve("o/d", "f"), Reply::Bytes(bytes.clone()));
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("f.part"), old).unwrap();
        let target = folder.path().join("f");
        server.hub().fetch("o/d", &listed("f", &bytes), &target).unwrap();
        assert_eq!(fs::read(target).unwrap(), bytes);
    }
}

#[test]
fn a_server_that_ignores_ranges_sends_it_all_again() {
    let bytes = noise(250_000);
    let ranges = fetch_well(&bytes, Reply::CutNoRange(bytes.clone(), 100_000));
    assert_eq!(ranges, [None, Some(100_000)]);
}

#[test]
fn a_busy_server_is_asked_again() {
    let bytes = noise(1000);
    assert_eq!(fetch_well(&bytes, Reply::Busy(503, 2, bytes.clone())).len(), 3);
    let (error, left) = fetch_badly(&bytes, Reply::Status(503));
    assert!(error.contains("HTTP 503") && error.contains("3 times"), "{error}");
    assert_eq!(left, ["f.part"]);
}

#[test]
fn what_does_not_exist_or_is_refused_is_said_at_once() {
    let (error, _) = fetch_badly(b"abc", Reply::Status(404));
    assert!(error.contains("does not exist (HTTP 404)"), "{error}");
    let (error, _) = fetch_badly(b"abc", Reply::Status(401));
    assert!(error.contains("HTTP 401") && error.contains("HF_TOKEN"), "{error}");
    let (server, done, _folder) = fetch(b"abc", Reply::Status(404));
    assert!(done.is_err());
    assert_eq!(server.asked_for(&resolve("o/d", "f")).len(), 1);
}

#[test]
fn wrong_bytes_are_deleted() {
    let bytes = noise(1000);
    let wrong: Vec<u8> = bytes.iter().map(|byte| byte ^ 1).collect();
    let (error, left) = fetch_badly(&bytes, Reply::Bytes(wrong.clone()));
    assert!(error.contains(&sha256(&bytes)) && error.contains(&sha256(&wrong)), "{error}");
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_file_longer_than_listed_is_an_error() {
    let (error, left) = fetch_badly(&noise(1000), Reply::Bytes(noise(1001)));
    assert!(error.contains("longer than the 1000 bytes"), "{error}");
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_shorter_file_is_never_taken_for_whole() {
    let (error, left) = fetch_badly(&noise(1000), Reply::NoRange(noise(900)));
    assert!(error.contains("900 of 1000 bytes"), "{error}");
    assert_eq!(left, ["f.part"]);
}

#[test]
fn a_stalled_server_is_given_up_and_what_came_is_kept() {
    let bytes = noise(100_000);
    let start = Instant::now();
    let (error, left) = fetch_badly(&bytes, Reply::Stall(bytes.clone(), 0));
    assert!(error.contains("stopped"), "{error}");
    assert_eq!(left, ["f.part"]);
    let (_server, done, folder) = fetch(&bytes, Reply::Stall(bytes.clone(), 60_000));
    // The first answer brings 60,000 bytes, the second the rest.
    done.unwrap();
    assert_eq!(fs::read(folder.path().join("f")).unwrap(), bytes);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn redirects_are_followed_and_the_token_stays_home() {
    let bytes = noise(1000);
    let (home, store) = (Server::start(), Server::start());
    home.on(&resolve("o/d", "f"), Reply::Redirect("/moved/f".to_string(), None));
    home.on("/moved/f", Reply::Redirect(format!("{}/blob?signed", store.endpoint), None));
    store.on("/blob", Reply::Cut(bytes.clone(), 600));
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub { token: Some("secret".to_string()), ..home.hub() };
    hub.fetch("o/d", &listed("f", &bytes), &folder.path().join("f")).unwrap();
    let token = |asked: &Asked| asked.token.clone();
    let bearer = Some("Bearer secret".to_string());
    let at_home = [home.asked_for(&resolve("o/d", "f")), home.asked_for("/moved/f")].concat();
    assert_eq!(at_home.len(), 4);
    assert!(at_home.iter().all(|asked| token(asked) == bearer));
    let at_store = store.asked_for("/blob");
    assert_eq!(at_store.iter().map(|asked| asked.range).collect::<Vec<_>>(), [None, Some(600)]);
    assert!(at_store.iter().all(|asked| asked.token.is_none()));
}

#[test]
fn redirects_in_a_circle_end() {
    let to = Reply::Redirect(resolve("o/d", "f"), None);
    let (error, _) = fetch_badly(b"abc", to);
    assert!(error.contains("redirects more than"), "{error}");
}

#[test]
fn the_hash_may_come_with_the_redirect() {
    let bytes = noise(1000);
    let try_with = |hash: String| {
        let server = Server::start();
        server.on(&resolve("o/d", "f"), Reply::Redirect("/blob".to_string(), Some(hash)));
        server.on("/blob", Reply::Bytes(bytes.clone()));
        let folder = tempfile::tempdir().unwrap();
        let file = RemoteFile { sha256: None, ..listed("f", &bytes) };
        server.hub().fetch("o/d", &file, &folder.path().join("f"))
    };
    try_with(sha256(&bytes)).unwrap();
    let error = try_with(sha256(b"other")).unwrap_err().to_string();
    assert!(error.contains("SHA-256"), "{error}");
}

#[test]
fn two_at_once_download_once() {
    let bytes = noise(500_000);
    let server = Server::start();
    server.on(&resolve("o/d", "f"), Reply::Cut(bytes.clone(), 200_000));
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("f");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| server.hub().fetch("o/d", &listed("f", &bytes), &target).unwrap());
        }
    });
    assert_eq!(fs::read(&target).unwrap(), bytes);
    assert_eq!(server.asked_for(&resolve("o/d", "f")).len(), 3);
    assert_eq!(names(folder.path()), ["f"]);
}

#[test]
fn no_server_is_said_in_one_line_and_soon() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let hub = Hub { endpoint, quiet: true, ..Hub::default() };
    let folder = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let error = hub.cats_vs_dogs(folder.path()).unwrap_err().to_string();
    assert!(error.contains("cannot be reached") && !error.contains('\n'), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
    let hub = Hub { endpoint: "http://no-such-host.invalid".to_string(), ..hub };
    let error = hub.mnist(folder.path()).unwrap_err().to_string();
    assert!(error.contains("no-such-host.invalid") && !error.contains('\n'), "{error}");
    assert!(!folder.path().join("mnist").exists());
}

#[test]
fn offline_makes_no_request() {
    let server = Server::start();
    let hub = Hub { offline: true, ..server.hub() };
    let folder = tempfile::tempdir().unwrap();
    let error = hub.cats_vs_dogs(folder.path()).unwrap_err().to_string();
    assert!(error.contains("HF_HUB_OFFLINE"), "{error}");
    assert!(server.asked.lock().unwrap().is_empty());
}

#[test]
fn lists_that_are_none_are_errors() {
    let server = Server::start();
    let path = "/api/datasets/o/d/tree/main";
    for (reply, expected) in [
        (Reply::Bytes(b"<html>".to_vec()), "list of files"),
        (Reply::Status(404), "does not exist"),
        (Reply::Status(500), "HTTP 500"),
    ] {
        server.on(path, reply);
        let error = server.hub().files("o/d").unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    }
    server.on(path, Reply::Busy(502, 1, b"[]".to_vec()));
    assert_eq!(server.hub().files("o/d").unwrap(), []);
}

/// A parquet file as the hub has them; a picture of `None` is a null.
fn table(label_name: &str, rows: &[(Option<&[u8]>, i64)]) -> Vec<u8> {
    table_of("image", label_name, rows)
}

fn table_of(column: &str, label_name: &str, rows: &[(Option<&[u8]>, i64)]) -> Vec<u8> {
    let schema = format!(
        "message schema {{ optional group {column} {{ optional binary bytes; \
         optional binary path (UTF8); }} optional int64 {label_name}; }}"
    );
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_compression(parquet::basic::Compression::SNAPPY);
    let mut out = Vec::new();
    let mut writer =
        SerializedFileWriter::new(&mut out, schema, Arc::new(properties.build())).unwrap();
    // Two row groups, so that their seam is tried too.
    for rows in rows.chunks(rows.len().div_ceil(2).max(1)) {
        let mut group = writer.next_row_group().unwrap();
        let pictures: Vec<ByteArray> =
            rows.iter().filter_map(|row| row.0).map(|bytes| bytes.to_vec().into()).collect();
        let levels: Vec<i16> = rows.iter().map(|row| if row.0.is_some() { 2 } else { 1 }).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&pictures, Some(&levels), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let no_path = vec![1; rows.len()];
        column.typed::<ByteArrayType>().write_batch(&[], Some(&no_path), None).unwrap();
        column.close().unwrap();
        let labels: Vec<i64> = rows.iter().map(|row| row.1).collect();
        let mut column = group.next_column().unwrap().unwrap();
        let levels = vec![1; rows.len()];
        column.typed::<Int64Type>().write_batch(&labels, Some(&levels), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
    out
}

const CATS: &str = "microsoft/cats_vs_dogs";

#[test]
fn photographs_are_unpacked_unchanged() {
    let pictures: Vec<Vec<u8>> = (0..7).map(|i| noise(1000 + i)).collect();
    let row = |i: usize| (Some(pictures[i].as_slice()), (i % 2) as i64);
    let first = table("labels", &[row(0), row(1), (None, 0), row(2)]);
    let second = table("labels", &[row(3), (Some(b"x"), 7), row(4), row(5), row(6)]);
    let server = Server::start();
    let files: [(&str, &[u8]); 3] = [
        ("README.md", b"text"),
        ("data/train-00001-of-00002.parquet", &second),
        ("data/train-00000-of-00002.parquet", &first),
    ];
    server.offer(CATS, &files);
    let cache = tempfile::tempdir().unwrap();
    let folder = server.hub().cats_vs_dogs(cache.path()).unwrap();
    assert_eq!(folder, cache.path().join("cats-dogs"));
    assert_eq!(names(&folder), ["cat", "dog", "source.txt"]);
    assert_eq!(names(&folder.join("cat")), ["00000.jpg", "00003.jpg", "00006.jpg", "00008.jpg"]);
    assert_eq!(names(&folder.join("dog")), ["00001.jpg", "00004.jpg", "00007.jpg"]);
    assert_eq!(fs::read(folder.join("cat/00003.jpg")).unwrap(), pictures[2]);
    assert_eq!(fs::read(folder.join("dog/00004.jpg")).unwrap(), pictures[3]);
    let account = fs::read_to_string(folder.join("source.txt")).unwrap();
    assert!(account.contains("7 of 9 rows") && account.contains("2 could not"), "{account}");
    // The tables are gone, the lock alone stays; a second call asks for nothing.
    assert_eq!(names(&cache.path().join("hub/microsoft--cats_vs_dogs")), [""; 0]);
    let before = server.asked.lock().unwrap().len();
    server.hub().cats_vs_dogs(cache.path()).unwrap();
    assert_eq!(server.asked.lock().unwrap().len(), before);
}

#[test]
fn two_at_once_unpack_once() {
    let bytes = table("labels", &[(Some(b"cat"), 0), (Some(b"dog"), 1)]);
    let server = Server::start();
    server.offer(CATS, &[("data/a.parquet", &bytes)]);
    let cache = tempfile::tempdir().unwrap();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| server.hub().cats_vs_dogs(cache.path()).unwrap());
        }
    });
    assert_eq!(server.asked_for(&resolve(CATS, "data/a.parquet")).len(), 1);
    assert_eq!(fs::read(cache.path().join("cats-dogs/dog/00001.jpg")).unwrap(), b"dog");
}

#[test]
fn a_broken_run_leaves_nothing_taken_for_whole() {
    let bytes = table("labels", &[(Some(b"cat"), 0), (Some(b"dog"), 1)]);
    let server = Server::start();
    server.offer(CATS, &[("data/a.parquet", &bytes)]);
    let path = resolve(CATS, "data/a.parquet");
    server.on(&path, Reply::NoRange(bytes[..bytes.len() - 10].to_vec()));
    let cache = tempfile::tempdir().unwrap();
    let target = cache.path().join("cats-dogs");
    assert!(server.hub().cats_vs_dogs(cache.path()).is_err());
    assert!(!target.exists());
    // As if killed while unpacking: what it left aside does not get into the result.
    fs::create_dir_all(cache.path().join("cats-dogs.part/cat")).unwrap();
    fs::write(cache.path().join("cats-dogs.part/cat/99999.jpg"), "half").unwrap();
    server.on(&path, Reply::Bytes(bytes));
    server.hub().cats_vs_dogs(cache.path()).unwrap();
    assert_eq!(names(&target.join("cat")), ["00000.jpg"]);
    assert_eq!(names(cache.path()), ["cats-dogs", "hub"]);
}

#[test]
fn a_folder_in_the_way_is_not_touched() {
    let cache = tempfile::tempdir().unwrap();
    let mine = cache.path().join("cats-dogs/mine.txt");
    fs::create_dir_all(mine.parent().unwrap()).unwrap();
    fs::write(&mine, "mine").unwrap();
    let server = Server::start();
    let error = server.hub().cats_vs_dogs(cache.path()).unwrap_err().to_string();
    assert!(error.contains("in the way"), "{error}");
    assert_eq!(fs::read(&mine).unwrap(), b"mine");
    assert!(server.asked.lock().unwrap().is_empty());
}

#[test]
fn tables_that_are_none_are_errors() {
    let other = table("labels", &[(Some(b"cat"), 0), (Some(b"cat"), 0)]);
    let nameless = table("kind", &[(Some(b"cat"), 0), (Some(b"dog"), 1)]);
    for (bytes, expected) in [
        (noise(500), "parquet"),
        (b"PAR1PAR1".to_vec(), "parquet"),
        (other, "not one picture of a dog"),
        (nameless, "labels or label"),
    ] {
        let server = Server::start();
        server.offer(CATS, &[("data/a.parquet", &bytes)]);
        let cache = tempfile::tempdir().unwrap();
        let error = server.hub().cats_vs_dogs(cache.path()).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        assert!(!cache.path().join("cats-dogs").exists());
    }
    let server = Server::start();
    server.offer(CATS, &[("README.md", b"text")]);
    let cache = tempfile::tempdir().unwrap();
    let error = server.hub().cats_vs_dogs(cache.path()).unwrap_err().to_string();
    assert!(error.contains("no parquet file"), "{error}");
}

/// A PNG of 28x28 grey pixels.
fn png(shade: u8) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    let picture = image::GrayImage::from_fn(28, 28, |x, y| image::Luma([shade ^ (x * y) as u8]));
    picture.write_to(&mut out, image::ImageFormat::Png).unwrap();
    out.into_inner()
}

#[test]
fn digits_become_idx_files() {
    let pictures: Vec<Vec<u8>> = (0..5).map(png).collect();
    let row = |i: usize| (Some(pictures[i].as_slice()), i as i64);
    let server = Server::start();
    let (train, test) = (table("label", &[row(4), row(1), row(2)]), table("label", &[row(3)]));
    let files: [(&str, &[u8]); 2] = [
        ("mnist/test-00000-of-00001.parquet", &test),
        ("mnist/train-00000-of-00001.parquet", &train),
    ];
    server.offer("ylecun/mnist", &files);
    let cache = tempfile::tempdir().unwrap();
    let folder = server.hub().mnist(cache.path()).unwrap();
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    assert_eq!(read("train-labels-idx1-ubyte"), [0, 0, 8, 1, 0, 0, 0, 3, 4, 1, 2]);
    assert_eq!(read("t10k-labels-idx1-ubyte"), [0, 0, 8, 1, 0, 0, 0, 1, 3]);
    let images = read("train-images-idx3-ubyte");
    assert_eq!(images[..16], [0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 28, 0, 0, 0, 28]);
    assert_eq!(images.len(), 16 + 3 * 784);
    // Row 5, column 3 of the second picture.
    assert_eq!(images[16 + 784 + 5 * 28 + 3], 1 ^ 15);
    let before = server.asked.lock().unwrap().len();
    assert_eq!(server.hub().mnist(cache.path()).unwrap(), folder);
    assert_eq!(server.asked.lock().unwrap().len(), before);
}

#[test]
fn digits_that_are_none_are_errors() {
    let small = {
        let mut out = Cursor::new(Vec::new());
        image::GrayImage::new(5, 5).write_to(&mut out, image::ImageFormat::Png).unwrap();
        out.into_inner()
    };
    let good = png(1);
    for (picture, label, expected) in
        [(&small, 1, "5x5"), (&good, 10, "0..=9"), (&noise(50), 1, "row 0")]
    {
        let server = Server::start();
        let bytes = table("label", &[(Some(picture), label)]);
        let files: [(&str, &[u8]); 2] =
            [("mnist/test-0.parquet", &bytes), ("mnist/train-0.parquet", &bytes)];
        server.offer("ylecun/mnist", &files);
        let cache = tempfile::tempdir().unwrap();
        let error = server.hub().mnist(cache.path()).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        assert!(!cache.path().join("mnist").exists());
    }
}

/// Where the disk is full there is an error that names the file, and no half file passes for whole.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_an_error() {
    let Ok(full) = File::options().write(true).open("/dev/full") else {
        println!("skipped: no /dev/full here");
        return;
    };
    drop(full);
    let bytes = noise(1000);
    let server = Server::start();
    server.on(&resolve("o/d", "f"), Reply::Bytes(bytes.clone()));
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", folder.path().join("f.part")).unwrap();
    let target = folder.path().join("f");
    let error = server.hub().fetch("o/d", &listed("f", &bytes), &target).unwrap_err().to_string();
    assert!(error.contains("f.part") && !error.contains('\n'), "{error}");
    assert!(!target.exists());
}

/// CIFAR-10 as the hub has it: fetched once, read as pictures, refused where it is damaged.
#[test]
fn tiny_photographs_are_read_from_their_tables() {
    let picture = |i: u8| {
        let picture = image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([i, x as u8, y as u8]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    };
    let pictures: Vec<Vec<u8>> = (0..40).map(picture).collect();
    let rows: Vec<_> = (0..40).map(|i| (Some(pictures[i].as_slice()), (i % 10) as i64)).collect();
    let (train, test) = (table_of("img", "label", &rows), table_of("img", "label", &rows[..10]));
    let server = Server::start();
    let files: [(&str, &[u8]); 2] = [
        ("plain_text/test-00000-of-00001.parquet", &test),
        ("plain_text/train-00000-of-00001.parquet", &train),
    ];
    server.offer("uoft-cs/cifar10", &files);
    let cache = tempfile::tempdir().unwrap();
    let folder = server.hub().cifar_10(cache.path()).unwrap();
    let before = server.asked.lock().unwrap().len();
    assert_eq!(server.hub().cifar_10(cache.path()).unwrap(), folder);
    assert_eq!(server.asked.lock().unwrap().len(), before);

    let mut request = convzoo::data::DataRequest::new("cifar-10");
    request.data_dir = Some(folder.clone());
    let dataset = convzoo::data::open(&request).unwrap();
    assert_eq!(
        (dataset.train.len(), dataset.val.len(), dataset.classes[3].as_str()),
        (30, 10, "cat")
    );
    // The official test images are for the end.
    assert_eq!(dataset.test.as_ref().unwrap().len(), 10);
    assert_eq!(dataset.kind.to_string(), "tiny photographs");
    let train =
        convzoo::data::open_eval(&request, Some(convzoo::data::Part::Train)).unwrap().source;
    let seventh = train.picture(7).unwrap();
    assert_eq!((seventh.width, seventh.height, train.label(7)), (32, 32, 7));
    assert_eq!(seventh.pixels[3 * (5 * 32 + 9)..][..3], [7, 9, 5]);
    let pipeline = dataset.train_pipeline(32, 3).unwrap().to_string();
    assert!(pipeline.contains("flip") && !pipeline.contains("colour"), "{pipeline}");
    request.val_split = Some(0.25); // the official test pictures are then for the end
    let split = convzoo::data::open(&request).unwrap();
    assert_eq!((split.train.len(), split.val.len(), split.test.unwrap().len()), (30, 10, 10));

    let strange = table_of("img", "label", &[(Some(&pictures[0]), 10)]);
    fs::write(folder.join("test-00000-of-00001.parquet"), strange).unwrap();
    let error = convzoo::data::open(&request).unwrap_err().to_string();
    assert!(error.contains("row 0: a label of 10"), "{error}");
}

/// A record of a binary batch: a label, then the planes of red, green and blue.
fn record(label: u8) -> Vec<u8> {
    let planes = (0..3072).map(move |i| (i / 1024 * 50 + usize::from(label)) as u8);
    std::iter::once(label).chain(planes).collect()
}

fn batch(labels: &[u8]) -> Vec<u8> {
    labels.iter().flat_map(|&label| record(label)).collect()
}

/// Five training batches of two images, and a test batch of two.
fn batches_in(folder: &Path) {
    for i in 0..5u8 {
        let name = format!("data_batch_{}.bin", i + 1);
        fs::write(folder.join(name), batch(&[i, i + 1])).unwrap();
    }
    fs::write(folder.join("test_batch.bin"), batch(&[5, 6])).unwrap();
}

#[test]
fn tiny_photographs_are_read_from_their_batches() {
    use convzoo::data::{Part, open_eval};
    let here = tempfile::tempdir().unwrap();
    batches_in(here.path());
    let mut request = convzoo::data::DataRequest::new("cifar-10");
    request.data_dir = Some(here.path().to_owned());
    let all = open_eval(&request, Some(Part::All)).unwrap();
    let labels: Vec<u32> = (0..all.source.len()).map(|i| all.source.label(i)).collect();
    assert_eq!(labels, [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]);
    assert_eq!(all.source.picture(5).unwrap().pixels[..3], [3, 53, 103]);
    assert!(all.notes[0].contains("has 10 images, and CIFAR-10's has 50000"), "{:?}", all.notes);
}

/// Files that are missing, there twice, or not CIFAR-10's.
#[test]
fn batches_that_are_not_the_whole_are_said() {
    let told = |change: &dyn Fn(&Path)| {
        let here = tempfile::tempdir().unwrap();
        batches_in(here.path());
        change(here.path());
        let mut request = convzoo::data::DataRequest::new("cifar-10");
        request.data_dir = Some(here.path().to_owned());
        convzoo::data::open(&request).unwrap_err().to_string()
    };
    let put = |name: &'static str, bytes: Vec<u8>| {
        told(&move |here| fs::write(here.join(name), &bytes).unwrap())
    };
    let text = told(&|here| fs::remove_file(here.join("data_batch_3.bin")).unwrap());
    assert!(text.contains("data_batch_3.bin is missing") && text.contains("4 are here"), "{text}");
    let text = told(&|here| fs::remove_file(here.join("test_batch.bin")).unwrap());
    assert!(text.contains("test_batch.bin"), "{text}");
    let text = put("data_batch_6.bin", batch(&[1]));
    assert!(text.contains("data_batch_6.bin: is not one of CIFAR-10's"), "{text}");
    let text = put("data_batch_5.bin", batch(&[0, 1]));
    assert!(text.contains("data_batch_5.bin: has the same images as data_batch_1.bin"), "{text}");
    let text = put("data_batch_2.bin", batch(&[3])[..3000].to_vec());
    assert!(text.contains("data_batch_2.bin") && text.contains("cut off"), "{text}");
    let text = put("data_batch_2.bin", vec![0; 3074 * 5]);
    assert!(text.contains("3074 bytes, as CIFAR-100 has"), "{text}");
    let text = put("data_batch_2.bin", b"<html><head>".to_vec());
    assert!(text.contains("is a web page"), "{text}");
    let text = put("data_batch_2.bin", batch(&[10]));
    assert!(text.contains("a label of 10"), "{text}");
    let only = |name: &'static str| {
        told(&move |here| {
            fs::remove_dir_all(here).unwrap();
            fs::create_dir(here).unwrap();
            fs::write(here.join(name), batch(&[1])).unwrap();
        })
    };
    assert!(only("train.bin").contains("CIFAR-100's"), "{}", only("train.bin"));
    assert!(only("data_batch_1").contains("binary version"), "{}", only("data_batch_1"));
    #[cfg(unix)]
    {
        let text = told(&|here| {
            let path = here.join("data_batch_4.bin");
            fs::remove_file(&path).unwrap();
            assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        });
        assert!(text.contains("data_batch_4.bin: is not a regular file"), "{text}");
    }
}

/// Tables say in their names how many there are.
#[test]
fn tables_that_are_missing_or_doubled_are_said() {
    let picture = |i: u8| {
        let picture = image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([i, x as u8, y as u8]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    };
    let table = |i: u8| table_of("img", "label", &[(Some(picture(i).as_slice()), i.into())]);
    let told = |files: &[(&str, Vec<u8>)]| {
        let here = tempfile::tempdir().unwrap();
        fs::write(here.path().join("test-00000-of-00001.parquet"), table(9)).unwrap();
        files.iter().for_each(|(name, bytes)| fs::write(here.path().join(name), bytes).unwrap());
        let mut request = convzoo::data::DataRequest::new("cifar-10");
        request.data_dir = Some(here.path().to_owned());
        let opened = convzoo::data::open_eval(&request, Some(convzoo::data::Part::Train));
        opened.map_or_else(|error| error.to_string(), |set| set.notes.join("\n"))
    };
    let (a, b) = ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet");
    assert!(
        told(&[(a, table(1)), (b, table(2))]).contains("has 2 images, and CIFAR-10's has 50000")
    );
    let text = told(&[(a, table(1))]);
    assert!(text.contains("table 00001 of 00002 is missing: 1 of 2"), "{text}");
    let text = told(&[(a, table(1)), (b, table(1))]);
    assert!(text.contains("has the same images as train-00000-of-00002.parquet"), "{text}");
    let text = told(&[(a, table(1)), (b, table(2)), ("train-00002-of-00003.parquet", table(3))]);
    assert!(text.contains("does not belong to the 2 tables"), "{text}");
    let text = told(&[(a, b"<!doctype html>".to_vec()), (b, table(1))]);
    assert!(text.contains("is a web page"), "{text}");
    // Both forms of the training part: one is read, and it is said.
    let here = tempfile::tempdir().unwrap();
    batches_in(here.path());
    fs::write(here.path().join("train-00000-of-00001.parquet"), table(9)).unwrap();
    let mut request = convzoo::data::DataRequest::new("cifar-10");
    request.data_dir = Some(here.path().to_owned());
    let notes = convzoo::data::open(&request).unwrap().notes;
    assert!(notes[0].contains("twice: its .bin files are read"), "{notes:?}");
}
