//! Captures in the format of libpcap (draft-ietf-opsawg-pcap): a header of 24 bytes, then for
//! each packet a record header and as many of its bytes as were kept, in the byte order of
//! the machine that wrote it.
//!
//! What libpcap reads is read: times in micro- and nanoseconds, the record headers of 24
//! bytes that a patched libpcap wrote, and the lengths in the order that they had
//! before version 2.3.

use anyhow::{Error, Result, anyhow, bail, ensure};

/// Times in micro- and nanoseconds.
const MAGIC: [u32; 2] = [0xa1b2_c3d4, 0xa1b2_3c4d];
/// Eight bytes more behind each record header: interface, protocol, kind of packet.
const MODIFIED: u32 = 0xa1b2_cd34;
const NEXT_GENERATION: u32 = 0x0a0d_0d0a;
const ETHERNET: u32 = 1;
/// How files of other formats begin, what they are, and what makes a capture of them.
const OTHERS: [(&[u8], &str, &str); 5] = [
    (&NEXT_GENERATION.to_le_bytes(), "in the format pcapng", "tcpdump -r FILE -w NEW.pcap"),
    (&[0x1f, 0x8b], "compressed by gzip", "gzip -dc FILE > NEW.pcap"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "compressed by zstd", "zstd -dc FILE > NEW.pcap"),
    (&[0xfd, b'7', b'z', b'X', b'Z'], "compressed by xz", "xz -dc FILE > NEW.pcap"),
    (b"BZh", "compressed by bzip2", "bzip2 -dc FILE > NEW.pcap"),
];

/// One packet of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet<'f> {
    /// From the Ethernet header on, as far as they were kept.
    pub(super) kept: &'f [u8],
    /// Bytes on the wire, not fewer than were kept.
    pub(super) length: usize,
}

/// The packets of a file, in order. The first error ends them.
#[derive(Debug)]
pub(super) struct Packets<'f> {
    rest: &'f [u8],
    number: usize,
    word: fn([u8; 4]) -> u32,
    /// Bytes of a record header.
    header: usize,
    /// Of version 2; before 3 the length on the wire comes first.
    minor: u16,
}

impl<'f> Packets<'f> {
    /// # Errors
    /// What the file is, if it is no such capture, and how to make one of it.
    pub(super) fn of(file: &'f [u8]) -> Result<Self> {
        if let Some((_, what, how)) = OTHERS.iter().find(|(begin, ..)| file.starts_with(begin)) {
            bail!("{what}, and only pcap is read; convert it with `{how}`");
        }
        let Some((header, rest)) = file.split_first_chunk::<24>() else {
            bail!("no capture: shorter than the header of a pcap file");
        };
        let [a, b, c, d, v, w, x, y, .., l, i, n, k] = *header;
        let known = |magic: &u32| MAGIC.contains(magic) || *magic == MODIFIED;
        let big = known(&u32::from_be_bytes([a, b, c, d]));
        ensure!(
            big || known(&u32::from_le_bytes([a, b, c, d])),
            "no capture: does not begin with the number of pcap files"
        );
        let word = if big { u32::from_be_bytes } else { u32::from_le_bytes };
        let half = if big { u16::from_be_bytes } else { u16::from_le_bytes };
        let (major, minor) = (half([v, w]), half([x, y]));
        ensure!(major == 2 && minor <= 4, "version {major}.{minor} of pcap, not one of 2.0 to 2.4");
        // The upper half may say something about the FCS.
        let link = word([l, i, n, k]) & 0xffff;
        ensure!(link == ETHERNET, "packets of link type {link}, not of Ethernet");
        let header = if word([a, b, c, d]) == MODIFIED { 24 } else { 16 };
        Ok(Self { rest, number: 0, word, header, minor })
    }

    /// The next packet of at least one byte more.
    fn read(&mut self) -> Result<Packet<'f>> {
        let number = self.number;
        let cut = |part, there, all| -> Error {
            anyhow!("cut off in {part}packet {number}: {there} of {all} bytes are there")
        };
        let header = self.rest.split_at_checked(self.header);
        let Some((&[_, _, _, _, _, _, _, _, a, b, c, d, w, x, y, z, ..], rest)) = header else {
            return Err(cut("the header of ", self.rest.len(), self.header));
        };
        let [mut kept, mut length] = [[a, b, c, d], [w, x, y, z]].map(self.word);
        // Some programs wrote version 2.3 and the old order.
        if self.minor < 3 || self.minor == 3 && kept > length {
            (kept, length) = (length, kept);
        }
        let (kept, length) = (kept as usize, length as usize);
        let Some((bytes, rest)) = rest.split_at_checked(kept) else {
            return Err(cut("", rest.len(), kept));
        };
        self.rest = rest;
        Ok(Packet { kept: bytes, length: length.max(kept) })
    }
}

impl<'f> Iterator for Packets<'f> {
    type Item = Result<Packet<'f>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        self.number += 1;
        let packet = self.read();
        if packet.is_err() {
            self.rest = &[];
        }
        Some(packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Order = fn(u32) -> [u8; 4];

    /// A capture of version 2.`minor`; of each packet the bytes and the length on the wire.
    fn file(order: Order, magic: u32, minor: u16, link: u32, packets: &[(&[u8], u32)]) -> Vec<u8> {
        let big = order(1) == 1_u32.to_be_bytes();
        let half = |number: u16| if big { number.to_be_bytes() } else { number.to_le_bytes() };
        let mut file = order(magic).to_vec();
        file.extend([half(2), half(minor)].concat());
        file.extend([0, 0, 65_535, link].map(order).concat());
        for &(kept, length) in packets {
            let mut lengths = [kept.len() as u32, length];
            if minor < 3 {
                lengths.reverse();
            }
            file.extend([1, 2].into_iter().chain(lengths).flat_map(order));
            if magic == MODIFIED {
                file.extend([0, 0, 0, 2, 8, 0, 4, 0]);
            }
            file.extend(kept);
        }
        file
    }

    fn all(file: &[u8]) -> Result<Vec<Packet<'_>>> {
        Packets::of(file)?.collect()
    }

    const PACKETS: [(&[u8], u32); 3] = [(b"one", 1500), (b"", 0), (b"three", 5)];

    #[test]
    fn reads_what_libpcap_reads() {
        for order in [u32::to_le_bytes as Order, u32::to_be_bytes] {
            for magic in [MAGIC[0], MAGIC[1], MODIFIED] {
                for minor in 0..=4 {
                    let file = file(order, magic, minor, ETHERNET, &PACKETS);
                    let want =
                        PACKETS.map(|(kept, length)| Packet { kept, length: length as usize });
                    assert_eq!(all(&file).unwrap(), want, "{magic:x} 2.{minor}");
                }
            }
        }
    }

    #[test]
    fn every_whole_packet_comes_before_the_error() {
        for magic in [MAGIC[0], MODIFIED] {
            let packets = [(&b"abc"[..], 3), (b"defgh", 5)];
            let good = file(u32::to_le_bytes, magic, 4, ETHERNET, &packets);
            let first = file(u32::to_le_bytes, magic, 4, ETHERNET, &packets[..1]).len();
            assert!((0..24).all(|length| Packets::of(&good[..length]).is_err()));
            for length in (24..=good.len()).filter(|length| ![24, first].contains(length)) {
                let (whole, errors): (Vec<_>, Vec<_>) =
                    Packets::of(&good[..length]).unwrap().partition(Result::is_ok);
                let want = usize::from(length > first) + usize::from(length == good.len());
                assert_eq!(whole.len(), want, "{length}");
                assert_eq!(errors.len(), usize::from(length < good.len()), "{length}");
            }
        }
    }

    #[test]
    fn what_is_no_capture_is_told_and_how_to_make_one() {
        let error = |file: &[u8]| Packets::of(file).unwrap_err().to_string();
        let other = |magic, minor, link| file(u32::to_le_bytes, magic, minor, link, &[]);
        assert!(error(b"").contains("shorter than the header"));
        assert!(error(&other(MAGIC[0], 4, 101)).contains("link type 101"));
        assert!(error(&other(MAGIC[0], 5, 1)).contains("version 2.5"));
        assert!(error(&other(7, 4, 1)).contains("does not begin"));
        assert!(error(&other(NEXT_GENERATION, 4, 1)).contains("tcpdump -r FILE -w NEW.pcap"));
        assert!(error(&[0x1f, 0x8b, 8, 0]).contains("gzip -dc FILE > NEW.pcap"));
    }
}
