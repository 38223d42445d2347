//! A server of the tests' own on the loopback device, that can break off, stall, redirect and refuse.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use convzoo::data::hub::Hub;
use sha2::{Digest, Sha256};

/// What the server does with one path.
#[derive(Clone)]
pub enum Reply {
    /// The bytes, or the range asked for.
    Bytes(Vec<u8>),
    /// The bytes, whatever range is asked for.
    NoRange(Vec<u8>),
    /// Each answer ends after this many bytes of what it announced.
    Cut(Vec<u8>, usize),
    /// The first answer ends after this many bytes; later ones are whole and know no range.
    CutNoRange(Vec<u8>, usize),
    /// Announces the bytes, sends this many, then nothing more.
    Stall(Vec<u8>, usize),
    /// A byte now and then.
    Trickle(Vec<u8>, Duration),
    /// A body of which no length is said, and that does not end.
    Endless,
    /// Announces so many bytes, and sends none.
    Claims(u64),
    /// The bytes, with a `Link` header.
    Page(Vec<u8>, String),
    /// Redirects elsewhere, giving the hash as the hub does.
    Redirect(String, Option<String>),
    /// A bare status.
    Status(u16),
    /// This many times a bare status, then the bytes.
    Busy(u16, usize, Vec<u8>),
}

/// A request as it came in: path, range, authorisation.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub range: Option<usize>,
    pub token: Option<String>,
}

pub struct Server {
    pub endpoint: String,
    replies: Arc<Mutex<HashMap<String, Reply>>>,
    pub asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let server = Server { endpoint, replies: Arc::default(), asked: Arc::default() };
        let (replies, asked) = (server.replies.clone(), server.asked.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (replies, asked) = (replies.clone(), asked.clone());
                // A client that hangs up early is part of the tests.
                thread::spawn(move || answer(stream, &replies, &asked));
            }
        });
        server
    }

    pub fn on(&self, path: &str, reply: Reply) {
        self.replies.lock().unwrap().insert(path.to_string(), reply);
    }

    pub fn asked_for(&self, path: &str) -> Vec<Asked> {
        let all = self.asked.lock().unwrap();
        all.iter().filter(|asked| asked.path.split('?').next() == Some(path)).cloned().collect()
    }

    /// A client without patience.
    pub fn hub(&self) -> Hub {
        Hub {
            endpoint: self.endpoint.clone(),
            stall_timeout: Duration::from_millis(300),
            connect_timeout: Duration::from_secs(2),
            attempts: 3,
            pause: Duration::from_millis(1),
            quiet: true,
            ..Hub::default()
        }
    }

    /// Offers `files` as the data set `repo`, each with its size and hash in the list.
    pub fn offer(&self, repo: &str, files: &[(&str, &[u8])]) {
        let entries: Vec<serde_json::Value> = files
            .iter()
            .map(|(path, bytes)| {
                let size = bytes.len();
                serde_json::json!({"type": "file", "path": path, "size": size, "oid": "0",
                    "lfs": {"oid": sha256(bytes), "size": size, "pointerSize": 134}})
            })
            .collect();
        let list = serde_json::to_vec(&entries).unwrap();
        self.on(&format!("/api/datasets/{repo}/tree/main"), Reply::Bytes(list));
        for (path, bytes) in files {
            self.on(&resolve(repo, path), Reply::Bytes(bytes.to_vec()));
        }
    }
}

pub fn resolve(repo: &str, path: &str) -> String {
    format!("/datasets/{repo}/resolve/main/{path}")
}

fn answer(
    mut stream: TcpStream,
    replies: &Mutex<HashMap<String, Reply>>,
    asked: &Mutex<Vec<Asked>>,
) -> Option<()> {
    let request = read_request(&stream)?;
    asked.lock().unwrap().push(request.clone());
    let path = request.path.split('?').next()?.to_string();
    let reply = replies.lock().unwrap().get(&path).cloned().unwrap_or(Reply::Status(404));
    let from = request.range.unwrap_or(0);
    match reply {
        Reply::Bytes(bytes) => send(&mut stream, &bytes, from, usize::MAX),
        Reply::NoRange(bytes) => send(&mut stream, &bytes, 0, usize::MAX),
        Reply::Cut(bytes, most) => send(&mut stream, &bytes, from, most),
        Reply::CutNoRange(bytes, most) => {
            replies.lock().unwrap().insert(path, Reply::NoRange(bytes.clone()));
            send(&mut stream, &bytes, 0, most)
        }
        Reply::Stall(bytes, most) => {
            send(&mut stream, &bytes, from, most)?;
            thread::sleep(Duration::from_secs(3));
            Some(())
        }
        Reply::Trickle(bytes, pause) => {
            send(&mut stream, &bytes, from, 0)?;
            for byte in &bytes[from..] {
                stream.write_all(&[*byte]).ok()?;
                thread::sleep(pause);
            }
            Some(())
        }
        Reply::Endless => {
            head(&mut stream, 200, "")?;
            while stream.write_all(&[7; 4096]).is_ok() {}
            Some(())
        }
        Reply::Claims(length) => {
            head(&mut stream, 200, &format!("Content-Length: {length}\r\n"))?;
            thread::sleep(Duration::from_secs(3));
            Some(())
        }
        Reply::Page(bytes, link) => {
            let length = format!("Content-Length: {}\r\nLink: {link}\r\n", bytes.len());
            head(&mut stream, 200, &length)?;
            stream.write_all(&bytes).ok()
        }
        Reply::Redirect(to, hash) => {
            let hash = hash.map_or(String::new(), |hash| format!("X-Linked-Etag: \"{hash}\"\r\n"));
            head(&mut stream, 302, &format!("Location: {to}\r\n{hash}Content-Length: 0\r\n"))
        }
        Reply::Status(status) => head(&mut stream, status, "Content-Length: 0\r\n"),
        Reply::Busy(_, 0, bytes) => send(&mut stream, &bytes, from, usize::MAX),
        Reply::Busy(status, times, bytes) => {
            replies.lock().unwrap().insert(path, Reply::Busy(status, times - 1, bytes));
            head(&mut stream, status, "Content-Length: 0\r\n")
        }
    }
}

fn read_request(stream: &TcpStream) -> Option<Asked> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    let first = lines.next()?.ok()?;
    let mut request =
        Asked { path: first.split(' ').nth(1)?.to_string(), range: None, token: None };
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ")?;
        match name.to_lowercase().as_str() {
            "range" => {
                request.range = value.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok();
            }
            "authorization" => request.token = Some(value.to_string()),
            _ => {}
        }
    }
    Some(request)
}

fn head(stream: &mut TcpStream, status: u16, headers: &str) -> Option<()> {
    write!(stream, "HTTP/1.1 {status} Whatever\r\nConnection: close\r\n{headers}\r\n").ok()
}

/// Announces everything from `from` on, and sends at most `most` bytes of it.
fn send(stream: &mut TcpStream, bytes: &[u8], from: usize, most: usize) -> Option<()> {
    let Some(rest) = bytes.get(from..) else {
        let range = format!("Content-Range: bytes */{}\r\nContent-Length: 0\r\n", bytes.len());
        return head(stream, 416, &range);
    };
    let length = format!("Content-Length: {}\r\n", rest.len());
    if from == 0 {
        head(stream, 200, &length)?;
    } else {
        let (last, total) = (bytes.len() - 1, bytes.len());
        let range = format!("Content-Range: bytes {from}-{last}/{total}\r\n");
        head(stream, 206, &(length + &range))?;
    }
    stream.write_all(&rest[..most.min(rest.len())]).ok()
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
