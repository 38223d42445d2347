//! One request: redirects followed, statuses and broken connections put into words.

use std::fmt::Display;
use std::io;

use ureq::http::Response;
use ureq::{Agent, Body};

use super::Hub;
use crate::error::{Error, Result};
use crate::visible::visible_line;

/// A server that redirects more often goes in circles.
const MAX_REDIRECTS: usize = 10;

/// Why a request failed, and whether it may do better when made again.
#[derive(Debug)]
pub(super) enum Failure {
    /// A broken connection, a stall, a server that is busy: worth another try.
    Passing(String),
    /// Too slow to ever finish: worth another try.
    Slow(String),
    /// No way to the server: worth another try only if there was one before.
    Unreachable(String),
    /// Another try would fail alike.
    Final(String),
}

impl Failure {
    pub(super) fn cause(self) -> String {
        match self {
            Failure::Passing(cause)
            | Failure::Slow(cause)
            | Failure::Unreachable(cause)
            | Failure::Final(cause) => cause,
        }
    }
}

/// What the server answered: 200, 206 or 416.
pub(super) struct Answer {
    pub(super) response: Response<Body>,
    /// The file's SHA-256 as the hub gives it, before it redirects to where the bytes lie.
    pub(super) sha256: Option<String>,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }
}

impl Hub {
    pub(super) fn agent(&self) -> Agent {
        let config = Agent::config_builder()
            .timeout_resolve(Some(self.connect_timeout))
            .timeout_connect(Some(self.connect_timeout))
            .timeout_recv_response(Some(self.stall_timeout))
            .timeout_per_read(Some(self.stall_timeout))
            .http_status_as_error(false)
            // Followed by hand: the first answer has the hash, and the token must not leave.
            .max_redirects(0)
            .user_agent(concat!("convzoo/", env!("CARGO_PKG_VERSION")))
            .build();
        Agent::new_with_config(config)
    }

    /// Requests `url`, the bytes from `from` on where that is not 0.
    pub(super) fn get(&self, agent: &Agent, url: &str, from: u64) -> Result<Answer, Failure> {
        if !is_web(url) {
            return Err(Failure::Final(format!("{} is not an https address", visible_line(url))));
        }
        let mut at = url.to_string();
        let mut sha256 = None;
        for _ in 0..MAX_REDIRECTS {
            let response = self.ask(agent, &at, from)?;
            let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok());
            sha256 = sha256.or_else(|| header("x-linked-etag").and_then(as_sha256));
            match response.status().as_u16() {
                200 | 206 | 416 => return Ok(Answer { response, sha256 }),
                301 | 302 | 303 | 307 | 308 => at = redirected(&at, header("location"))?,
                status => return Err(self.refusal(status, &at)),
            }
        }
        Err(Failure::Final(format!("{url} redirects more than {MAX_REDIRECTS} times")))
    }

    fn ask(&self, agent: &Agent, url: &str, from: u64) -> Result<Response<Body>, Failure> {
        let mut request = agent.get(url);
        if let Some(token) = &self.token
            && url.strip_prefix(&self.endpoint).is_some_and(|rest| rest.starts_with('/'))
        {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        request.call().map_err(|error| broken(&host(url), error))
    }

    fn refusal(&self, status: u16, url: &str) -> Failure {
        // Signed addresses are long, and secret.
        let url = url.split('?').next().unwrap_or(url);
        match status {
            401 | 403 => Failure::Final(format!(
                "{url} refuses access (HTTP {status}); {}",
                match self.token {
                    Some(_) => "the token in HF_TOKEN may not read it",
                    None => "it does not exist, or needs a token in HF_TOKEN",
                }
            )),
            404 | 410 => Failure::Final(format!("{url} does not exist (HTTP {status})")),
            408 | 425 | 429 | 500.. => {
                Failure::Passing(format!("{url} is busy or broken (HTTP {status})"))
            }
            _ => Failure::Final(format!("{url} answers HTTP {status}, where 200 was expected")),
        }
    }

    /// The error of something that could not be had, in one line.
    pub(super) fn failed<'a>(&self, what: impl Into<Subject<'a>>, cause: impl Display) -> Error {
        what.into().error(format!("download failed: {cause}"))
    }

    /// Refuses to go on where no request may be made.
    pub(super) fn must_be_online<'a>(&self, what: impl Into<Subject<'a>>) -> Result<()> {
        if self.offline {
            let cause = "it is not in the cache, and HF_HUB_OFFLINE forbids downloading it";
            return Err(what.into().error(cause.to_owned()));
        }
        Ok(())
    }
}

/// What is downloaded, for messages.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject<'a> {
    /// A data set of this name.
    Dataset(&'a str),
    /// Weights of this name.
    Weights(&'a str),
}

impl Subject<'_> {
    fn error(self, cause: String) -> Error {
        match self {
            Subject::Dataset(name) => Error::dataset(name, cause),
            Subject::Weights(name) => Error::weights(name, cause),
        }
    }
}

impl<'a> From<&'a str> for Subject<'a> {
    fn from(dataset: &'a str) -> Self {
        Subject::Dataset(dataset)
    }
}

/// Puts a broken connection into words.
fn broken(host: &str, error: ureq::Error) -> Failure {
    use ureq::{Error as E, Timeout};
    match error {
        E::HostNotFound => {
            Failure::Unreachable(format!("no address is known for {host} (offline?)"))
        }
        E::Timeout(Timeout::Resolve | Timeout::Connect) => {
            Failure::Unreachable(format!("{host} cannot be reached (timed out; offline?)"))
        }
        E::Timeout(_) => Failure::Passing(format!("{host} stopped answering")),
        E::ConnectionFailed | E::ConnectProxyFailed(_) | E::InvalidProxyUrl => {
            Failure::Unreachable(format!("{host} cannot be reached ({error})"))
        }
        E::Io(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::AddrNotAvailable => {
                Failure::Unreachable(format!("{host} cannot be reached ({error}; offline?)"))
            }
            // Name resolution has no kind of its own in the standard library.
            _ if error.to_string().contains("lookup") => {
                Failure::Unreachable(format!("no address is known for {host} (offline?)"))
            }
            _ => Failure::Passing(format!("the connection to {host} broke ({error})")),
        },
        error => Failure::Final(format!("{host}: {error}")),
    }
}

/// A failure while the body of an answer was read.
pub(super) fn cut_off(host: &str, error: io::Error) -> Failure {
    let timed_out = matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
        || error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<ureq::Error>())
            .is_some_and(|inner| matches!(inner, ureq::Error::Timeout(_)));
    if timed_out {
        Failure::Passing(format!("{host} stopped sending"))
    } else {
        Failure::Passing(format!("the connection to {host} broke ({error})"))
    }
}

/// The address a redirect leads to: never from https to something that anybody on the way can change.
fn redirected(from: &str, location: Option<&str>) -> Result<String, Failure> {
    let refused = |why: &str| {
        let to = visible_line(location.unwrap_or("nowhere"));
        Err(Failure::Final(format!("{} redirects to {to}, {why}", host(from))))
    };
    match location {
        Some(url) if is_plain_http(url) && !is_plain_http(from) => {
            refused("which is not encrypted; this is refused")
        }
        Some(url) if is_web(url) => Ok(url.to_string()),
        Some(path) if path.starts_with('/') && !path.starts_with("//") => {
            Ok(format!("{}{path}", origin(from)))
        }
        _ => refused("which is not a web address"),
    }
}

/// Whether an address is one of the web, whatever the case of its scheme.
fn is_web(url: &str) -> bool {
    is_plain_http(url) || has_scheme(url, "https://")
}

fn is_plain_http(url: &str) -> bool {
    has_scheme(url, "http://")
}

fn has_scheme(url: &str, scheme: &str) -> bool {
    url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

/// Whether two addresses are of one scheme, host and port.
pub(super) fn same_origin(a: &str, b: &str) -> bool {
    origin(a).eq_ignore_ascii_case(origin(b))
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    &url[..end]
}

/// Host and port of an address, for messages.
pub(super) fn host(url: &str) -> String {
    let origin = origin(url);
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    // A user's name and password may stand before it.
    visible_line(host.rsplit('@').next().unwrap_or(host)).into_owned()
}

/// The SHA-256 in an ETag, if that is what it holds.
pub(super) fn as_sha256(etag: &str) -> Option<String> {
    let hash = etag.trim().trim_start_matches("W/").trim_matches('"');
    let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| hash.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_absolute_or_of_the_same_origin() {
        let to = |location| redirected("http://a:1/x/y?z", Some(location)).ok();
        assert_eq!(to("/b?c").as_deref(), Some("http://a:1/b?c"));
        assert_eq!(to("https://d/e").as_deref(), Some("https://d/e"));
        assert_eq!(to("//d/e"), None);
        assert_eq!(to("file:///etc/passwd"), None);
        assert_eq!(to("ftp://d/e"), None);
        assert_eq!(to("http://d/e").as_deref(), Some("http://d/e"));
        assert!(redirected("http://a", None).is_err());
        assert_eq!(origin("http://a:1"), "http://a:1");
    }

    #[test]
    fn nothing_leads_from_https_to_http() {
        for to in ["http://a/x", "HTTP://a/x", "http://other/x"] {
            let error = redirected("https://a/y", Some(to)).unwrap_err().cause();
            assert!(error.contains("not encrypted"), "{error}");
        }
        assert!(redirected("HTTPS://a/y", Some("http://a/x")).is_err());
        assert!(redirected("https://a/y", Some("https://b/x")).is_ok());
        assert!(redirected("http://a/y", Some("https://b/x")).is_ok());
    }

    #[test]
    fn what_is_told_of_a_host_has_no_password_in_it() {
        assert_eq!(host("https://user:secret@a:1/x"), "a:1");
        assert!(same_origin("https://a/x", "https://A/y") && !same_origin("https://a", "http://a"));
        assert!(!same_origin("https://a", "https://a.evil"));
    }

    #[test]
    fn only_a_hash_passes_for_one() {
        let hash = "AB".repeat(32);
        assert_eq!(as_sha256(&format!("\"{hash}\"")), Some(hash.to_lowercase()));
        assert_eq!(as_sha256(&"g".repeat(64)), None);
        assert_eq!(as_sha256("\"0123\""), None);
    }
}
