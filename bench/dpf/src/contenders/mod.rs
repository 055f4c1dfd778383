//! The ways of telling packets apart that are compared.
//!
//! | | contender | state |
//! |---|---|---|
//! | `interpreted` | one filter after the other, each interpreted | list |
//! | `ebpf` | the same as eBPF programs in rbpf, interpreted or compiled; and one program for all | list; one program |
//! | `pcap` | the same as classic BPF, compiled and interpreted by libpcap; and one program for all | list; one program |
//! | `demux` | what one would write by hand for these filters alone | hash maps |
//! | `merged` | this system: all filters merged, interpreted or as code | trie |
//!
//! Every contender gets its filters in the form it checks or runs: parsing text and, for
//! libpcap, compiling it is not part of what is measured. Lists are searched from the
//! filter that came first, until one matches.

mod demux;
mod ebpf;
mod interpreted;
mod list;
mod merged;
mod pcap;

use anyhow::Result;

pub use pcap::version as pcap_version;

use crate::predicates::{Predicate, Set};

/// Bytes that a contender holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Machine code.
    pub code: u64,
    /// All else: filters, bytecode, tables.
    pub data: u64,
}

/// A demultiplexer of packets.
pub trait Contender {
    /// The tag of the filter that takes `frame`.
    ///
    /// The frame is not changed; one of the interfaces beneath wants it so.
    fn classify(&self, frame: &mut [u8]) -> Option<u32>;
    /// Adds filter `tag`, one of those that it was made for.
    fn insert(&mut self, tag: u32) -> Result<()>;
    /// Removes it.
    fn remove(&mut self, tag: u32) -> Result<()>;
    /// What it holds now.
    fn bytes(&self) -> Bytes;
    /// Whether it tells which filter takes a frame, and not only whether one does.
    fn tells_who(&self) -> bool {
        true
    }
    /// Whether a change makes everything anew.
    fn is_remade(&self) -> bool {
        false
    }
}

/// One that does nothing, to know what calling it costs.
#[derive(Debug)]
pub struct Nobody;

impl Contender for Nobody {
    #[inline(never)]
    fn classify(&self, _frame: &mut [u8]) -> Option<u32> {
        None
    }
    fn insert(&mut self, _tag: u32) -> Result<()> {
        Ok(())
    }
    fn remove(&mut self, _tag: u32) -> Result<()> {
        Ok(())
    }
    fn bytes(&self) -> Bytes {
        Bytes::default()
    }
}

/// What a contender is to be made for.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// Where the predicates are from.
    pub set: Set,
    /// Filters to be installed at first, in order.
    pub installed: u32,
    /// These, and some to be installed later; by tag.
    pub predicates: &'a [Predicate],
}

/// A contender, or why there is none.
type Made = Result<Box<dyn Contender>>;

/// The name of a contender, what it does, and how one is made with all filters
/// installed.
pub struct Kind {
    /// Short, and the key in reports.
    pub name: &'static str,
    /// A line.
    pub what: &'static str,
    make: fn(Task<'_>) -> Made,
    /// Why it cannot do the task, known beforehand.
    cannot: fn(Task<'_>) -> Option<&'static str>,
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Kind {
    /// Makes one.
    ///
    /// # Errors
    /// Why it cannot do the task.
    pub fn make(&self, task: Task<'_>) -> Made {
        match (self.cannot)(task) {
            Some(reason) => anyhow::bail!(reason),
            None => (self.make)(task),
        }
    }
}

/// The name of the one that the others are held against.
pub const OURS: &str = "exo";

/// All, in the order of reports; the last is [`OURS`].
pub const KINDS: [Kind; 10] = [
    Kind {
        name: "filters",
        what: "one filter after the other, interpreted (dpf)",
        make: |task| Ok(Box::new(interpreted::Interpreted::new(task)?)),
        cannot: |_| None,
    },
    Kind {
        name: "merged",
        what: "all filters merged, interpreted (dpf)",
        make: |task| Ok(Box::new(merged::Merged::<false>::new(task)?)),
        cannot: |_| None,
    },
    Kind {
        name: "ebpf",
        what: "one eBPF program after the other, interpreted (rbpf)",
        make: |task| Ok(Box::new(ebpf::Each::<false>::new(task)?)),
        cannot: |_| None,
    },
    Kind {
        name: "ebpf-jit",
        what: "one eBPF program after the other, compiled (rbpf)",
        make: |task| Ok(Box::new(ebpf::Each::<true>::new(task)?)),
        cannot: |_| None,
    },
    Kind {
        name: "ebpf-tree",
        what: "one eBPF program written for all: headers once, then a binary tree of ports; compiled (rbpf)",
        make: |task| Ok(Box::new(ebpf::Tree::new(task)?)),
        cannot: |task| match task.set {
            Set::Ports => None,
            _ => Some("written for UDP ports of one address only"),
        },
    },
    Kind {
        name: "pcap",
        what: "one classic BPF program after the other, made and interpreted by libpcap",
        make: |task| Ok(Box::new(pcap::Each::new(task)?)),
        cannot: |_| None,
    },
    Kind {
        name: "pcap-or",
        what: "one expression, joined by `or`, in libpcap: says whether, not which",
        make: |task| Ok(Box::new(pcap::Or::new(task)?)),
        cannot: |task| {
            let (ports, others) = pcap::MOST_JOINED;
            let most = if task.set == Set::Ports { ports } else { others };
            (task.installed > most).then_some(pcap::TOO_MANY)
        },
    },
    Kind {
        name: "demux",
        what: "written by hand for the fields of these sets: std HashMap with rustc-hash",
        make: |task| Ok(Box::new(demux::Demux::new(task)?)),
        cannot: |task| match task.set {
            Set::Adversarial => Some("written for header fields, not for masks of any kind"),
            _ => None,
        },
    },
    Kind {
        name: "demux-ports",
        what: "the same for UDP ports alone",
        make: |task| Ok(Box::new(demux::Ports::new(task)?)),
        cannot: |task| match task.set {
            Set::Ports => None,
            _ => Some("written for UDP ports only"),
        },
    },
    Kind {
        name: OURS,
        what: "all filters merged, as machine code",
        make: |task| Ok(Box::new(merged::Merged::<true>::new(task)?)),
        cannot: |_| None,
    },
];
