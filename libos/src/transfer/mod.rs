//! Protected calls: functions of other environments, called in this slice.
//!
//! The kernel passes six registers and says which environment calls (`transfer_call`); what they
//! mean is the two sides' business. [`Remote`] gives a call types,
//! [`entry_point!`](crate::entry_point!) makes a function callable. A serving function runs on the entry's stack while
//! everything else its environment does rests, maybe in the middle of something: it
//! must not use the heap or wait for anything that the rest would have to do. What both use is
//! [`Lent`](crate::lend::Lent).

mod stub;

use core::marker::PhantomData;

use exo_abi::{EnvId, Error, Handle, UserPtr, Word};

use crate::sys;

pub use stub::reply;

/// What a call carries, both ways.
pub type Message = [u64; 6];

/// A value that fits a message.
pub trait Parcel: Sized {
    /// As a message.
    fn pack(self) -> Message;
    /// Out of a message. The other side may have put anything into it.
    fn unpack(message: Message) -> Self;
}

impl Parcel for Message {
    fn pack(self) -> Message {
        self
    }

    fn unpack(message: Message) -> Self {
        message
    }
}

impl Parcel for () {
    fn pack(self) -> Message {
        [0; 6]
    }

    fn unpack(_: Message) -> Self {}
}

impl Parcel for u64 {
    fn pack(self) -> Message {
        [self, 0, 0, 0, 0, 0]
    }

    fn unpack(message: Message) -> Self {
        message[0]
    }
}

impl Parcel for (u64, u64) {
    fn pack(self) -> Message {
        [self.0, self.1, 0, 0, 0, 0]
    }

    fn unpack(message: Message) -> Self {
        (message[0], message[1])
    }
}

/// The caller: the badge of the capability it used, and its environment. Neither can
/// be forged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Visitor {
    /// What the server marked the capability with; zero if it was not marked.
    pub badge: u64,
    /// The calling environment.
    pub env: EnvId,
}

/// A function of another environment that takes an `A` and returns an `R`.
#[derive(Debug)]
pub struct Remote<A, R> {
    entry: Handle,
    types: PhantomData<fn(A) -> R>,
}

impl<A: Parcel, R: Parcel> Remote<A, R> {
    /// The function behind the entry capability `entry`.
    pub const fn new(entry: Handle) -> Self {
        Self { entry, types: PhantomData }
    }

    /// Calls it.
    ///
    /// # Errors
    /// The kernel's refusal; [`Error::Busy`] and [`Error::PeerGone`] above all.
    pub fn call(&self, argument: A) -> Result<R, Error> {
        let (reply, grant) = self.exchange(argument, Handle::NONE)?;
        if grant != Handle::NONE {
            // It was not asked for, and it would take up room.
            sys::cap_drop(grant)?;
        }
        Ok(reply)
    }

    /// Calls it and gives it a copy of the capability `grant`; returns what it replies
    /// and a capability it gives back. [`Handle::NONE`] stands for none, and no environment gets
    /// one that has not said that they are welcome (`exo_abi::UArea::grants`).
    ///
    /// # Errors
    /// As for [`Remote::call`]; [`Error::NoRight`] if `grant` may not be given away, or
    /// is not welcome.
    pub fn exchange(&self, argument: A, mut grant: Handle) -> Result<(R, Handle), Error> {
        let mut message = argument.pack();
        stub::call(self.entry, &mut message, &mut grant)?;
        Ok((R::unpack(message), grant))
    }

    /// Sets it going, in what is left of this slice, and does not wait.
    ///
    /// # Errors
    /// The kernel's refusal; [`Error::Busy`] above all.
    pub fn send(&self, argument: A) -> Result<(), Error> {
        stub::send(self.entry, &argument.pack())
    }
}

/// Makes `entry`, which [`entry_point!`](crate::entry_point!) made, the caller's entry point
/// `index`.
/// Returns the capability to give to others.
///
/// # Errors
/// The kernel's refusal.
///
/// # Safety
/// `stack_top`, 16 bytes aligned, must be the end of a stack that is used by nothing
/// else and large enough for what is served.
pub unsafe fn offer(
    index: u32,
    entry: unsafe extern "C" fn(),
    stack_top: u64,
) -> Result<Handle, Error> {
    let address = UserPtr(entry as *const () as u64);
    sys::entry_create(index, address, UserPtr(stack_top)).and_then(Handle::from_word)
}

/// Defines `$name`, an entry point that serves calls with the function `$serve`:
/// `extern "C" fn(badge: u64, caller: u64, message: &mut Message)`; or, to take and give
/// capabilities, with `granting $serve`:
/// `extern "C" fn(badge: u64, caller: u64, message: &mut Message, grant: Handle) -> Handle`.
#[macro_export]
macro_rules! entry_point {
    ($(#[$about:meta])* $visible:vis $name:ident => $serve:path) => {
        $crate::entry_point!(@ $(#[$about])* $visible $name $serve, "xor edi, edi");
        const _: extern "C" fn(u64, u64, &mut $crate::transfer::Message) = $serve;
    };
    ($(#[$about:meta])* $visible:vis $name:ident => granting $serve:path) => {
        $crate::entry_point!(@ $(#[$about])* $visible $name $serve, "mov rdi, rax");
        const _: extern "C" fn(
            u64,
            u64,
            &mut $crate::transfer::Message,
            $crate::abi::Handle,
        ) -> $crate::abi::Handle = $serve;
    };
    (@ $(#[$about:meta])* $visible:vis $name:ident $serve:path, $granted:literal) => {
        $(#[$about])*
        #[unsafe(naked)]
        $visible unsafe extern "C" fn $name() {
            core::arch::naked_asm!(
                "push r15",
                "push r14",
                "push r13",
                "push r12",
                "push rbp",
                "push rbx",
                "mov rdi, rax",
                "mov rcx, rsi",
                "mov rsi, rdx",
                "mov rdx, rsp",
                "xor ebp, ebp",
                "call {serve}",
                $granted,
                "pop rbx",
                "pop rbp",
                "pop r12",
                "pop r13",
                "pop r14",
                "pop r15",
                "jmp {reply}",
                serve = sym $serve,
                reply = sym $crate::transfer::reply,
            )
        }
    };
}
