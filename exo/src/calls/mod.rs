//! System calls: the one way in from ring 3.
//!
//! [`call`] is a single safe `match`, generated from the table in `exo_abi`: it
//! decodes each register into its argument type, and hands the values to the
//! handler that bears the call's name. A handler sees only decoded values, the
//! kernel and the caller. The way in from the assembly is [`CALLS`], one function
//! for each number.

mod batch;
mod caller;
mod caps;
mod disk;
mod elevation;
mod envs;
mod memory;
mod network;
mod time;
mod transfer;

use exo_abi::{
    Error, EventCount, Handle, Level, Pages, Pfn, Protection, Rights, RingOrder, SYSCALLS, UserPtr,
    VirtAddr, Word,
};

use batch::batch;
pub use caller::{Caller, Leaving, Reply};
use caps::{cap_derive, cap_drop, cap_grant, cap_grow, cap_revoke};
use disk::{disk_bind, disk_sync, disk_unbind};
use elevation::{elevate, lower};
use envs::{
    env_create, env_destroy, env_guard, env_start, env_status, revoke_enforce, revoke_request,
};
use memory::{
    code_admit, frames_free, frames_take, map, map_keyed, table_install, table_remove, unmap,
};
use network::{
    filter_install, filter_remove, net_bind, net_scope, net_sync, net_unbind, net_unscope, net_wait,
};
use time::{console_write, exit, machine_exit, null, slice_yield, slots_assign, wait, wait_until};
use transfer::{
    cap_badge, doorbell_create, doorbell_ring, entry_create, slice_donate, transfer_call,
    transfer_reply, transfer_send,
};

macro_rules! dispatcher {
    ($($(#[doc = $doc:literal])* $number:literal $name:ident($($arg:ident: $ty:ty),*)
        -> $returns:ty $(, $leaves:ident)?;)*) => {
        /// Serves call `number`; `word` reads its arguments, at most once each. If
        /// `BATCHED`, only calls that return to the caller.
        #[inline(always)]
        pub fn call<const BATCHED: bool>(
            caller: Caller<'_>,
            number: u64,
            word: impl Fn(usize) -> u64,
        ) -> Reply {
            match number {
                $($number => {
                    if BATCHED && const { SYSCALLS[$number].leaves } {
                        return Reply::Done(Err(Error::BadArgument));
                    }
                    #[allow(unused_mut, reason = "some calls have no arguments")]
                    let mut index = 0..6;
                    $(
                        let $arg = match <$ty>::from_word(word(index.next().unwrap_or(0))) {
                            Ok(argument) => argument,
                            Err(error) => return Reply::Done(Err(error)),
                        };
                    )*
                    let _ = index;
                    $name(caller, $($arg),*).into()
                })*
                _ => Reply::Done(Err(Error::NoSuchCall)),
            }
        }
    };
}
exo_abi::syscall_table!(dispatcher);

#[cfg(exo_guest)]
mod entry;
#[cfg(exo_guest)]
pub(crate) use entry::{CALLS, COUNT, DIRECT};
