//! The user side of a network binding's rings.
//!
//! Place on the packet path: where step 3 ends and step 6 begins. The layout is
//! `exo_abi::RingPage`: slot `i` of a ring always uses buffer `i`, and each side
//! writes only its own indices. The kernel writes a receive buffer only while
//! its slot is not delivered or already consumed, and reads a transmit buffer
//! only while its slot is committed and not yet given back. That is what lets
//! this module hand out slices of shared memory.
//!
//! Indices read from the page are checked all the same: whatever they say, no
//! access leaves the run. Private copies of the own indices are what counts; the
//! other side's are read again only when the known part is used up.

use core::ptr::NonNull;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

#[cfg(test)]
use exo_abi::FRAME_MAX;
use exo_abi::{BUFFER_BYTES, Error, EventCount, RingOrder, RingPage, SyncCounts};

use super::{NetDevice, STOP, Slots, TxBuffer};
use crate::sched::{Park, Ticks};

/// Tells the other side to look at the rings.
pub trait Doorbell {
    /// Sends and delivers.
    ///
    /// # Errors
    /// The binding is gone, or not ours any more.
    fn ring(&mut self) -> Result<SyncCounts, Error>;

    /// The same, and then sleeps, with all threads, until the number of events differs from
    /// `seen` or the clock passes `deadline`. `None`, and nothing is done, if that takes more
    /// than one call.
    ///
    /// # Errors
    /// As of [`Doorbell::ring`]; [`Error::Again`] with what was moved, and it has not slept, if
    /// that was not all.
    fn ring_and_wait(
        &mut self,
        _seen: EventCount,
        _deadline: Option<Ticks>,
    ) -> Option<Result<(), (Error, SyncCounts)>> {
        None
    }
}

/// A binding's rings and buffers.
#[derive(Debug)]
pub struct Rings<B> {
    run: NonNull<u8>,
    order: RingOrder,
    /// The number of the last slot: there are at most 256.
    last: u8,
    /// Frames consumed, and frames known to be delivered. These and the following are as
    /// wide as a register; what is shared of them is their lower half.
    rx_next: usize,
    rx_end: usize,
    /// Frames committed, and the count at which the ring is known to be full.
    tx_next: usize,
    tx_end: usize,
    /// Frames the kernel has taken.
    tx_taken: u32,
    bell: B,
}

impl<B: Doorbell> Rings<B> {
    /// The rings in the run at `run`, as new: both sides begin at zero.
    ///
    /// # Safety
    /// `run` is page aligned and leads to [`RingOrder::frames`] pages that stay
    /// valid for reads and writes, zeroed or as a former `Rings` with the same
    /// doorbell left them, and that are used only by this value and by a kernel
    /// that keeps to the protocol above.
    pub unsafe fn new(run: NonNull<u8>, order: RingOrder, bell: B) -> Self {
        Self {
            run,
            order,
            last: (order.slots() - 1) as u8,
            rx_next: 0,
            rx_end: 0,
            tx_next: 0,
            tx_end: order.slots() as usize,
            tx_taken: 0,
            bell,
        }
    }

    /// The doorbell.
    pub fn bell(&mut self) -> &mut B {
        &mut self.bell
    }

    /// The same with another doorbell, which leads to the same kernel.
    #[cfg(test)]
    pub(crate) fn with_bell<C>(self, change: impl FnOnce(B) -> C) -> Rings<C> {
        let Self { run, order, last, rx_next, rx_end, tx_next, tx_end, tx_taken, bell } = self;
        let bell = change(bell);
        Rings { run, order, last, rx_next, rx_end, tx_next, tx_end, tx_taken, bell }
    }

    /// Hands over what was committed, brings in what has arrived, and sleeps in `park`. False,
    /// and it has not slept, if the device is busy ([`Rings::has_unsent`]).
    ///
    /// **Cost** one crossing, where no other thread could run meanwhile.
    ///
    /// # Errors
    /// The binding is gone, or not ours any more.
    #[inline]
    pub fn sync_and_park(
        &mut self,
        park: &mut impl Park,
        seen: EventCount,
        deadline: Option<Ticks>,
    ) -> Result<bool, Error> {
        if park.is_one_call()
            && let Some(slept) = self.bell.ring_and_wait(seen, deadline)
        {
            return match slept {
                Ok(()) => {
                    self.tx_taken = self.tx_next as u32;
                    Ok(true)
                }
                Err((Error::Again, counts)) => {
                    self.tx_taken = self.tx_taken.wrapping_add(counts.taken);
                    Ok(false)
                }
                Err((error, _)) => Err(error),
            };
        }
        self.sync()?;
        let sleeps = !self.has_unsent();
        if sleeps {
            park.park(seen, deadline);
        }
        Ok(sleeps)
    }

    /// Whether frames are committed that the kernel has not taken: the device was
    /// busy. That it has room again is no event, so a caller should sleep only
    /// for a while.
    pub fn has_unsent(&self) -> bool {
        self.tx_next as u32 != self.tx_taken
    }

    fn page(&self) -> &RingPage {
        // SAFETY: the run begins with a ring page, page aligned and valid for
        // as long as `self` (contract of `new`). All of it is atomics.
        unsafe { self.run.cast().as_ref() }
    }

    /// Brings `rx_end` up to date.
    #[inline]
    fn look_for_received(&mut self) {
        let produced = self.page().rx_produced.0.load(Acquire);
        let waiting = produced.wrapping_sub(self.rx_next as u32);
        // More than a ring full cannot be: take it for nothing.
        if waiting <= self.order.slots() {
            self.rx_end = self.rx_next.wrapping_add(waiting as usize);
        }
    }

    /// Brings `rx_end` up to date if it is reached. Whether there is anything to receive.
    #[inline]
    fn has_received(&mut self) -> bool {
        if self.rx_next == self.rx_end {
            self.look_for_received();
        }
        self.rx_next != self.rx_end
    }

    /// Brings `tx_end` up to date if it is reached. Whether there is room to send.
    #[inline]
    fn has_free(&mut self) -> bool {
        if self.tx_next == self.tx_end {
            let consumed = self.page().tx_consumed.0.load(Acquire);
            let unsent = (self.tx_next as u32).wrapping_sub(consumed);
            if let Some(room) = self.order.slots().checked_sub(unsent) {
                self.tx_end = self.tx_next.wrapping_add(room as usize);
            }
        }
        self.tx_next != self.tx_end
    }

    /// The oldest frame.
    ///
    /// # Safety
    /// It was received and is not consumed, nor is it before the borrow ends.
    #[inline(always)]
    unsafe fn received<'a>(&self) -> &'a [u8] {
        let slot = usize::from(self.rx_next as u8 & self.last);
        let length = self.page().rx_length[slot].load(Relaxed);
        let length = usize::from(length).min(BUFFER_BYTES);
        // SAFETY: the first receive buffer, and behind it one for each slot, are within the run.
        // The slot was delivered and is not consumed, so the kernel does not write to it.
        unsafe {
            let start = self.run.add(self.order.rx_offset(0) + slot * BUFFER_BYTES);
            core::slice::from_raw_parts(start.as_ptr(), length)
        }
    }

    /// The next buffer to send from.
    ///
    /// # Safety
    /// It is free, and is not committed before the borrow ends; there is one at a time.
    #[inline(always)]
    unsafe fn free<'a>(&self) -> &'a mut TxBuffer {
        // The buffers lie behind those of all slots of the other ring.
        let slot = usize::from(self.tx_next as u8 & self.last) + usize::from(self.last) + 1;
        let start = self.order.rx_offset(0) + slot * BUFFER_BYTES;
        // SAFETY: this is `tx_offset` of the slot; that plus `BUFFER_BYTES`, which is more than a
        // `TxBuffer`, is within the run and apart from all receive buffers. The slot is not
        // committed, so the kernel does not read it.
        unsafe { self.run.add(start).cast::<TxBuffer>().as_mut() }
    }

    /// Takes the oldest frame off the ring; the kernel is yet to be shown.
    #[inline(always)]
    fn pass_received(&mut self) {
        self.rx_next = self.rx_next.wrapping_add(1);
    }

    /// Puts the first `length` bytes of the free buffer into the ring; the kernel is yet to
    /// be shown.
    #[inline(always)]
    fn pass_free(&mut self, length: usize) {
        let slot = usize::from(self.tx_next as u8 & self.last);
        // The kernel refuses what is too long: better than to send a part of it.
        let length = length.min(usize::from(u16::MAX)) as u16;
        self.page().tx_length[slot].store(length, Relaxed);
        self.tx_next = self.tx_next.wrapping_add(1);
    }

    #[inline(always)]
    fn show_received(&self) {
        // Release: reads of the buffers come before they are given back.
        self.page().rx_consumed.0.store(self.rx_next as u32, Release);
    }

    #[inline(always)]
    fn show_free(&self) {
        // Release: frames and their lengths come before the index.
        self.page().tx_produced.0.store(self.tx_next as u32, Release);
    }
}

impl<B: Doorbell> NetDevice for Rings<B> {
    #[inline]
    fn slots(&mut self) -> Slots<'_> {
        let (has_received, has_free) = (self.has_received(), self.has_free());
        // SAFETY: there is such a frame and such a buffer, and whatever consumes the one or
        // commits the other needs `&mut self`, which ends the borrows.
        let received = has_received.then(|| unsafe { self.received() });
        // SAFETY: as above; a second one needs `&mut self`, too.
        let free = has_free.then(|| unsafe { self.free() });
        Slots { received, free }
    }

    #[inline]
    fn consume(&mut self) {
        if self.rx_next != self.rx_end {
            self.pass_received();
            self.show_received();
        }
    }

    #[inline]
    fn commit(&mut self, length: usize) {
        if self.tx_next != self.tx_end {
            self.pass_free(length);
            self.show_free();
        }
    }

    #[inline]
    fn is_full(&mut self) -> bool {
        !self.has_free()
    }

    /// **Cost** the indices are read and shown once for all frames.
    #[inline(always)]
    fn exchange(
        &mut self,
        most: u32,
        mut answer: impl FnMut(&[u8], &mut TxBuffer) -> usize,
    ) -> u32 {
        let mut handled = 0;
        loop {
            self.look_for_received();
            let frames = self.rx_end.wrapping_sub(self.rx_next).min(most as usize - handled);
            if frames == 0 || !self.has_free() {
                break;
            }
            let run = frames.min(self.tx_end.wrapping_sub(self.tx_next));
            let (mut done, mut is_stopped) = (0, false);
            while done < run && !is_stopped {
                done += 1;
                // SAFETY: so many frames are there and so many buffers are free; both
                // borrows end with the call, before the one is consumed and the other
                // committed.
                let length = answer(unsafe { self.received() }, unsafe { self.free() });
                self.pass_received();
                match length {
                    0 => {}
                    STOP => is_stopped = true,
                    length => self.pass_free(length),
                }
            }
            self.show_received();
            self.show_free();
            handled += done;
            // What has come meanwhile was an event, so that the caller does not sleep.
            if is_stopped || done == frames {
                break;
            }
        }
        handled as u32
    }

    #[inline]
    fn sync(&mut self) -> Result<SyncCounts, Error> {
        let counts = self.bell.ring()?;
        self.tx_taken = self.tx_taken.wrapping_add(counts.taken);
        Ok(counts)
    }
}

#[cfg(test)]
pub(crate) mod model {
    //! A model of the kernel's side of the rings.

    use std::collections::VecDeque;

    use super::*;

    /// Zeroed, page-aligned memory for a run; freed with the model.
    pub(crate) struct Kernel {
        run: NonNull<u8>,
        order: RingOrder,
        delivered: u32,
        taken: u32,
        pub(crate) arriving: VecDeque<Vec<u8>>,
        pub(crate) sent: Vec<Vec<u8>>,
        /// Sent frames whose buffers are not given back at once.
        pub(crate) hold_transmit: bool,
    }

    impl Kernel {
        pub(crate) fn rings(order: u8) -> Rings<Kernel> {
            let order = RingOrder::new(order).unwrap();
            // SAFETY: the layout is not empty.
            let run = NonNull::new(unsafe { std::alloc::alloc_zeroed(Self::layout(order)) });
            let run = run.expect("host has memory");
            let kernel = Kernel {
                run,
                order,
                delivered: 0,
                taken: 0,
                arriving: VecDeque::new(),
                sent: Vec::new(),
                hold_transmit: false,
            };
            // SAFETY: fresh memory of the right size, shared by the rings and
            // this model alone, which live and die together.
            unsafe { Rings::new(run, order, kernel) }
        }

        fn layout(order: RingOrder) -> std::alloc::Layout {
            std::alloc::Layout::from_size_align(order.frames() as usize * 4096, 4096).unwrap()
        }

        pub(crate) fn page(&self) -> &RingPage {
            // SAFETY: the run begins with a ring page and is valid.
            unsafe { self.run.cast().as_ref() }
        }

        /// Copies between `bytes` and a buffer at `offset`.
        fn buffer(&self, offset: usize) -> *mut u8 {
            self.run.as_ptr().wrapping_add(offset)
        }
    }

    impl Drop for Kernel {
        fn drop(&mut self) {
            // SAFETY: allocated with this layout in `rings`.
            unsafe { std::alloc::dealloc(self.run.as_ptr(), Self::layout(self.order)) };
        }
    }

    impl Doorbell for Kernel {
        fn ring(&mut self) -> Result<SyncCounts, Error> {
            let produced = self.page().tx_produced.0.load(Acquire);
            assert!(produced.wrapping_sub(self.taken) <= self.order.slots(), "ring overrun");
            let mut counts = SyncCounts { taken: 0, refused: 0 };
            while self.taken != produced {
                let slot = self.taken & (self.order.slots() - 1);
                let length = self.page().tx_length[slot as usize].load(Relaxed) as usize;
                if length <= FRAME_MAX {
                    let from = self.buffer(self.order.tx_offset(slot));
                    // SAFETY: a committed buffer of the run, at most 2048 bytes.
                    let frame = unsafe { std::slice::from_raw_parts(from, length) }.to_vec();
                    self.sent.push(frame);
                } else {
                    counts.refused += 1;
                }
                self.taken = self.taken.wrapping_add(1);
                counts.taken += 1;
            }
            if !self.hold_transmit {
                self.page().tx_consumed.0.store(self.taken, Release);
            }
            while let Some(frame) = self.arriving.pop_front() {
                let consumed = self.page().rx_consumed.0.load(Acquire);
                if self.delivered.wrapping_sub(consumed) == self.order.slots() {
                    self.arriving.push_front(frame);
                    break;
                }
                let slot = self.delivered & (self.order.slots() - 1);
                let to = self.buffer(self.order.rx_offset(slot));
                // SAFETY: a buffer that is not delivered; frames fit.
                unsafe { to.copy_from_nonoverlapping(frame.as_ptr(), frame.len().min(2048)) };
                self.page().rx_length[slot as usize].store(frame.len() as u16, Relaxed);
                self.delivered = self.delivered.wrapping_add(1);
                self.page().rx_produced.0.store(self.delivered, Release);
            }
            Ok(counts)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use proptest::prelude::*;

    use super::STOP;
    use super::model::Kernel;
    use crate::net::{NetDevice, Slots};

    fn send(rings: &mut impl NetDevice, frame: &[u8]) -> bool {
        let Some(buffer) = rings.slots().free else { return false };
        buffer[..frame.len()].copy_from_slice(frame);
        rings.commit(frame.len());
        true
    }

    fn receive(rings: &mut impl NetDevice) -> Option<Vec<u8>> {
        let frame = rings.slots().received.map(<[u8]>::to_vec)?;
        rings.consume();
        Some(frame)
    }

    #[test]
    fn frames_keep_order_content_and_length_round_after_round() {
        let mut rings = Kernel::rings(2);
        for round in 0..50_u8 {
            let frames: Vec<_> = (0..4).map(|i| vec![round ^ i; 60 + usize::from(i)]).collect();
            rings.bell().arriving.extend(frames.clone());
            for frame in &frames {
                assert!(send(&mut rings, frame));
            }
            assert!(!send(&mut rings, &[0; 14]), "ring is full");
            assert_eq!(rings.sync().unwrap().taken, 4);
            assert_eq!(std::mem::take(&mut rings.bell().sent), frames);
            let received: Vec<_> = std::iter::from_fn(|| receive(&mut rings)).collect();
            assert_eq!(received, frames);
        }
    }

    /// However many buffers were known to be free: the store slept beside waiting requests.
    #[test]
    fn an_exchange_leaves_nothing_as_long_as_there_is_room() {
        let mut rings = Kernel::rings(3);
        for count in [5, 7, 8, 3, 8] {
            rings.bell().arriving.extend((0..count).map(|i| vec![i; 60]));
            rings.sync().unwrap();
            assert_eq!(rings.exchange(8, |frame, _| frame.len()), u32::from(count));
            rings.sync().unwrap();
            assert_eq!(std::mem::take(&mut rings.bell().sent).len(), usize::from(count));
        }
        rings.bell().hold_transmit = true;
        rings.bell().arriving.extend((0..20).map(|i| vec![i; 60]));
        rings.sync().unwrap();
        assert_eq!(rings.exchange(5, |frame, _| frame.len()), 5);
        assert_eq!(rings.exchange(5, |_, _| 0), 3, "no answer takes no buffer");
        rings.sync().unwrap();
        assert_eq!(rings.exchange(8, |frame, _| frame.len()), 3, "three buffers are left");
        assert!(rings.is_full());
        assert_eq!(rings.exchange(8, |_, _| 0), 0);
    }

    #[test]
    fn an_answer_can_stop_an_exchange() {
        let mut rings = Kernel::rings(3);
        rings.bell().arriving.extend((0..5).map(|i| vec![i; 60]));
        rings.sync().unwrap();
        for count in [3, 2] {
            let answer = |frame: &[u8]| if frame[0] == 2 { STOP } else { frame.len() };
            assert_eq!(rings.exchange(8, |frame, _| answer(frame)), count);
        }
        rings.sync().unwrap();
        assert_eq!(rings.bell().sent.len(), 4, "that one is none itself");
    }

    #[test]
    fn buffers_in_use_by_the_device_are_not_reused() {
        let mut rings = Kernel::rings(1);
        rings.bell().hold_transmit = true;
        assert!(send(&mut rings, &[1; 14]) && send(&mut rings, &[2; 14]));
        rings.sync().unwrap();
        assert!(!send(&mut rings, &[3; 14]));
        rings.bell().hold_transmit = false;
        rings.sync().unwrap();
        assert!(send(&mut rings, &[3; 14]));
    }

    #[test]
    fn consume_and_commit_without_a_slot_do_nothing() {
        let mut rings = Kernel::rings(1);
        rings.consume();
        assert_eq!(rings.bell().page().rx_consumed.0.load(Relaxed), 0);
        assert!(send(&mut rings, &[1; 14]) && send(&mut rings, &[2; 14]));
        rings.commit(14);
        rings.commit(usize::MAX);
        assert_eq!(rings.bell().page().tx_produced.0.load(Relaxed), 2);
        rings.sync().unwrap();
        assert!(rings.slots().free.is_some());
        rings.commit(usize::MAX);
        let length = rings.bell().page().tx_length[0].load(Relaxed);
        assert!(usize::from(length) > exo_abi::FRAME_MAX, "the kernel refuses it whole");
    }

    proptest! {
        /// Whatever the shared page says, nothing outside of the run is touched
        /// and nothing panics.
        #[test]
        fn garbage_in_the_page_is_survived(
            order in 1u8..=8,
            values in prop::collection::vec((any::<u32>(), any::<u32>(), any::<u16>()), 1..40),
        ) {
            let mut rings = Kernel::rings(order);
            for (produced, consumed, length) in values {
                let page = rings.bell().page();
                page.rx_produced.0.store(produced, Relaxed);
                page.tx_consumed.0.store(consumed, Relaxed);
                page.rx_length.iter().for_each(|field| field.store(length, Relaxed));
                for _ in 0..4 {
                    let Slots { received, free } = rings.slots();
                    if let Some(frame) = received {
                        prop_assert!(frame.len() <= 2048);
                        prop_assert!(frame.iter().all(|&byte| byte == 0));
                    }
                    if let Some(buffer) = free {
                        buffer.fill(0xff);
                    }
                    rings.consume();
                    rings.commit(usize::from(length));
                }
            }
        }
    }
}
