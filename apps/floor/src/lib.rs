//! Sends UDP packets back where they came from, with nothing above the rings.
//!
//! Place on the packet path: in step 4's stead. Swapping addresses and ports leaves every
//! checksum as it was (RFC 1071: the sum does not depend on the order), so that nothing but
//! the copy from one ring's buffer to the other's remains: what a library OS on these rings
//! cannot go below.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

/// Ethernet, IPv4 without options and UDP headers.
const HEADERS: usize = 14 + 20 + 8;

/// Writes the packet that answers `packet` with its own payload to `buffer`, and returns its
/// length: zero unless it is UDP in IPv4 without options, over Ethernet (RFC 768, RFC 791),
/// and fits.
#[inline(always)]
pub fn reflect(packet: &[u8], buffer: &mut [u8]) -> usize {
    let Some((headers, payload)) = packet.split_first_chunk::<HEADERS>() else { return 0 };
    let is_udp = headers[12..15] == [8, 0, 0x45] && headers[23] == 17;
    let Some(buffer) = buffer.get_mut(..packet.len()).filter(|_| is_udp) else { return 0 };
    let Some((to, to_payload)) = buffer.split_first_chunk_mut::<HEADERS>() else { return 0 };
    *to = *headers;
    for (one, other, length) in [(0, 6, 6), (26, 30, 4), (34, 36, 2)] {
        to[one..one + length].copy_from_slice(&headers[other..other + length]);
        to[other..other + length].copy_from_slice(&headers[one..one + length]);
    }
    to_payload.copy_from_slice(payload);
    packet.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet() -> std::vec::Vec<u8> {
        let mut packet = std::vec![0; HEADERS];
        for (index, byte) in packet.iter_mut().enumerate() {
            *byte = index as u8;
        }
        packet[12..15].copy_from_slice(&[8, 0, 0x45]);
        packet[23] = 17;
        packet.extend(*b"payload");
        packet
    }

    #[test]
    fn swaps_what_names_the_ends() {
        let packet = packet();
        let mut buffer = [0xee; 100];
        assert_eq!(reflect(&packet, &mut buffer), packet.len());
        let answer = &buffer[..packet.len()];
        assert_eq!((&answer[..6], &answer[6..12]), (&packet[6..12], &packet[..6]));
        assert_eq!((&answer[26..30], &answer[30..34]), (&packet[30..34], &packet[26..30]));
        assert_eq!((&answer[34..36], &answer[36..38]), (&packet[36..38], &packet[34..36]));
        assert_eq!((&answer[12..26], &answer[38..]), (&packet[12..26], &packet[38..]));
        let mut again = [0; 100];
        reflect(answer, &mut again);
        assert_eq!(&again[..packet.len()], packet);
    }

    #[test]
    fn answers_nothing_else() {
        let mut buffer = [0; 100];
        let good = packet();
        for (at, byte) in [(12, 0x86), (13, 6), (14, 0x46), (23, 6)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(reflect(&bad, &mut buffer), 0, "{at}");
        }
        for length in 0..HEADERS {
            assert_eq!(reflect(&good[..length], &mut buffer), 0);
        }
        assert_eq!(reflect(&good, &mut [0; HEADERS]), 0, "no room");
    }
}
