//! System-call stubs, one per line of the table in `exo_abi`.
//!
//! Each `sys::NAME` loads the registers and executes `syscall`; the number, the
//! argument order and the documentation come from the table, so a stub cannot
//! disagree with the kernel's dispatcher. Only the guest has such a kernel: on
//! the host this module does not exist.

use core::mem::MaybeUninit;

use exo_abi::{
    Error, EventCount, Handle, Level, Pages, Pfn, Protection, Rights, RingOrder, UserPtr, VirtAddr,
    Word,
};
// What the descriptions in the table link to.
#[cfg(doc)]
use exo_abi::{
    Allowance, DiskRing, ElevationArea, EnvId, EnvStatus, EventRing, LARGE_PAGES, SlotVector,
    SyncCounts, UArea,
};

/// Enters the kernel with six arguments. Returns the value in `rdx`.
///
/// Public so that tests can pass what no typed stub would.
///
/// # Errors
/// Whatever the kernel answers; [`Error::NoSuchCall`] also stands for a number
/// in `rax` that is no known error.
#[inline]
pub fn raw(number: u64, arguments: [u64; 6]) -> Result<u64, Error> {
    explained(number, arguments).map_err(|(error, _)| error)
}

/// The same, with the value in `rdx` also when there is an error: for calls that explain
/// one by it.
///
/// # Errors
/// As [`raw`].
#[inline]
pub fn explained(number: u64, arguments: [u64; 6]) -> Result<u64, (Error, u64)> {
    enter(number, arguments.map(MaybeUninit::new))
}

/// The same; registers that a call does not look at hold whatever they held.
#[inline]
pub(crate) fn enter(number: u64, arguments: [MaybeUninit<u64>; 6]) -> Result<u64, (Error, u64)> {
    let code: u64;
    let value: u64;
    // SAFETY: `syscall` transfers to the kernel, which preserves rbx, rbp, rsp
    // and r12-r15 and clears the rest; everything it may change is listed as an
    // output or clobber. The kernel writes to the caller's memory only where a
    // call says so, through pointers given here, which `UserPtr` arguments
    // take from exclusive borrows in the typed wrappers; no default `nomem`
    // option, so the compiler assumes any memory may have changed.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number => code,
            inlateout("rdi") arguments[0] => _,
            inlateout("rsi") arguments[1] => _,
            inlateout("rdx") arguments[2] => value,
            inlateout("r10") arguments[3] => _,
            inlateout("r8") arguments[4] => _,
            inlateout("r9") arguments[5] => _,
            out("rcx") _, out("r11") _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
            out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
            out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            options(nostack),
        );
    }
    match code {
        0 => Ok(value),
        code => Err((Error::from_code(code).unwrap_or(Error::NoSuchCall), value)),
    }
}

/// The registers of a call with these arguments, of which the call looks at no others.
#[inline(always)]
pub(crate) fn registers(words: &[u64]) -> [MaybeUninit<u64>; 6] {
    let mut registers = [MaybeUninit::uninit(); 6];
    for (register, word) in registers.iter_mut().zip(words) {
        *register = MaybeUninit::new(*word);
    }
    registers
}

macro_rules! stubs {
    ($($(#[doc = $doc:literal])* $number:literal $name:ident($($arg:ident: $ty:ty),*)
        -> $returns:ty $(, $leaves:ident)?;)*) => {
        $(
            $(#[doc = $doc])*
            ///
            /// # Errors
            /// The kernel's refusal; `exo_abi::Error` says what each means.
            #[inline]
            pub fn $name($($arg: $ty),*) -> Result<u64, Error> {
                enter($number, registers(&[$($arg.into_word()),*])).map_err(|(error, _)| error)
            }
        )*
    };
}
exo_abi::syscall_table!(stubs);
