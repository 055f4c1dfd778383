//! The key register: which pages with a protection key the running environment reaches.
//!
//! Keys are on (`cr4.PKE`) only while an environment runs that takes part, so that to all others
//! neither keys nor `wrpkru` are there. `xrstor`, which could change the register too, is an invalid
//! instruction: `cr4.OSXSAVE` is clear (`start::processor`).

use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};

use exo_abi::KEYS;

use super::percpu::this_core;

/// How many keys processors have: this one, and the others are like it.
pub fn count() -> u32 {
    let are_there = __cpuid(0).eax >= 7 && __cpuid_count(7, 0).ecx >> 3 & 1 == 1;
    if are_there { KEYS } else { 0 }
}

/// Makes the register ready for the environment that is to run; `rights` zero: it takes no part.
#[inline(always)]
pub fn load(rights: u32) {
    if rights != 0 || this_core().keyed.get() {
        change(rights);
    }
}

#[cold]
fn change(rights: u32) {
    const PROTECTION_KEYS: u64 = 1 << 22;
    let on = rights != 0;
    this_core().keyed.set(on);
    // SAFETY: the processor has keys, or no environment took part. They are about pages of ring 3,
    // of which the kernel uses none by its address.
    unsafe {
        let mut cr4: u64;
        asm!("mov {}, cr4", out(reg) cr4, options(nomem, nostack));
        cr4 = if on { cr4 | PROTECTION_KEYS } else { cr4 & !PROTECTION_KEYS };
        asm!("mov cr4, {}", in(reg) cr4, options(nostack));
        if on && self::rights() != rights {
            asm!("wrpkru", in("eax") rights, in("ecx") 0, in("edx") 0, options(nostack));
        }
    }
}

/// What the register says, while an environment runs that takes part.
pub fn rights() -> u32 {
    let rights;
    // SAFETY: keys are on then; reading has no effect.
    unsafe {
        asm!("rdpkru", in("ecx") 0, out("eax") rights, out("edx") _, options(nomem, nostack));
    }
    rights
}
