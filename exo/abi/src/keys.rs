//! Protection keys: pages of an address space that only the code behind a gate reaches.
//!
//! A page may lie behind a key ([`KEYS`]). What the key register (`pkru`) says of the key decides whether
//! code reaches the page, and `wrpkru` changes the register without a kernel. So in an environment
//! that takes part, no code is executable but what the kernel has looked through, and there
//! `wrpkru` stands in one form only: a [`gate`], which goes on only with the rights it is for.

/// How many keys there are. Key 0 stands for none.
pub const KEYS: u32 = 16;

/// The key register outside of every gate: no page with a key can be read or written.
pub const CLOSED: u32 = 0x5555_5554;

/// The key register behind a gate of `key`, below [`KEYS`].
pub const fn opened(key: u32) -> u32 {
    CLOSED & !(0b11 << (2 * key))
}

/// Bytes of a gate.
pub const GATE_BYTES: usize = 12;

/// The gate that goes on with the key register `rights`, and only so: whatever registers it is
/// entered with, at whatever byte.
///
/// ```text
/// wrpkru; cmp eax, rights; je +2; ud2
/// ```
pub const fn gate(rights: u32) -> [u8; GATE_BYTES] {
    let [a, b, c, d] = rights.to_le_bytes();
    [0x0f, 0x01, 0xef, 0x3d, a, b, c, d, 0x74, 0x02, 0x0f, 0x0b]
}

#[cfg(test)]
mod tests {
    use super::{CLOSED, KEYS, gate, opened};

    #[test]
    fn a_gate_opens_one_key() {
        assert_eq!((1..KEYS).fold(CLOSED, |all, key| all & opened(key)), 0);
        for key in 1..KEYS {
            assert_eq!(CLOSED ^ opened(key), 1 << (2 * key), "read and write");
        }
    }

    #[test]
    fn no_gate_hides_another() {
        for rights in (1..KEYS).map(opened).chain([CLOSED]) {
            let bytes = gate(rights);
            assert!(bytes[1..].windows(3).all(|three| three != [0x0f, 0x01, 0xef]));
        }
    }
}
