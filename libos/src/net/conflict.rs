//! Why a filter was refused: whose packets it would have taken, and one of them.
//!
//! The kernel says which installed filter was in the way and lets it be read
//! (`filter_read`); what the two have to do with each other is worked out here.

use alloc::vec::Vec;
use core::fmt;

use dpf::{Filter, MAX_FRAME};
use exo_abi::{EnvId, Pfn};

/// A filter that was wanted, and one that was in its way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conflict {
    /// What was refused.
    pub wanted: Filter,
    /// What takes some of its packets.
    pub taken: Filter,
    /// The frame where that is installed.
    pub object: Pfn,
    /// Whose it is.
    pub owner: EnvId,
    /// A packet that both match, from the Ethernet header on; as short as can be.
    pub packet: Vec<u8>,
}

impl Conflict {
    /// The conflict of `wanted` with `taken`, which `owner` has in the frame `object`; none if
    /// no packet matches both, since something else is installed there by now.
    pub fn new(wanted: Filter, taken: Filter, object: Pfn, owner: EnvId) -> Option<Self> {
        let mut packet = [0; MAX_FRAME];
        let length = dpf::witness(&wanted, &taken, &mut packet)?;
        let packet = packet.get(..length)?.to_vec();
        Some(Self { wanted, taken, object, owner, packet })
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted, taken, object, owner, packet } = self;
        let [wanted, taken] = [wanted, taken].map(dpf_text::explain);
        write!(f, "`{wanted}` conflicts with `{taken}`, which environment {}", owner.0)?;
        write!(f, " has installed in frame {}; both take the packet ", object.0)?;
        packet.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use dpf::Filter;
    use dpf::packet::{arp_for, udp_to};
    use exo_abi::{EnvId, Pfn};

    use super::Conflict;

    fn conflict(wanted: &str, taken: Filter) -> Option<Conflict> {
        Conflict::new(dpf_text::parse(wanted).unwrap(), taken, Pfn(803), EnvId(790))
    }

    #[test]
    fn says_who_and_what_and_an_example() {
        let wanted =
            "ip[0] = 0x45 and ip[6:2] & 0x3fff = 0 and ip proto udp and ether[36:2] > 11000";
        let conflict = conflict(wanted, udp_to([10, 0, 2, 15], 11211)).unwrap();
        assert!(conflict.wanted.matches(&conflict.packet));
        assert!(conflict.taken.matches(&conflict.packet));
        let text = conflict.to_string();
        let texts: Vec<_> = text.split('`').skip(1).step_by(2).collect();
        assert_eq!(dpf_text::parse(texts[0]), Ok(conflict.wanted));
        assert_eq!(dpf_text::parse(texts[1]), Ok(conflict.taken));
        let rest = "`, which environment 790 has installed in frame 803; both take the packet \
                    0000000000000000000000000800450000000000000000110000000000000a00020f00002bcb";
        assert!(text.ends_with(rest), "{text}");
    }

    #[test]
    fn there_is_none_without_a_packet() {
        assert_eq!(conflict("udp dst port 53", arp_for([10, 0, 2, 15])), None);
    }
}
