//! What it costs to demultiplex packets, and to change the filters.
//!
//! Several ways of demultiplexing are given the same filters and the same packets, on the
//! host, in one process, in turn. What is stated first is *instructions per packet*, counted
//! by single steps: it repeats exactly, anywhere. Time is stated as a ratio to this
//! system's own in the same round, because the machine beneath changes.
//! `cargo exo bench dpf` builds and runs this, and reports.
//!
//! | module | what it is |
//! |---|---|
//! | [`predicates`] | what is looked for |
//! | [`packets`] | what comes |
//! | [`contenders`] | the demultiplexers |
//! | [`count`] | instructions |
//! | [`measure`] | the runs |
//! | [`figures`] | what was found |

pub mod contenders;
pub mod count;
pub mod figures;
pub mod measure;
pub mod packets;
pub mod predicates;
