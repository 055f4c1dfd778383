//! Numbers that an outsider cannot guess.

use core::arch::x86_64::{__cpuid, _rdrand64_step};

use crate::time::timestamp;

/// Attempts before `rdrand` is given up (Intel SDM vol. 1, 7.3.17.1, says ten).
const ATTEMPTS: u32 = 10;

/// A seed for a keyed hash: from the processor's random number generator where
/// there is one, and from the time-stamp counter alone otherwise.
///
/// **Limits** without `rdrand` (`CPUID.1:ECX[30]`), an attacker that knows to the tick
/// when the application was started can guess it.
pub fn seed() -> [u64; 2] {
    let has_rdrand = __cpuid(1).ecx >> 30 & 1 == 1;
    [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03].map(|salt: u64| {
        let random = if has_rdrand { rdrand() } else { None };
        // A multiplication by an odd number loses nothing of either.
        (random.unwrap_or(0) ^ timestamp()).wrapping_mul(salt)
    })
}

fn rdrand() -> Option<u64> {
    let mut value = 0;
    (0..ATTEMPTS).find_map(|_| {
        // SAFETY: the only caller has seen that the processor has `rdrand`.
        let done = unsafe { _rdrand64_step(&mut value) };
        (done == 1).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn seeds_differ() {
        let (a, b) = (super::seed(), super::seed());
        assert_ne!(a, b);
        assert_ne!(a[0], a[1]);
    }
}
