//! Captures in the format of libpcap (draft-ietf-opsawg-pcap): a header of 24 bytes, then for
//! each packet one of 16 and its bytes, in the byte order of whoever wrote it.

use anyhow::{Result, bail, ensure};

/// Times in micro- and nanoseconds.
const MAGIC: [u32; 2] = [0xa1b2_c3d4, 0xa1b2_3c4d];
const NEXT_GENERATION: u32 = 0x0a0d_0d0a;
const ETHERNET: u32 = 1;

/// The frames, as far as they were captured. A file that ends within a packet is an error.
pub(super) fn frames(file: &[u8]) -> Result<Vec<&[u8]>> {
    let Some((header, mut rest)) = file.split_first_chunk::<24>() else {
        bail!("no capture: shorter than a header");
    };
    let [a, b, c, d, ..] = *header;
    let magic = [a, b, c, d];
    let word: fn([u8; 4]) -> u32 = if MAGIC.contains(&u32::from_le_bytes(magic)) {
        u32::from_le_bytes
    } else if MAGIC.contains(&u32::from_be_bytes(magic)) {
        u32::from_be_bytes
    } else if u32::from_le_bytes(magic) == NEXT_GENERATION {
        bail!("a capture in the format pcapng; convert it with `editcap -F pcap`")
    } else {
        bail!("no capture: does not begin with the number of pcap files")
    };
    let [.., w, x, y, z] = *header;
    // The upper half may say something about the FCS.
    let link = word([w, x, y, z]) & 0xffff;
    ensure!(link == ETHERNET, "frames of link type {link}, not of Ethernet");
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let number = frames.len() + 1;
        let Some((packet, behind)) = rest.split_first_chunk::<16>() else {
            bail!("cut off in the header of packet {number}");
        };
        let [_, _, _, _, _, _, _, _, w, x, y, z, ..] = *packet;
        let length = word([w, x, y, z]) as usize;
        let Some((frame, behind)) = behind.split_at_checked(length) else {
            bail!("cut off in packet {number}");
        };
        frames.push(frame);
        rest = behind;
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(order: fn(u32) -> [u8; 4], magic: u32, link: u32, frames: &[&[u8]]) -> Vec<u8> {
        let mut file = [magic, 0x0002_0004, 0, 0, 65_535, link].map(order).concat();
        for frame in frames {
            let length = frame.len() as u32;
            file.extend([1, 2, length, length].map(order).concat());
            file.extend(*frame);
        }
        file
    }

    #[test]
    fn reads_either_order_and_resolution() {
        for order in [u32::to_le_bytes as fn(u32) -> [u8; 4], u32::to_be_bytes] {
            for magic in MAGIC {
                let file = file(order, magic, ETHERNET, &[b"one", b"", b"three"]);
                assert_eq!(frames(&file).unwrap(), [&b"one"[..], b"", b"three"]);
            }
        }
    }

    #[test]
    fn refuses_what_is_no_capture_or_cut_off() {
        let good = file(u32::to_le_bytes, MAGIC[0], ETHERNET, &[b"abc"]);
        for length in (0..good.len()).filter(|&length| length != 24) {
            assert!(frames(&good[..length]).is_err(), "{length}");
        }
        assert!(frames(&good[..24]).unwrap().is_empty());
        assert!(frames(&file(u32::to_le_bytes, MAGIC[0], 101, &[])).is_err());
        assert!(frames(&file(u32::to_le_bytes, NEXT_GENERATION, 1, &[])).is_err());
        assert!(frames(&file(u32::to_le_bytes, 7, 1, &[])).is_err());
    }
}
