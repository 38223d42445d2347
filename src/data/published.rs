//! Telling published data sets by the check sums of their files, and files that are not data at all.

use std::path::Path;

use md5::{Digest, Md5};

use crate::error::Result;
use crate::files::regular;

/// The largest of the files below has 26 MB.
const MOST: u64 = 32 << 20;

/// MD5 of packed files that have MNIST's names, as their authors give them.
const OTHERS: [(&str, [&str; 4]); 2] = [
    (
        "Fashion-MNIST",
        [
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ],
    ),
    (
        "KMNIST",
        [
            "bdb82020997e1d708af4cf47b453dcf7",
            "e144d726b3acfaa3e44228e80efcd344",
            "5c965bf0a639b31b8f53240b1b52f4d7",
            "7320c461ea6c1c855c0b718fb2a4b134",
        ],
    ),
];

/// The data set that a file of MNIST's name belongs to, if it is another one that is known.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn other_set(path: &Path) -> Result<Option<&'static str>> {
    match std::fs::metadata(path).is_ok_and(|about| about.len() <= MOST) {
        true => Ok(named(&regular::read(path, MOST)?)),
        false => Ok(None),
    }
}

fn named(bytes: &[u8]) -> Option<&'static str> {
    let hash = hex(&Md5::digest(bytes));
    OTHERS.iter().find(|(_, files)| files.contains(&hash.as_str())).map(|(set, _)| *set)
}

/// What a file is that begins like this, where it is none of data.
pub(super) fn not_data(start: &[u8]) -> Option<&'static str> {
    let text = start.trim_ascii_start();
    match text {
        [b'<', b'!' | b'h' | b'H' | b'?', ..] => Some("a web page"),
        [b'v', b'e', b'r', b's', b'i', b'o', b'n', ..] => Some("a git-lfs pointer"),
        [b'{', ..] => Some("a JSON text"),
        _ => None,
    }
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_data_is_told_by_its_beginning() {
        assert_eq!(not_data(b"\n<!DOCTYPE html>"), Some("a web page"));
        assert_eq!(not_data(b"<html>"), Some("a web page"));
        assert_eq!(not_data(b"version https://git-lfs"), Some("a git-lfs pointer"));
        assert_eq!(not_data(&[0, 0, 8, 3]), None);
        assert_eq!(not_data(b"PAR1"), None);
    }

    #[test]
    fn check_sums_are_hexadecimal() {
        assert_eq!(hex(&Md5::digest(b"")), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(named(b""), None);
        let all: Vec<&str> = OTHERS.iter().flat_map(|(_, files)| files).copied().collect();
        let is_md5 = |sum: &&str| sum.len() == 32 && sum.bytes().all(|c| c.is_ascii_hexdigit());
        assert!(all.iter().all(is_md5));
    }
}
