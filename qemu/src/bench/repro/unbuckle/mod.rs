//! Unbuckle: the key-value store in Linux's kernel that this project began from.

pub(super) mod allocation;
pub(super) mod crossing;
pub(super) mod memcached;
pub(super) mod pipeline;
pub(super) mod research;
pub(super) mod stacks;

use super::published::Work;
use crate::bench::compare::scenario::Scenario;
use crate::bench::load::Verb;

/// Chapter 4 and appendix A.3 say how the figures were taken.
const DISSERTATION: Work = Work {
    cite: "M. Huxtable, \"A high-performance key-value store\" (Unbuckle), Part II dissertation, \
           University of Cambridge, 2014",
    conditions: "Intel Xeon E5-2643, 4 processors of 3.3 GHz, Linux 3.10.2, 10 Gbit/s Ethernet, \
                 memaslap over UDP, memcached 1.4.17 (4.3, A.3.1)",
};

/// Bytes of a key where the dissertation fixes it (figure 4.6).
const KEY: usize = 64;
/// Bytes of values: small as in its table 4.1, medium as in its figure 4.7, large as in both.
const SMALL: usize = 64;
const MEDIUM: usize = 320;
const LARGE: usize = 1024;

/// A GET of a value of that size.
fn get(value_bytes: usize, outstanding: u32) -> Scenario {
    Scenario { verb: Verb::Get, key_bytes: KEY, value_bytes, outstanding }
}
