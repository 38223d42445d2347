//! The files of a data set's repository.

use std::io::Read;
use std::time::Duration;

use serde::Deserialize;

use super::Hub;
use super::body::pour;
use super::request::{Failure, Subject, as_sha256, host, same_origin};
use crate::error::Result;

/// Pages of a listing that are read at most; a page has a thousand files.
const MAX_PAGES: usize = 20;

/// One file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its path in the repository.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256 in hexadecimal, which the hub knows of large files.
    pub sha256: Option<String>,
}

/// An entry of the hub's answer.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

impl Entry {
    fn into_file(self) -> Option<RemoteFile> {
        let (sha256, size) = match &self.lfs {
            Some(lfs) => (as_sha256(&lfs.oid), lfs.size),
            None => (None, self.size),
        };
        (self.kind == "file").then_some(RemoteFile { path: self.path, size, sha256 })
    }
}

impl Hub {
    /// The files of data set `repo` (`owner/name`), in order of their paths.
    ///
    /// # Errors
    /// The hub cannot be reached, has no such data set, or answers what cannot be understood.
    pub fn files(&self, repo: &str) -> Result<Vec<RemoteFile>> {
        self.list("datasets", repo, Subject::Dataset(repo))
    }

    /// The files of model `repo` (`owner/name`), in order of their paths.
    ///
    /// # Errors
    /// The hub cannot be reached, has no such model, or answers what cannot be understood.
    pub fn model_files(&self, repo: &str) -> Result<Vec<RemoteFile>> {
        self.list("models", repo, Subject::Weights(repo))
    }

    fn list(&self, kind: &str, repo: &str, subject: Subject) -> Result<Vec<RemoteFile>> {
        self.must_be_online(subject)?;
        let mut files = Vec::new();
        let mut next = Some(format!("{}/api/{kind}/{repo}/tree/main?recursive=1", self.endpoint));
        for _ in 0..MAX_PAGES {
            let Some(url) = next else { break };
            let (entries, link) =
                self.page(&url).map_err(|failure| self.failed(subject, failure.cause()))?;
            files.extend(entries.into_iter().filter_map(Entry::into_file));
            // An access token goes along.
            if let Some(other) = link.as_ref().filter(|link| !same_origin(link, &self.endpoint)) {
                let cause =
                    format!("its list of files continues at {}, which is refused", host(other));
                return Err(self.failed(subject, cause));
            }
            next = link;
        }
        if next.is_some() {
            return Err(
                self.failed(subject, format!("its list of files has over {MAX_PAGES} pages"))
            );
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    /// One page of a listing and the address of the next, tried again while that may help.
    fn page(&self, url: &str) -> Result<(Vec<Entry>, Option<String>), Failure> {
        let mut pause = self.pause;
        for _ in 1..self.attempts.max(1) {
            match self.try_page(url) {
                Err(Failure::Passing(_) | Failure::Slow(_)) => pause = wait(pause),
                done => return done,
            }
        }
        self.try_page(url)
    }

    fn try_page(&self, url: &str) -> Result<(Vec<Entry>, Option<String>), Failure> {
        let mut answer = self.get(&self.agent(), url, 0)?;
        let next = answer.header("link").and_then(next_page);
        let most = self.limits.listing;
        let reader = answer.response.body_mut().with_config().limit(u64::MAX).reader();
        let mut body = Vec::new();
        pour(self, &host(url), reader.take(most + 1), |bytes| {
            body.extend_from_slice(bytes);
            Ok(())
        })?;
        if body.len() as u64 > most {
            let host = host(url);
            let cause = format!("{host} gives a list of files of more than {most} bytes");
            return Err(Failure::Final(cause));
        }
        let entries = serde_json::from_slice(&body).map_err(|error| {
            Failure::Final(format!(
                "{} gives a list of files that cannot be read: {error}",
                host(url)
            ))
        })?;
        Ok((entries, next))
    }
}

/// Sleeps, and returns how long to sleep next time: twice as long, up to half a minute.
pub(super) fn wait(pause: Duration) -> Duration {
    std::thread::sleep(pause);
    (pause * 2).min(Duration::from_secs(30))
}

/// The address marked `rel="next"` in a Link header.
fn next_page(link: &str) -> Option<String> {
    let next = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    let (_, rest) = next.split_once('<')?;
    rest.split_once('>').map(|(url, _)| url.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_in_the_link_header() {
        let link = "<http://h/a?cursor=1>; rel=\"prev\", <http://h/a?cursor=2>; rel=\"next\"";
        assert_eq!(next_page(link).as_deref(), Some("http://h/a?cursor=2"));
        assert_eq!(next_page("<http://h/a>; rel=\"prev\""), None);
    }
}
