//! Rates against a simulated machine that stands still whenever it hurts most.

use std::cell::Cell;

use proptest::prelude::*;

use super::{PRECISION, Rate, Reading};
use crate::start::rate::{APIC_HZ, Told, measure};

/// A machine: time passes in ticks of a counter of `hz`, while the reference makes 10^9 a
/// second.
struct Machine<'a> {
    hz: u64,
    ticks: Cell<u64>,
    /// Ticks between the readings within one, in turn, two for each.
    gaps: &'a [u64],
    next: Cell<usize>,
}

const GHZ: u64 = 1_000_000_000;

impl<'a> Machine<'a> {
    fn new(hz: u64, gaps: &'a [u64]) -> Self {
        Self { hz, ticks: Cell::new(12_345_678), gaps, next: Cell::new(0) }
    }

    fn pass(&self) -> u64 {
        let gap = self.gaps.get(self.next.get()).copied().unwrap_or(500);
        self.next.set(self.next.get() + 1);
        self.ticks.set(self.ticks.get() + gap);
        self.ticks.get()
    }

    fn reference(&self) -> u64 {
        (u128::from(self.ticks.get()) * u128::from(GHZ) / u128::from(self.hz)) as u64
    }

    fn read(&self) -> Reading {
        let before = self.ticks.get();
        self.pass();
        let reference = self.reference();
        Reading { before, reference, after: self.pass() }
    }

    fn wait(&self, millis: u64) {
        self.ticks.set(self.ticks.get() + self.hz / 1000 * millis);
    }
}

/// Parts per million by which `rate` is off.
fn off(rate: &Rate, hz: u64) -> u64 {
    rate.ticks_in(GHZ).abs_diff(hz) * 1_000_000 / hz
}

/// What a processor with these `leaves` tells; any leaf that is not there repeats the last
/// one, as QEMU's does.
fn told(leaves: &[(u32, [u32; 4])]) -> Told {
    Told::by(|leaf| {
        leaves.iter().find(|(number, _)| *number == leaf).map_or([9999; 4], |(_, words)| *words)
    })
}

#[test]
fn only_what_the_machine_tells_is_believed() {
    let (bare, guest) = ((1, [0; 4]), (1, [0, 0, 1 << 31, 0]));
    let nothing = Told { counter: None, apic: APIC_HZ };
    // QEMU's emulation: neither leaf.
    assert_eq!(told(&[(0, [0xd, 0, 0, 0]), guest, (0x4000_0000, [0x4000_0001, 0, 0, 0])]), nothing);
    assert_eq!(told(&[(0, [0xd, 0, 0, 0]), bare]), nothing);
    // A crystal of 38.4 MHz, times 125 by 2; the same without the crystal's rate.
    let with = |crystal| told(&[(0, [0x16, 0, 0, 0]), bare, (0x15, [2, 125, crystal, 0])]);
    assert_eq!(with(38_400_000), Told { counter: Some(2_400_000_000), apic: 38_400_000 });
    assert_eq!(with(0), nothing);
    // The hypervisor's word counts, not the processor's below it.
    let host = (0x15, [2, 125, 38_400_000, 0]);
    let below = |first| {
        let leaf = (0x4000_0010, [2_449_873, 1_000_000, 0, 0]);
        told(&[(0, [0x16, 0, 0, 0]), guest, host, (0x4000_0000, [first, 0, 0, 0]), leaf])
    };
    assert_eq!(below(0x4000_0010), Told { counter: Some(2_449_873_000), apic: 1_000_000_000 });
    assert_eq!(below(0x4000_000f), nothing);
}

#[test]
fn a_calm_machine_is_measured_quickly() {
    for hz in [100_000_000, 999_999_937, 1_000_000_000, 2_449_873_000, 5_000_000_000] {
        let machine = Machine::new(hz, &[]);
        let start = machine.reference();
        let rate = measure(|| machine.read());
        assert!(off(&rate, hz) <= 500, "{rate:?} for {hz}");
        assert!(hz < GHZ || machine.reference() - start < 3_000_000, "longer than 3 ms");
    }
}

/// What made the clock slow: the first reading took long, and what it said was believed.
#[test]
fn slow_first_readings_do_not_count() {
    let hz = 2_500_000_000;
    for (early, late) in [(60_000, 200), (200, 60_000), (5_000_000, 5_000_000), (0, 250_000_000)] {
        let gaps = [early, late, early, late];
        let machine = Machine::new(hz, &gaps);
        let rate = measure(|| machine.read());
        assert!(off(&rate, hz) <= 500, "{rate:?}");
    }
}

#[test]
fn on_a_machine_that_never_reads_well_measuring_takes_longer() {
    let hz = 2_500_000_000;
    // Up to 100 microseconds, one way or the other: bounded only by looking longer.
    let gaps: Vec<u64> =
        (0..200_000).map(|at| if at / 2 % 2 == at % 2 { 0 } else { 250_000 }).collect();
    let machine = Machine::new(hz, &gaps);
    let start = machine.reference();
    let rate = measure(|| machine.read());
    assert!(off(&rate, hz) <= 500, "{rate:?}");
    assert!(machine.reference() - start > 100_000_000, "less than a tenth of a second");
}

#[test]
fn a_reference_that_stands_still_does_not_hold_the_machine_up() {
    let ticks = Cell::new(0);
    let rate = measure(|| {
        ticks.set(ticks.get() + 100);
        Reading { before: ticks.get(), reference: 7, after: ticks.get() + 10 }
    });
    assert_eq!(rate.ticks_in(5), 5, "a tick is a nanosecond, for want of anything better");
}

#[test]
fn equal_readings_of_equal_counters_are_exact() {
    // As under `-icount`: both count instructions.
    let machine = Machine::new(GHZ, &[]);
    assert_eq!(measure(|| machine.read()).ticks_in(GHZ), GHZ);
    let (first, ()) = (machine.read(), machine.wait(1234));
    let rate = Rate::told(GHZ, GHZ).over(first, machine.read(), 1 << 32);
    assert_eq!(rate.ticks_in(GHZ), GHZ);
}

#[test]
fn an_hour_of_sleep_says_more_than_the_boot() {
    let hz = 2_449_873_113;
    let machine = Machine::new(hz, &[]);
    let boot = measure(|| machine.read());
    for millis in [1_000, 4_000, 4_500, 60_000, 3_600_000] {
        let start = machine.read();
        machine.wait(millis);
        let mut end = machine.read();
        // The reference has 32 bits.
        end.reference = (end.reference - start.reference) % (1 << 32);
        let rate = boot.over(Reading { reference: 0, ..start }, end, 1 << 32);
        assert_ne!(rate, boot, "{millis} ms");
        assert!(off(&rate, hz) <= 1, "{rate:?} after {millis} ms");
    }
}

#[test]
fn readings_that_say_less_change_nothing() {
    let hz = 2_500_000_000;
    let machine = Machine::new(hz, &[]);
    let boot = measure(|| machine.read());
    let start = machine.read();
    // Too short a time.
    machine.ticks.set(machine.ticks.get() + 1000);
    assert_eq!(boot.over(start, machine.read(), 1 << 32), boot);
    // Long, but read badly.
    machine.wait(100);
    let end = Reading { after: machine.ticks.get() + hz / 10, ..machine.read() };
    assert_eq!(boot.over(start, end, 1 << 32), boot);
    // So long that there is no telling how often the reference went round.
    let vague = Rate { ticks: 2_500_000, reference: 1_000_000, doubt: 50_000 };
    machine.wait(3_600_000);
    assert_eq!(vague.over(start, machine.read(), 1 << 32), vague);
}

proptest! {
    /// Whatever stands between the readings, and wherever: the bound holds.
    #[test]
    fn the_bound_holds(
        hz in 200_000_000_u64..6_000_000_000,
        gaps in prop::collection::vec(prop_oneof![0..2_000_u64, 0..2_000_000_u64], 0..400),
        sleeps in prop::collection::vec((1..10_000_u64, 0..2_000_000_u64, 0..2_000_000_u64), 0..20),
    ) {
        let machine = Machine::new(hz, &gaps);
        let mut rate = measure(|| machine.read());
        let holds = |rate: &Rate| {
            rate.ticks_in(GHZ).abs_diff(hz) <= hz / PRECISION + 1
        };
        prop_assert!(holds(&rate), "{:?} for {}", rate, hz);
        for (millis, early, late) in sleeps {
            let gaps = [early, late, late, early];
            let awake = Machine::new(hz, &gaps);
            let start = awake.read();
            awake.wait(millis);
            let end = awake.read();
            let from = |reading: Reading| Reading { reference: reading.reference % (1 << 32), ..reading };
            rate = rate.over(from(start), from(end), 1 << 32);
            prop_assert!(holds(&rate), "{:?} for {}", rate, hz);
        }
    }
}
