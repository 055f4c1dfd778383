//! Words and numbers at fixed places of a packet's head: the offsets are constants, so they are
//! checked when they are compiled.

/// The eight bytes from `AT` on, as a word in the machine's order.
#[inline(always)]
pub(super) fn word<const AT: usize, const N: usize>(head: &[u8; N]) -> u64 {
    const { assert!(AT + 8 <= N) };
    let mut word = [0; 8];
    word.copy_from_slice(&head[AT..AT + 8]);
    u64::from_le_bytes(word)
}

/// The 16-bit number at `AT`.
#[inline(always)]
pub(super) fn number<const AT: usize, const N: usize>(head: &[u8; N]) -> u16 {
    const { assert!(AT + 2 <= N) };
    u16::from_be_bytes([head[AT], head[AT + 1]])
}

/// The 32-bit number at `AT`.
#[inline(always)]
pub(super) fn long_number<const AT: usize, const N: usize>(head: &[u8; N]) -> u32 {
    const { assert!(AT + 4 <= N) };
    u32::from_be_bytes([head[AT], head[AT + 1], head[AT + 2], head[AT + 3]])
}

/// Puts eight bytes at `AT`.
#[inline(always)]
pub(super) fn put<const AT: usize, const N: usize>(head: &mut [u8; N], word: u64) {
    const { assert!(AT + 8 <= N) };
    head[AT..AT + 8].copy_from_slice(&word.to_le_bytes());
}
