//! Kernel and applications in one timeline, without any code in either.
//!
//! A plugin of QEMU's translator tells whenever the guest comes to other code ([`recorder`]); which
//! code that is, debug information says ([`labels`]); from the sequence of both, and of the
//! environments that had the processor, follow calls, upcalls, faults and a packet's steps
//! ([`timeline`]). What comes out can be read by people ([`text`], [`picture`]) and by Perfetto
//! ([`chrome`]).
//!
//! An application tells what the host cannot know with `libos::probe!`.
//!
//! Time is counted in instructions, of all processors together. A processor that sleeps executes
//! none, so sleep has no length.

pub(crate) mod chrome;
mod labels;
pub(crate) mod picture;
pub(crate) mod recorder;
pub(crate) mod text;
pub(crate) mod timeline;

#[allow(dead_code, reason = "one side writes what the other reads")]
#[path = "../../plugin/src/journal.rs"]
mod journal;

pub(crate) use labels::Labels;
pub(crate) use recorder::Recorder;
pub(crate) use timeline::Timeline;
