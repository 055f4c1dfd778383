//! The file that a traced guest's events go through, from the plugin to the command that
//! started QEMU. Compiled into both programs.
//!
//! It is an array of `u64` words in native byte order, mapped by both sides at the same time:
//! those of [`word`], and from [`word::EVENTS`] on a ring of events, [`EVENT_WORDS`] each. The
//! plugin holds the guest while the ring is full, so no event is lost.

/// Indices of words.
pub(crate) mod word {
    /// Not zero once the plugin is loaded.
    pub(crate) const READY: usize = 0;
    /// Instructions executed, by all processors.
    pub(crate) const EXECUTED: usize = 1;
    /// Events written so far.
    pub(crate) const PRODUCED: usize = 2;
    /// Events read so far. Written by the other side.
    pub(crate) const CONSUMED: usize = 3;
    /// Not zero while events are wanted. Written by the other side.
    pub(crate) const WANTED: usize = 4;

    // What follows is written by the other side before QEMU starts.

    /// Distance of the kernel image's virtual from its physical addresses.
    pub(crate) const KERNEL_BASE: usize = 5;
    /// Virtual address of physical address zero, in the kernel.
    pub(crate) const DIRECT_MAP: usize = 6;
    /// Bytes of physical memory, which begins at zero.
    pub(crate) const MEMORY: usize = 7;
    /// Virtual address of what the kernel keeps of the first processor.
    pub(crate) const CORES: usize = 8;
    /// Bytes of that for each processor.
    pub(crate) const STRIDE: usize = 9;
    /// Where in it is the address of the running environment's upcall words.
    pub(crate) const UPCALLS: usize = 10;
    /// Where in these is the reason of the last upcall, and where its vector.
    pub(crate) const REASON: usize = 11;
    /// See [`REASON`].
    pub(crate) const VECTOR: usize = 12;
    /// The first event.
    pub(crate) const EVENTS: usize = 16;
}

/// Words of an event.
pub(crate) const EVENT_WORDS: usize = 3;

/// Events that the ring has room for.
pub(crate) const CAPACITY: usize = 1 << 16;

/// Bytes of the file.
pub(crate) const BYTES: u64 = 8 * (word::EVENTS + CAPACITY * EVENT_WORDS) as u64;

/// Of a place in the table, in the field of its row: what the plugin does there.
pub(crate) mod at {
    /// An event if the one before was another label's.
    pub(crate) const LABEL: u8 = 0;
    /// The same; the value is the reason of an upcall, and its vector from bit 32 on.
    pub(crate) const UPCALL: u8 = 1;
    /// An event of its own, each time; the value is what the instruction stores.
    pub(crate) const PROBE: u8 = 2;
}

/// Something happened in the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Event {
    /// Instructions executed before.
    pub(crate) at: u64,
    /// Which code was reached, by its number in the table.
    pub(crate) label: u32,
    /// The processor.
    pub(crate) cpu: u8,
    /// Whether the code is user space's.
    pub(crate) user: bool,
    /// The frame of the U-area of the environment that has the processor; zero for none.
    pub(crate) space: u32,
    /// See [`at`].
    pub(crate) value: u64,
}

impl Event {
    pub(crate) const fn words(self) -> [u64; EVENT_WORDS] {
        let cpu = (self.cpu as u64 & 0x7f) | (self.user as u64) << 7;
        let place = (self.label as u64 & 0xff_ffff) | cpu << 24;
        [self.at, place | (self.space as u64) << 32, self.value]
    }

    pub(crate) const fn of_words([at, place, value]: [u64; EVENT_WORDS]) -> Self {
        let (label, cpu, user) =
            (place as u32 & 0xff_ffff, (place >> 24) as u8 & 0x7f, place >> 31 & 1 != 0);
        Self { at, label, cpu, user, space: (place >> 32) as u32, value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_round_trip() {
        for user in [false, true] {
            let event =
                Event { at: 1 << 40, label: 0xab_cdef, cpu: 3, user, space: u32::MAX, value: 7 };
            assert_eq!(Event::of_words(event.words()), event);
        }
        assert_eq!(Event::of_words([0; EVENT_WORDS]), Event::default());
    }
}
