//! Requests against a simulated disk: the test reads the queue and answers as the device would.

use std::sync::atomic::Ordering::Relaxed;

use exo_abi::{
    DiskOperation, DiskRequest, DiskRing, EnvState, Error, FrameKind, Pfn, Rights, Word,
};

use crate::capability::{self, CapRef, Kind, Object};
use crate::env::Env;
use crate::kernel::Kernel;
use crate::memory;
use crate::testing::{
    ALL_FRAMES, DISK_FIRST, DISK_SECTORS, OWN, call, child, destroy, disk_with, free_frames,
    machine, stint,
};

/// The device's side of the queue, and what it stores.
struct Disk {
    seen: u16,
    done: u16,
    /// Heads of requests taken, and not done.
    taken: Vec<u16>,
    stored: Vec<u8>,
}

/// A request as the device finds it.
struct Found {
    kind: u32,
    sector: u64,
    /// Address, length, and whether the device is to write there.
    data: Option<(u64, usize, bool)>,
    status: u64,
}

impl Disk {
    fn new() -> Self {
        let stored = (0..DISK_SECTORS * 512).map(|at| (at / 512) as u8).collect();
        Self { seen: 0, done: 0, taken: Vec::new(), stored }
    }

    fn at(offset: usize) -> *mut u8 {
        memory::frame(DISK_FIRST).wrapping_add(offset)
    }

    fn word16(offset: usize) -> u16 {
        // SAFETY: the queue's frames of simulated memory.
        unsafe { Self::at(offset).cast::<u16>().read() }
    }

    fn put<T>(offset: usize, value: T) {
        // SAFETY: as above.
        unsafe { Self::at(offset).cast::<T>().write(value) };
    }

    /// Takes what was made available. Returns how many.
    fn take(&mut self) -> usize {
        let before = self.taken.len();
        while Self::word16(4096 + 2) != self.seen {
            self.taken.push(Self::word16(4096 + 4 + 2 * usize::from(self.seen % 256)));
            self.seen = self.seen.wrapping_add(1);
        }
        self.taken.len() - before
    }

    fn parts(head: u16) -> Vec<(u64, usize, bool)> {
        let (mut parts, mut index) = (Vec::new(), head);
        loop {
            let at = Self::at(usize::from(index) * 16);
            // SAFETY: the descriptor table in simulated memory.
            let (address, rest) =
                unsafe { (at.cast::<u64>().read(), at.add(8).cast::<u64>().read()) };
            parts.push((address, rest as u32 as usize, rest >> 33 & 1 != 0));
            if rest >> 32 & 1 == 0 {
                return parts;
            }
            index = (rest >> 48) as u16;
        }
    }

    fn find(head: u16) -> Found {
        let parts = Self::parts(head);
        let (first, last) = (parts[0], parts[parts.len() - 1]);
        assert_eq!((first.1, first.2, last.1, last.2), (16, false, 1, true));
        let at = memory::physical(first.0);
        // SAFETY: the slot's head in simulated memory.
        let (kind, sector) = unsafe { (at.cast::<u32>().read(), at.add(8).cast::<u64>().read()) };
        let data = (parts.len() == 3).then(|| parts[1]);
        Found { kind, sector, data, status: last.0 }
    }

    /// Does the request at `place` of those taken, and says `status`.
    fn finish(&mut self, place: usize, status: u8) {
        let head = self.taken.remove(place);
        let found = Self::find(head);
        let mut written = 1;
        if let Some((address, length, fills)) = found.data.filter(|_| status == 0) {
            let memory = memory::physical(address);
            let from = found.sector as usize * 512;
            // SAFETY: the data's place in simulated memory.
            let memory = unsafe { std::slice::from_raw_parts_mut(memory, length) };
            match found.kind {
                0 => memory.copy_from_slice(&self.stored[from..from + length]),
                1 => self.stored[from..from + length].copy_from_slice(memory),
                13 => {
                    let first = u64::from_le_bytes(memory[..8].try_into().unwrap()) as usize * 512;
                    let count = u32::from_le_bytes(memory[8..12].try_into().unwrap()) as usize;
                    self.stored[first..first + count * 512].fill(0);
                }
                _ => {}
            }
            written += if fills { length } else { 0 };
        }
        // SAFETY: the slot's status in simulated memory.
        unsafe { memory::physical(found.status).write(status) };
        self.used(head.into(), written as u32);
    }

    /// Says that it is done with `head`, whatever that is.
    fn used(&mut self, head: u32, written: u32) {
        let at = 4096 + 1024 + 4 + 8 * usize::from(self.done % 256);
        Self::put(at, head);
        Self::put(at + 4, written);
        self.done = self.done.wrapping_add(1);
        Self::put(4096 + 1024 + 2, self.done);
    }

    fn finish_all(&mut self) {
        self.take();
        while !self.taken.is_empty() {
            self.finish(0, 0);
        }
    }
}

/// An environment with a binding to sectors 100 to 199, and memory.
struct App {
    kernel: &'static Kernel,
    env: &'static Env,
    handle: u64,
    /// Root's capability for the extent, and the environment's.
    given: u64,
    extent: u64,
    binding: u64,
    first: u32,
    index: u32,
    consumed: u32,
}

const ALL: Rights = Rights::READ.with(Rights::WRITE).with(Rights::GRANT);

/// A machine, and root's capability for the whole disk.
fn disk_machine() -> (&'static Kernel, &'static Env, u64) {
    let (kernel, root) = machine();
    crate::schedule::set_state(kernel, root, EnvState::Ready);
    let object = Object::range(Kind::Disk, 0, DISK_SECTORS);
    let all =
        capability::insert(&kernel.frames, &root.capabilities, object, Rights::ALL, CapRef::NONE);
    (kernel, root, all.expect("room").into_word())
}

impl App {
    fn new(kernel: &'static Kernel, root: &'static Env, all: u64, first: u32) -> Self {
        Self::with(kernel, root, all, first, ALL)
    }

    fn with(
        kernel: &'static Kernel,
        root: &'static Env,
        all: u64,
        first: u32,
        rights: Rights,
    ) -> Self {
        let (env, handle) = child(kernel, root, first);
        let memory = u64::from(first) + 10;
        call(kernel, root, "frames_take", &[ALL_FRAMES, handle, memory, 40]).unwrap();
        let given = call(kernel, root, "cap_derive", &[all, rights.into_word(), 100, 100]);
        let given = given.expect("a part");
        let extent = call(kernel, root, "cap_grant", &[given, handle]).expect("room");
        let binding = call(kernel, env, "disk_bind", &[extent, memory, memory + 1]);
        let binding = binding.expect("a binding");
        let first = first + 10;
        Self { kernel, env, handle, given, extent, binding, first, index: 0, consumed: 0 }
    }

    fn ring(&self) -> &'static DiskRing {
        // SAFETY: the ring's frame of simulated memory; all atomics.
        unsafe { &*memory::frame(Pfn(self.first)).cast() }
    }

    /// Frame `number` of its memory.
    fn page(&self, number: u32) -> &'static mut [u8] {
        // SAFETY: simulated memory, which the tests use in turn with the device.
        unsafe { std::slice::from_raw_parts_mut(memory::frame(Pfn(self.first + number)), 4096) }
    }

    fn submit(&mut self, request: DiskRequest) {
        self.ring().submit(self.index, request);
        self.index = self.index.wrapping_add(1);
    }

    /// The environment's own request for `sectors` at `first` with a buffer in frame `page`.
    fn request(
        &self,
        operation: DiskOperation,
        first: u64,
        sectors: u32,
        page: u32,
    ) -> DiskRequest {
        let buffer = Pfn(self.first + page).address();
        DiskRequest { operation: operation as u32, sectors, first, buffer, tag: first ^ 0xabc }
    }

    fn sync(&self) -> u64 {
        call(self.kernel, self.env, "disk_sync", &[self.binding]).expect("its own")
    }

    fn next(&mut self) -> Option<(u64, Result<(), Error>)> {
        let completion = self.ring().completion(self.consumed)?;
        self.consumed = self.consumed.wrapping_add(1);
        self.ring().consumed.0.store(self.consumed, Relaxed);
        Some((completion.tag, completion.result))
    }

    /// Submits one request alone and returns how it was refused.
    fn refusal(&mut self, request: DiskRequest) -> Result<(), Error> {
        self.submit(request);
        assert_eq!(self.sync(), 1);
        let (tag, result) = self.next().expect("refused at once");
        assert_eq!(tag, request.tag);
        result
    }
}

use DiskOperation::{Discard, Flush, Read, Write, WriteZeroes};

#[test]
fn sectors_are_written_and_read_where_the_extent_lies() {
    let (kernel, root, all) = disk_machine();
    let (mut app, mut disk) = (App::new(kernel, root, all, 600), Disk::new());
    let events = app.env.events.get();
    app.page(2)[..512].fill(7);
    app.submit(app.request(Write, 100, 1, 2));
    app.submit(app.request(Flush, 0, 0, 0));
    app.submit(app.request(WriteZeroes, 102, 2, 0));
    app.submit(app.request(Discard, 190, 10, 0));
    app.submit(app.request(Read, 196, 4, 3));
    assert_eq!(app.sync(), 5);
    assert_eq!(disk.take(), 5);
    let kinds: Vec<_> = disk.taken.iter().map(|head| Disk::find(*head).kind).collect();
    assert_eq!(kinds, [1, 4, 13, 11, 0]);
    assert_eq!(app.next(), None, "the device has not answered");
    // In another order.
    for place in [4, 0, 0, 0, 0] {
        disk.finish(place, 0);
    }
    app.sync();
    let tags = [196, 100, 0, 102, 190].map(|first| (first ^ 0xabc, Ok(())));
    for tag in tags {
        assert_eq!(app.next(), Some(tag));
    }
    assert_eq!(app.next(), None);
    assert!(app.env.events.get() > events, "the owner was told");
    assert_eq!(disk.stored[100 * 512..102 * 512], [[7; 512], [101; 512]].concat());
    assert_eq!(disk.stored[102 * 512..105 * 512], [[0; 512], [0; 512], [104; 512]].concat());
    let read: Vec<u8> = (196..200).flat_map(|sector| [sector as u8; 512]).collect();
    assert_eq!(app.page(3)[..2048], read);
    crate::check::all(kernel).expect("all counts are right");
}

#[test]
fn nothing_outside_of_the_extent_is_reached() {
    let (kernel, root, all) = disk_machine();
    let mut app = App::new(kernel, root, all, 600);
    for operation in [Read, Write, Discard, WriteZeroes] {
        for (first, sectors) in [
            (99, 1),
            (99, 2),
            (0, 1),
            (200, 1),
            (199, 2),
            (100, 101),
            (150, u32::MAX),
            (u64::MAX, 1),
            (u64::MAX - 511, 512),
            (u64::MAX - 50, 151),
            ((1 << 32) + 100, 1),
            ((1 << 55) + 100, 1),
        ] {
            let request = app.request(operation, first, sectors, 2);
            assert_eq!(app.refusal(request), Err(Error::OutOfRange), "{operation:?} {first}");
        }
        let request = app.request(operation, 100, 0, 2);
        assert_eq!(app.refusal(request), Err(Error::BadArgument));
    }
    assert_eq!(Disk::new().take(), 0, "the device was asked for nothing");
    crate::check::all(kernel).expect("all counts are right");
}

#[test]
fn only_memory_of_the_owner_is_a_buffer() {
    let (kernel, root, all) = disk_machine();
    let mut app = App::new(kernel, root, all, 600);
    let first = app.first;
    let request = |buffer: u64, sectors| DiskRequest {
        operation: Read as u32,
        sectors,
        first: 100,
        buffer,
        tag: buffer,
    };
    let of_frame = |frame: u32| Pfn(frame).address();
    for (buffer, sectors, error) in [
        // The kernel's, the binding, the environment's object, another's, one that is free.
        (of_frame(1), 1, Error::NotOwned),
        (of_frame(first + 1), 1, Error::NotOwned),
        (of_frame(600), 1, Error::NotOwned),
        (of_frame(512), 1, Error::NotOwned),
        (of_frame(first + 40), 1, Error::NotOwned),
        // It begins or ends outside.
        (of_frame(first) - 512, 8, Error::NotOwned),
        (of_frame(first + 39) + 512, 8, Error::NotOwned),
        (of_frame(4096), 1, Error::NotOwned),
        (u64::MAX - 511, 1, Error::NotOwned),
        (u64::MAX - 1023, 8, Error::NotOwned),
        (1 << 44, 1, Error::NotOwned),
        (of_frame(first + 2) + 1, 1, Error::BadArgument),
        (of_frame(first + 2) + 256, 1, Error::BadArgument),
    ] {
        assert_eq!(app.refusal(request(buffer, sectors)), Err(error), "{buffer:#x}");
    }
    // A binding to all of the disk, where so many sectors are.
    let everything = call(kernel, root, "cap_grant", &[all, app.handle]).expect("room");
    let ring = u64::from(first) + 20;
    let binding = call(kernel, app.env, "disk_bind", &[everything, ring, ring + 1]);
    let mut app = App { binding: binding.expect("a binding"), first: ring as u32, index: 0, ..app };
    app.consumed = 0;
    for (sectors, error) in [(513, Error::BadArgument), (512, Error::NotOwned)] {
        assert_eq!(app.refusal(request(of_frame(first + 2), sectors)), Err(error));
    }
    assert_eq!(Disk::new().take(), 0);
    crate::check::all(kernel).expect("nothing stays pinned");
}

#[test]
fn rights_decide_what_may_be_asked_for() {
    let (kernel, root, all) = disk_machine();
    for (first, rights, allowed) in [
        (600, Rights::NONE, [false, false]),
        (700, Rights::READ, [true, false]),
        (800, Rights::WRITE, [false, true]),
    ] {
        let mut app = App::with(kernel, root, all, first, rights.with(Rights::GRANT));
        for operation in [Read, Write, Flush, Discard, WriteZeroes] {
            let request = app.request(operation, 100, 1, 2);
            app.submit(request);
            assert_eq!(app.sync(), 1);
            let wanted = (!allowed[usize::from(operation != Read)])
                .then_some((request.tag, Err(Error::NoRight)));
            assert_eq!(app.next(), wanted, "{operation:?} with {rights:?}");
        }
        let unknown = DiskRequest { operation: 5, ..app.request(Read, 100, 1, 2) };
        assert_eq!(app.refusal(unknown), Err(Error::BadArgument));
    }
}

#[test]
fn what_the_device_lacks_is_not_asked_of_it() {
    let (kernel, root, all) = disk_machine();
    let mut app = App::new(kernel, root, all, 600);
    *kernel.disk.borrow_mut() = disk_with(!(1 << 13 | 1 << 14));
    for operation in [Discard, WriteZeroes] {
        let request = app.request(operation, 100, 1, 2);
        assert_eq!(app.refusal(request), Err(Error::BadArgument));
    }
    assert!(disk_with(!(1 << 9)).is_none(), "no promise could be kept without flush");
}

#[test]
fn frames_that_the_device_uses_stay_what_they_are() {
    let (kernel, root, all) = disk_machine();
    let (mut app, mut disk) = (App::new(kernel, root, all, 600), Disk::new());
    app.submit(app.request(Read, 100, 8, 5));
    assert_eq!(app.sync(), 1);
    let frame = u64::from(app.first) + 5;
    let ring = u64::from(app.first);
    for frame in [frame, ring] {
        assert_eq!(call(kernel, app.env, "frames_free", &[frame, 1]), Err(Error::InUse));
        assert_eq!(call(kernel, app.env, "cap_grow", &[frame]), Err(Error::InUse));
    }
    let frames = &kernel.frames;
    let all = (0..frames.count()).filter(|frame| frames.is_memory_of(Pfn(*frame), app.env.id()));
    let mut taken = Vec::new();
    for frame in all.map(u64::from).collect::<Vec<_>>() {
        let enforce = || call(kernel, root, "revoke_enforce", &[app.handle, frame]);
        match std::iter::repeat_with(enforce).find(|result| *result != Err(Error::Again)) {
            Some(Ok(_)) => taken.push(frame),
            result => assert_eq!(result, Some(Err(Error::InUse))),
        }
    }
    assert_eq!(taken.len(), 37, "all but ring, object and buffer");
    assert!(!taken.contains(&frame) && !taken.contains(&ring));
    assert_eq!(call(kernel, app.env, "disk_unbind", &[ring + 1]), Err(Error::InUse));
    assert_eq!(destroy(kernel, root, app.handle), Err(Error::InUse));
    crate::check::all(kernel).expect("all counts are right");
    disk.finish_all();
    let free = free_frames(kernel);
    assert_eq!(destroy(kernel, root, app.handle), Ok(()));
    assert_eq!(free_frames(kernel), free + 4 + 3);
    crate::check::all(kernel).expect("all counts are right");
}

#[test]
fn a_revoked_extent_is_gone_when_the_device_is_done() {
    let (kernel, root, all) = disk_machine();
    let (mut app, mut disk) = (App::new(kernel, root, all, 600), Disk::new());
    let mut other = App::new(kernel, root, all, 700);
    app.submit(app.request(Write, 150, 2, 2));
    app.submit(app.request(Write, 160, 2, 2));
    assert_eq!(app.sync(), 2);
    let revoke = |cap| call(kernel, root, "cap_revoke", &[cap]);
    assert_eq!(revoke(app.given), Err(Error::InUse), "two requests are with the device");
    let dead = call(kernel, app.env, "disk_sync", &[app.binding]);
    assert_eq!(dead, Err(Error::BadHandle), "nothing more can be asked for");
    assert_eq!(
        call(kernel, app.env, "disk_bind", &[app.extent, u64::from(app.first) + 3, 0]),
        Err(Error::BadHandle)
    );
    // Others that have the same sectors are in no one's way.
    other.submit(other.request(Write, 150, 2, 2));
    assert_eq!(other.sync(), 1);
    disk.take();
    disk.finish(0, 0);
    assert_eq!(revoke(app.given), Err(Error::InUse), "one is");
    disk.finish(0, 0);
    assert_eq!(revoke(app.given), Ok(0));
    assert_eq!(
        (app.next(), app.next()),
        (Some((150 ^ 0xabc, Ok(()))), Some((160 ^ 0xabc, Ok(()))))
    );
    // What is left of the binding is its owner's to dissolve, once.
    let object = u64::from(app.first) + 1;
    assert_eq!(call(kernel, other.env, "disk_unbind", &[object]), Err(Error::NotOwned));
    assert_eq!(call(kernel, app.env, "disk_unbind", &[object]), Ok(0));
    assert_eq!(call(kernel, app.env, "disk_unbind", &[object]), Err(Error::NotOwned));
    assert_eq!(kernel.frames.kind(Pfn(object as u32)), Some(FrameKind::Memory));
    disk.finish_all();
    other.sync();
    assert_eq!(other.next(), Some((150 ^ 0xabc, Ok(()))));
    crate::check::all(kernel).expect("all counts are right");
}

#[test]
fn a_device_without_requests_is_asked_for_no_interrupt() {
    let (kernel, root, all) = disk_machine();
    let (mut app, mut disk) = (App::new(kernel, root, all, 600), Disk::new());
    let arm = || super::arm(kernel, &mut kernel.disk.borrow_mut());
    // After which of the entries it is done with it is to interrupt.
    let wanted = || Disk::word16(4096 + 4 + 2 * 256);
    let silent = 0_u16.wrapping_sub(1);
    assert!(!arm());
    assert_eq!(wanted(), silent);
    for done in 0..3 {
        app.submit(app.request(Write, 150, 2, 2));
        app.sync();
        assert!(!arm(), "it is not done yet");
        assert_eq!(wanted(), done);
        disk.finish_all();
        assert!(arm(), "it is done, and that was not seen");
        app.sync();
        super::disarm(&mut kernel.disk.borrow_mut());
        let silent = wanted();
        assert!(!arm());
        assert_eq!((wanted(), silent), (silent, done));
    }
}

#[test]
fn a_device_that_fails_or_lies_is_an_error_of_the_request() {
    let (kernel, root, all) = disk_machine();
    let (mut app, mut disk) = (App::new(kernel, root, all, 600), Disk::new());
    for (status, operation) in [(1, Read), (2, Write), (255, Flush), (1, WriteZeroes)] {
        app.submit(app.request(operation, 100, 1, 2));
        assert_eq!(app.sync(), 1);
        disk.take();
        disk.finish(0, status);
        app.sync();
        assert_eq!(app.next().map(|it| it.1), Some(Err(Error::DeviceFailed)), "{operation:?}");
    }
    // It says that all went well, but has written less than was asked for.
    app.submit(app.request(Read, 100, 8, 2));
    app.sync();
    disk.take();
    let head = disk.taken.remove(0);
    // SAFETY: the slot's status in simulated memory.
    unsafe { memory::physical(Disk::find(head).status).write(0) };
    disk.used(head.into(), 8 * 512);
    app.sync();
    assert_eq!(app.next().map(|it| it.1), Some(Err(Error::DeviceFailed)));
    // It is done with what it was not given, with parts of requests, twice.
    app.submit(app.request(Read, 100, 8, 2));
    app.sync();
    for head in [4, 1, 2, 3, 252, 255, 256, u32::MAX] {
        disk.used(head, 9000);
    }
    app.sync();
    assert_eq!(app.next(), None, "nothing of that was asked for");
    disk.take();
    let head = disk.taken[0];
    disk.finish(0, 0);
    disk.used(head.into(), 9000);
    app.sync();
    assert_eq!((app.next().map(|it| it.1), app.next()), (Some(Ok(())), None));
    crate::check::all(kernel).expect("all counts are right");
}

#[test]
fn lies_about_indices_cost_the_liar_alone() {
    let (kernel, root, all) = disk_machine();
    let (app, mut disk) = (App::new(kernel, root, all, 600), Disk::new());
    let mut other = App::new(kernel, root, all, 700);
    for (submitted, consumed) in
        [(u32::MAX, 0), (1 << 31, 0), (100, 50), (0, u32::MAX), (5, 1 << 31), (7, 3)]
    {
        app.ring().submitted.0.store(submitted, Relaxed);
        app.ring().consumed.0.store(consumed, Relaxed);
        app.ring().taken.0.store(submitted ^ 77, Relaxed);
        app.ring().completed.0.store(consumed ^ 99, Relaxed);
        let taken = app.sync();
        assert!(taken <= 64, "{taken} for {submitted}");
        disk.finish_all();
        other.submit(other.request(Read, 100, 1, 2));
        assert_eq!(other.sync(), 1);
        disk.finish_all();
        other.sync();
        assert_eq!(other.next(), Some((100 ^ 0xabc, Ok(()))));
        crate::check::all(kernel).expect("all counts are right");
    }
}

#[test]
fn no_more_is_taken_than_completions_find_room() {
    let (kernel, root, all) = disk_machine();
    let mut app = App::new(kernel, root, all, 600);
    let bad = DiskRequest { operation: 9, ..app.request(Read, 100, 1, 2) };
    for _ in 0..64 {
        app.submit(bad);
    }
    assert_eq!(app.sync(), 64);
    app.submit(bad);
    assert_eq!(app.sync(), 0, "64 completions wait");
    assert!(app.next().is_some());
    assert_eq!(app.sync(), 1);
}

/// What comes of one capability of root's takes half of what is free and no more, through
/// however many bindings and environments: another finds room.
#[test]
fn one_account_leaves_room_for_another() {
    let (kernel, root, all) = disk_machine();
    let (mut app, mut disk) = (App::new(kernel, root, all, 600), Disk::new());
    // A second binding of the same environment, to a part of the part.
    let narrower = [app.extent, ALL.into_word(), 110, 10];
    let narrower = call(kernel, app.env, "cap_derive", &narrower).expect("a part");
    let second = u64::from(app.first) + 20;
    let binding = call(kernel, app.env, "disk_bind", &[narrower, second, second + 1]);
    let mut again = App {
        binding: binding.expect("a binding"),
        first: second as u32,
        index: 0,
        consumed: 0,
        ..app
    };
    for turn in 0..40 {
        app.submit(app.request(Read, 110, 1, 2));
        again.submit(again.request(Read, 110 + turn % 10, 1, 2));
    }
    assert_eq!((app.sync(), again.sync(), app.sync()), (32, 0, 0));
    let mut other = App::new(kernel, root, all, 700);
    other.submit(other.request(Read, 110, 1, 2));
    assert_eq!(other.sync(), 1, "another finds room");
    disk.finish_all();
    assert_eq!(again.sync(), 32, "when they are done it goes on");
    crate::check::all(kernel).expect("all counts are right");
}

#[test]
fn a_call_ends_when_its_work_is_done_and_the_next_goes_on() {
    let (kernel, root, all) = disk_machine();
    let (mut app, mut disk) = (App::new(kernel, root, all, 600), Disk::new());
    for _ in 0..20 {
        app.submit(app.request(Read, 100, 64, 2));
    }
    stint(3000);
    let mut calls = Vec::new();
    while calls.iter().sum::<u64>() < 20 {
        calls.push(app.sync());
    }
    assert!(calls.len() > 3 && calls.iter().all(|taken| *taken > 0), "{calls:?}");
    disk.finish_all();
    let mut rounds = 0;
    let mut done = 0;
    while done < 20 {
        app.sync();
        done += std::iter::from_fn(|| app.next()).count();
        rounds += 1;
        assert!(rounds < 20);
    }
    assert!(rounds > 1, "not all at once");
}

#[test]
fn a_part_is_within_the_whole_and_a_binding_cannot_be_granted() {
    let (kernel, root, all) = disk_machine();
    let app = App::new(kernel, root, all, 600);
    let derive = |rights: Rights, first: u64, count: u64| {
        call(kernel, app.env, "cap_derive", &[app.extent, rights.into_word(), first, count])
    };
    for (first, count) in [(99, 1), (100, 101), (200, 1), (150, 51), (u64::from(u32::MAX), 1)] {
        assert_eq!(derive(ALL, first, count), Err(Error::OutOfRange), "{first} {count}");
    }
    assert_eq!(derive(ALL, 150, 0), Err(Error::OutOfRange));
    assert_eq!(derive(ALL.with(Rights::TAKE), 150, 1), Err(Error::NoRight));
    let reader = derive(Rights::READ.with(Rights::GRANT), 150, 50).expect("a part of it");
    let more = [reader, Rights::WRITE.into_word(), 150, 1];
    assert_eq!(call(kernel, app.env, "cap_derive", &more), Err(Error::NoRight));
    let copy = [app.binding, Rights::SYNC.into_word(), 0, 0];
    assert_eq!(call(kernel, app.env, "cap_derive", &copy), Err(Error::NoRight));
    for handle in [app.handle, ALL_FRAMES, OWN, app.binding + (1 << 32), app.binding ^ 1] {
        assert!(call(kernel, app.env, "disk_sync", &[handle]).is_err());
    }
    let page = u64::from(app.first) + 3;
    let bind = |ring, object| call(kernel, app.env, "disk_bind", &[app.extent, ring, object]);
    assert_eq!(bind(page, page), Err(Error::BadArgument));
    assert_eq!(bind(512, page), Err(Error::NotOwned));
    assert_eq!(bind(page, 512), Err(Error::NotOwned));
    assert_eq!(bind(page, u64::from(app.first)), Err(Error::InUse), "a ring is no object");
    *kernel.disk.borrow_mut() = None;
    assert_eq!(bind(page, page + 1), Err(Error::NoDevice));
}
