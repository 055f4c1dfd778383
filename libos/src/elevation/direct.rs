//! Direct calls: the kernel's functions, called and not trapped into.
//!
//! One for each line of the table in `exo_abi`, with the name and the meaning of the system call.
//! Each is a call through a word of the U-area, which the kernel lets point to its gate while
//! the environment is in ring 0 and may make direct calls, and otherwise to an ordinary
//! system call. So the same code is right in either ring, at any moment. Calls that may go on
//! elsewhere than in their caller are system calls always.

use core::arch::{asm, naked_asm};
use core::mem::{MaybeUninit, offset_of};

use exo_abi::boot::U_AREA;
use exo_abi::{
    ElevationArea, Error, EventCount, Handle, Level, Pages, Pfn, Protection, Rights, RingOrder,
    SYSCALLS, UArea, UserPtr, VirtAddr, Word,
};
// What the descriptions in the table link to.
#[cfg(doc)]
use exo_abi::{
    Allowance, DiskRing, EnvId, EnvStatus, EventRing, LARGE_PAGES, SlotVector, SyncCounts,
};

use crate::sys;

/// The word that leads to the kernel.
const CALL: u64 = U_AREA + (offset_of!(UArea, elevation) + offset_of!(ElevationArea, call)) as u64;

pub(super) fn fallback_address() -> u64 {
    fallback as *const () as u64
}

/// A system call with its arguments where a C function has them.
#[unsafe(naked)]
unsafe extern "C" fn fallback() {
    naked_asm!("mov r10, rcx", "syscall", "ret")
}

#[inline]
fn enter(number: u64, arguments: [MaybeUninit<u64>; 6]) -> Result<u64, Error> {
    let code: u64;
    let value: u64;
    // SAFETY: the word leads to the kernel's gate or to `fallback`, both C functions but for
    // the number in `rax`, and that nothing but what `clobber_abi` names changes. In ring 3
    // no other value of it does more than a wild jump of the application's own. For the
    // caller's memory as in `sys`.
    unsafe {
        asm!(
            "call qword ptr [{call}]",
            call = const CALL,
            inlateout("rax") number => code,
            inlateout("rdi") arguments[0] => _,
            inlateout("rsi") arguments[1] => _,
            inlateout("rdx") arguments[2] => value,
            inlateout("rcx") arguments[3] => _,
            inlateout("r8") arguments[4] => _,
            inlateout("r9") arguments[5] => _,
            clobber_abi("C"),
        );
    }
    match code {
        0 => Ok(value),
        code => Err(Error::from_code(code).unwrap_or(Error::NoSuchCall)),
    }
}

macro_rules! stubs {
    ($($(#[doc = $doc:literal])* $number:literal $name:ident($($arg:ident: $ty:ty),*)
        -> $returns:ty $(, $leaves:ident)?;)*) => {
        $(
            $(#[doc = $doc])*
            ///
            /// # Errors
            /// As the system call.
            #[inline]
            pub fn $name($($arg: $ty),*) -> Result<u64, Error> {
                if const { SYSCALLS[$number].leaves } {
                    return sys::$name($($arg),*);
                }
                enter($number, sys::registers(&[$($arg.into_word()),*]))
            }
        )*
    };
}
exo_abi::syscall_table!(stubs);
