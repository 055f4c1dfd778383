//! The account of the running application.

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use ruler::{Counter, timestamp};

use super::account::{Account, Event, WARM_UP};
use crate::println;
use crate::runtime::Local;

static ACCOUNT: Local<Option<Account>> = Local::new(None);
/// Whether there is one.
static WANTED: AtomicBool = AtomicBool::new(false);
/// The reading at the end of the last event.
static SINCE: AtomicU64 = AtomicU64::new(0);
static RUNS: AtomicUsize = AtomicUsize::new(1);

/// Measures from now on, `samples` of each operation.
pub(crate) fn begin(samples: usize) {
    // Whether ticks are instructions here, for whatever reads the figures.
    Counter::new(|text| println!("{text}")).check();
    open(Account::new(samples));
    for _ in 0..Account::CALIBRATION {
        super::operation("", || super::mark(""));
    }
    let overhead = ACCOUNT.with(|account| account.take().map_or(0, Account::overhead));
    open(Account::new(samples).less(overhead));
    RUNS.store(samples + WARM_UP, Relaxed);
}

fn open(account: Account) {
    ACCOUNT.with(|place| *place = Some(account));
    WANTED.store(true, Relaxed);
}

/// Prints what was measured, if anything was.
pub(crate) fn finish() {
    WANTED.store(false, Relaxed);
    if let Some(mut account) = ACCOUNT.with(Option::take) {
        account.report(|figure| println!("measure {figure}"));
        println!("measured");
    }
}

pub(super) fn runs() -> usize {
    RUNS.load(Relaxed)
}

/// The application is at the beginning or end of an operation, or at a mark.
#[inline(always)]
pub(super) fn reach(event: Event, name: &'static str) {
    if WANTED.load(Relaxed) {
        note(event, name);
    }
}

/// The same path for all events, so that what it takes between two readings is always the same.
#[inline(never)]
fn note(event: Event, name: &'static str) {
    let now = timestamp();
    let ticks = now - SINCE.load(Relaxed);
    // Refused in an exception's handler that interrupted another event.
    ACCOUNT.try_with(|account| account.as_mut().map(|account| account.note(event, name, ticks)));
    SINCE.store(timestamp(), Relaxed);
}
