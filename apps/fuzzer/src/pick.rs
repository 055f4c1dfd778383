//! Arguments that are likely to mean something to the call they are for.

use core::sync::atomic::Ordering::Relaxed;

use exo_abi::boot::{SELF, STACK_TOP, U_AREA};
use exo_abi::{FrameKind, Handle, LARGE_PAGES, Rights, USER_TOP, Word};

use crate::member::Member;
use crate::place::{
    BOARD, FILTERS, KEY, LENGTHS, PLAYGROUND, SCRATCH, SERVICE_STACK, TOLD, Told, board,
    frame_table,
};

/// What a frame is wanted for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// To be taken.
    Free,
    /// Own memory to which nothing refers.
    Quiet,
    /// Own memory.
    Memory,
    /// Own admitted code.
    Text,
    /// An own page table.
    Table,
    /// An own filter.
    Filter,
    /// An own scope.
    Scope,
    /// An own disk binding.
    DiskBinding,
    /// Not the caller's.
    Foreign,
}

/// What a page table of level 1 covers, and a large page.
const LARGE: u64 = 0x20_0000;

impl Member {
    /// A frame of the playing field that is what is wanted, as the frame table says;
    /// otherwise any.
    pub(crate) fn frame(&mut self, want: Want) -> u64 {
        let table = frame_table();
        let [first, count] = board().frames.each_ref().map(|word| word.load(Relaxed));
        let start = self.random.below(count);
        let me = self.id;
        for step in 0..count.min(384) {
            let number = first + (start + step) % count.max(1);
            let Some(entry) = table.get(number as usize) else { break };
            let mine = entry.owner.load(Relaxed) == me;
            let kind = FrameKind::from_u8(entry.kind.load(Relaxed));
            let quiet = entry.mapped.load(Relaxed) == 0 && entry.pins.load(Relaxed) == 0;
            let fits = match want {
                Want::Free => kind == Some(FrameKind::Free),
                Want::Quiet => mine && kind == Some(FrameKind::Memory) && quiet,
                Want::Memory => mine && kind == Some(FrameKind::Memory),
                Want::Text => mine && kind == Some(FrameKind::Text),
                Want::Table => mine && kind == Some(FrameKind::PageTable),
                Want::Filter => mine && kind == Some(FrameKind::Filter),
                Want::Scope => mine && kind == Some(FrameKind::Scope),
                Want::DiskBinding => mine && kind == Some(FrameKind::DiskBinding),
                Want::Foreign => !mine && kind != Some(FrameKind::Free),
            };
            if fits {
                return number;
            }
        }
        first + start
    }

    /// A frame number, for `call`.
    fn any_frame(&mut self, call: &str) -> u64 {
        let [first, count] = board().frames.each_ref().map(|word| word.load(Relaxed));
        match self.random.below(16) {
            0 => self.frame(Want::Foreign),
            1 => match self.random.below(6) {
                0 => 0,
                1 => first - 1,
                2 => first + count,
                3 => board().table.load(Relaxed),
                4 => u64::from(u32::MAX),
                _ => self.random.below(board().table.load(Relaxed)),
            },
            2 => first + self.random.below(count),
            _ => {
                let want = match call {
                    "frames_take" => Want::Free,
                    "filter_remove" => Want::Filter,
                    "net_unscope" => Want::Scope,
                    "disk_unbind" => Want::DiskBinding,
                    "map" if self.random.below(16) == 0 => return (first + 511) & !511,
                    "map" | "map_keyed" | "frames_free" if self.random.below(8) == 0 => Want::Text,
                    "map" if self.random.below(4) == 0 => Want::Table,
                    "map" | "map_keyed" => Want::Memory,
                    _ => Want::Quiet,
                };
                self.frame(want)
            }
        }
    }

    /// A handle for `what`, if the child knows one; or any it knows, or none.
    pub(crate) fn handle(&mut self, what: Told) -> u64 {
        let plain = |packed: u64| packed & !(0xff << 56);
        let is = |packed: u64| packed >> 56 == what as u64 && packed != 0;
        let start = self.random.below(TOLD as u64) as usize;
        let Some(row) = board().told.get(self.index) else { return 0 };
        for step in 0..TOLD {
            let known = self.known.get((start + step) % self.known.len()).copied();
            let told = row.get((start + step) % TOLD).map(|word| word.load(Relaxed));
            let pair = if start.is_multiple_of(2) { [told, known] } else { [known, told] };
            if let Some(found) = pair.into_iter().flatten().find(|packed| is(*packed)) {
                return plain(found);
            }
        }
        plain(row.get(start).map_or(0, |word| word.load(Relaxed)))
    }

    /// A handle that the argument `name` of a call could be about.
    fn any_handle(&mut self, call: &str, name: &str) -> u64 {
        match self.random.below(12) {
            0 => {
                let index = self.random.below(70) as u32;
                Handle::new(index, 1 + self.random.below(4) as u32).into_word()
            }
            1 => match self.random.below(3) {
                0 => self.handle(Told::Other),
                1 => self.random.word(),
                _ => self
                    .known
                    .get(self.random.below(16) as usize)
                    .map_or(0, |known| known & !(0xff << 56)),
            },
            _ => match name {
                "env" | "space" | "owner" if self.random.below(2) == 0 => SELF.into_word(),
                "env" | "space" | "owner" => self.handle(Told::Env),
                "frames" => self.handle(Told::Frames),
                "net" => self.handle(Told::Net),
                "binding" if call == "disk_sync" => self.handle(Told::DiskBinding),
                "binding" => self.handle(Told::Binding),
                "disk" => self.handle(Told::Disk),
                "entry" => self.handle(Told::Entry),
                "doorbell" => self.handle(Told::Doorbell),
                "slots" if self.random.below(4) != 0 => SELF.into_word(),
                "keys" if self.random.below(4) != 0 => Handle::NONE.into_word(),
                _ => {
                    let kinds = [
                        Told::Other,
                        Told::Env,
                        Told::Frames,
                        Told::Net,
                        Told::Binding,
                        Told::Entry,
                        Told::Doorbell,
                        Told::Disk,
                        Told::DiskBinding,
                    ];
                    let kind = kinds[self.random.below(9) as usize % kinds.len()];
                    self.handle(kind)
                }
            },
        }
    }

    /// A page to map something at.
    pub(crate) fn place(&mut self) -> u64 {
        let bits = self.random.word();
        let base = PLAYGROUND.get();
        match bits % 64 {
            // What the child stands on, too, but seldom.
            0 => {
                [STACK_TOP - 4096, 0x40_0000, U_AREA, SERVICE_STACK.get()][(bits >> 8) as usize % 4]
            }
            1 => USER_TOP - 4096 * (1 + (bits >> 8) % 2),
            2 => (bits >> 8 & 0xff) << 39,
            3..=12 => base + LARGE * (bits >> 8 & 3),
            13..=16 => base + LARGE * (1 + (bits >> 8 & 3)) - 4096,
            _ => base + LARGE * (bits >> 8 & 1) + 4096 * (bits >> 16 & 7),
        }
    }

    fn pointer(&mut self) -> u64 {
        let bits = self.random.word();
        let scratch = SCRATCH.get();
        match bits % 16 {
            0 => scratch + 4096 - (bits >> 8 & 0x1ff),
            1 => BOARD.get() - 8,
            2 => self.place(),
            3 => bits >> 8,
            4 => u64::MAX - (bits >> 8 & 0xff),
            5 => U_AREA + 2048,
            6..=9 => scratch + FILTERS[(bits >> 8) as usize % 4] as u64,
            _ => scratch + (bits >> 8 & 0x7f8),
        }
    }

    /// Length of the filter in place `index` on the scratch page.
    pub(crate) fn filter_length(&self, index: usize) -> u64 {
        selftest::frames::read(SCRATCH, LENGTHS + 8 * (index % 4))
    }

    /// Fills the registers for call `number`.
    pub(crate) fn words(&mut self, number: u64) -> [u64; 6] {
        let mut words = [0; 6];
        let Some(entry) = exo_abi::SYSCALLS.get(number as usize) else {
            words.iter_mut().for_each(|word| *word = self.random.word());
            return words;
        };
        for (word, (name, kind)) in words.iter_mut().zip(entry.arguments) {
            *word = self.argument(entry.name, name, kind);
        }
        // A pointer and a length that go together.
        if matches!(entry.name, "filter_install" | "net_scope" | "wait_until")
            && self.random.below(4) != 0
        {
            let place = usize::from(entry.name != "wait_until");
            let index = self.random.below(4) as usize;
            let filter = SCRATCH.get() + FILTERS[index] as u64;
            (words[place], words[place + 1]) = match entry.name {
                "net_scope" => (filter + KEY as u64, dpf::KEY_WIRE as u64),
                _ => (filter, self.filter_length(index)),
            };
        }
        words
    }

    fn argument(&mut self, call: &str, name: &str, kind: &str) -> u64 {
        let bits = self.random.word();
        if bits.is_multiple_of(64) {
            return match bits >> 8 & 3 {
                0 => u64::MAX,
                1 => 1 << (bits >> 16 & 63),
                2 => bits >> 32,
                _ => 0,
            };
        }
        match (kind, name) {
            ("Handle", _) => self.any_handle(call, name),
            ("Pfn", _) => self.any_frame(call),
            ("VirtAddr", _) => self.place(),
            ("UserPtr", _) => self.pointer(),
            ("Pages", _) => match bits >> 8 & 15 {
                2 if matches!(call, "map" | "unmap") => LARGE_PAGES.into(),
                0 => 64 + (bits >> 16 & 1),
                1 => 0,
                _ => 1 + (bits >> 16 & 3),
            },
            ("Level", _) => 1 + (bits >> 8) % 3,
            ("Protection", _) => (bits >> 8) % 3,
            ("RingOrder", _) => 1 + (bits >> 8 & 1),
            ("Rights", _) if bits >> 8 & 1 == 0 => bits >> 16 & Rights::ALL.into_word(),
            ("Rights", _) => {
                let likely = [Rights::MEMORY, Rights::TAKE, Rights::INSPECT, Rights::CALL];
                let right = likely[(bits >> 16) as usize % likely.len()];
                Rights::GRANT.with(right).into_word()
            }
            (_, "deadline") => bits >> 8 & 1,
            (_, "key") => bits >> 8 & 15,
            (_, "badge") => bits >> 8 & 0xff,
            (_, "first") if call == "cap_derive" => {
                let first = board().frames[0].load(Relaxed);
                if bits >> 8 & 1 == 0 { 0 } else { first + (bits >> 16 & 0xff) }
            }
            (_, "count") if call == "cap_derive" => {
                if bits >> 8 & 1 == 0 {
                    0
                } else {
                    bits >> 16 & 0x3f
                }
            }
            (_, "first") => bits >> 8 & 0x7f,
            (_, "count" | "index" | "slots") => bits >> 8 & 7,
            (_, "length") => bits >> 8 & 0xff,
            _ => bits >> 8 & 0xffff,
        }
    }
}
