//! Why the kernel refuses to send a packet, as far as the packet shows it.
//!
//! The kernel decides by the keys of the binding's scope, which are its own. What root gives an
//! application is a scope of one address, so that its packets must come from that and from the
//! interface's MAC address. For an environment with a narrower scope more is refused than is
//! known here; how many packets were refused in all is in the file's statistics.

use std::borrow::Cow;

use exo_abi::{FRAME_MAX, FRAME_MIN};

use crate::machine::GUEST_MAC;

const IPV4: [u8; 2] = [8, 0];
const ARP: [u8; 2] = [8, 6];

/// Why the kernel refuses `packet` of an environment with that address; none if nothing in it
/// says so.
pub(super) fn reason(packet: &[u8], address: Option<[u8; 4]>) -> Option<Cow<'static, str>> {
    if packet.len() < FRAME_MIN || packet.len() > FRAME_MAX {
        return Some(format!("refused: {} bytes are no Ethernet frame", packet.len()).into());
    }
    if packet[6..12] != GUEST_MAC {
        return Some("refused: the sender is not the interface's MAC address".into());
    }
    let own = address?;
    // A key is compared with bytes, whether or not they are all there.
    let sender = |at: usize| packet.get(at..at + 4);
    let (what, sender) = match [packet[12], packet[13]] {
        IPV4 => ("source", sender(26)),
        ARP => ("sender of ARP", sender(28)),
        other => {
            return Some(format!("refused: packets of type {other:02x?} are in no scope").into());
        }
    };
    (sender != Some(&own)).then(|| {
        let [a, b, c, d] = own;
        format!("refused: the {what} is not the environment's address, {a}.{b}.{c}.{d}").into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [u8; 4] = [10, 0, 2, 15];

    fn packet(kind: [u8; 2], at: usize, sender: [u8; 4]) -> Vec<u8> {
        let mut packet = vec![0; 60];
        packet[6..12].copy_from_slice(&GUEST_MAC);
        packet[12..14].copy_from_slice(&kind);
        packet[at..at + 4].copy_from_slice(&sender);
        packet
    }

    #[test]
    fn senders_that_are_not_own_are_refused() {
        let reason = |packet: &[u8]| reason(packet, Some(OWN)).map(Cow::into_owned);
        assert_eq!(reason(&packet(IPV4, 26, OWN)), None);
        assert_eq!(reason(&packet(ARP, 28, OWN)), None);
        for (packet, words) in [
            (packet(IPV4, 26, [10, 0, 2, 16]), "the source is not the environment's address"),
            (packet(ARP, 28, [10, 0, 2, 16]), "the sender of ARP is not"),
            (packet([0x86, 0xdd], 26, OWN), "packets of type [86, dd]"),
            (vec![0; 60], "not the interface's MAC"),
            (vec![0; 13], "13 bytes are no"),
        ] {
            let said = reason(&packet).unwrap();
            assert!(said.contains(words), "{said}");
        }
        assert_eq!(super::reason(&packet(IPV4, 26, [1; 4]), None), None, "nothing is known of it");
    }
}
