//! Frames: of a predicate, and the sequences that are measured.

use std::net::Ipv4Addr;

use crate::predicates::{Predicate, STATION, Set, Transport, What};

/// Bytes of every frame, the shortest that Ethernet has, without the FCS.
const LENGTH: usize = 60;
const STATION_HERE: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
/// Begins with four zeros: see [`Set::Adversarial`].
const STATION_THERE: [u8; 6] = [0, 0, 0, 0, 0, 2];
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);

/// Which packets come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// Those of the filter that was installed first.
    First,
    /// Those of the filter that was installed last.
    Last,
    /// Those of all filters alike.
    Uniform,
    /// The filter that was installed as the k-th takes a share proportional to 1/k.
    Zipf,
    /// No filter's: a port, an address, an ARP target and a type that no filter asks for.
    /// Of the adversarial set only the port, which is the worst.
    Miss,
}

impl Mix {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::First, Self::Last, Self::Uniform, Self::Zipf, Self::Miss];

    /// What it is called in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Last => "last",
            Self::Uniform => "uniform",
            Self::Zipf => "zipf",
            Self::Miss => "miss",
        }
    }

    /// Frames for `count` filters of `set`, at most `most` of them, and the filter that takes each.
    #[must_use]
    pub fn trace(self, set: Set, count: u32, most: u32) -> Vec<(Vec<u8>, Option<u32>)> {
        let hit = |index: u32| (frame(&set.predicate(index)), Some(index));
        let last = count.saturating_sub(1);
        let length = most.min(count);
        match self {
            Self::First => vec![hit(0)],
            Self::Last => vec![hit(last)],
            // The middle of each of `length` equal parts, so that the mean is that of all.
            Self::Uniform => (0..length)
                .map(|part| hit(((2 * part + 1) * count / (2 * length)).min(last)))
                .collect(),
            Self::Zipf => zipf(count, most).into_iter().map(hit).collect(),
            Self::Miss => misses(set).into_iter().map(|frame| (frame, None)).collect(),
        }
    }
}

/// The quantiles of Zipf's law, at the middle of `parts` equal parts.
fn zipf(count: u32, parts: u32) -> Vec<u32> {
    let weight = |rank: u32| 1.0 / f64::from(rank + 1);
    let total: f64 = (0..count).map(weight).sum();
    let (mut rank, mut sum) = (0, weight(0));
    (0..parts)
        .map(|part| {
            let wanted = (f64::from(part) + 0.5) / f64::from(parts) * total;
            while sum < wanted && rank + 1 < count {
                rank += 1;
                sum += weight(rank);
            }
            rank
        })
        .collect()
}

fn misses(set: Set) -> Vec<Vec<u8>> {
    let plain = |what| frame(&Predicate { vlan: None, zeros: None, what });
    let to =
        |to, port| plain(What::Ports { over: Transport::Udp, to, ports: (port, port), from: None });
    let taken = match set {
        Set::Mixed => Ipv4Addr::new(10, 1, 0, 1),
        Set::Ports | Set::Adversarial => STATION,
    };
    let mut frames = vec![to(taken, 9)];
    if set != Set::Adversarial {
        let mut other_type = to(taken, 9);
        other_type[12..14].copy_from_slice(&[0x86, 0xdd]);
        frames.extend([to(ELSEWHERE, 9), plain(What::Arp(ELSEWHERE)), other_type]);
    }
    frames
}

/// A frame that the predicate takes; of a range of ports, one in the middle.
#[must_use]
pub fn frame(predicate: &Predicate) -> Vec<u8> {
    let mut frame = [STATION_HERE, STATION_THERE].concat();
    if let Some(vlan) = predicate.vlan {
        frame.extend([0x81, 0]);
        frame.extend(vlan.to_be_bytes());
    }
    match predicate.what {
        What::Arp(target) => {
            frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
            frame.extend(STATION_THERE);
            frame.extend([10, 0, 2, 2, 0, 0, 0, 0, 0, 0]);
            frame.extend(target.octets());
        }
        What::Icmp(to) => {
            ipv4(&mut frame, 1, ELSEWHERE, to);
            frame.extend([8, 0, 0, 0, 0, 1, 0, 1]);
        }
        What::Ports { over, to, ports: (first, last), from } => {
            let (source, port) = from.unwrap_or((ELSEWHERE, 40_000));
            let protocol = match over {
                Transport::Udp => 17,
                Transport::Tcp => 6,
            };
            ipv4(&mut frame, protocol, source, to);
            frame.extend(port.to_be_bytes());
            frame.extend((first + (last - first) / 2).to_be_bytes());
        }
    }
    frame.resize(LENGTH, 0);
    frame
}

/// Type and header (RFC 791), without options. No contender checks the checksum.
fn ipv4(frame: &mut Vec<u8>, protocol: u8, from: Ipv4Addr, to: Ipv4Addr) {
    frame.extend([8, 0, 0x45, 0, 0, 46, 0, 1, 0x40, 0, 64, protocol, 0, 0]);
    frame.extend(from.octets());
    frame.extend(to.octets());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_what_they_say() {
        let whose = |mix: Mix, count, most| -> Vec<_> {
            mix.trace(Set::Ports, count, most).into_iter().map(|(_, tag)| tag).collect()
        };
        assert_eq!(whose(Mix::Uniform, 4, 64), [Some(0), Some(1), Some(2), Some(3)]);
        assert_eq!(whose(Mix::Uniform, 1000, 2), [Some(250), Some(750)]);
        assert_eq!(whose(Mix::Last, 10, 64), [Some(9)]);
        assert_eq!(whose(Mix::Miss, 10, 64), [None; 4]);
        let zipf = whose(Mix::Zipf, 100, 64);
        assert_eq!((zipf.len(), zipf[0]), (64, Some(0)));
        assert!(zipf.iter().filter(|&&tag| tag == Some(0)).count() > 10);
        assert!(zipf.iter().any(|&tag| tag > Some(50)));
    }

    #[test]
    fn frames_match_their_filters_alone() {
        for set in Set::ALL {
            let filters: Vec<_> =
                (0..50).map(|index| set.predicate(index).filter().unwrap()).collect();
            for index in 0..50 {
                let frame = frame(&set.predicate(index));
                let takers: Vec<_> =
                    (0..50).filter(|&other| filters[other as usize].matches(&frame)).collect();
                assert_eq!(takers, [index], "{set:?}");
            }
            for (frame, _) in Mix::Miss.trace(set, 50, 64) {
                assert!(filters.iter().all(|filter| !filter.matches(&frame)), "{set:?}");
            }
        }
    }
}
