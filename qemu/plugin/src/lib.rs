//! Counts a guest's instructions by where in the source they come from, or tells where it comes to.
//!
//! A plugin of QEMU's translator (TCG). `cargo exo bench` writes a table that says
//! of every instruction of the kernel and the programs which function and which
//! row of its report it belongs to ([`layout`]), and starts QEMU with this:
//!
//! ```text
//! -plugin file=libexo_plugin.so,table=FILE,counts=FILE,later=on
//! ```
//!
//! While a block is translated ([`install`]), its program is found ([`code`]) and every
//! instruction gets a call to [`counts`]. The guest is not changed, and it sees
//! none of this: with `-icount`, not even in time. Instructions are counted one by
//! one and not a block at a time, because a block may end early, at an access to a
//! device for instance, and QEMU then executes the rest of it as another block.
//!
//! What is counted: every instruction that begins to execute. One that faults
//! and is repeated counts twice, and each repetition of a `rep` string instruction
//! counts, as it does for `-icount`; how many of all were such repetitions is counted
//! apart, so that both ways to count them can be printed. One processor only.
//!
//! With `later=on` nothing is counted, and the guest is hardly slowed, until the other side
//! wants it: a Linux guest boots for a billion instructions that no report asks for. From
//! the next `hlt` on all blocks are translated anew, and counted.
//!
//! With `trace=FILE` in place of `counts=FILE` nothing is counted by place. Instead an event is
//! written ([`journal`]) whenever a processor comes to code with another label ([`trace`]);
//! several processors may be traced.
//!
//! Without a table every guest can be counted, Linux for instance: then only user space and
//! kernel are told apart, by address.

mod code;
mod counts;
// What calls QEMU can be linked only for QEMU to load, not into a test program.
#[cfg(not(test))]
mod install;
#[allow(dead_code, reason = "one side writes what the other reads")]
mod journal;
#[cfg_attr(test, allow(dead_code, reason = "what uses it is not part of the tests"))]
mod kind;
#[allow(dead_code, reason = "one side writes what the other reads")]
mod layout;
#[cfg(not(test))]
mod qemu;
#[cfg_attr(test, allow(dead_code, reason = "what uses it is not part of the tests"))]
mod spot;
#[cfg_attr(test, allow(dead_code, reason = "what uses it is not part of the tests"))]
mod trace;
mod words;
