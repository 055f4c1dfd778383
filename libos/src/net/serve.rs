//! A server's loop: handle what has come, cross once for all of it, sleep.
//!
//! Steps 4 to 6 of a packet's journey, run to completion: what the rings hold is handled in
//! batches, each answer written where it is sent from, and the kernel is entered once for a
//! batch, both ways. There is no queue.

use exo_abi::{Error, EventCount};

use super::NetDevice;
use super::rings::{Doorbell, Rings};
use crate::sched::Park;
use crate::time::Clock;

/// Most frames between two crossings. Enough to make the crossing cheap, few enough that the
/// first answer does not wait long for the last.
pub const BATCH: u32 = 64;

/// How long to leave a busy device alone.
pub(super) const BUSY_MICROS: u64 = 100;

/// Serves until the network is taken away; returns the kernel's refusal then.
///
/// `handle` handles up to [`BATCH`] of the frames that `device` has received, queues what is to
/// be sent, and returns how many it has handled ([`UdpStack::poll`](super::UdpStack::poll)).
///
/// **Blocking** sleeps in `park` when nothing has come.
pub fn serve<B: Doorbell>(
    device: &mut Rings<B>,
    clock: &impl Clock,
    park: &mut impl Park,
    mut handle: impl FnMut(&mut Rings<B>) -> Result<u32, Error>,
) -> Error {
    serve_in_time(device, clock, park, |device| {
        let handled = handle(device)?;
        // What came may wait for room, and that there is room is no event.
        Ok((handled, device.is_full().then_some(BUSY_MICROS)))
    })
}

/// The same for a stack that has something to do even if nothing comes: `handle` returns as well
/// after how many microseconds that is, if ever.
pub fn serve_in_time<B: Doorbell>(
    device: &mut Rings<B>,
    clock: &impl Clock,
    park: &mut impl Park,
    mut handle: impl FnMut(&mut Rings<B>) -> Result<(u32, Option<u64>), Error>,
) -> Error {
    loop {
        let seen = park.seen();
        if let Err(refusal) = turn(device, clock, park, seen, &mut handle) {
            return refusal;
        }
    }
}

/// Handles a batch, and sleeps if nothing has come since `seen`.
#[inline(always)]
fn turn<B: Doorbell>(
    device: &mut Rings<B>,
    clock: &impl Clock,
    park: &mut impl Park,
    seen: EventCount,
    handle: &mut impl FnMut(&mut Rings<B>) -> Result<(u32, Option<u64>), Error>,
) -> Result<(), Error> {
    let (moved, wait) = handle(device)?;
    if moved >= BATCH {
        // There may be more than one.
        return device.sync().map(drop);
    }
    let in_time = |wait: Option<u64>| wait.map(|micros| clock.after_micros(micros));
    if moved == 0 && !device.has_unsent() {
        park.park(seen, in_time(wait));
    } else if !device.sync_and_park(park, seen, in_time(wait))? {
        // Answers wait for the device: look again soon, or when more comes.
        park.park(seen, in_time(Some(wait.map_or(BUSY_MICROS, |wait| wait.min(BUSY_MICROS)))));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use exo_abi::{EventCount, SyncCounts};

    use super::*;
    use crate::net::rings::model;
    use crate::sched::Ticks;
    use crate::time::ManualClock;

    /// Notes what the loop sleeps for.
    #[derive(Default)]
    struct Noted(Vec<Option<Ticks>>);

    impl Park for Noted {
        fn seen(&mut self) -> EventCount {
            EventCount(0)
        }

        fn park(&mut self, _: EventCount, deadline: Option<Ticks>) {
            self.0.push(deadline);
        }
    }

    /// A kernel that takes none of the first frames, and is gone after some rings.
    struct Busy(model::Kernel, u32);

    impl Doorbell for Busy {
        fn ring(&mut self) -> Result<SyncCounts, Error> {
            self.1 += 1;
            match self.1 {
                1 => Ok(SyncCounts { taken: 0, refused: 0 }),
                5.. => Err(Error::BadHandle),
                _ => self.0.ring(),
            }
        }
    }

    #[test]
    fn sleeps_no_longer_than_the_stack_wants() {
        let mut rings = model::Kernel::rings(3).with_bell(|kernel| Busy(kernel, 0));
        let (mut park, mut waits) = (Noted::default(), [Some(7), None].into_iter());
        let clock = ManualClock::default();
        serve_in_time(&mut rings, &clock, &mut park, |_| {
            Ok((0, waits.next().ok_or(Error::BadHandle)?))
        });
        assert_eq!(park.0, [Some(Ticks(7)), None]);
    }

    #[test]
    fn sleeps_after_less_than_a_batch_and_soon_looks_again_if_the_device_is_busy() {
        let mut rings = model::Kernel::rings(3).with_bell(|kernel| Busy(kernel, 0));
        let (mut park, mut turns) = (Noted::default(), 0);
        let error = serve(&mut rings, &ManualClock::default(), &mut park, |rings| {
            turns += 1;
            if turns == 1 {
                assert!(rings.slots().free.is_some());
                rings.commit(60);
                return Ok(1);
            }
            Ok(if turns == 3 { BATCH } else { u32::from(turns > 3) })
        });
        assert_eq!(error, Error::BadHandle);
        // A busy device; all sent; a whole batch, after which it does not sleep; a small one.
        assert_eq!(park.0, [Some(Ticks(BUSY_MICROS)), None, None]);
        assert_eq!(turns, 5);
    }

    /// A kernel that sends and sleeps in one call, three times.
    struct OneCall {
        kernel: model::Kernel,
        busy: bool,
        slept: Vec<Option<Ticks>>,
    }

    impl Doorbell for OneCall {
        fn ring(&mut self) -> Result<SyncCounts, Error> {
            self.kernel.ring()
        }

        fn ring_and_wait(
            &mut self,
            _: EventCount,
            deadline: Option<Ticks>,
        ) -> Option<Result<(), (Error, SyncCounts)>> {
            if self.slept.len() == 3 {
                return Some(Err((Error::BadHandle, SyncCounts { taken: 0, refused: 0 })));
            }
            if core::mem::take(&mut self.busy) {
                return Some(Err((Error::Again, SyncCounts { taken: 0, refused: 0 })));
            }
            self.slept.push(deadline);
            Some(self.kernel.ring().map(drop).map_err(|error| (error, SyncCounts::from_value(0))))
        }
    }

    /// Sleeps in a call of the kernel, which is alone.
    #[derive(Default)]
    struct Alone(Vec<Option<Ticks>>);

    impl Park for Alone {
        fn seen(&mut self) -> EventCount {
            EventCount(0)
        }

        fn park(&mut self, _: EventCount, deadline: Option<Ticks>) {
            self.0.push(deadline);
        }

        fn is_one_call(&self) -> bool {
            true
        }
    }

    #[test]
    fn sends_and_sleeps_in_one_call_where_that_can_be() {
        let kernel = |kernel| OneCall { kernel, busy: true, slept: Vec::new() };
        let mut rings = model::Kernel::rings(3).with_bell(kernel);
        let (mut park, mut turns) = (Alone::default(), 0);
        let error = serve(&mut rings, &ManualClock::default(), &mut park, |rings| {
            turns += 1;
            if turns < 3 {
                assert!(rings.slots().free.is_some());
                rings.commit(60);
            }
            // In the second turn the device was busy; in the fourth nothing has come.
            Ok(u32::from(turns != 4))
        });
        assert_eq!(error, Error::BadHandle);
        assert_eq!(rings.bell().slept, [None; 3]);
        assert_eq!(park.0, [Some(Ticks(BUSY_MICROS)), None], "busy; nothing to send");
        assert_eq!(rings.bell().kernel.sent.len(), 2);
        assert_eq!(turns, 6);
    }
}
