//! Which row of the report a piece of source code belongs to.
//!
//! The rows are the six steps of a packet's journey, and what is no step. A row is
//! found by file, in some files by function. What serves several rows (memory
//! copies, the filter walk, accessors of kernel objects) is *neutral*: it counts for
//! its caller.

use std::fmt;

use serde::{Deserialize, Serialize};

use Charge::{Neutral, To};
use Row::{
    Answer, Classify, Crossing, Deliver, MainLoop, Other, Receive, Schedule, Transmit, UdpIp,
};

/// A row of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Row {
    /// Step 1: a frame out of the device's ring, its buffer back into it.
    Receive,
    /// Step 2: classify.
    Classify,
    /// Step 3: into the owner's frames.
    Deliver,
    /// Step 4: headers, read and written.
    UdpIp,
    /// Step 5: protocol and engine.
    Answer,
    /// Step 6: checked, into the device's ring; buffers back.
    Transmit,
    /// Into the kernel and out of it.
    Crossing,
    /// The choice of what runs next; sleeping and being woken.
    Schedule,
    /// The application's main loop.
    MainLoop,
    /// Everything else.
    Other,
}

/// How an instruction counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charge {
    /// For this row.
    To(Row),
    /// For the row of the caller.
    Neutral,
}

impl Row {
    /// All rows in the order of the report. Their places in it are their numbers.
    pub(crate) const ALL: [Self; 10] =
        [Receive, Classify, Deliver, UdpIp, Answer, Transmit, Crossing, Schedule, MainLoop, Other];

    /// The number of its step, if it is one.
    pub(crate) fn step(self) -> Option<usize> {
        Self::ALL[..6].iter().position(|&row| row == self).map(|index| index + 1)
    }

    /// Its place in [`Row::ALL`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// Its name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Receive => "receive",
            Classify => "classify",
            Deliver => "deliver",
            UdpIp => "UDP/IP",
            Answer => "answer",
            Transmit => "transmit",
            Crossing => "crossing",
            Schedule => "scheduling, sleep",
            MainLoop => "main loop",
            Other => "everything else",
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A file or a directory, and exceptions from what holds there by name of function.
type Rule = (&'static str, Charge, &'static [(&'static str, Charge)]);

/// The first rule whose path begins a file's path counts.
const RULES: &[Rule] = &[
    (
        "exo/src/net/mod.rs",
        To(Receive),
        &[
            ("tell", To(Deliver)),
            ("reclaim", To(Transmit)),
            ("take_back", To(Transmit)),
            ("returned", To(Transmit)),
            ("arm", To(Schedule)),
            ("disarm", To(Schedule)),
            ("unbind_first", To(Other)),
            ("station", To(Other)),
        ],
    ),
    (
        "exo/src/net/nic.rs",
        To(Receive),
        &[
            ("slot_address", To(Transmit)),
            ("take_slot", To(Transmit)),
            ("give_back", To(Transmit)),
            ("fill", To(Transmit)),
            ("send", To(Transmit)),
            ("kick", To(Transmit)),
            ("next_sent", To(Transmit)),
            ("arm", To(Schedule)),
            ("disarm", To(Schedule)),
        ],
    ),
    ("exo/src/net/filter.rs", To(Other), &[("classify", To(Classify)), ("look_up", To(Classify))]),
    (
        "exo/src/net/scope.rs",
        Neutral,
        &[("may_send", To(Transmit)), ("spend", To(Receive)), ("of_tag", To(Classify))],
    ),
    ("exo/src/net/ring.rs", To(Deliver), &[("shared", Neutral), ("publish_sent", To(Transmit))]),
    ("exo/src/net/transmit.rs", To(Transmit), &[]),
    ("exo/src/virtio", Neutral, &[]),
    ("exo/src/net/binding.rs", Neutral, &[]),
    ("exo/src/net/storage.rs", Neutral, &[]),
    ("exo/src/calls/time.rs", To(Crossing), &[("wait", To(Schedule))]),
    ("exo/src/calls/", To(Crossing), &[]),
    ("exo/src/capability/", To(Crossing), &[]),
    ("exo/src/arch/syscall.rs", To(Crossing), &[]),
    ("exo/src/arch/exit.rs", To(Crossing), &[]),
    ("exo/src/arch/percpu.rs", To(Crossing), &[("set_vector_state", To(Schedule))]),
    (
        "exo/src/trap.rs",
        To(Crossing),
        &[
            ("leave", To(Schedule)),
            ("run", To(Schedule)),
            ("sleep", To(Schedule)),
            ("halt", To(Schedule)),
            ("begin_slice", To(Schedule)),
            ("begin_rest", To(Schedule)),
        ],
    ),
    ("exo/src/schedule.rs", To(Schedule), &[]),
    ("exo/src/slots.rs", To(Schedule), &[]),
    ("exo/src/state/mod.rs", Neutral, &[]),
    ("exo/src/state/", To(Schedule), &[]),
    ("exo/src/cores.rs", To(Crossing), &[]),
    ("exo/src/env/", To(Schedule), &[]),
    ("exo/src/arch/apic.rs", To(Schedule), &[]),
    ("exo/src/arch/cpu.rs", Neutral, &[]),
    ("exo/src/arch/memory_symbols.rs", Neutral, &[]),
    ("exo/src/frames/", Neutral, &[]),
    ("exo/src/memory.rs", Neutral, &[]),
    ("exo/src/frames.rs", Neutral, &[]),
    ("exo/src/kernel.rs", Neutral, &[]),
    ("exo/src/user.rs", Neutral, &[]),
    ("exo/src/paging/", Neutral, &[]),
    ("exo/src/", To(Other), &[]),
    ("exo/abi/", Neutral, &[]),
    ("dpf/", Neutral, &[]),
    ("boot/", To(Other), &[]),
    ("libos/src/net/", To(UdpIp), &[]),
    ("libos/sum/", To(UdpIp), &[]),
    ("libos/src/sys.rs", To(Crossing), &[]),
    ("libos/src/sched/", To(MainLoop), &[]),
    ("libos/src/time/", To(MainLoop), &[]),
    ("libos/src/runtime/bytes.rs", Neutral, &[]),
    ("libos/src/", To(Other), &[]),
    ("apps/root/", To(Other), &[]),
    // Of what is another step, the application's own `Cargo.toml` tells: see `steps`.
    ("apps/", To(Answer), &[]),
];

/// Functions that are assembly and have no line numbers, by the last part of their
/// name.
const SYMBOLS: &[(&str, Charge)] = &[
    ("syscall_entry", To(Crossing)),
    ("resume", To(Crossing)),
    ("vector_stubs", To(Crossing)),
    ("trap_common", To(Crossing)),
];

/// How code counts that comes from `file`, a path from the root of this source
/// tree, in `function`, its name as in `a::b::<T>::c`. None for a file of which
/// nothing is known.
pub(crate) fn of_source(file: &str, function: &str) -> Option<Charge> {
    let (_, charge, exceptions) = RULES.iter().find(|(path, ..)| file.starts_with(path))?;
    let name = last_part(function);
    // Of an inlined closure one knows no more. What it is inlined into, in the end, is
    // the function it is written in.
    if name.starts_with('{') && !exceptions.is_empty() {
        return Some(Neutral);
    }
    let exception = exceptions.iter().find(|(exception, _)| *exception == name);
    Some(exception.map_or(*charge, |(_, charge)| *charge))
}

/// How code counts that has no line numbers.
pub(crate) fn of_symbol(symbol: &str) -> Charge {
    let name = last_part(symbol);
    SYMBOLS.iter().find(|(known, _)| *known == name).map_or(Neutral, |(_, charge)| *charge)
}

/// The name of a function without where it lies and without the types it is for; of a
/// closure the name of the function it is written in, if that is known.
pub(crate) fn last_part(function: &str) -> &str {
    let mut depth = 0_usize;
    let mut end = function.len();
    let mut start = end;
    // Backwards over parts, with what is in angle brackets belonging to its part.
    while start > 0 {
        let rest = &function[..start];
        if depth == 0 && rest.ends_with("::") {
            let part = &function[start..end];
            if !(part.starts_with('{') || part.starts_with('<')) {
                return without_types(part);
            }
            end = start - 2;
            start = end;
            continue;
        }
        match rest.as_bytes()[start - 1] {
            b'>' => depth += 1,
            b'<' => depth = depth.saturating_sub(1),
            _ => {}
        }
        start -= 1;
        while !function.is_char_boundary(start) {
            start -= 1;
        }
    }
    without_types(&function[..end])
}

fn without_types(name: &str) -> &str {
    name.find('<').filter(|&at| at > 0).map_or(name, |at| &name[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_know_their_places() {
        for (index, row) in Row::ALL.into_iter().enumerate() {
            assert_eq!(row.index(), index);
        }
        assert_eq!((Receive.step(), Transmit.step(), Crossing.step()), (Some(1), Some(6), None));
    }

    #[test]
    fn names_are_found_in_paths() {
        for (function, name) in [
            ("memcpy", "memcpy"),
            ("exo::net::nic::Nic::send", "send"),
            ("<exo::net::storage::Frames as dpf::storage::Store>::node", "node"),
            ("dpf::trie::Trie::classify::<exo::net::filter::Frames>", "classify"),
            ("kvstore::guest::serve::{closure#0}", "serve"),
            ("kvstore::guest::serve::{{closure}}::{{closure}}", "serve"),
            ("<a::B<c::D> as e::F<g::H>>::answer::{closure#1}::<i::J>", "answer"),
            ("<é::B>::ü", "ü"),
            ("walk<a::B, {closure#0}<c::D>>", "walk"),
            ("{closure#0}", "{closure#0}"),
            ("{closure_env#0}<a::B>", "{closure_env#0}"),
            ("", ""),
        ] {
            assert_eq!(last_part(function), name, "{function}");
        }
    }

    #[test]
    fn the_packet_path_has_its_rows() {
        for (file, function, charge) in [
            ("exo/src/net/mod.rs", "exo::net::receive", To(Receive)),
            ("exo/src/net/mod.rs", "exo::net::reclaim", To(Transmit)),
            ("exo/src/net/nic.rs", "exo::net::nic::Nic::next_received", To(Receive)),
            ("exo/src/net/nic.rs", "exo::net::nic::Nic::kick", To(Transmit)),
            ("exo/src/virtio/transport.rs", "exo::virtio::transport::Transport::write", Neutral),
            ("exo/src/virtio/virtqueue.rs", "exo::virtio::virtqueue::Virtqueue::publish", Neutral),
            ("exo/src/net/filter.rs", "exo::net::filter::look_up", To(Classify)),
            ("exo/src/net/filter.rs", "exo::net::filter::install", To(Other)),
            ("exo/src/net/scope.rs", "exo::net::scope::Scope::may_send", To(Transmit)),
            ("exo/src/net/scope.rs", "exo::net::scope::Entry::of_tag", To(Classify)),
            ("dpf/src/trie.rs", "dpf::trie::Trie::classify::<exo::X>", Neutral),
            ("exo/src/net/ring.rs", "exo::net::ring::deliver", To(Deliver)),
            ("exo/src/trap.rs", "exo::trap::trap", To(Crossing)),
            ("exo/src/trap.rs", "exo::trap::leave", To(Schedule)),
            ("exo/src/panic.rs", "exo::panic::panic", To(Other)),
            ("libos/src/net/udp/mod.rs", "<FastUdp as UdpStack>::poll::<A, B>", To(UdpIp)),
            ("apps/mine/src/main.rs", "mine::guest::f", To(Answer)),
            ("apps/root/src/main.rs", "root::main", To(Other)),
        ] {
            assert_eq!(of_source(file, function), Some(charge), "{file} {function}");
        }
        assert_eq!(of_source("exo/src/net/nic.rs", "{closure#0}"), Some(Neutral));
        assert_eq!(of_source("exo/src/schedule.rs", "{closure#0}"), Some(To(Schedule)));
        assert_eq!(of_source("registry/smoltcp/src/lib.rs", "smoltcp::f"), None);
        assert_eq!(of_symbol("exo::arch::syscall::syscall_entry"), To(Crossing));
        assert_eq!(of_symbol("memcpy"), Neutral);
    }

    /// A rule for a file that is not there any more would send its code elsewhere
    /// unnoticed.
    #[test]
    fn every_rule_has_its_source() {
        for (path, _, exceptions) in RULES {
            let file = crate::workspace::root().join(path);
            assert!(file.exists(), "{path} is gone");
            if file.is_file() {
                let text = std::fs::read_to_string(&file).unwrap();
                for (function, _) in *exceptions {
                    assert!(text.contains(&format!("fn {function}")), "{path} has no {function}");
                }
            }
        }
        let entries = ["syscall.rs", "exit.rs", "vectors.rs"].map(|file| {
            let file = crate::workspace::root().join("exo/src/arch").join(file);
            std::fs::read_to_string(file).unwrap()
        });
        for (symbol, _) in SYMBOLS {
            assert!(entries.iter().any(|entry| entry.contains(symbol)), "{symbol} is gone");
        }
    }
}
