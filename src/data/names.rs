//! The names of classes and of files, as text that can be compared.

use std::ffi::OsStr;

use unicode_normalization::UnicodeNormalization;

/// A name in Unicode's composed form (NFC), in which names are compared: macOS writes the é of `café`
/// as two characters, and other systems as one.
///
/// ```
/// use convzoo::data::normal;
/// assert_eq!(normal("cafe\u{301}"), "caf\u{e9}");
/// ```
pub fn normal(name: &str) -> String {
    match name.is_ascii() {
        true => name.to_owned(),
        false => name.nfc().collect(),
    }
}

/// Whether two names are the same in [`normal`] form.
pub fn same_name(a: &str, b: &str) -> bool {
    a == b || normal(a) == normal(b)
}

/// A file's name as text. Bytes that are not UTF-8 are written out, as in `caf\xe9.jpg`, so that names
/// that differ stay different.
pub(crate) fn text(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_however_they_are_composed() {
        assert!(same_name("Ka\u{308}tzchen", "K\u{e4}tzchen"));
        assert!(same_name("\u{1112}\u{1161}\u{11ab}", "\u{d55c}"));
        assert!(!same_name("cafe", "caf\u{e9}"));
        // Names are not folded further: these are different letters to people.
        assert!(!same_name("\u{fb01}n", "fin"));
    }

    #[test]
    #[cfg(unix)]
    fn bytes_that_are_not_text_are_written_out() {
        use std::os::unix::ffi::OsStrExt;
        assert_eq!(text(OsStr::from_bytes(b"caf\xe9 \xc3\xa9.jpg")), "caf\\xe9 \u{e9}.jpg");
        assert_eq!(text(OsStr::new("a.jpg")), "a.jpg");
    }
}
