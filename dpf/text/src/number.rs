//! Numbers of the text form: one function reads them all.
//!
//! pcap has three ways to write a number, and which it is depends on the place alone:
//!
//! | where | how | `010` is |
//! |---|---|---|
//! | ports, lengths, prefix lengths, VLANs, protocols, offsets, constants | [`Base::Prefix`] | 8 |
//! | both ends of a `portrange`, the parts of an IPv4 address | [`Base::Ten`] | 10 |
//! | the bytes of an Ethernet address | [`Base::Sixteen`] | 16 |

use alloc::format;
use core::ops::Range;

use crate::error::Problem;

/// In which base a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    /// Hexadecimal behind `0x`, octal behind `0`, otherwise decimal; or a name of
    /// pcap-filter(7), such as `tcp-syn`.
    Prefix,
    /// Decimal, leading zeros or not.
    Ten,
    /// Hexadecimal, without a prefix.
    Sixteen,
}

/// Why a text is no such number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// It is no number at all.
    Word,
    /// Its leading zero makes it octal, and it has the digit 8 or 9.
    Octal,
    /// It is greater than the most that was asked for.
    Greater,
}

/// The number that `text` is, if it is at most `most`.
pub(crate) fn read(text: &str, base: Base, most: u64) -> Result<u64, Wrong> {
    let (digits, radix) = match base {
        Base::Ten => (text, 10),
        Base::Sixteen => (text, 16),
        Base::Prefix => match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
            Some(digits) => (digits, 16),
            None if text.len() > 1 && text.starts_with('0') => (text, 8),
            None => (text, 10),
        },
    };
    let has_digits_of =
        |radix| !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
    let number = if has_digits_of(radix) {
        u64::from_str_radix(digits, radix).map_err(|_| Wrong::Greater)?
    } else if radix == 8 && has_digits_of(10) {
        return Err(Wrong::Octal);
    } else {
        named(text).filter(|_| base == Base::Prefix).ok_or(Wrong::Word)?
    };
    if number <= most { Ok(number) } else { Err(Wrong::Greater) }
}

/// Whether `text` is a number or the name of one, as [`Base::Prefix`] has them.
pub(crate) fn is_number(text: &str) -> bool {
    !matches!(read(text, Base::Prefix, u64::MAX), Err(Wrong::Word))
}

impl Wrong {
    /// The error to show for `text` at `at`, which should be `what`.
    pub(crate) fn problem(self, text: &str, what: &str, most: u64, at: &Range<usize>) -> Problem {
        match self {
            Self::Word => {
                Problem::new(at, format!("{what} is missing here: `{text}` is no number"))
            }
            Self::Greater => Problem::new(at, format!("{what} is at most {most}")),
            Self::Octal => {
                let message = "a number that begins with 0 is octal, and has no digit above 7";
                let decimal = text.trim_start_matches('0');
                Problem::new(at, message)
                    .instead(format!("write `{decimal}` for the decimal number"))
            }
        }
    }
}

/// What a name of pcap-filter(7) stands for.
fn named(name: &str) -> Option<u64> {
    NAMES.iter().find(|(known, _)| *known == name).map(|&(_, number)| number)
}

/// The constants of pcap-filter(7): offsets, types of ICMP and ICMPv6, flags of TCP.
const NAMES: &[(&str, u64)] = &[
    ("icmptype", 0),
    ("icmpcode", 1),
    ("icmp6type", 0),
    ("icmp6code", 1),
    ("tcpflags", 13),
    ("icmp-echoreply", 0),
    ("icmp-unreach", 3),
    ("icmp-sourcequench", 4),
    ("icmp-redirect", 5),
    ("icmp-echo", 8),
    ("icmp-routeradvert", 9),
    ("icmp-routersolicit", 10),
    ("icmp-timxceed", 11),
    ("icmp-paramprob", 12),
    ("icmp-tstamp", 13),
    ("icmp-tstampreply", 14),
    ("icmp-ireq", 15),
    ("icmp-ireqreply", 16),
    ("icmp-maskreq", 17),
    ("icmp-maskreply", 18),
    ("icmp6-destinationunreach", 1),
    ("icmp6-packettoobig", 2),
    ("icmp6-timeexceeded", 3),
    ("icmp6-parameterproblem", 4),
    ("icmp6-echo", 128),
    ("icmp6-echoreply", 129),
    ("icmp6-multicastlistenerquery", 130),
    ("icmp6-multicastlistenerreportv1", 131),
    ("icmp6-multicastlistenerdone", 132),
    ("icmp6-routersolicit", 133),
    ("icmp6-routeradvert", 134),
    ("icmp6-neighborsolicit", 135),
    ("icmp6-neighboradvert", 136),
    ("icmp6-redirect", 137),
    ("icmp6-routerrenum", 138),
    ("icmp6-nodeinformationquery", 139),
    ("icmp6-nodeinformationresponse", 140),
    ("icmp6-ineighbordiscoverysolicit", 141),
    ("icmp6-ineighbordiscoveryadvert", 142),
    ("icmp6-multicastlistenerreportv2", 143),
    ("icmp6-homeagentdiscoveryrequest", 144),
    ("icmp6-homeagentdiscoveryreply", 145),
    ("icmp6-mobileprefixsolicit", 146),
    ("icmp6-mobileprefixadvert", 147),
    ("icmp6-certpathsolicit", 148),
    ("icmp6-certpathadvert", 149),
    ("icmp6-multicastrouteradvert", 151),
    ("icmp6-multicastroutersolicit", 152),
    ("icmp6-multicastrouterterm", 153),
    ("tcp-fin", 1),
    ("tcp-syn", 2),
    ("tcp-rst", 4),
    ("tcp-push", 8),
    ("tcp-ack", 16),
    ("tcp-urg", 32),
    ("tcp-ece", 64),
    ("tcp-cwr", 128),
];
