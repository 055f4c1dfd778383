//! System calls: the one way in from ring 3.
//!
//! [`call`] is a single safe `match`, generated from the table in `exo_abi`: it
//! decodes each register into its argument type, and hands the values to the
//! handler that bears the call's name. A handler sees only decoded values, the
//! kernel and the caller. The way in from the assembly is [`CALLS`], one function
//! for each number.

mod batch;
mod caps;
mod envs;
mod memory;
mod network;
mod time;
mod transfer;

use exo_abi::{
    Error, EventCount, Handle, Level, Pages, Pfn, Protection, Rights, RingOrder, UserPtr, VirtAddr,
    Word, call_number,
};

use batch::batch;
use caps::{cap_derive, cap_drop, cap_grant, cap_grow, cap_revoke};
use envs::{env_create, env_destroy, env_start, env_status, revoke_enforce, revoke_request};
use memory::{
    frames_free, frames_take, map, map_large, table_install, table_remove, unmap, unmap_large,
};
use network::{
    filter_install, filter_remove, net_bind, net_scope, net_sync, net_unbind, net_unscope,
};
use time::{console_write, exit, machine_exit, null, slice_yield, slots_assign, wait, wait_until};
use transfer::{
    cap_badge, doorbell_create, doorbell_ring, entry_create, slice_donate, transfer_call,
    transfer_reply, transfer_send,
};

use crate::capability::{self, CapRef, Kind, Slot};
use crate::env::Env;
use crate::env::transfer::Switch;
use crate::kernel::Kernel;
use crate::object::KernelObject;
use crate::user::UserSlice;
use crate::work::Work;

/// How a call ends.
#[derive(Clone, Copy)]
pub enum Reply {
    /// The caller goes on with this.
    Done(Result<u64, Error>),
    /// It was refused, and goes on with what explains that.
    Refused(Error, u64),
    /// The caller stays ready, but others are to run first.
    Yield,
    /// The caller sleeps or has ended; others run.
    Stop,
    /// The activity that called is over, and nobody waits for it.
    Over,
    /// The processor goes on in another environment at once.
    Switch(Leaving, Switch),
    /// The machine is to be powered off with this code.
    PowerOff(u8),
}

/// What becomes of the caller in a [`Reply::Switch`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// It waits for a reply.
    Waits,
    /// It goes on when it is its turn.
    Ready,
    /// Its activity is over.
    Over,
}

impl From<Result<u64, Error>> for Reply {
    fn from(result: Result<u64, Error>) -> Self {
        Self::Done(result)
    }
}

impl From<Result<(), Error>> for Reply {
    fn from(result: Result<(), Error>) -> Self {
        Self::Done(result.map(|()| 0))
    }
}

/// Of what might find a scope in the way, and then names its frame.
impl From<Result<Result<u64, Pfn>, Error>> for Reply {
    fn from(result: Result<Result<u64, Pfn>, Error>) -> Self {
        match result {
            Ok(Err(pfn)) => Self::Refused(Error::FilterConflict, pfn.into_word()),
            Ok(Ok(value)) => Self::Done(Ok(value)),
            Err(error) => Self::Done(Err(error)),
        }
    }
}

/// A caller and the kernel: what every handler gets.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// The kernel.
    pub kernel: &'a Kernel,
    /// The calling environment.
    pub env: &'static Env,
}

impl<'a> Caller<'a> {
    /// What this entry may still do.
    #[inline]
    pub(crate) fn work(&self) -> &'a Work {
        &self.kernel.here().work
    }

    /// Copies `length` bytes at `from` in the caller's memory to the front of
    /// `buffer`, and returns them.
    fn copy_in<'b>(
        &self,
        from: UserPtr,
        length: u64,
        buffer: &'b mut [u8],
    ) -> Result<&'b [u8], Error> {
        let length = usize::try_from(length).map_err(|_| Error::TooMuch)?;
        let target = buffer.get_mut(..length).ok_or(Error::TooMuch)?;
        UserSlice::new(self.env.root_table.get(), from).copy_in(&self.kernel.frames, target)?;
        Ok(target)
    }

    /// The object behind a capability of kind `kind` with `needed` rights, and its slot.
    #[inline(always)]
    fn object<T: KernelObject>(
        &self,
        handle: Handle,
        kind: Kind,
        needed: Rights,
    ) -> Result<(&'static T, &'static Slot), Error> {
        let frames = &self.kernel.frames;
        let (_, slot) = capability::occupied(frames, self.env, handle)?;
        let named = slot.names(kind, frames).ok_or(Error::BadHandle)?;
        if slot.rights().allows(needed) { Ok((named, slot)) } else { Err(Error::NoRight) }
    }

    /// Makes sure that the capability a call returns, derived from `parent`, will find a
    /// place.
    fn check_room(&self, parent: CapRef) -> Result<(), Error> {
        if self.env.cap_free.get() == CapRef::NONE {
            return Err(Error::TableFull);
        }
        capability::check_parent(&self.kernel.frames, parent)
    }
}

/// One bit for each call that may not return to its caller.
const LEAVING: u64 = {
    let names = [
        "exit",
        "slice_yield",
        "wait",
        "machine_exit",
        "slice_donate",
        "transfer_call",
        "transfer_send",
        "transfer_reply",
        "batch",
        "wait_until",
    ];
    let (mut mask, mut index) = (0, 0);
    while index < names.len() {
        mask |= 1 << call_number(names[index]);
        index += 1;
    }
    mask
};

macro_rules! dispatcher {
    ($($(#[doc = $doc:literal])* $number:literal $name:ident($($arg:ident: $ty:ty),*);)*) => {
        /// Serves call `number`, whose arguments `word` reads, at most once each. If
        /// `BATCHED`, only calls that return to the caller.
        #[inline(always)]
        pub fn call<const BATCHED: bool>(
            caller: Caller<'_>,
            number: u64,
            word: impl Fn(usize) -> u64,
        ) -> Reply {
            match number {
                $($number => {
                    if BATCHED && const { LEAVING >> $number & 1 == 1 } {
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
pub(crate) use entry::{CALLS, COUNT};
