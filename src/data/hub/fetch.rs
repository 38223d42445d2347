//! One file, whole or not at all: resumed where it broke off, checked, then renamed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use sha2::{Digest, Sha256};
use ureq::Agent;

use super::Hub;
use super::body::pour;
use super::list::{RemoteFile, wait};
use super::lock::{Lock, beside, create_parent};
use super::progress::Progress;
use super::request::{Answer, Failure, Subject, host};
use super::room::must_fit;
use crate::error::{Error, Result};
use crate::files::sync_folder;
use crate::visible::visible_line;

/// Requests made for one file at most, however much each of them brings.
const MAX_REQUESTS: usize = 200;

/// A file that is wanted, and what is known of it before.
struct Wanted<'a> {
    subject: Subject<'a>,
    /// The file's name, for people.
    name: &'a str,
    url: String,
    size: Option<u64>,
    /// What its SHA-256 must begin with.
    sha256: Option<&'a str>,
    /// Most bytes that a file of its kind may have.
    most: u64,
}

/// A file on its way.
struct Transfer<'a> {
    hub: &'a Hub,
    agent: Agent,
    url: String,
    subject: Subject<'a>,
    /// The file's name, for people.
    name: &'a str,
    part: &'a Path,
    progress: Progress,
    /// How many bytes there are, once somebody has said.
    size: Option<u64>,
    /// How many there may be.
    most: u64,
    /// What their hash must begin with, once somebody has said.
    sha256: Option<String>,
}

impl Hub {
    /// Downloads `file` of data set `repo` to `target`, unless it is there already.
    ///
    /// The bytes go to `target.part`; where that exists, the download goes on from its end. Only
    /// when size and SHA-256 are right does it get its name.
    ///
    /// # Errors
    /// The hub cannot be reached or refuses; the connection breaks too often, or brings less than
    /// [`Hub::least_rate`]; the file is larger than [`Hub::limits`] allow or than there is room for;
    /// the bytes are wrong, which deletes them; the disk is full, which keeps them for another time.
    pub fn fetch(&self, repo: &str, file: &RemoteFile, target: &Path) -> Result<()> {
        let url = format!("{}/datasets/{repo}/resolve/main/{}", self.endpoint, encoded(&file.path));
        self.fetch_listed(Subject::Dataset(repo), file, url, self.limits.table, target)
    }

    /// [`Hub::fetch`] for a file of the model `repo`.
    ///
    /// # Errors
    /// See [`Hub::fetch`].
    pub fn fetch_of_model(&self, repo: &str, file: &RemoteFile, target: &Path) -> Result<()> {
        let url = format!("{}/{repo}/resolve/main/{}", self.endpoint, encoded(&file.path));
        let most = match file.path.ends_with(".json") {
            true => self.limits.settings,
            false => self.limits.weights,
        };
        self.fetch_listed(Subject::Weights(repo), file, url, most, target)
    }

    /// [`Hub::fetch`] for weights called `name` at any address, of whose SHA-256 the first digits are
    /// known, or all.
    ///
    /// # Errors
    /// See [`Hub::fetch`].
    pub fn fetch_weights(&self, name: &str, url: &str, sha256: &str, target: &Path) -> Result<()> {
        let file = url.rsplit('/').next().unwrap_or(url);
        let (subject, most) = (Subject::Weights(name), self.limits.weights);
        let (url, sha256) = (url.to_owned(), Some(sha256));
        self.fetch_to(target, Wanted { subject, name: file, url, size: None, sha256, most })
    }

    fn fetch_listed(
        &self,
        subject: Subject,
        file: &RemoteFile,
        url: String,
        most: u64,
        target: &Path,
    ) -> Result<()> {
        let (name, size, sha256) = (file.path.as_str(), Some(file.size), file.sha256.as_deref());
        self.fetch_to(target, Wanted { subject, name, url, size, sha256, most })
    }

    fn fetch_to(&self, target: &Path, wanted: Wanted) -> Result<()> {
        let Wanted { subject, name, url, size, sha256, most } = wanted;
        if is_there(target, size) {
            return Ok(());
        }
        self.must_be_online(subject)?;
        if let Some(size) = size.filter(|&size| size > most) {
            return Err(self.failed(subject, too_large(name, size, most)));
        }
        create_parent(target)?;
        let _lock = Lock::take(beside(target, ".lock"), name, self.quiet)?;
        if is_there(target, size) {
            return Ok(());
        }
        let part = beside(target, ".part");
        let mut have = size_of(&part);
        // Without a hash nothing could tell that old bytes are of another version.
        if size.is_some_and(|size| have > size) || sha256.is_none() {
            have = 0;
        }
        let progress = Progress::new(name, have, size.unwrap_or(0), self.quiet);
        let (agent, sha256) = (self.agent(), sha256.map(str::to_owned));
        let (hub, part) = (self, part.as_path());
        let mut transfer =
            Transfer { hub, agent, url, subject, name, part, progress, size, most, sha256 };
        transfer.run(have)?;
        fs::rename(part, target).map_err(|error| Error::file(target, error))?;
        sync_folder(target).map_err(|error| Error::file(target, error))?;
        Ok(())
    }
}

impl Transfer<'_> {
    /// Brings `part`, of which `have` bytes count, to the right size and content.
    fn run(&mut self, have: u64) -> Result<()> {
        self.cut_to(have)?;
        self.complete()?;
        if have > 0 && self.is_wrong()?.is_some() {
            let text = format!("{}: what was there is of another version", self.name);
            self.progress.say(&format!("{text}; starting again"));
            self.cut_to(0)?;
            self.complete()?;
        }
        if let Some(cause) = self.is_wrong()? {
            let _ = fs::remove_file(self.part);
            return Err(self.hub.failed(self.subject, format!("{}: {cause}", self.name)));
        }
        Ok(())
    }

    /// Makes requests until `part` has all its bytes.
    fn complete(&mut self) -> Result<()> {
        let mut failures = 0;
        let mut pause = self.hub.pause;
        let mut reached = false;
        for _ in 0..MAX_REQUESTS {
            let have = size_of(self.part);
            if self.size == Some(have) {
                return Ok(());
            }
            let mut slow = false;
            let cause = match self.append(have) {
                Ok(()) => format!("{} ended the file early", host(&self.url)),
                Err(Failure::Passing(cause)) => cause,
                Err(Failure::Unreachable(cause)) if reached => cause,
                Err(Failure::Slow(cause)) => {
                    slow = true;
                    cause
                }
                Err(Failure::Unreachable(cause) | Failure::Final(cause)) => {
                    return Err(self.hub.failed(self.subject, cause));
                }
            };
            let now = size_of(self.part);
            if self.size == Some(now) {
                return Ok(());
            }
            reached |= now > 0;
            let further = now > have && !slow;
            failures = if further { 1 } else { failures + 1 };
            if failures >= self.hub.attempts.max(1) {
                let all = self.size.map_or("?".to_owned(), |size| size.to_string());
                let cause = format!(
                    "{cause}, {failures} times without getting further; {now} of {all} bytes of {} \
                     are kept, run the same command again to continue",
                    self.name
                );
                return Err(self.hub.failed(self.subject, cause));
            }
            self.progress.say(&format!("{cause}; trying again"));
            pause = wait(if further { self.hub.pause } else { pause });
        }
        let cause = format!("{} takes more than {MAX_REQUESTS} requests", self.name);
        Err(self.hub.failed(self.subject, cause))
    }

    /// One request for what is missing, written behind the `have` bytes that are there.
    fn append(&mut self, have: u64) -> Result<(), Failure> {
        let mut answer = self.hub.get(&self.agent, &self.url, have)?;
        self.sha256 = self.sha256.take().or_else(|| answer.sha256.clone());
        self.learn_size(&answer);
        self.must_fit(have)?;
        let from = match answer.response.status().as_u16() {
            200 => 0,
            206 if continues(&answer, have, self.size) => have,
            416 if self.size == Some(have) => return Ok(()),
            status => {
                self.cut_to(0).map_err(|error| Failure::Final(error.to_string()))?;
                let host = host(&self.url);
                let cause = format!("{host} gave another range than asked for (HTTP {status})");
                return Err(Failure::Passing(cause));
            }
        };
        let unwritable =
            |error| Failure::Final(format!("{} cannot be written: {error}", self.part.display()));
        let mut out = OpenOptions::new().write(true).open(self.part).map_err(unwritable)?;
        out.set_len(from).map_err(unwritable)?;
        out.seek(SeekFrom::Start(from)).map_err(unwritable)?;
        let body = answer.response.body_mut().with_config().limit(u64::MAX).reader();
        // One byte more than there may be is enough to know that it is too long.
        let end = self.size.unwrap_or(self.most);
        let mut at = from;
        let progress = &mut self.progress;
        pour(self.hub, &host(&self.url), body.take(end.saturating_sub(from) + 1), |bytes| {
            out.write_all(bytes).map_err(unwritable)?;
            at += bytes.len() as u64;
            progress.at(at);
            Ok(())
        })?;
        if at > end {
            return Err(self.too_long(end));
        }
        // Nobody has said a size, and the answer ended as it should: that was all.
        self.size.get_or_insert(at);
        out.sync_all().map_err(unwritable)
    }

    /// Refuses a file that is larger than its kind may be, or than the disk has room for.
    fn must_fit(&self, have: u64) -> Result<(), Failure> {
        let Some(size) = self.size else { return Ok(()) };
        if size > self.most {
            let _ = fs::remove_file(self.part);
            return Err(Failure::Final(too_large(self.name, size, self.most)));
        }
        must_fit(self.part, size.saturating_sub(have)).map_err(Failure::Final)
    }

    /// A body that goes beyond what it may have: nothing of it is kept.
    fn too_long(&self, end: u64) -> Failure {
        let _ = fs::remove_file(self.part);
        Failure::Final(match self.size {
            Some(size) => {
                format!("{} is longer than the {size} bytes listed; it was deleted", self.name)
            }
            None => too_large(self.name, end + 1, end),
        })
    }

    /// Takes the file's size from an answer, where it was not known.
    fn learn_size(&mut self, answer: &Answer) {
        if self.size.is_some() {
            return;
        }
        let total = answer.header("content-range").and_then(|range| range.rsplit('/').next());
        let whole = answer.response.status().as_u16() == 200;
        let total = total.or(answer.header("content-length").filter(|_| whole));
        self.size = total.and_then(|total| total.parse().ok());
        if let Some(size) = self.size {
            self.progress.of(size);
        }
    }

    /// What is wrong with the finished `part`, if anything.
    fn is_wrong(&self) -> Result<Option<String>> {
        let Some(expected) = &self.sha256 else { return Ok(None) };
        let found = hash(self.part).map_err(|error| Error::file(self.part, error))?;
        Ok((!found.starts_with(expected)).then(|| {
            format!("its SHA-256 is {found}, expected {expected}; it was deleted, try again later")
        }))
    }

    /// Makes `part` if need be, and keeps `size` bytes of it.
    fn cut_to(&self, size: u64) -> Result<()> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(self.part);
        let cut = file.and_then(|file| file.set_len(size));
        cut.map_err(|error| Error::file(self.part, error))
    }
}

fn too_large(name: &str, size: u64, most: u64) -> String {
    let name = visible_line(name);
    format!("{name} has {size} bytes or more; a file of its kind may have {most}")
}

/// Whether an answer of status 206 is the rest of the file, from `have` on.
fn continues(answer: &Answer, have: u64, size: Option<u64>) -> bool {
    let range = answer.header("content-range").and_then(|text| text.strip_prefix("bytes "));
    let parts = range.and_then(|range| {
        let (span, total) = range.split_once('/')?;
        let (first, _) = span.split_once('-')?;
        Some((first.parse::<u64>().ok()?, total.to_string()))
    });
    parts.is_some_and(|(first, total)| {
        let same = size.is_none_or(|size| total == size.to_string());
        first == have && (total == "*" || same)
    })
}

/// Whether the file was fetched before; its content was checked then.
fn is_there(target: &Path, size: Option<u64>) -> bool {
    let fits = |length| size.is_none_or(|size| size == length);
    fs::metadata(target).is_ok_and(|found| found.is_file() && fits(found.len()))
}

fn size_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}

/// The SHA-256 of a file, in hexadecimal.
pub(super) fn hash(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A path as part of an address.
fn encoded(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let encode = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    path.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_encoded() {
        assert_eq!(encoded("data/train-00000.parquet"), "data/train-00000.parquet");
        assert_eq!(encoded("a b/ü?#%"), "a%20b/%C3%BC%3F%23%25");
    }

    #[test]
    fn the_hash_is_that_of_the_standard() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        fs::write(&path, "abc").unwrap();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash(&path).unwrap(), expected);
    }
}
