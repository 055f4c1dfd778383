//! What one would write by hand: parse the headers once, look the fields up.
//!
//! [`Ports`] knows UDP ports alone and asks one table. [`Demux`] knows all kinds of the
//! mixed set and asks, in this order, connections, single ports, ranges. The hash
//! function is that of rustc-hash, one multiplication for keys of 64 bits.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use rustc_hash::FxHashMap;

use super::{Bytes, Contender, Task};
use crate::predicates::{Predicate, Transport, What};

/// Two bytes in network order.
#[inline]
fn half(frame: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*frame.get(at..)?.first_chunk()?))
}

/// Four bytes in network order.
#[inline]
fn word(frame: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*frame.get(at..)?.first_chunk()?))
}

/// Where the transport header of an IPv4 packet at `at` begins, and the protocol; none in
/// later fragments.
#[inline]
fn transport(frame: &[u8], at: usize) -> Option<(usize, u8)> {
    let header: &[u8; 20] = frame.get(at..)?.first_chunk()?;
    let length = usize::from(header[0] & 15) * 4;
    let later_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0;
    (length >= 20 && !later_fragment).then_some((at + length, header[9]))
}

/// Bytes of a table of the standard library: a control byte beside each place, of which
/// there are a power of two and one in eight stays free.
fn table<K, V>(table: &FxHashMap<K, V>) -> u64 {
    let places = (table.capacity() * 8 / 7).next_power_of_two();
    (places * (size_of::<(K, V)>() + 1)) as u64
}

pub(super) struct Ports {
    known: Vec<u64>,
    installed: FxHashMap<u64, u32>,
}

/// Of address and port.
fn key(address: u32, port: u16) -> u64 {
    u64::from(address) << 16 | u64::from(port)
}

impl Ports {
    pub(super) fn new(task: Task<'_>) -> Result<Self> {
        let known: Option<Vec<_>> = task
            .predicates
            .iter()
            .map(|predicate| match predicate.what {
                What::Ports { to, ports: (port, _), .. } => Some(key(to.to_bits(), port)),
                _ => None,
            })
            .collect();
        let known = known.context("not a port")?;
        let installed = known.iter().copied().zip(0..task.installed).collect();
        Ok(Self { known, installed })
    }

    #[inline]
    fn find(&self, frame: &[u8]) -> Option<u32> {
        if half(frame, 12)? != 0x0800 {
            return None;
        }
        let (at, protocol) = transport(frame, 14)?;
        if protocol != 17 {
            return None;
        }
        self.installed.get(&key(word(frame, 30)?, half(frame, at + 2)?)).copied()
    }
}

impl Contender for Ports {
    #[inline(never)]
    fn classify(&self, frame: &mut [u8]) -> Option<u32> {
        self.find(frame)
    }

    fn insert(&mut self, tag: u32) -> Result<()> {
        let key = self.known.get(tag as usize).context("no such filter")?;
        self.installed.insert(*key, tag);
        Ok(())
    }

    fn remove(&mut self, tag: u32) -> Result<()> {
        let key = self.known.get(tag as usize).context("no such filter")?;
        self.installed.remove(key).context("not installed")?;
        Ok(())
    }

    fn bytes(&self) -> Bytes {
        Bytes { code: 0, data: table(&self.installed) }
    }
}

/// Tag or zero, protocol, address, port.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Service(u64);

impl Service {
    #[inline]
    fn new(vlan: Option<u16>, protocol: u8, address: u32, port: u16) -> Self {
        // Twelve bits of a tag, and one that says there is none; UDP and TCP differ in bit 0.
        let vlan = u64::from(vlan.unwrap_or(0x1000));
        let bits = vlan << 1 | u64::from(protocol & 1);
        Self(bits << 48 | key(address, port))
    }
}

#[derive(Default)]
pub(super) struct Demux {
    known: Vec<Predicate>,
    services: FxHashMap<Service, u32>,
    /// Destination as in `services`, source address and port.
    connections: FxHashMap<(Service, u64), u32>,
    /// By destination with port zero: disjoint ranges, ascending, and the tag of each.
    ranges: FxHashMap<Service, Vec<(u16, u16, u32)>>,
    arp: FxHashMap<u32, u32>,
    icmp: FxHashMap<u32, u32>,
}

impl Demux {
    pub(super) fn new(task: Task<'_>) -> Result<Self> {
        let mut demux = Self { known: task.predicates.to_vec(), ..Self::default() };
        (0..task.installed).try_for_each(|tag| demux.insert(tag))?;
        Ok(demux)
    }

    #[inline]
    fn find(&self, frame: &[u8]) -> Option<u32> {
        let (vlan, at, kind) = match half(frame, 12)? {
            0x8100 => (Some(half(frame, 14)? & 0xfff), 18, half(frame, 16)?),
            kind => (None, 14, kind),
        };
        match kind {
            0x0806 => self.arp.get(&word(frame, at + 24)?).copied(),
            0x0800 => self.find_ipv4(frame, vlan, at),
            _ => None,
        }
    }

    #[inline]
    fn find_ipv4(&self, frame: &[u8], vlan: Option<u16>, at: usize) -> Option<u32> {
        let header: &[u8; 20] = frame.get(at..)?.first_chunk()?;
        let to = word(header, 16)?;
        if header[9] == 1 {
            return self.icmp.get(&to).copied();
        }
        let (behind, protocol @ (6 | 17)) = transport(frame, at)? else { return None };
        let (source, port) = (half(frame, behind)?, half(frame, behind + 2)?);
        let service = Service::new(vlan, protocol, to, port);
        if !self.connections.is_empty() {
            let from = key(word(header, 12)?, source);
            if let Some(&tag) = self.connections.get(&(service, from)) {
                return Some(tag);
            }
        }
        if let Some(&tag) = self.services.get(&service) {
            return Some(tag);
        }
        if self.ranges.is_empty() {
            return None;
        }
        let ranges = self.ranges.get(&Service::new(vlan, protocol, to, 0))?;
        let after = ranges.partition_point(|&(first, ..)| first <= port);
        let &(_, last, tag) = ranges.get(after.checked_sub(1)?)?;
        (port <= last).then_some(tag)
    }

    /// Where the filter is: its table, by what.
    fn place(&self, tag: u32) -> Result<Place> {
        let Predicate { vlan, zeros, what } = self.known.get(tag as usize).context("unknown")?;
        anyhow::ensure!(zeros.is_none(), "no field for masks");
        let address = |address: &Ipv4Addr| address.to_bits();
        Ok(match what {
            What::Arp(target) => Place::Arp(address(target)),
            What::Icmp(to) => Place::Icmp(address(to)),
            What::Ports { over, to, ports: (first, last), from } => {
                let protocol = match over {
                    Transport::Udp => 17,
                    Transport::Tcp => 6,
                };
                let service = |port| Service::new(*vlan, protocol, address(to), port);
                match from {
                    Some((source, port)) => {
                        Place::Connection((service(*first), key(address(source), *port)))
                    }
                    None if first == last => Place::Service(service(*first)),
                    None => Place::Range(service(0), *first, *last),
                }
            }
        })
    }
}

enum Place {
    Arp(u32),
    Icmp(u32),
    Service(Service),
    Connection((Service, u64)),
    Range(Service, u16, u16),
}

impl Contender for Demux {
    #[inline(never)]
    fn classify(&self, frame: &mut [u8]) -> Option<u32> {
        self.find(frame)
    }

    fn insert(&mut self, tag: u32) -> Result<()> {
        match self.place(tag)? {
            Place::Arp(key) => drop(self.arp.insert(key, tag)),
            Place::Icmp(key) => drop(self.icmp.insert(key, tag)),
            Place::Service(key) => drop(self.services.insert(key, tag)),
            Place::Connection(key) => drop(self.connections.insert(key, tag)),
            Place::Range(key, first, last) => {
                let ranges = self.ranges.entry(key).or_default();
                let at = ranges.partition_point(|&(other, ..)| other < first);
                ranges.insert(at, (first, last, tag));
            }
        }
        Ok(())
    }

    fn remove(&mut self, tag: u32) -> Result<()> {
        let removed = match self.place(tag)? {
            Place::Arp(key) => self.arp.remove(&key),
            Place::Icmp(key) => self.icmp.remove(&key),
            Place::Service(key) => self.services.remove(&key),
            Place::Connection(key) => self.connections.remove(&key),
            Place::Range(key, first, _) => self.ranges.get_mut(&key).and_then(|ranges| {
                let at = ranges.binary_search_by_key(&first, |&(first, ..)| first).ok()?;
                Some(ranges.remove(at).2)
            }),
        };
        removed.map(drop).context("not installed")
    }

    fn bytes(&self) -> Bytes {
        let ranges: usize = self.ranges.values().map(|ranges| ranges.capacity() * 8).sum();
        let data = table(&self.services)
            + table(&self.connections)
            + table(&self.ranges)
            + table(&self.arp)
            + table(&self.icmp)
            + ranges as u64;
        Bytes { code: 0, data }
    }
}
