//! Frames that are asked for, and given back: a child has a cache, and its maker wants some of its
//! frames. The child decides which go.
//!
//! Both run this program; `as` says which of them it is.
#![cfg_attr(exo_guest, no_std, no_main)]

#[cfg(any(exo_guest, test))]
mod cache;

libos::app!(guest::main);

#[cfg(exo_guest)]
mod guest {
    use core::sync::atomic::Ordering::Relaxed;

    use libos::abi::boot::SELF;
    use libos::abi::{Error, FRAME_BYTES, Pages, Protection, VirtAddr};
    use libos::environment::{Child, Program};
    use libos::revocation::Demand;
    use libos::runtime::Environment;
    use libos::sched::Park;
    use libos::time::timestamp;
    use libos::{measure, println, sys, upcall};

    use crate::cache::{Cache, PAGES};

    const CHILD: Program<'_> = Program {
        image: env!("CARGO_PKG_NAME"),
        name: "cache",
        frames: 512,
        slots: 8,
        arguments: &["as=cache"],
    };
    /// Frames that are wanted back.
    const WANTED: Pages = 16;
    /// How long the child may take, in ticks: some milliseconds.
    const PATIENCE: u64 = 1 << 24;

    pub(crate) fn main(environment: Environment) -> u64 {
        let done = match environment.argument("as") {
            Some("cache") => keep(environment),
            _ => want(&environment),
        };
        done.map_or_else(
            |error| {
                println!("{error}");
                1
            },
            |()| 0,
        )
    }

    /// The maker: asks, waits, and takes what it was not given.
    fn want(environment: &Environment) -> Result<(), Error> {
        let child = environment.spawn(&CHILD).map_err(|_| Error::NotFree)?;
        let (mut given, mut taken) = (0, 0);
        for _ in 0..measure::runs() {
            until_full(&child)?;
            let frames = environment.frame_table;
            let deadline = timestamp() + PATIENCE;
            let demand = Demand::within(child.frames(), frames, child.id(), WANTED, deadline);
            measure::operation("16 frames", || {
                demand.ask(child.handle(), 0)?;
                measure::mark("ask");
                while demand.owed(frames) > 0 && timestamp() < deadline {
                    sys::slice_yield()?;
                }
                Ok::<_, Error>(())
            })?;
            given += WANTED - demand.owed(frames);
            while demand.owed(frames) > 0 {
                // Any of them: it could have named some that it needs less.
                demand.enforce(child.handle(), frames, [])?;
                taken += 1;
            }
            // Nothing is wanted any more.
            sys::revoke_request(child.handle(), 0, 0, 0)?;
        }
        println!("{given} frames were given, {taken} had to be taken");
        Ok(())
    }

    /// Gives way until the child has slept, with all its pages, since it was last asked.
    fn until_full(child: &Child) -> Result<(), Error> {
        while child.status()?.state != libos::abi::EnvState::Waiting as u32 {
            sys::slice_yield()?;
        }
        Ok(())
    }

    /// The child: fills its cache while nothing is wanted, and gives the coldest pages when something is.
    fn keep(mut environment: Environment) -> Result<(), Error> {
        let memory = environment.memory;
        let (start, first) = memory.map_device_run(PAGES as Pages).map_err(|_| Error::NotFree)?;
        let start = start.as_ptr().expose_provenance() as u64;
        let place = |page: usize| {
            let at = VirtAddr::new(start + page as u64 * FRAME_BYTES).ok_or(Error::OutOfRange)?;
            Ok::<_, Error>((first.plus(page as Pages), at))
        };
        let mut cache = Cache::new();
        (0..PAGES).for_each(|page| cache.put(page, page as u64 % 7));
        let mut answered = 0;
        loop {
            let seen = environment.park.seen();
            let wanted = upcall::u_area().revocation.frames.load(Relaxed);
            if wanted == 0 {
                while let Some(page) = cache.missing() {
                    let (frame, at) = place(page)?;
                    sys::frames_take(environment.start.frames, SELF, frame, 1)?;
                    sys::map(SELF, SELF, frame, at, 1, Protection::ReadWrite)?;
                    cache.put(page, page as u64 % 7);
                }
            } else if answered == 0 {
                for page in core::iter::from_fn(|| cache.give()).take(wanted as usize) {
                    let (frame, at) = place(page)?;
                    sys::unmap(SELF, at, 1)?;
                    sys::frames_free(frame, 1)?;
                }
            }
            answered = wanted;
            environment.park.park(seen, None);
        }
    }
}
