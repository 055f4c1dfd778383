//! What the Yahoo! Cloud Serving Benchmark asks a store for: its six mixes, which records, and
//! what their keys and values are.
//!
//! After Cooper and others, "Benchmarking Cloud Serving Systems with YCSB" (SoCC 2010) and its
//! core workloads. Two things are a store's of this kind and differ from theirs: a record is one
//! value, and a scan is a look-up of as many keys, one after the other, since a hash index has no
//! order.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod mix;
pub mod record;

pub use mix::{Chooser, MIXES, Mix, Step};
