//! Short sequences that make things and take them apart, some of them only half.

use core::sync::atomic::Ordering::Relaxed;

use exo_abi::boot::{SELF, STACK_TOP};
use exo_abi::{BATCH_WORDS, FRAME_BYTES, LARGE_PAGES, Rights, RingOrder, Word, call_number};
use selftest::frames::write;
use selftest::server::area;

use crate::member::{Member, serves};
use crate::pick::Want;
use crate::place::{CREW, FILTERS, KEY, SCRATCH, SERVICE_STACK, TOLD, Told, board};
use crate::upcall;

/// Times that a call is made again that is done in steps.
const STEPS: u64 = 64;

impl Member {
    /// One of them.
    pub(crate) fn sequence(&mut self) {
        match self.random.below(22) {
            20 | 21 => self.stores(),
            0 | 1 => self.takes(),
            2 | 3 => self.maps(),
            4 => self.builds_tables(),
            5 | 6 => self.derives(),
            7 => self.creates(),
            8 | 9 => self.listens(),
            10 => self.offers(),
            11 | 12 => self.uses(),
            13 => {
                let [first, count] = board().frames.each_ref().map(|word| word.load(Relaxed));
                let half = self.random.below(count / 512);
                self.maps_large(first + 512 * half);
            }
            14 => self.asks_back(),
            15 => self.makes_many(),
            16 | 17 => self.tidies(),
            18 => self.faults(),
            _ => self.scribbles(),
        }
    }

    pub(crate) fn go(&mut self, number: u64, words: &[u64]) -> Option<u64> {
        let mut all = [0; 6];
        all.iter_mut().zip(words).for_each(|(word, value)| *word = *value);
        self.call(number, all).ok()
    }

    /// A few times, for calls done in steps.
    fn go_on(&mut self, number: u64, words: &[u64]) {
        let mut all = [0; 6];
        all.iter_mut().zip(words).for_each(|(word, value)| *word = *value);
        for _ in 0..self.random.below(STEPS) {
            if self.call(number, all) != Err(exo_abi::Error::Again) {
                break;
            }
        }
    }

    /// Takes a run of frames for itself, or for another environment.
    fn take(&mut self, most: u64) -> Option<(u64, u64)> {
        let count = 1 + self.random.below(most);
        let first = self.frame(Want::Free);
        let range = self.handle(Told::Frames);
        self.go(call_number("frames_take"), &[range, SELF.into_word(), first, count])?;
        Some((first, count))
    }

    /// Makes itself at home: frames, and page tables where things will be mapped. The
    /// first of the crew may then begin with a large page, while there is room for it.
    pub(crate) fn settles(&mut self) {
        // Capabilities that come with calls are welcome, in most.
        area().grants.store(u64::from(self.random.below(4) != 0), Relaxed);
        let [first, count] = board().frames.each_ref().map(|word| word.load(Relaxed));
        let (range, own) = (self.handle(Told::Frames), SELF.into_word());
        let large = self.index == 0 && self.random.below(2) == 0;
        if large {
            // From the end, so that the first half stays whole.
            self.go(call_number("frames_take"), &[range, own, first + count - 8, 8]);
        } else {
            for _ in 0..4 {
                let _ = self.take(6);
            }
        }
        let at = crate::place::PLAYGROUND.get();
        for at in [at, at + 0x20_0000] {
            for level in (1..=3).rev() {
                let frame = self.frame(Want::Quiet);
                self.go(call_number("table_install"), &[own, at, level, frame]);
            }
        }
        if large {
            self.maps_large(first);
        }
    }

    /// Drops some of what it made.
    fn tidies(&mut self) {
        for _ in 0..self.random.below(6) {
            let place = self.random.below(16) as usize;
            let known = self.known.get(place).copied().unwrap_or(0) & !(0xff << 56);
            self.go_on(call_number("cap_drop"), &[known]);
        }
    }

    fn takes(&mut self) {
        let Some((first, count)) = self.take(8) else { return };
        if self.random.below(3) == 0 {
            self.go(call_number("frames_free"), &[first, count]);
        }
    }

    fn maps(&mut self) {
        let space =
            if self.random.below(3) == 0 { self.handle(Told::Env) } else { SELF.into_word() };
        let owner =
            if self.random.below(3) == 0 { self.handle(Told::Env) } else { SELF.into_word() };
        let want = match self.random.below(4) {
            0 => Want::Table,
            1 => Want::Foreign,
            _ => Want::Memory,
        };
        let (frame, at) = (self.frame(want), self.place());
        let (count, protection) = (1 + self.random.below(3), self.random.below(3));
        self.go(call_number("map"), &[space, owner, frame, at, count, protection]);
        if self.random.below(2) == 0 {
            self.go(call_number("unmap"), &[space, at, count]);
        }
    }

    fn builds_tables(&mut self) {
        let space =
            if self.random.below(4) == 0 { self.handle(Told::Env) } else { SELF.into_word() };
        let at = self.place();
        for level in (1..=3).rev() {
            let frame = self.frame(Want::Quiet);
            self.go(call_number("table_install"), &[space, at, level, frame]);
        }
        if self.random.below(2) == 0 {
            for level in 1..=3 {
                self.go(call_number("table_remove"), &[space, at, level]);
            }
        }
    }

    fn derives(&mut self) {
        let what = [
            Told::Env,
            Told::Frames,
            Told::Net,
            Told::Entry,
            Told::Doorbell,
            Told::Binding,
            Told::Disk,
        ];
        let what = what[self.random.below(7) as usize % what.len()];
        let source = self.handle(what);
        let (first, count) = match what {
            Told::Disk => {
                let [first, count] = board().extent.each_ref().map(|word| word.load(Relaxed));
                (first + self.random.below(count.max(1)), 1 + self.random.below(64))
            }
            Told::Frames => (board().frames[0].load(Relaxed) + self.random.below(256), 32),
            _ => (0, 0),
        };
        let rights = match self.random.below(3) {
            0 => self.random.below(1 << 13),
            1 if what == Told::Disk => {
                Rights::GRANT.with(Rights::READ).with(Rights::WRITE).into_word()
            }
            1 => Rights::GRANT.with(Rights::MEMORY).into_word(),
            _ => Rights::GRANT.into_word(),
        };
        let Some(derived) = self.go(call_number("cap_derive"), &[source, rights, first, count])
        else {
            return;
        };
        self.note(what, derived);
        for _ in 0..self.random.below(3) {
            self.grants(what, derived);
        }
        match self.random.below(4) {
            0 => self.go_on(call_number("cap_revoke"), &[source]),
            1 => self.go_on(call_number("cap_drop"), &[derived]),
            2 => self.go_on(call_number("cap_drop"), &[source]),
            _ => {}
        }
    }

    /// Gives a capability to an environment, and says so if it is one of the crew.
    fn grants(&mut self, what: Told, capability: u64) {
        // Of the first that each was told of, it is known which environment they are for.
        let other = self.random.below(CREW as u64) as usize;
        let place = crate::place::first_of(self.index, other);
        let row = board().told.get(self.index);
        let told = row.and_then(|row| row.get(place)).map_or(0, |word| word.load(Relaxed));
        let env = told & !(0xff << 56);
        if let Some(handle) = self.go(call_number("cap_grant"), &[capability, env]) {
            let free = crate::place::FIXED
                + self.random.below((TOLD - crate::place::FIXED) as u64) as usize;
            board().tell(other, free, what, handle);
        }
    }

    /// An environment of its own, filled a little, perhaps started, perhaps destroyed.
    fn creates(&mut self) {
        let _ = self.take(6);
        let parts = [(); 4].map(|()| self.frame(Want::Quiet));
        let Some(env) = self.go(call_number("env_create"), &parts) else { return };
        for _ in 0..self.random.below(6) {
            let (range, frame) = (self.handle(Told::Frames), self.frame(Want::Free));
            self.go(call_number("frames_take"), &[range, env, frame, 1]);
            let (at, level) = (self.place(), 1 + self.random.below(3));
            self.go(call_number("table_install"), &[env, at, level, frame]);
            let own = self.frame(Want::Memory);
            self.go(call_number("map"), &[env, SELF.into_word(), own, at, 1, 1]);
            self.go(call_number("map"), &[SELF.into_word(), env, frame, at, 1, 1]);
        }
        self.grants(Told::Env, env);
        if self.random.below(2) == 0 {
            self.go(call_number("env_start"), &[env, 0x40_0000, STACK_TOP, 0]);
            self.go(call_number("slice_donate"), &[env]);
        }
        if self.random.below(3) != 0 {
            self.go_on(call_number("env_destroy"), &[env]);
        }
    }

    /// A binding with filters; sends and receives.
    fn listens(&mut self) {
        let Some(order) = RingOrder::new(1 + self.random.below(2) as u8) else { return };
        let count = u64::from(order.frames()) + 1;
        let first = self.frame(Want::Free);
        let range = self.handle(Told::Frames);
        let own = SELF.into_word();
        let Some(_) = self.go(call_number("frames_take"), &[range, own, first, count]) else {
            return;
        };
        let mut net = self.handle(Told::Net);
        let mut scope = None;
        if self.random.below(2) == 0 {
            // By a scope within, that may go before the binding does.
            let index = self.random.below(4) as usize;
            let key = SCRATCH.get() + (FILTERS[index] + KEY) as u64;
            let length = dpf::KEY_WIRE as u64;
            let (object, code) = (self.frame(Want::Quiet), self.frame(Want::Quiet));
            if let Some(made) = self.go(call_number("net_scope"), &[net, key, length, object, code])
            {
                self.grants(Told::Net, made);
                (net, scope) = (made, Some(object));
            }
        }
        let words = [net, first, order.into_word(), first + count - 1];
        let Some(binding) = self.go(call_number("net_bind"), &words) else {
            self.go(call_number("frames_free"), &[first, count]);
            return;
        };
        for _ in 0..1 + self.random.below(3) {
            let index = self.random.below(4) as usize;
            let (filter, length) =
                (SCRATCH.get() + FILTERS[index] as u64, self.filter_length(index));
            let (object, code) = (self.frame(Want::Quiet), self.frame(Want::Quiet));
            self.go(call_number("filter_install"), &[binding, filter, length, object, code]);
        }
        if board().speaks.load(Relaxed) != 0 {
            self.speaks(first, order);
        }
        self.grants(Told::Binding, binding);
        self.go(call_number("net_sync"), &[binding]);
        if self.random.below(2) == 0 {
            let object = self.frame(Want::Filter);
            self.go(call_number("filter_remove"), &[binding, object]);
        }
        if let Some(object) = scope
            && self.random.below(2) == 0
        {
            self.go_on(call_number("net_unscope"), &[object]);
            self.go(call_number("net_sync"), &[binding]);
        }
        if self.random.below(4) != 0 {
            self.go_on(call_number("net_unbind"), &[binding]);
        }
    }

    /// Fills a transmit ring with datagrams from the own address, some long.
    fn speaks(&mut self, first: u64, order: RingOrder) {
        let at = self.place();
        let own = SELF.into_word();
        let pages = u64::from(order.frames());
        if self.go(call_number("map"), &[own, own, first, at, pages, 1]).is_none() {
            return;
        }
        let base = at as usize;
        let put = |offset: usize, byte: u8| {
            let place = core::ptr::with_exposed_provenance_mut::<u8>(base + offset);
            // SAFETY: in the pages mapped just now; an environment that takes them away makes
            // this child fault, which it may.
            unsafe { place.write_volatile(byte) };
        };
        let ring = core::mem::offset_of!(exo_abi::RingPage, tx_produced);
        let lengths = core::mem::offset_of!(exo_abi::RingPage, tx_length);
        let address = board().address.load(Relaxed).to_le_bytes();
        for slot in 0..order.slots() {
            let length: u16 = if self.random.below(2) == 0 { 64 } else { 1200 };
            let frame = order.tx_offset(slot);
            // Ethernet, IPv4 and UDP, as far as filters look.
            let bytes: [(usize, &[u8]); 6] = [
                (0, &[0x52, 0x55, 10, 0, 2, 2]),
                (6, &[0x52, 0x54, 0x00, 0x12, 0x34, 0x56, 8, 0, 0x45, 0]),
                (16, &(length - 14).to_be_bytes()),
                (22, &[64, 17]),
                (26, &[address[0], address[1], address[2], address[3], 10, 0, 2, 2]),
                (34, &[0x1f, 0x90, 0, 9]),
            ];
            for (offset, bytes) in bytes {
                (frame + offset..).zip(bytes).for_each(|(place, byte)| put(place, *byte));
            }
            (lengths + 2 * slot as usize..)
                .zip(length.to_le_bytes())
                .for_each(|(place, byte)| put(place, byte));
        }
        put(ring, order.slots() as u8);
        self.go(call_number("unmap"), &[own, at, pages]);
    }

    /// An entry or a doorbell, for others to use.
    fn offers(&mut self) {
        let made = if self.random.below(3) == 0 {
            (Told::Doorbell, self.go(call_number("doorbell_create"), &[]))
        } else {
            let stack = SERVICE_STACK.get() + FRAME_BYTES - 8;
            let index = self.random.below(3);
            let address = serves as *const () as u64;
            (Told::Entry, self.go(call_number("entry_create"), &[index, address, stack]))
        };
        let (what, Some(plain)) = made else { return };
        let badge = 1 + self.random.below(9);
        let badged = self.go(call_number("cap_badge"), &[plain, badge]);
        for _ in 0..2 {
            self.grants(what, badged.unwrap_or(plain));
        }
    }

    /// Calls, sends, rings, yields, sleeps.
    fn uses(&mut self) {
        let (entry, bell) = (self.handle(Told::Entry), self.handle(Told::Doorbell));
        let env = self.handle(Told::Env);
        match self.random.below(8) {
            0..=2 => {
                let grant = self.gift();
                self.go(call_number("transfer_call"), &[entry, grant])
            }
            3 => {
                let grant = self.gift();
                self.go(call_number("transfer_send"), &[entry, grant])
            }
            4 => self.go(call_number("doorbell_ring"), &[bell]),
            5 => self.go(call_number("slice_donate"), &[env]),
            6 => self.go(call_number("slice_yield"), &[]),
            _ => {
                let seen = area().events.load(Relaxed);
                self.go(call_number("wait"), &[seen, 0])
            }
        };
    }

    /// What is to come with a call: nothing, or anything it has.
    fn gift(&mut self) -> u64 {
        let kinds = [Told::Other, Told::Env, Told::Frames, Told::Net, Told::Entry, Told::Binding];
        let kind = kinds.get(self.random.below(12) as usize);
        kind.map_or(0, |kind| self.handle(*kind))
    }

    /// Two MiB at once, of the frames from `first` on.
    fn maps_large(&mut self, first: u64) {
        let (range, own) = (self.handle(Told::Frames), SELF.into_word());
        for piece in 0..8 {
            if self.go(call_number("frames_take"), &[range, own, first + 64 * piece, 64]).is_none()
            {
                for piece in 0..piece {
                    self.go(call_number("frames_free"), &[first + 64 * piece, 64]);
                }
                return;
            }
        }
        let at = crate::place::PLAYGROUND.get() + 0x40_0000 + 0x20_0000 * self.random.below(2);
        let protection = self.random.below(3);
        self.go(call_number("map"), &[own, own, first, at, LARGE_PAGES.into(), protection]);
        for _ in 0..self.random.below(4) {
            self.random_call();
        }
        if self.random.below(3) != 0 {
            self.go(call_number("unmap"), &[own, at, LARGE_PAGES.into()]);
            for piece in 0..8 {
                self.go(call_number("frames_free"), &[first + 64 * piece, 64]);
            }
        }
    }

    /// Asks an environment for frames back.
    fn asks_back(&mut self) {
        let env = self.handle(Told::Env);
        let wanted = 1 + self.random.below(3);
        self.go(call_number("revoke_request"), &[env, wanted, 0, 1]);
        let frame = self.frame(Want::Foreign);
        self.go_on(call_number("revoke_enforce"), &[env, frame]);
    }

    /// Several calls in one.
    fn makes_many(&mut self) {
        let count = self.random.below(9);
        for index in 0..count {
            let number = self.random.below(exo_abi::SYSCALLS.len() as u64 + 1);
            let words = self.words(number);
            let base = index as usize * BATCH_WORDS * 8;
            write(SCRATCH, base, number);
            for (offset, word) in (1..).zip(words) {
                write(SCRATCH, base + 8 * offset, word);
            }
        }
        self.go(call_number("batch"), &[SCRATCH.get(), count]);
    }

    /// Writes its requests into the U-area, or nonsense.
    fn scribbles(&mut self) {
        let area = area();
        let bits = self.random.word();
        let entry = match bits & 7 {
            0 => bits,
            1..=5 => upcall::entry as *const () as u64,
            _ => 0,
        };
        area.upcall.stack.store(SERVICE_STACK.get() + 2048, Relaxed);
        area.upcall.entry.store(entry, Relaxed);
        area.upcall.wanted.store((bits >> 8) as u32 & 31, Relaxed);
        area.upcall.masked.store((bits >> 16 & 3 == 3).into(), Relaxed);
        let memory = self.frame(Want::Memory);
        if let Some(place) = area.revocation.expendable.first() {
            place.store(memory as u32, Relaxed);
        }
        area.ring.consumed.store((bits >> 32) as u32, Relaxed);
        area.grants.store(u64::from(bits >> 18 & 3 != 0), Relaxed);
    }
}
