//! What a record's key and value are. A value tells which record it is of, so that an answer can
//! be checked.

/// Bytes of a key.
pub const KEY: usize = 16;
/// A key.
pub type Key = [u8; KEY];

/// The key of a record: `user` and twelve digits, as different as YCSB's are.
#[must_use]
pub fn key(record: u32) -> Key {
    let mut key = *b"user000000000000";
    // Odd, so that no two records get the same one.
    let mut rest = record.wrapping_mul(2_654_435_761);
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// Makes `value` one of the record with this key, in this version.
pub fn fill(value: &mut [u8], key: &Key, version: u8) {
    for (byte, from) in value.iter_mut().zip(key.iter().cycle()) {
        *byte = *from;
    }
    for piece in value.chunks_mut(KEY).skip(1) {
        piece[0] = version;
    }
}

/// Whether `value` is one of the record with this key, and all of one version.
#[must_use]
pub fn is_of(value: &[u8], key: &Key) -> bool {
    let (pieces, end) = value.as_chunks::<KEY>();
    let Some((first, rest)) = pieces.split_first() else { return key.starts_with(value) };
    let version = rest.first().map_or(0, |piece| piece[0]);
    first == key
        && rest.iter().all(|piece| piece[0] == version && piece[1..] == key[1..])
        && end.iter().skip(1).eq(key[..end.len()].iter().skip(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn keys_differ() {
        let keys: HashSet<_> = (0..100_000).map(key).collect();
        assert_eq!(keys.len(), 100_000);
        assert_eq!(&key(1), b"user002654435761");
    }

    #[test]
    fn a_value_is_of_its_record_and_version() {
        for len in [0, 5, 16, 17, 100, 1000] {
            let mut value = vec![0; len];
            fill(&mut value, &key(5), 1);
            assert!(is_of(&value, &key(5)), "{len}");
            if len >= KEY {
                assert!(!is_of(&value, &key(6)), "{len}");
            }
        }
        let (mut old, mut new) = ([0; 100], [0; 100]);
        fill(&mut old, &key(5), 1);
        fill(&mut new, &key(5), 2);
        old[48..].copy_from_slice(&new[48..]);
        assert!(!is_of(&old, &key(5)), "half of each");
    }
}
