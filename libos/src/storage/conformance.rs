//! What every [`Block`] must do, and every [`Background`]: run it on any new one.

use alloc::vec;
use alloc::vec::Vec;

use super::{Background, Block, Fault, SECTOR};

/// How many sectors the suite wants at least.
pub const SECTORS: u64 = 64;

/// Puts a device through the contract. What it held is gone.
///
/// # Panics
/// If it breaks the contract.
pub fn check<B: Block>(disk: &mut B) {
    let total = disk.sectors();
    assert!(total >= SECTORS, "a device of {total} sectors");
    what_was_written_is_read(disk, total);
    neighbours_stay(disk, total);
    what_is_not_there_is_refused(disk, total);
}

/// Puts a device that works in the background through the contract. What it held is gone.
///
/// # Panics
/// If it breaks the contract, or a job takes more than a million looks.
pub fn check_background<B: Background>(disk: &mut B) {
    let total = disk.sectors();
    assert_eq!(disk.poll(), None, "nothing was begun");
    for (round, (first, count)) in [(0, 1), (1, 8), (9, 17), (total - 3, 3)].into_iter().enumerate()
    {
        let mut bytes = pattern(first, count, 9 + round as u8);
        let wanted = bytes.clone();
        assert_eq!(disk.begin(first, &bytes), Ok(()));
        bytes.fill(0xee);
        let done = (0..1_000_000).find_map(|_| disk.poll());
        assert_eq!(done, Some(Ok(())), "{count} sectors from {first} on");
        assert_eq!(disk.poll(), None, "a job is done once");
        assert_eq!(disk.read(first, &mut bytes), Ok(()));
        assert!(bytes == wanted, "{count} sectors from {first} on");
        assert_eq!(disk.begin(total, &wanted), Err(Fault::Range), "beyond the end");
        assert_eq!(disk.poll(), None, "what was refused was not begun");
    }
}

/// Bytes that tell where they belong.
fn pattern(first: u64, sectors: usize, seed: u8) -> Vec<u8> {
    (0..sectors * SECTOR)
        .map(|i| (first as usize * SECTOR + i).wrapping_mul(0x9e37) as u8 ^ (i >> 7) as u8 ^ seed)
        .collect()
}

fn what_was_written_is_read<B: Block>(disk: &mut B, total: u64) {
    for (first, count) in [(0, 1), (1, 8), (9, 17), (total - 3, 3)] {
        let bytes = pattern(first, count, 1);
        assert_eq!(disk.write(first, &bytes), Ok(()));
        let mut read = vec![0; bytes.len()];
        assert_eq!(disk.read(first, &mut read), Ok(()));
        assert!(read == bytes, "{count} sectors from {first} on, before a flush");
        assert_eq!(disk.flush(), Ok(()));
        assert_eq!(disk.read(first, &mut read), Ok(()));
        assert!(read == bytes, "{count} sectors from {first} on, after a flush");
    }
}

fn neighbours_stay<B: Block>(disk: &mut B, total: u64) {
    let mut model = pattern(0, total.min(SECTORS) as usize, 2);
    assert_eq!(disk.write(0, &model), Ok(()));
    for (round, first) in [5, 31, 6, 4, 5].into_iter().enumerate() {
        let bytes = pattern(first, 2, 3 + round as u8);
        assert_eq!(disk.write(first, &bytes), Ok(()));
        let at = first as usize * SECTOR;
        model[at..at + bytes.len()].copy_from_slice(&bytes);
        let mut read = vec![0; model.len()];
        assert_eq!(disk.read(0, &mut read), Ok(()));
        assert!(read == model, "a write of sector {first} changed another one");
    }
}

fn what_is_not_there_is_refused<B: Block>(disk: &mut B, total: u64) {
    let mut two = vec![7; 2 * SECTOR];
    for first in [total - 1, total, total + 1, u64::MAX - 1, u64::MAX, u64::MAX / SECTOR as u64] {
        assert_eq!(disk.write(first, &two), Err(Fault::Range), "written from {first} on");
        assert_eq!(disk.read(first, &mut two), Err(Fault::Range), "read from {first} on");
    }
    for len in [1, SECTOR - 1, SECTOR + 1] {
        assert_eq!(disk.write(0, &two[..len]), Err(Fault::Range), "{len} bytes written");
        assert_eq!(disk.read(0, &mut two[..len]), Err(Fault::Range), "{len} bytes read");
    }
}
