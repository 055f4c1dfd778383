//! Reaching for sectors of others, and for memory of others through the disk.
//!
//! The attacker has an extent; around it lie the table of extents and what others have. What it
//! does there by mistake of the kernel, the host sees in the disk's file afterwards.

use core::sync::atomic::Ordering::{Relaxed, Release};

use alloc::vec;
use alloc::vec::Vec;

use exo_abi::{
    DISK_RING, DiskCompletion, DiskOperation, DiskRequest, DiskRing, Error, FRAME_BYTES, FrameKind,
    Handle, Pfn, Protection, Rights, SECTOR_BYTES, UserPtr, VirtAddr, Word, boot::SELF,
};
use libos::disk::Extent;
use libos::sys;

use crate::attack::{Attack, Attacker, Attempt, PATIENCE, Verdict};
use crate::batches::{put, results};

use DiskOperation::{Discard, Flush, Read, Write, WriteZeroes};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "write the table of extents", run: table },
    Attack { name: "read sectors before its extent", run: before },
    Attack { name: "write sectors behind its extent", run: behind },
    Attack { name: "ask for sectors across its extent's ends", run: across },
    Attack { name: "ask for sector counts that wrap", run: wraps },
    Attack { name: "discard and clear sectors of others", run: clears },
    Attack { name: "derive a longer extent", run: longer },
    Attack { name: "write by a capability for reading", run: reader },
    Attack { name: "flush and clear by a capability for nothing", run: nothing },
    Attack { name: "make requests of unknown kinds and sizes", run: kinds },
    Attack { name: "have the disk fill frames of others", run: fills_foreign },
    Attack { name: "have the disk read frames of others", run: reads_foreign },
    Attack { name: "name buffers that reach out of memory", run: out_of_memory },
    Attack { name: "have the disk write its page tables", run: page_tables },
    Attack { name: "read sectors into the ring", run: into_ring },
    Attack { name: "free a buffer that the disk fills", run: free_buffer },
    Attack { name: "unmap and free a buffer that the disk fills", run: unmap_buffer },
    Attack { name: "make an environment of a buffer that the disk fills", run: donate_buffer },
    Attack { name: "lie about requests and completions", run: indices },
    Attack { name: "fill the ring with random words", run: random_ring },
    Attack { name: "free and donate a ring that is bound", run: free_ring },
    Attack { name: "bind rings of others", run: bind_foreign },
    Attack { name: "map the kernel's object of a binding", run: map_object },
    Attack { name: "dissolve a binding with requests at the disk", run: unbind_early },
    Attack { name: "dissolve a binding twice", run: unbind_twice },
    Attack { name: "dissolve what is no binding of its own", run: unbind_foreign },
    Attack { name: "make requests by forged and stale handles", run: handles },
    Attack { name: "hand a binding on", run: hand_on },
    Attack { name: "go on by an extent that was revoked", run: revoked },
    Attack { name: "bind an extent that was revoked", run: bind_revoked },
    Attack { name: "take all places at the disk", run: flood },
];

/// A ring of the attacker's own, bound.
struct Ring {
    binding: Handle,
    /// The ring, the kernel's object, and two pages for data.
    frames: Pfn,
    at: VirtAddr,
    submitted: u32,
    consumed: u32,
}

/// Where the second page of data lies behind the ring.
const DATA: u32 = 2;
const FRAMES: u32 = 4;

impl Ring {
    fn new(attacker: &Attacker, disk: Handle) -> Result<Self, Error> {
        let frames = attacker.frames.take(SELF, FRAMES)?;
        let at = attacker.window()?;
        sys::map(SELF, SELF, frames, at, 1, Protection::ReadWrite)?;
        let bound = sys::disk_bind(disk, frames, frames.plus(1));
        let binding = bound.and_then(Handle::from_word).inspect_err(|_| {
            let _ = sys::unmap(SELF, at, 1).and_then(|_| sys::frames_free(frames, FRAMES));
        })?;
        Ok(Self { binding, frames, at, submitted: 0, consumed: 0 })
    }

    fn page(&self) -> &'static DiskRing {
        // SAFETY: mapped in `new` until the ring is closed; all of it is atomics.
        unsafe { &*core::ptr::with_exposed_provenance(self.at.get() as usize) }
    }

    fn data(&self) -> u64 {
        self.frames.plus(DATA).address()
    }

    /// Submits a request for `sectors` from `first` on.
    fn submit(&mut self, operation: DiskOperation, first: u64, sectors: u32, buffer: u64) {
        self.put(DiskRequest { operation: operation as u32, sectors, first, buffer, tag: first });
    }

    fn put(&mut self, request: DiskRequest) {
        self.page().submit(self.submitted, request);
        self.submitted = self.submitted.wrapping_add(1);
    }

    fn sync(&self) -> Result<u64, Error> {
        sys::disk_sync(self.binding)
    }

    fn next(&mut self) -> Option<DiskCompletion> {
        let completion = self.page().completion(self.consumed)?;
        self.consumed = self.consumed.wrapping_add(1);
        self.page().consumed.0.store(self.consumed, Release);
        Some(completion)
    }

    /// What becomes of one request, as a call's result.
    fn ask(
        &mut self,
        operation: DiskOperation,
        first: u64,
        sectors: u32,
        buffer: u64,
    ) -> Result<u64, Error> {
        self.submit(operation, first, sectors, buffer);
        self.answer()
    }

    /// The answer to the one request that was made.
    fn answer(&mut self) -> Result<u64, Error> {
        self.sync()?;
        let mut tries = 0;
        loop {
            if let Some(completion) = self.next() {
                return completion.result.map(|()| completion.tag);
            }
            tries += 1;
            if tries > PATIENCE >> 16 {
                return Err(Error::WrongState);
            }
            sys::slice_yield()?;
            self.sync()?;
        }
    }

    /// Whether an honest request is answered.
    fn works(&mut self, extent: Extent) -> Result<bool, Error> {
        let data = self.data();
        Ok(self.ask(Read, extent.first.into(), 8, data).is_ok())
    }

    /// Dissolves the binding, once the disk is done.
    fn unbind(&self) -> Result<(), Error> {
        let mut tries = 0;
        while let Err(error) = sys::disk_unbind(self.frames.plus(1)) {
            tries += 1;
            if error != Error::InUse || tries > PATIENCE >> 16 {
                return Err(error);
            }
            sys::slice_yield()?;
        }
        // Revoked, if it was not dropped.
        let _ = sys::cap_drop(self.binding);
        Ok(())
    }

    /// Binds the same ring anew, whatever is in it, and asks an honest question.
    fn works_again(&mut self, attacker: &Attacker) -> Result<bool, Error> {
        let (disk, extent) = attacker.environment.start.disk.ok_or(Error::NoDevice)?;
        self.unbind()?;
        self.binding = Handle::from_word(sys::disk_bind(disk, self.frames, self.frames.plus(1))?)?;
        (self.submitted, self.consumed) = (0, 0);
        self.works(extent)
    }

    /// Gives everything back, once the disk is done.
    fn close(self) -> Result<(), Error> {
        self.unbind()?;
        sys::unmap(SELF, self.at, 1)?;
        sys::frames_free(self.frames, FRAMES).map(drop)
    }
}

/// Makes an attempt with a ring on the own extent, if there is one.
fn with_ring(
    attacker: &mut Attacker,
    attempt: impl FnOnce(&mut Attacker, &mut Ring, Extent) -> Attempt,
) -> Attempt {
    let Some((disk, extent)) = attacker.environment.start.disk else {
        return Ok(Verdict::not_tried("no disk"));
    };
    let mut ring = Ring::new(attacker, disk)?;
    let verdict = attempt(attacker, &mut ring, extent);
    ring.close()?;
    verdict
}

/// Each of these requests is refused for being out of the extent.
fn all_outside(
    attacker: &mut Attacker,
    operations: &[DiskOperation],
    tries: impl Fn(u64, u64) -> Vec<(u64, u32)>,
) -> Attempt {
    with_ring(attacker, |_, ring, extent| {
        let (first, end) = (u64::from(extent.first), u64::from(extent.first + extent.sectors));
        let data = ring.data();
        let results: Vec<_> = operations
            .iter()
            .flat_map(|operation| tries(first, end).into_iter().map(move |it| (*operation, it)))
            .map(|(operation, (first, sectors))| ring.ask(operation, first, sectors, data))
            .collect();
        Ok(Verdict::every(results.into_iter(), &[Error::OutOfRange]))
    })
}

fn table(attacker: &mut Attacker) -> Attempt {
    all_outside(attacker, &[Write, Read, WriteZeroes], |_, _| (0..16).map(|at| (at, 1)).collect())
}

fn before(attacker: &mut Attacker) -> Attempt {
    all_outside(attacker, &[Read, Write], |first, _| [1, 2, 8].map(|back| (first - back, 1)).into())
}

fn behind(attacker: &mut Attacker) -> Attempt {
    all_outside(attacker, &[Write, Read], |_, end| [0, 1, 100].map(|on| (end + on, 1)).into())
}

fn across(attacker: &mut Attacker) -> Attempt {
    all_outside(attacker, &[Write, Read, Discard, WriteZeroes], |first, end| {
        [(first - 1, 2), (end - 1, 2), (first - 1, (end - first) as u32 + 2)].into()
    })
}

fn wraps(attacker: &mut Attacker) -> Attempt {
    all_outside(attacker, &[Write, Read, Discard, WriteZeroes], |first, _| {
        [
            (u64::MAX, 1),
            (u64::MAX, u32::MAX),
            (u64::MAX - 7, 8),
            (u64::MAX - 7, 8 + first as u32),
            (first, u32::MAX),
            (first + 1, u32::MAX),
            (first | 1 << 32, 1),
            (first | 1 << 55, 1),
            (first | 1 << 63, 1),
        ]
        .into()
    })
}

fn clears(attacker: &mut Attacker) -> Attempt {
    all_outside(attacker, &[Discard, WriteZeroes], |first, end| {
        [(0, 16), (first - 1, 1), (end, 1), (end, 1 << 16), (0, end as u32)].into()
    })
}

fn longer(attacker: &mut Attacker) -> Attempt {
    with_ring(attacker, |attacker, _, extent| {
        let Some((disk, _)) = attacker.environment.start.disk else {
            return Err(Error::NoDevice);
        };
        let (first, sectors) = (u64::from(extent.first), u64::from(extent.sectors));
        let tries = [
            (first - 1, 1),
            (first - 1, sectors),
            (first, sectors + 1),
            (first + sectors, 1),
            (0, first + sectors),
            (first + 1, u64::from(u32::MAX)),
            (u64::from(u32::MAX), 1),
        ];
        let derive = |(first, count)| sys::cap_derive(disk, Rights::READ, first, count);
        Ok(Verdict::every(tries.into_iter().map(derive), &[Error::OutOfRange]))
    })
}

/// Makes requests through a capability with these rights only.
fn with_rights(attacker: &mut Attacker, rights: Rights, operations: &[DiskOperation]) -> Attempt {
    let Some((disk, extent)) = attacker.environment.start.disk else {
        return Ok(Verdict::not_tried("no disk"));
    };
    let (first, sectors) = (u64::from(extent.first), u64::from(extent.sectors));
    let less = Handle::from_word(sys::cap_derive(disk, rights, first, sectors)?)?;
    let mut ring = Ring::new(attacker, less)?;
    let data = ring.data();
    let mut results: Vec<_> =
        operations.iter().map(|operation| ring.ask(*operation, first, 1, data)).collect();
    // Nor can it have the right back.
    results.push(sys::cap_derive(less, Rights::WRITE, first, 1));
    ring.close()?;
    sys::cap_drop(less)?;
    Ok(Verdict::every(results.into_iter(), &[Error::NoRight]))
}

fn reader(attacker: &mut Attacker) -> Attempt {
    let rights = Rights::READ.with(Rights::GRANT);
    with_rights(attacker, rights, &[Write, Flush, Discard, WriteZeroes])
}

fn nothing(attacker: &mut Attacker) -> Attempt {
    with_rights(attacker, Rights::GRANT, &[Read, Write, Flush, Discard, WriteZeroes])
}

fn kinds(attacker: &mut Attacker) -> Attempt {
    with_ring(attacker, |_, ring, extent| {
        let (first, buffer) = (u64::from(extent.first), ring.data());
        let request = |operation, sectors, buffer| DiskRequest {
            operation,
            sectors,
            first,
            buffer,
            tag: first,
        };
        let odd = [
            request(5, 1, buffer),
            request(u32::MAX, 1, buffer),
            request(11, 1, buffer),
            request(Read as u32, 0, buffer),
            request(Write as u32, 513, buffer),
            request(Read as u32, 1, buffer + 1),
            request(Read as u32, 1, buffer + SECTOR_BYTES / 2),
            request(WriteZeroes as u32, 0, buffer),
        ];
        let mut results = Vec::new();
        for request in odd {
            ring.put(request);
            results.push(ring.answer());
        }
        let works = ring.works(extent)?;
        let verdict = Verdict::every(results.into_iter(), &[Error::BadArgument]);
        Ok(if works { verdict } else { Verdict::breach("the binding no longer works") })
    })
}

/// Names every kind of frame that is another's as a buffer.
fn foreign(attacker: &mut Attacker, operation: DiskOperation) -> Attempt {
    with_ring(attacker, |attacker, ring, extent| {
        let mut tried = Vec::new();
        let mut results = Vec::new();
        for pfn in attacker.foreign() {
            let Some((kind, _)) = attacker.frames.look(pfn) else { continue };
            if tried.iter().filter(|seen| **seen == kind).count() < 2 {
                tried.push(kind);
                results.push(ring.ask(operation, extent.first.into(), 8, pfn.address()));
            }
        }
        Ok(Verdict::every(results.into_iter(), &[Error::NotOwned]))
    })
}

fn fills_foreign(attacker: &mut Attacker) -> Attempt {
    foreign(attacker, Read)
}

fn reads_foreign(attacker: &mut Attacker) -> Attempt {
    foreign(attacker, Write)
}

fn out_of_memory(attacker: &mut Attacker) -> Attempt {
    with_ring(attacker, |attacker, ring, extent| {
        let end = u64::from(attacker.environment.start.first_frame.0)
            + u64::from(attacker.environment.start.frame_count);
        let memory = attacker.frames.all().count() as u64;
        let addresses = [
            end * FRAME_BYTES - SECTOR_BYTES,
            memory * FRAME_BYTES,
            memory * FRAME_BYTES - SECTOR_BYTES,
            0xfee0_0000,
            1 << 44,
            1 << 52,
            u64::MAX - (SECTOR_BYTES - 1),
            u64::MAX - (4 * FRAME_BYTES - 1),
        ];
        let results: Vec<_> = addresses
            .into_iter()
            .map(|address| ring.ask(Read, extent.first.into(), 8, address))
            .collect();
        Ok(Verdict::every(results.into_iter(), &[Error::NotOwned]))
    })
}

/// Frames that are the attacker's own, but no plain memory.
fn page_tables(attacker: &mut Attacker) -> Attempt {
    with_ring(attacker, |attacker, ring, extent| {
        let own = attacker.frames.all().filter(|pfn| {
            attacker
                .frames
                .look(*pfn)
                .is_some_and(|(kind, owner)| owner == attacker.id() && kind != FrameKind::Memory)
        });
        let results: Vec<_> =
            own.map(|pfn| ring.ask(Read, extent.first.into(), 8, pfn.address())).collect();
        Ok(Verdict::every(results.into_iter(), &[Error::NotOwned]))
    })
}

/// The ring is its owner's memory, which spoils nothing but its own.
fn into_ring(attacker: &mut Attacker) -> Attempt {
    with_ring(attacker, |attacker, ring, extent| {
        let data = ring.data();
        ring.ask(WriteZeroes, extent.first.into(), 8, data)?;
        let page = ring.frames.address();
        ring.submit(Read, extent.first.into(), 8, page);
        ring.sync()?;
        // The indices are zero, or what the kernel says, whichever was later.
        for _ in 0..1000 {
            sys::slice_yield()?;
            ring.sync()?;
        }
        let works = ring.works_again(attacker)?;
        Ok(Verdict::harmless(works, "yes, and went on"))
    })
}

/// The device is asked to fill the buffer, and in the same crossing `calls`, for the buffer's frame,
/// are made, the last of which is refused: none takes the device's completion in between.
fn in_flight(
    attacker: &mut Attacker,
    calls: impl FnOnce(u64) -> Vec<(&'static str, Vec<u64>)>,
) -> Attempt {
    let at = attacker.window()?;
    let page = attacker.frames.page(at)?;
    let verdict = with_ring(attacker, |_, ring, extent| {
        sys::slice_yield()?;
        ring.submit(Read, extent.first.into(), 16, ring.data());
        let calls = calls(ring.frames.plus(DATA).into_word());
        put(at, 0, "disk_sync", &[ring.binding.into_word()]);
        for (place, (name, arguments)) in (1..).zip(&calls) {
            put(at, place, name, arguments);
        }
        let count = 1 + calls.len();
        sys::batch(UserPtr(at.get()), count as u32)?;
        let last = results(at, count).last().unwrap_or(Err(Error::WrongState));
        ring.answer()?;
        Ok(Verdict::refused(last, Error::InUse))
    });
    attacker.frames.drop_page(at, page)?;
    verdict
}

fn free_buffer(attacker: &mut Attacker) -> Attempt {
    in_flight(attacker, |frame| vec![("frames_free", vec![frame, 2])])
}

fn unmap_buffer(attacker: &mut Attacker) -> Attempt {
    let at = attacker.window()?.get();
    let (space, protection) = (SELF.into_word(), Protection::ReadWrite.into_word());
    in_flight(attacker, |frame| {
        vec![
            ("map", vec![space, space, frame, at, 1, protection]),
            ("unmap", vec![space, at, 1]),
            ("frames_free", vec![frame, 1]),
        ]
    })
}

fn donate_buffer(attacker: &mut Attacker) -> Attempt {
    in_flight(attacker, |frame| vec![("cap_grow", vec![frame])])
}

fn indices(attacker: &mut Attacker) -> Attempt {
    with_ring(attacker, |attacker, ring, _| {
        let mut most = 0;
        for (submitted, consumed) in
            [(65, 0), (u32::MAX, 0), (1 << 31, 1 << 31), (3, u32::MAX), (0, 1 << 31), (100, 99)]
        {
            let page = ring.page();
            page.taken.0.store(submitted ^ 5, Release);
            page.completed.0.store(consumed ^ 9, Release);
            page.submitted.0.store(submitted, Release);
            page.consumed.0.store(consumed, Release);
            most = most.max(ring.sync()?);
        }
        let works = ring.works_again(attacker)?;
        let bounded = most <= u64::from(DISK_RING);
        Ok(Verdict::harmless(bounded && works, alloc::format!("at most {most} taken at once")))
    })
}

fn random_ring(attacker: &mut Attacker) -> Attempt {
    let mut random = attacker.random;
    with_ring(attacker, |attacker, ring, extent| {
        let mut most = 0;
        for _ in 0..300 {
            let page = ring.page();
            page.taken.0.store(random.word() as u32, Release);
            // More often what is true than not: else nothing would be taken.
            let lie = random.word();
            let consumed = if lie >> 62 == 0 { lie as u32 } else { page.completed.0.load(Relaxed) };
            page.consumed.0.store(consumed, Release);
            for place in 0..DISK_RING {
                let [head, first, buffer, tag] = [(); 4].map(|()| random.word());
                let (operation, sectors) = (head as u32 % 8, (head >> 32) as u32 % 9);
                // Sectors and buffers near the own ones, and anywhere.
                let near = u64::from(extent.first) + first % u64::from(extent.sectors);
                let first = if head >> 60 == 0 { first } else { near };
                let own = ring.data() + buffer % 8 * SECTOR_BYTES;
                let buffer = if head >> 56 & 15 == 0 { buffer } else { own };
                page.submit(place, DiskRequest { operation, sectors, first, buffer, tag });
            }
            page.submitted.0.store(random.word() as u32, Release);
            most = most.max(ring.sync()?);
        }
        let works = ring.works_again(attacker)?;
        let bounded = (1..=u64::from(DISK_RING)).contains(&most);
        Ok(Verdict::harmless(bounded && works, alloc::format!("at most {most} taken at once")))
    })
}

fn free_ring(attacker: &mut Attacker) -> Attempt {
    with_ring(attacker, |_, ring, _| {
        sys::unmap(SELF, ring.at, 1)?;
        let (frame, object) = (ring.frames, ring.frames.plus(1));
        let results =
            [sys::frames_free(frame, 1), sys::cap_grow(frame), sys::frames_free(object, 1)];
        sys::map(SELF, SELF, frame, ring.at, 1, Protection::ReadWrite)?;
        Ok(Verdict::every(results.into_iter(), &[Error::InUse, Error::NotOwned]))
    })
}

fn bind_foreign(attacker: &mut Attacker) -> Attempt {
    with_ring(attacker, |attacker, ring, _| {
        let Some((disk, _)) = attacker.environment.start.disk else {
            return Err(Error::NoDevice);
        };
        let quiet = ring.frames.plus(DATA);
        let mut results: Vec<_> = attacker
            .foreign()
            .step_by(257)
            .flat_map(|pfn| [(pfn, quiet), (quiet, pfn)])
            .map(|(ring, object)| sys::disk_bind(disk, ring, object))
            .collect();
        results.push(sys::disk_bind(disk, ring.frames, ring.frames.plus(1)));
        Ok(Verdict::every(results.into_iter(), &[Error::NotOwned]))
    })
}

fn map_object(attacker: &mut Attacker) -> Attempt {
    with_ring(attacker, |attacker, ring, _| {
        let (at, object) = (attacker.window()?, ring.frames.plus(1));
        let results = [Protection::Read, Protection::ReadWrite]
            .map(|protection| sys::map(SELF, SELF, object, at, 1, protection));
        Ok(Verdict::every(results.into_iter(), &[Error::NotOwned]))
    })
}

fn unbind_early(attacker: &mut Attacker) -> Attempt {
    with_ring(attacker, |attacker, ring, extent| {
        let Some((disk, _)) = attacker.environment.start.disk else {
            return Err(Error::NoDevice);
        };
        let (first, data, object) = (u64::from(extent.first), ring.data(), ring.frames.plus(1));
        // The call looks for completions itself, and the disk may have been faster.
        for _ in 0..50 {
            for _ in 0..24 {
                ring.submit(Write, first, 16, data);
            }
            ring.sync()?;
            let result = sys::disk_unbind(object);
            if result.is_err() {
                return Ok(Verdict::refused(result, Error::InUse));
            }
            sys::cap_drop(ring.binding)?;
            ring.binding = Handle::from_word(sys::disk_bind(disk, ring.frames, object)?)?;
            (ring.submitted, ring.consumed) = (0, 0);
        }
        Ok(Verdict::breach("yes, 50 times"))
    })
}

fn unbind_twice(attacker: &mut Attacker) -> Attempt {
    with_ring(attacker, |attacker, ring, _| {
        let Some((disk, _)) = attacker.environment.start.disk else {
            return Err(Error::NoDevice);
        };
        let object = ring.frames.plus(1);
        sys::disk_unbind(object)?;
        let again = [sys::disk_unbind(object), sys::disk_unbind(object)];
        let stale = ring.sync();
        sys::cap_drop(ring.binding)?;
        ring.binding = Handle::from_word(sys::disk_bind(disk, ring.frames, object)?)?;
        let wanted = [Error::NotOwned, Error::BadHandle];
        Ok(Verdict::every(again.into_iter().chain([stale]), &wanted))
    })
}

fn unbind_foreign(attacker: &mut Attacker) -> Attempt {
    with_ring(attacker, |attacker, ring, _| {
        let others = attacker.foreign().step_by(61);
        let own = [ring.frames, ring.frames.plus(DATA), Pfn(attacker.id().0), Pfn(u32::MAX)];
        Ok(Verdict::every(others.chain(own).map(sys::disk_unbind), &[Error::NotOwned]))
    })
}

fn handles(attacker: &mut Attacker) -> Attempt {
    with_ring(attacker, |attacker, ring, _| {
        let word = ring.binding.into_word();
        let forged =
            [0, u64::MAX, word + (1 << 32), word ^ 1 << 40, word | 0xff00, word - (1 << 32)]
                .map(Handle::from_word);
        let known: Vec<_> = attacker.handles().collect();
        let tries = forged.into_iter().flatten().chain(known);
        Ok(Verdict::every(tries.map(sys::disk_sync), &[Error::BadHandle]))
    })
}

fn hand_on(attacker: &mut Attacker) -> Attempt {
    with_ring(attacker, |attacker, ring, _| {
        let child = attacker.maker.bare()?;
        let tries = [
            sys::cap_grant(ring.binding, child.env),
            sys::cap_derive(ring.binding, Rights::SYNC, 0, 0),
            sys::cap_derive(ring.binding, Rights::NONE, 0, 0),
        ];
        child.destroy()?;
        Ok(Verdict::every(tries.into_iter(), &[Error::NoRight]))
    })
}

/// A part of the own extent, with a ring, and the capability for it.
fn part(attacker: &Attacker) -> Result<Option<(Handle, Ring, u64)>, Error> {
    let Some((disk, extent)) = attacker.environment.start.disk else { return Ok(None) };
    let rights = Rights::READ.with(Rights::WRITE).with(Rights::GRANT);
    let first = u64::from(extent.first) + 8;
    let part = Handle::from_word(sys::cap_derive(disk, rights, first, 64)?)?;
    let below = Handle::from_word(sys::cap_derive(part, rights, first, 64)?)?;
    Ok(Some((part, Ring::new(attacker, below)?, first)))
}

/// Revokes `part`, until the disk has nothing of it.
fn revoke(part: Handle) -> Result<(), Error> {
    let mut tries = 0;
    while let Err(error) = sys::cap_revoke(part) {
        tries += 1;
        if !matches!(error, Error::InUse | Error::Again) || tries > PATIENCE >> 16 {
            return Err(error);
        }
        sys::slice_yield()?;
    }
    sys::cap_drop(part).map(drop)
}

/// When the revocation is over nothing is at the disk any more, and nothing more can be asked for.
fn revoked(attacker: &mut Attacker) -> Attempt {
    let Some((part, mut ring, first)) = part(attacker)? else {
        return Ok(Verdict::not_tried("no disk"));
    };
    let data = ring.data();
    for _ in 0..24 {
        ring.submit(Write, first, 16, data);
    }
    ring.sync()?;
    let early = sys::cap_revoke(part);
    // The first step may have been all.
    if early.is_err() {
        let result = ring.sync();
        if result != Err(Error::BadHandle) {
            return Ok(Verdict::refused(result, Error::BadHandle));
        }
    }
    revoke(part)?;
    let page = ring.page();
    let left = page.taken.0.load(Relaxed).wrapping_sub(page.completed.0.load(Relaxed));
    let result = ring.sync();
    ring.close()?;
    if left != 0 {
        return Ok(Verdict::breach(alloc::format!("{left} requests went on")));
    }
    Ok(Verdict::refused(result, Error::BadHandle))
}

fn bind_revoked(attacker: &mut Attacker) -> Attempt {
    let Some((disk, extent)) = attacker.environment.start.disk else {
        return Ok(Verdict::not_tried("no disk"));
    };
    let rights = Rights::READ.with(Rights::GRANT);
    let (first, sectors) = (u64::from(extent.first), u64::from(extent.sectors));
    let above = Handle::from_word(sys::cap_derive(disk, rights, first, sectors)?)?;
    let below = Handle::from_word(sys::cap_derive(above, rights, first, 1)?)?;
    revoke(above)?;
    let frames = attacker.frames.take(SELF, 2)?;
    let results = [
        sys::disk_bind(below, frames, frames.plus(1)),
        sys::disk_bind(above, frames, frames.plus(1)),
        sys::cap_derive(below, Rights::READ, first, 1),
    ];
    sys::frames_free(frames, 2)?;
    Ok(Verdict::every(results.into_iter(), &[Error::BadHandle]))
}

/// However many rings it has: no more than are free.
fn flood(attacker: &mut Attacker) -> Attempt {
    let Some((disk, extent)) = attacker.environment.start.disk else {
        return Ok(Verdict::not_tried("no disk"));
    };
    let mut rings = Vec::new();
    for _ in 0..4 {
        rings.push(Ring::new(attacker, disk)?);
    }
    let mut most = 0;
    sys::slice_yield()?;
    for ring in &mut rings {
        let data = ring.data();
        for _ in 0..DISK_RING {
            ring.submit(Read, extent.first.into(), 16, data);
        }
    }
    for _ in 0..4 {
        for ring in &rings {
            ring.sync()?;
        }
        let at_disk = |ring: &Ring| {
            let page = ring.page();
            page.taken.0.load(Relaxed).wrapping_sub(page.completed.0.load(Relaxed))
        };
        most = most.max(rings.iter().map(at_disk).sum());
    }
    for ring in rings {
        ring.close()?;
    }
    let bounded = (1..=DISK_RING / 2).contains(&most);
    Ok(Verdict::harmless(bounded, alloc::format!("at most {most} at the disk")))
}
