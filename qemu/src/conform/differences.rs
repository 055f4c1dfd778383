//! What may differ between the store and memcached, and why. All else is compared byte for
//! byte.
//!
//! | where | what may differ | why |
//! |---|---|---|
//! | `t` of the meta commands | a few seconds | the two clocks tick at different times |
//! | `l` of the meta commands | any number | memcached notes the time of a use once a minute |
//! | `me` | all but the CAS id | bytes and buckets are those of another allocator; `exp` of 1.6.18 has the wrong sign |

/// Whether an answer of ours will do for one of memcached's, in the text protocol.
#[must_use]
pub fn may_be(ours: &[u8], theirs: &[u8]) -> bool {
    let (mut a, mut b) = (ours.split(|&byte| byte == b'\n'), theirs.split(|&byte| byte == b'\n'));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a == b || same_line(a, b) => {}
            _ => return false,
        }
    }
}

fn same_line(ours: &[u8], theirs: &[u8]) -> bool {
    let first = |line: &[u8]| line.split(|&byte| byte == b' ').next().map(<[u8]>::to_vec);
    if first(ours) != first(theirs) {
        return false;
    }
    let tokens = |line: &[u8]| -> Vec<Vec<u8>> {
        line.split(|&byte| byte == b' ').map(|token| token.trim_ascii_end().to_vec()).collect()
    };
    let (a, b) = (tokens(ours), tokens(theirs));
    match first(ours).as_deref() {
        Some(b"ME") => {
            let of = |tokens: &[Vec<u8>]| tokens.iter().find_map(|token| number(token, b"cas="));
            a.get(1) == b.get(1) && of(&a).is_some() && of(&a) == of(&b)
        }
        Some(b"HD" | b"VA" | b"EN" | b"HD\r" | b"EN\r") => {
            a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| same_flag(a, b))
        }
        _ => false,
    }
}

fn same_flag(ours: &[u8], theirs: &[u8]) -> bool {
    if ours == theirs {
        return true;
    }
    let pair = |name: &[u8]| Some((number(ours, name)?, number(theirs, name)?));
    if let Some((a, b)) = pair(b"t") {
        return a.abs_diff(b) <= 3;
    }
    pair(b"l").is_some()
}

fn number(token: &[u8], name: &[u8]) -> Option<u64> {
    std::str::from_utf8(token.strip_prefix(name)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::may_be;

    #[test]
    fn only_what_is_listed_may_differ() {
        let same = |a: &str, b: &str| may_be(a.as_bytes(), b.as_bytes());
        assert!(same("HD t29 c5\r\nMN\r\n", "HD t30 c5\r\nMN\r\n"));
        assert!(same("HD l0\r\n", "HD l7\r\n"));
        assert!(same("ME a exp=3 cas=1 size=5\r\n", "ME a exp=-3 cas=1 size=7\r\n"));
        assert!(!same("HD t-1\r\n", "HD t30\r\n"));
        assert!(!same("HD c15\r\n", "HD c5\r\n"));
        assert!(!same("VALUE a 0 1 15\r\nx\r\n", "VALUE a 0 1 5\r\nx\r\n"));
        assert!(!same("HD s15\r\n", "HD s5\r\n"));
        assert!(!same("HD\r\n", "EN\r\n"));
        assert!(!same("VALUE a 0 1\r\nx\r\n", "VALUE a 0 1\r\ny\r\n"));
        assert!(!same("HD\r\nHD\r\n", "HD\r\n"));
    }
}
