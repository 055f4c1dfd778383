//! Which of several filters takes a packet of a capture.
//!
//! A capture may have kept only the beginning of a packet. Then a filter takes it if it
//! would take it whatever the missing bytes were. Two continuations are enough to know
//! that, all zeros and all ones: in canonical form a filter pins each bit that it looks
//! at, which one of them has wrong, or bounds a field by less than all of its values.
//! Such a range excludes the least or the greatest value that is left, or none between
//! them. So `len` is the length on the wire, and what depends on a missing byte is not met;
//! as in pcap, where a load beyond the bytes that are there ends in a refusal.

use anyhow::{Result, ensure};
use dpf::{Filter, MAX_FRAME, Tag};
use dpf_run::Arena;

use super::capture::Packet;

/// Filters, merged and one by one.
pub(super) struct Takers<'a> {
    filters: &'a [Filter],
    arena: Arena,
}

impl<'a> Takers<'a> {
    /// Tags are places. Two filters that take the same packets are an error.
    pub(super) fn of(filters: &'a [Filter]) -> Result<Self> {
        let mut arena = Arena::new(filters.len());
        for (filter, tag) in filters.iter().zip(0..) {
            if let Err(error) = arena.install(filter, Tag(tag)) {
                anyhow::bail!("filter {}: {error}", tag + 1);
            }
        }
        Ok(Self { filters, arena })
    }

    pub(super) fn arena(&self) -> &Arena {
        &self.arena
    }

    /// The place of the filter that takes the packet: of several that match, the one that pins
    /// more bits, or else the first.
    ///
    /// # Errors
    /// The code and the interpreter differ.
    pub(super) fn taker(&self, packet: &Packet<'_>) -> Result<Option<usize>> {
        // No filter looks further.
        let length = packet.length.min(MAX_FRAME);
        if length <= packet.kept.len() {
            return self.classify(packet.kept);
        }
        let continued = [0x00, 0xff].map(|byte| {
            let mut whole = packet.kept.to_vec();
            whole.resize(length, byte);
            whole
        });
        for whole in &continued {
            self.classify(whole)?;
        }
        let takes = |filter: &Filter| continued.iter().all(|whole| filter.matches(whole));
        let takers = self.filters.iter().enumerate().filter(|(_, filter)| takes(filter));
        let best = takers.max_by_key(|(place, filter)| filter.rank(*place as u64));
        Ok(best.map(|(place, _)| place))
    }

    fn classify(&self, packet: &[u8]) -> Result<Option<usize>> {
        let taker = self.arena.classify_interpreted(packet);
        ensure!(self.arena.classify(packet) == taker, "the code and the interpreter differ");
        Ok(taker.map(|tag| tag.0 as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dpf_text::parse;

    fn taker(texts: &[&str], kept: &[u8], length: usize) -> Option<usize> {
        let filters: Vec<_> = texts.iter().map(|text| parse(text).unwrap()).collect();
        Takers::of(&filters).unwrap().taker(&Packet { kept, length }).unwrap()
    }

    fn udp() -> [u8; 60] {
        let mut packet = [0_u8; 60];
        packet[12..15].copy_from_slice(&[8, 0, 0x45]);
        packet[23] = 17;
        packet[30..34].copy_from_slice(&[10, 0, 0, 1]);
        packet[37] = 53;
        packet
    }

    #[test]
    fn the_most_specific_takes_a_packet() {
        let texts = ["udp dst port 53", "ip", "udp dst port 53 and ip dst host 10.0.0.1"];
        assert_eq!(taker(&texts, &udp(), 60), Some(2));
        let mut other = udp();
        other[33] = 2;
        assert_eq!(taker(&texts, &other, 60), Some(0));
        other[37] = 80;
        assert_eq!(taker(&texts, &other, 60), Some(1));
        assert_eq!(taker(&texts, &[0; 60], 60), None);
    }

    #[test]
    fn lengths_are_those_on_the_wire() {
        for text in ["len >= 1000", "greater 1000", "udp dst port 53 and len > 999"] {
            assert_eq!(taker(&[text], &udp(), 999), None, "{text}");
            assert_eq!(taker(&[text], &udp(), 1000), Some(0), "{text}");
            assert_eq!(taker(&[text], &udp()[..42], 1000), Some(0), "{text}");
            // More than any filter asks for.
            assert_eq!(taker(&[text], &udp(), 0xffff_ffff), Some(0), "{text}");
        }
        // A length pins no bit, so the first goes before; and the one that matches, though it was
        // cut.
        assert_eq!(taker(&["udp", "udp and len >= 61"], &udp(), 61), Some(0));
        assert_eq!(taker(&["udp and len >= 61", "udp"], &udp(), 61), Some(0));
        assert_eq!(taker(&["udp and len >= 61", "udp"], &udp(), 60), Some(1));
    }

    #[test]
    fn missing_bytes_are_not_what_is_asked_for() {
        for (text, byte) in
            [("ip[60] = 0", 74), ("ip[60] = 255", 74), ("ip[60] < 200", 74), ("ip[60] > 20", 74)]
        {
            for kept in 34..=byte {
                let packet = [&udp()[..], &[0; 100]].concat();
                assert_eq!(taker(&[text], &packet[..kept], 160), None, "{text} {kept}");
            }
        }
        // The port, and the header length in front of it.
        for kept in 0..38 {
            assert_eq!(taker(&["udp dst port 53"], &udp()[..kept], 60), None, "{kept}");
        }
        assert_eq!(taker(&["udp dst port 53"], &udp()[..38], 60), Some(0));
        // One that only might take it does not hide one that does.
        assert_eq!(taker(&["udp", "udp and ip[40] = 0"], &udp()[..42], 60), Some(0));
    }

    /// Of a field of 16 bits half is missing: tried with all values that it may have.
    #[test]
    fn two_continuations_stand_for_all() {
        let mut random = 0x1996_d9f1_u32;
        for _ in 0..300 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (bound, first) = (random >> 16, (random >> 8) as u8);
            let relation = ["<", ">=", "="][random as usize / 64 % 3];
            let mask = [0xffff, 0xff00, 0x0ff0, 0x8001][random as usize / 4 % 4];
            let Ok(filter) = parse(&format!("ether[20:2] & {mask} {relation} {}", bound & mask))
            else {
                continue;
            };
            let mut packet = [0_u8; 22];
            packet[20] = first;
            let all = (0..=0xff).all(|last| {
                packet[21] = last;
                filter.matches(&packet)
            });
            let takers = [filter];
            let cut = Packet { kept: &packet[..21], length: 22 };
            let taken = Takers::of(&takers).unwrap().taker(&cut).unwrap();
            assert_eq!(taken.is_some(), all, "{filter:?} {first}");
        }
    }
}
