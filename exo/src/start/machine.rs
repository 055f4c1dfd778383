//! What the loader says is there: memory, boot image, command line; and a
//! simple allocator over it for the kernel's own frames.

use core::ops::Range;

use exo_abi::{FRAME_BYTES, FrameInfo, FrameKind, Pfn};
use exo_boot::layout::KERNEL_LOAD;
use exo_boot::pvh::{self, MEMORY_BYTES, MODULE_BYTES, START_INFO_BYTES, StartInfo};

use crate::frames::FrameTable;
use crate::memory;

/// Frames below this hold firmware data, and the kernel image in its own 2 MiB
/// pages. They are never handed out.
const FIRST_USABLE: u64 = KERNEL_LOAD + 0x20_0000;
/// RAM ends here at the latest: the boot tables and the direct map end at 4 GiB.
/// Device registers lie below that, and no RAM is used from where they begin.
const LAST_USABLE: u64 = 0xc000_0000;

/// The machine as found.
pub(super) struct Machine {
    start: StartInfo,
    /// The largest range of usable memory.
    memory: Range<u64>,
    /// The boot image.
    pub(super) image: Range<u64>,
    next: u64,
    frame_table: Pfn,
    frame_count: u32,
}

/// Bytes at a physical address the loader filled and nothing changes.
fn bytes<const N: usize>(address: u64) -> &'static [u8; N] {
    assert!(address + (N as u64) < LAST_USABLE, "start information above 3 GiB");
    // SAFETY: the boot tables and the final direct map have all memory below
    // 4 GiB but the kernel's own image; the loader leaves its information
    // outside of that, and it is only read, before any of it is reused.
    unsafe { &*memory::physical(address).cast() }
}

impl Machine {
    /// Reads the start information.
    ///
    /// # Panics
    /// If the loader left none, no memory or no boot image: there is nothing to run.
    pub(super) fn discover(start_info: u64) -> Self {
        let start = StartInfo::parse(bytes::<START_INFO_BYTES>(start_info))
            .expect("the loader left no PVH start information");
        let memory = (0..u64::from(start.memory_entries))
            .filter_map(|entry| {
                pvh::ram(bytes::<MEMORY_BYTES>(start.memory_map + entry * MEMORY_BYTES as u64))
            })
            .map(|ram| {
                let end = ram.start.saturating_add(ram.length).min(LAST_USABLE);
                ram.start.max(FIRST_USABLE)..end
            })
            .max_by_key(|range| range.end.saturating_sub(range.start))
            .filter(|range| !range.is_empty())
            .expect("no memory above 4 MiB");
        assert!(start.modules > 0, "no boot image: pass it with -initrd");
        let image = pvh::module(bytes::<MODULE_BYTES>(start.module_list))
            .map(|module| module.start..module.start.saturating_add(module.length))
            .expect("a module entry");
        assert!(
            image.start.is_multiple_of(FRAME_BYTES)
                && memory.start <= image.start
                && image.end <= memory.end,
            "the boot image lies outside memory"
        );
        let frame_count = (memory.end / FRAME_BYTES) as u32;
        let mut machine = Self {
            next: memory.start.next_multiple_of(FRAME_BYTES),
            start,
            memory,
            image,
            frame_table: Pfn(0),
            frame_count,
        };
        let table_bytes = frame_count as usize * size_of::<FrameInfo>();
        let pages = table_bytes.div_ceil(FRAME_BYTES as usize) as u32;
        machine.frame_table = machine.allocate(pages);
        machine
    }

    /// Takes contiguous, zeroed frames for the kernel, for ever.
    ///
    /// # Panics
    /// If the boot image is in the way: the machine has too little memory.
    pub(super) fn allocate(&mut self, count: u32) -> Pfn {
        let first = Pfn((self.next / FRAME_BYTES) as u32);
        self.next += u64::from(count) * FRAME_BYTES;
        assert!(
            self.next <= self.image.start || first.address() >= self.image.end,
            "too little memory"
        );
        for offset in 0..count {
            // SAFETY: usable memory, handed out once, outside the kernel and the boot image.
            unsafe { memory::clear(first.plus(offset)) };
        }
        first
    }

    /// End of physical memory.
    pub(super) fn memory_end(&self) -> u64 {
        self.memory.end
    }

    /// Frames the frame table lies in.
    pub(super) fn frame_table_range(&self) -> Range<u32> {
        let bytes = self.frame_count as usize * size_of::<FrameInfo>();
        let pages = bytes.div_ceil(FRAME_BYTES as usize) as u32;
        self.frame_table.0..self.frame_table.0 + pages
    }

    /// The frame table, all zero: every frame [`FrameKind::Free`].
    pub(super) fn frame_table(&self) -> &'static [FrameInfo] {
        let table = memory::frame(self.frame_table).cast();
        // SAFETY: allocated for it and zeroed, never reused; entries are
        // atomics, for which zero is a value, and may be shared for ever.
        unsafe { core::slice::from_raw_parts(table, self.frame_count as usize) }
    }

    /// The frames of the boot image.
    pub(super) fn image_frames(&self) -> impl Iterator<Item = Pfn> + use<> {
        let bytes = (self.image.end - self.image.start) as usize;
        let first = Pfn((self.image.start / FRAME_BYTES) as u32);
        (0..bytes.div_ceil(FRAME_BYTES as usize) as u32).map(move |offset| first.plus(offset))
    }

    /// Enters into the frame table what is not free. The boot image is plain memory
    /// without an owner yet.
    pub(super) fn classify(&self, frames: &mut FrameTable) {
        let usable = (self.memory.start / FRAME_BYTES) as u32;
        let allocated = (self.next / FRAME_BYTES) as u32;
        for frame in 0..usable {
            frames.describe(Pfn(frame), FrameKind::Reserved, 0);
        }
        for frame in usable..allocated {
            frames.describe(Pfn(frame), FrameKind::Kernel, 0);
        }
        self.image_frames().for_each(|pfn| frames.describe(pfn, FrameKind::Memory, 0));
    }

    /// Number of frames of memory.
    pub(super) fn frame_count(&self) -> u32 {
        self.frame_count
    }

    fn command_line(&self) -> &'static [u8] {
        const LINE_MAX: usize = 4096;
        let line = bytes::<LINE_MAX>(self.start.command_line);
        let length = line.iter().position(|byte| *byte == 0).unwrap_or(LINE_MAX);
        &line[..length]
    }

    /// Addresses and interrupt lines of the virtio-mmio transports.
    pub(super) fn transports(&self) -> impl Iterator<Item = (u64, u32)> {
        pvh::transports(self.command_line())
            .filter(|(address, _)| exo_boot::layout::DEVICES.contains(address))
    }
}
