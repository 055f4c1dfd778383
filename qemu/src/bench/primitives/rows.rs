//! The rows of the table: which operation is held against which.
//!
//! A row names the lines that the two guests print. An operation without a line is one
//! that its system does not have; nothing stands for it. This system has all of them.

/// What is compared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// The name in the line of `apps/primbench`.
    pub(crate) exo: &'static str,
    /// What it does, for people.
    pub(crate) operation: &'static str,
    /// The name in the line of `bench/linux-primitives`; [`NOTHING`] if there is nothing
    /// like it.
    pub(crate) linux: &'static str,
    /// What that does.
    pub(crate) beside: &'static str,
    /// What this system is to reach, if a goal was set.
    pub(crate) goal: Option<Goal>,
    /// How many times cheaper the exokernel Aegis was than its rival.
    pub(crate) aegis: Option<&'static str>,
}

/// What a row is to reach: all of what is given.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Goal {
    /// At least so many times fewer instructions than Linux.
    pub(crate) ratio: f64,
    /// At most so many instructions.
    pub(crate) most: Option<f64>,
}

/// No line's name: Linux has no such operation.
pub(crate) const NOTHING: &str = "";

/// Times fewer instructions, and no limit besides.
const fn fewer(ratio: f64) -> Option<Goal> {
    Some(Goal { ratio, most: None })
}

/// A row without goal and published figure.
const fn row(
    exo: &'static str,
    operation: &'static str,
    linux: &'static str,
    beside: &'static str,
) -> Row {
    Row { exo, operation, linux, beside, goal: None, aegis: None }
}

/// An exception, however it is handled here.
const EXCEPTION: Row = Row {
    goal: fewer(50.0),
    aegis: Some("87 to 103"),
    ..row("exception", "ud2 to a bare handler and back", "sigill", "ud2 to SIGILL handler, back")
};

/// One way, however Linux does it.
const TRANSFER: Row = Row {
    goal: Some(Goal { ratio: 10.0, most: Some(150.0) }),
    ..row(
        "transfer",
        "half a protected call and reply",
        "pipe-one-way",
        "half a ping-pong over two pipes",
    )
};

/// In the order of the table. Published: Engler, Kaashoek, O'Toole, "Exokernel", SOSP
/// 1995, on a DECstation 5000/125, Ultrix against Aegis: null system call 21.3 against
/// 1.6 to 2.3 microseconds, exceptions 130 to 154 against 1.5. Control transfer: against
/// the IPC of L3, normalised by the authors.
pub(crate) const ROWS: [Row; 24] = [
    Row {
        goal: fewer(4.0),
        aegis: Some("9.3 to 13.3"),
        ..row("null", "null system call", "getpid", "getpid")
    },
    Row {
        goal: fewer(20.0),
        ..row("batch-null", "the same, one of a batch of 32", "getpid", "getpid")
    },
    EXCEPTION,
    Row {
        exo: "exception-libos",
        operation: "the same, to the library's, all saved",
        aegis: None,
        ..EXCEPTION
    },
    row(
        "fault",
        "page fault to a bare handler and back",
        "sigsegv",
        "page fault to SIGSEGV handler",
    ),
    row(
        "prot1-trap-unprot",
        "unmap, fault, map in the handler, go on",
        "prot1-trap-unprot",
        "the same with mprotect",
    ),
    Row { aegis: Some("6.6 (L3)"), ..TRANSFER },
    Row { linux: "futex-one-way", beside: "half a futex hand-off and back", ..TRANSFER },
    Row { exo: "transfer-libos", operation: "the same, to a Rust function", ..TRANSFER },
    row(
        "send",
        "a transfer without a reply, served",
        "pipe-send",
        "write to a pipe, sched_yield, read by another",
    ),
    row("yield", "yield to another and back", "sched-yield", "sched_yield there and back"),
    row(
        "donate",
        "give the slice to another and back",
        "sched-yield",
        "sched_yield there and back",
    ),
    row("donate", "give the slice to another and back", "futex", "a futex hand-off and back"),
    row(
        "wait-until",
        "half a hand-off by predicates and back",
        "futex-one-way",
        "half a futex hand-off and back",
    ),
    row(
        "frame",
        "take, map, touch, unmap, free a frame",
        "mmap-touch-munmap",
        "mmap, touch, munmap a page",
    ),
    row(
        "large",
        "map, touch, unmap a page of 2 MiB",
        "hugetlb-shared",
        "mmap, touch, munmap one that a file has",
    ),
    row(
        "large-frames",
        "the same, its frames taken and freed, too",
        "hugetlb",
        "mmap, touch, munmap an anonymous one",
    ),
    row("revoke-give", "ask for a frame, given in an upcall", NOTHING, "none"),
    row("revoke-take", "ask the deaf for a frame, take it", NOTHING, "none"),
    row("revoke-take-mapped", "the same, mapped once", NOTHING, "none"),
    row("derive-drop", "derive and drop a capability", "dup-close", "dup and close a descriptor"),
    row(
        "grant-revoke",
        "grant a capability and revoke it",
        "pass-close",
        "pass a descriptor by a socket, close it",
    ),
    row(
        "slice-end",
        "end of slice to handler, yield, go on",
        "sigalrm",
        "timer to SIGALRM handler, back",
    ),
    row("wake", "ring a sleeper's doorbell, give way", "eventfd-wake", "eventfd write, sleep"),
];

impl Goal {
    /// Whether it is reached by `exo` instructions where Linux takes `linux`.
    pub(crate) fn met(self, exo: f64, linux: f64) -> bool {
        linux >= self.ratio * exo && self.most.is_none_or(|most| exo <= most)
    }

    /// In a few words.
    pub(crate) fn text(self) -> String {
        let ratio = format!(">= {}x", self.ratio);
        match self.most {
            Some(most) => format!("{ratio}, <= {most}"),
            None => ratio,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_or_missed() {
        let goal = Goal { ratio: 10.0, most: Some(150.0) };
        assert!(goal.met(150.0, 1500.0));
        assert!(!goal.met(151.0, 9000.0), "too many");
        assert!(!goal.met(100.0, 999.0), "too few times fewer");
        assert!(Goal { ratio: 4.0, most: None }.met(1000.0, 4000.0));
        assert_eq!(goal.text(), ">= 10x, <= 150");
    }
}
