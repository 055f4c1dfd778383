//! How fast the time-stamp counter runs, as the machine tells or as it is first measured.

use crate::clock::{PRECISION, Rate, Reading};

/// Reference ticks after which measuring at boot ends.
const PATIENCE: u64 = 2_000_000_000;
/// The rate of an APIC's timer, if the machine does not tell: QEMU and KVM both give it.
pub(crate) const APIC_HZ: u64 = 1_000_000_000;
/// Readings after which it ends, should the reference stand still.
const MOST_READINGS: u32 = 1 << 22;

/// Frequencies in Hz, as far as the machine tells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Of the time-stamp counter.
    pub counter: Option<u64>,
    /// Of the APIC's timer; the usual one if it is not told.
    pub apic: u64,
}

impl Told {
    /// Reads what `cpuid` says, a leaf as `[eax, ebx, ecx, edx]`: below a hypervisor its leaf
    /// 0x4000_0010 in kHz (VMware's, which KVM has, too), since others may be copies of its
    /// own machine's; else leaf 0x15 (SDM vol. 3, 20.7.3 and 11.5.4). A leaf above the
    /// highest says anything.
    pub fn by(cpuid: impl Fn(u32) -> [u32; 4]) -> Self {
        const HYPERVISOR: u32 = 1 << 31;
        const HYPERVISOR_LEAVES: u32 = 0x4000_0000;
        let some = |hz: u64| Some(hz).filter(|hz| *hz != 0);
        let ask = |first, leaf| if cpuid(first)[0] >= leaf { cpuid(leaf) } else { [0; 4] };
        let (counter, apic) = if cpuid(1)[2] & HYPERVISOR != 0 {
            let [counter, apic, ..] = ask(HYPERVISOR_LEAVES, HYPERVISOR_LEAVES + 0x10);
            (some(1000 * u64::from(counter)), some(1000 * u64::from(apic)))
        } else {
            let [down, up, crystal, _] = ask(0, 0x15).map(u64::from);
            (some(crystal * up / down.max(1)), some(crystal))
        };
        Self { counter, apic: apic.unwrap_or(APIC_HZ) }
    }
}

/// Measures the rate, as long as it takes. Until then loose readings do not count: a
/// tighter one begins anew.
pub fn measure(mut read: impl FnMut() -> Reading) -> Rate {
    let mut first = read();
    let start = first.reference;
    let mut best = Rate::UNKNOWN;
    for _ in 0..MOST_READINGS {
        let last = read();
        let passed = last.reference.wrapping_sub(first.reference);
        let rate = Rate::between(first, last, passed);
        if passed != 0 && rate.is_better_than(&best) {
            best = rate;
        }
        if best.is_within(PRECISION) || last.reference.wrapping_sub(start) > PATIENCE {
            break;
        }
        if (last.after - last.before) * 2 < first.after - first.before {
            first = last;
        }
    }
    best
}
