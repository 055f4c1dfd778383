//! Measuring: guest instructions per request by step, time to the first answer,
//! load of an idle machine.
//!
//! The unit is the *instruction*, counted by a plugin of QEMU's translator in the
//! unmodified release build of the guest. It repeats exactly, on any machine, which
//! time does not; it hides what caches, address translation and traps cost, which
//! time does not. So counts tell whether a change of the code made it do less;
//! they do not tell how fast it would be on a processor.
//!
//! | file | what it is |
//! |---|---|
//! | [`rows`] | the rows of the report, and which source belongs to which |
//! | [`steps`] | the same, as packages say it of their own source |
//! | [`table`] | every instruction of the guest with its function and row |
//! | [`counter`] | the plugin in QEMU, and its counts as they grow |
//! | [`load`] | sends requests, checks answers |
//! | [`report`] | counts divided by requests, as a table and as JSON |
//! | [`conditions`] | what a figure is worthless without |
//! | [`get`], [`boot`], [`idle`] | the measurements |
//! | [`storage`] | what it costs that answers are durable |
//! | [`dpf`] | telling packets apart, beside other ways to do it; on the host |
//! | [`eviction`] | hit ratios of the store's policies of eviction, beside memcached; on the host |
//! | [`items`] | how much memory an item takes, beside memcached; on the host |
//! | [`module`] | what the store pays for being part of Linux's kernel; on the host |
//! | [`repro`] | published experiments, with these means |
//! | [`colocated`] | what a request costs a client on the same machine, beside sockets of Linux |
//! | [`elevate`] | what crossing rings costs: the store in ring 3, in ring 0, and with direct calls |
//! | [`primitives`] | single operations, beside those of Linux; counted by the guests |
//! | [`variants`] | an application's own operations, beside those of a variant; counted by itself |

pub(crate) mod boot;
pub(crate) mod colocated;
pub(crate) mod compare;
pub(crate) mod conditions;
pub(crate) mod counter;
pub(crate) mod dpf;
pub(crate) mod elevate;
pub(crate) mod eviction;
pub(crate) mod get;
pub(crate) mod idle;
pub(crate) mod items;
#[allow(dead_code, reason = "one side writes what the other reads")]
#[path = "../../plugin/src/layout.rs"]
pub(crate) mod layout;
mod load;
pub(crate) mod module;
pub(crate) mod primitives;
mod report;
pub(crate) mod repro;
pub(crate) mod rows;
pub(crate) mod steps;
pub(crate) mod storage;
pub(crate) mod table;
pub(crate) mod variants;
