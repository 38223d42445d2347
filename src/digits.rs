//! Numbers as people read them.

/// 11689512 as 11,689,512.
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 thread`, `2 threads`.
pub(crate) fn counted(n: usize, what: &str) -> String {
    format!("{} {what}{}", thousands(n as u64), if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular() {
        assert_eq!(counted(1, "thread"), "1 thread");
        assert_eq!(counted(2048, "thread"), "2,048 threads");
    }

    #[test]
    fn groups_of_three_from_the_right() {
        assert_eq!([0, 999, 1000, 11_689_512].map(thousands), ["0", "999", "1,000", "11,689,512"]);
    }
}
