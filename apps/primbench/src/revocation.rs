//! Visible revocation: a frame asked for and given, and one taken from an environment
//! that does not listen.
//!
//! Each sample is about the same frame: the program takes it for the partner and may map
//! it there, uncounted, and it is free again afterwards.

use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use exo_abi::boot::{SELF, STACK_TOP};
use exo_abi::{EnvState, Error, FrameKind, Handle, Pfn, Protection, Upcall, VirtAddr};
use libos::sys;
use ruler::{SAMPLES, WARM_UP, timestamp};
use selftest::child::{Child, SHARED, exit, until_done};
use selftest::frames::{read, write};
use selftest::server::{area, events};

use crate::environments::{PATIENCE, Setting};

/// Where the partner has the frame.
const DATA: VirtAddr = match VirtAddr::new(0x2110_0000) {
    Some(at) => at,
    None => panic!("a page of user space"),
};
/// Words of the shared page: the frame; whether the partner is set up.
const FRAME: usize = 0;
const READY: usize = 8;
/// End of the stack that the partner's upcalls run on, as if called.
const UPCALL_STACK: u64 = STACK_TOP - 0x2000 - 8;

pub(crate) fn measure(setting: &Setting<'_>) -> Result<(), Error> {
    gives(setting)?;
    takes(setting, "revoke-take", Mapped::No)?;
    takes(setting, "revoke-take-mapped", Mapped::Once)
}

/// From the request until the program, which gives way, sees the frame free: the
/// partner, asleep, has been told by an upcall, and has unmapped it and given it back.
fn gives(setting: &Setting<'_>) -> Result<(), Error> {
    let victim = Victim::new(setting, is_told)?;
    let samples = victim.samples(Mapped::Once, |env| {
        sys::revoke_request(env, 1, 0, timestamp() + PATIENCE)?;
        while !victim.is_free() {
            sys::slice_yield()?;
        }
        Ok(())
    })?;
    setting.counter.print("revoke-give", 1, samples);
    victim.child.destroy()
}

/// A request with a deadline that is over at once, and taking the frame. If it is mapped, the frame table is gone through from its beginning for
/// page tables until all mappings are found: that, too, is counted.
fn takes(setting: &Setting<'_>, name: &str, mapped: Mapped) -> Result<(), Error> {
    let victim = Victim::new(setting, is_deaf)?;
    let samples = victim.samples(mapped, |env| {
        sys::revoke_request(env, 1, 0, 0)?;
        until_done(|| sys::revoke_enforce(env, victim.frame)).map(drop)
    })?;
    setting.counter.print(name, 1, samples);
    victim.child.destroy()
}

/// How often the frame is mapped when it is wanted.
#[derive(Clone, Copy, PartialEq)]
enum Mapped {
    No,
    Once,
}

/// A partner, and the frame it is about.
struct Victim<'a> {
    setting: &'a Setting<'a>,
    child: Child<'a>,
    frame: Pfn,
}

impl<'a> Victim<'a> {
    fn new(setting: &'a Setting<'a>, code: extern "C" fn(u64) -> !) -> Result<Self, Error> {
        let child = setting.child()?;
        setting.maker.frames.cover(child.env, DATA)?;
        let frame = setting.maker.frames.find(1).ok_or(Error::NotFree)?;
        write(setting.shared, FRAME, frame.0.into());
        write(setting.shared, READY, 0);
        child.start(code, 0)?;
        Ok(Self { setting, child, frame })
    }

    /// Instructions of `revoke`, each time with the frame the partner's.
    fn samples(
        &self,
        mapped: Mapped,
        revoke: impl Fn(Handle) -> Result<(), Error>,
    ) -> Result<Vec<u64>, Error> {
        let (frames, env) = (self.setting.maker.frames, self.child.env);
        let mut samples = Vec::with_capacity(SAMPLES);
        for number in 0..WARM_UP + SAMPLES {
            sys::frames_take(frames.capability, env, self.frame, 1)?;
            if mapped == Mapped::Once {
                sys::map(env, env, self.frame, DATA, 1, Protection::ReadWrite)?;
            }
            self.until_asleep()?;
            let start = timestamp();
            let done = revoke(env);
            let end = timestamp();
            done?;
            if !self.is_free() {
                return Err(Error::WrongState);
            }
            if number >= WARM_UP {
                samples.push(self.setting.counter.between(start, end));
            }
        }
        Ok(samples)
    }

    /// Gives way until the partner is set up and sleeps.
    fn until_asleep(&self) -> Result<(), Error> {
        let asleep = EnvState::Waiting as u32;
        while read(self.setting.shared, READY) == 0 || self.child.status()?.state != asleep {
            sys::slice_yield()?;
        }
        Ok(())
    }

    fn is_free(&self) -> bool {
        matches!(self.setting.maker.frames.look(self.frame), Some((FrameKind::Free, _)))
    }
}

/// Sleeps, and is called when a frame is wanted.
extern "C" fn is_told(_: u64) -> ! {
    let upcall = &area().upcall;
    upcall.stack.store(UPCALL_STACK, Relaxed);
    upcall.wanted.store(Upcall::Revoke as u32, Relaxed);
    upcall.entry.store(told as *const () as u64, Relaxed);
    sleep()
}

/// Gives the frame back. It does not go back to where the upcall came, which is a
/// sleep, but sleeps itself, open to the next.
extern "C" fn told(reason: u64) -> ! {
    let frame = Pfn(read(SHARED, FRAME) as u32);
    if reason != Upcall::Revoke as u64
        || sys::unmap(SELF, DATA, 1).is_err()
        || sys::frames_free(frame, 1).is_err()
    {
        exit(1);
    }
    area().upcall.masked.store(0, Relaxed);
    sleep()
}

/// Sleeps whatever comes.
extern "C" fn is_deaf(_: u64) -> ! {
    sleep()
}

fn sleep() -> ! {
    write(SHARED, READY, 1);
    loop {
        let _ = sys::wait(events(), 0);
    }
}
