//! The verbs of the command line, a file each: what it takes (`Args`) and what it
//! does (`run`).

pub(crate) mod attack;
pub(crate) mod bench;
pub(crate) mod build;
pub(crate) mod client;
pub(crate) mod conform;
pub(crate) mod disk;
pub(crate) mod doc;
pub(crate) mod docs;
pub(crate) mod figures;
pub(crate) mod filter;
pub(crate) mod fuzz;
pub(crate) mod gdb;
pub(crate) mod lint;
pub(crate) mod load;
pub(crate) mod measure;
pub(crate) mod module;
pub(crate) mod new;
pub(crate) mod repro;
pub(crate) mod run;
pub(crate) mod tcb;
pub(crate) mod test;
pub(crate) mod top;
pub(crate) mod trace;
