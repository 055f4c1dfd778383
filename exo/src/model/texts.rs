//! The real filters, in memory of the environments that install them.

use dpf::{Filter, KEY_WIRE, Key, MAX_WIRE, packet};
use exo_abi::Pfn;

#[cfg(test)]
use super::network::TAKES;
use super::network::{FILTERS, TEXTS};
use crate::memory;

const HERE: [u8; 4] = [10, 0, 2, 15];
const THERE: [u8; 4] = [10, 0, 2, 16];
const APART: usize = 512;
/// Where the text of a key is behind that of its filter.
const KEY: usize = 384;
const _: () = assert!(MAX_WIRE <= KEY && KEY + KEY_WIRE <= APART && APART * FILTERS <= 4096);

fn filters() -> [Filter; FILTERS] {
    [
        packet::udp_to(HERE, 1),
        packet::udp_to(HERE, 2),
        packet::ipv4_all(HERE),
        packet::arp_for(HERE),
        packet::udp_to(THERE, 1),
    ]
}

/// Address and length of a filter's text.
pub(super) fn place(filter: usize) -> (u64, u64) {
    let length = filters()[filter].encode(&mut [0; MAX_WIRE]).expect("room");
    (TEXTS * 4096 + (APART * filter) as u64, length as u64)
}

/// Address and length of the text of the key that the filter is.
pub(super) fn key_place(filter: usize) -> (u64, u64) {
    (place(filter).0 + KEY as u64, KEY_WIRE as u64)
}

/// Writes all texts into a frame.
pub(super) fn write(frame: u32) {
    for (number, filter) in filters().iter().enumerate() {
        let mut wire = [0; MAX_WIRE];
        let length = filter.encode(&mut wire).expect("room");
        let place = memory::frame(Pfn(frame)).wrapping_add(APART * number);
        // SAFETY: inside a frame of simulated memory; a text is shorter than the
        // distance between two.
        unsafe { place.copy_from_nonoverlapping(wire.as_ptr(), length) };
        let key = Key::of(filter).expect("pinned bits only").encode();
        // SAFETY: as before, behind that text.
        unsafe { place.wrapping_add(KEY).copy_from_nonoverlapping(key.as_ptr(), KEY_WIRE) };
    }
}

fn ipv4(protocol: u8, to: [u8; 4], port: u8) -> Vec<u8> {
    let mut bytes = vec![0; 60];
    bytes[12..15].copy_from_slice(&[8, 0, 0x45]);
    bytes[23] = protocol;
    bytes[30..34].copy_from_slice(&to);
    bytes[37] = port;
    bytes
}

#[test]
fn samples_tell_the_filters_apart() {
    let mut arp = vec![0; 60];
    arp[12..20].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4]);
    arp[38..42].copy_from_slice(&HERE);
    let samples = [ipv4(17, HERE, 1), ipv4(17, HERE, 2), ipv4(1, HERE, 0), arp, ipv4(17, THERE, 1)];
    for (filter, takes) in filters().iter().zip(TAKES) {
        for (bit, sample) in samples.iter().enumerate() {
            assert_eq!(filter.matches(sample), takes >> bit & 1 == 1, "sample {bit}");
        }
    }
    let keys = filters().map(|filter| Key::of(&filter).expect("pinned bits only"));
    for ((a, one), key) in filters().iter().enumerate().zip(&keys) {
        for (b, other) in keys.iter().enumerate() {
            let (shared, within) = (TAKES[a] & TAKES[b] != 0, TAKES[a] & !TAKES[b] == 0);
            assert_eq!(!key.contradicts(other), shared, "{a} and {b} share a packet or none");
            assert_eq!(key.is_within(other), within, "{a} is within {b} or not");
            assert_eq!(one.behind(other).is_some(), within, "{a} lies behind {b} or not");
        }
    }
}
