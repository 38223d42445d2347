//! Names from elsewhere that become the names of files: a plain name stays in its folder, on any system.

use std::borrow::Cow;

/// Most bytes of a plain name: systems allow 255, and something is put before and after it.
pub(crate) const MOST_BYTES: usize = 100;

/// What Windows takes for a device, whatever ending follows.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

/// Whether `name` is the name of one file in a folder, and nothing else anywhere: not empty, no path, no
/// hidden file, no device, at most [`MOST_BYTES`] long.
pub(crate) fn is_plain(name: &str) -> bool {
    let ends_well = !name.ends_with(['.', ' ']) && !name.starts_with([' ', '.']);
    let length = (1..=MOST_BYTES).contains(&name.len());
    length && ends_well && !name.chars().any(is_special) && !is_device(name)
}

/// `name`, where it is a plain name; else one that is made of it. Different names stay different: what was
/// changed ends with some digits of a hash of the whole name.
pub(crate) fn plain_name(name: &str) -> Cow<'_, str> {
    if is_plain(name) {
        return Cow::Borrowed(name);
    }
    let kept: String = name
        .chars()
        .map(|c| if is_special(c) || c == '.' || c == ' ' { '_' } else { c })
        .scan(0, |bytes, c| {
            *bytes += c.len_utf8();
            (*bytes <= MOST_BYTES - 16).then_some(c)
        })
        .collect();
    Cow::Owned(format!("_{}_{:08x}", kept.trim_matches('_'), digest(name)))
}

/// Separators of paths, wild cards, and what cannot be seen.
fn is_special(c: char) -> bool {
    matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|')
        || crate::visible::is_hidden(c)
}

fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end().to_lowercase();
    let numbered = |prefix: &str| {
        let rest = stem.strip_prefix(prefix).map(|rest| rest.chars().collect::<Vec<_>>());
        rest.is_some_and(|rest| matches!(rest[..], ['0'..='9' | '¹' | '²' | '³']))
    };
    DEVICES.contains(&stem.as_str()) || numbered("com") || numbered("lpt")
}

/// FNV-1a, which stays the same on every machine.
fn digest(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOT_PLAIN: [&str; 23] = [
        "",
        ".",
        "..",
        "../x",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "C:x",
        ".hidden",
        "end.",
        "end ",
        " begin",
        "two\nlines",
        "\x1b[31m",
        "a\u{202e}b",
        "con",
        "Con",
        "NUL.svg",
        "com1",
        "LPT9.txt",
        "com²",
        "a*b",
        "a|b",
    ];

    #[test]
    fn a_plain_name_stays_as_it_is() {
        for name in
            ["cats-dogs", "ResNet-18", "cifar-10", "猫", "a.b", "console", "com10", "my set 2"]
        {
            assert!(is_plain(name), "{name}");
            assert!(matches!(plain_name(name), Cow::Borrowed(_)));
        }
        assert!(is_plain(&"x".repeat(MOST_BYTES)) && !is_plain(&"x".repeat(MOST_BYTES + 1)));
    }

    #[test]
    fn any_other_name_becomes_a_plain_one_of_its_own() {
        let long = "猫/".repeat(100);
        let names: Vec<&str> = NOT_PLAIN.into_iter().chain([long.as_str()]).collect();
        let made: std::collections::HashSet<_> =
            names.iter().map(|name| plain_name(name)).collect();
        assert_eq!(made.len(), names.len());
        for (name, made) in names.iter().map(|name| (name, plain_name(name))) {
            assert!(!is_plain(name) && is_plain(&made), "{name:?} became {made:?}");
        }
        assert_eq!(plain_name("../x"), plain_name("../x"));
    }
}
