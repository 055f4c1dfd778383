//! Children from an image: this very program, with another argument.

use alloc::vec::Vec;

use exo_abi::{EnvState, Error};
use libos::environment::{Program, SpawnError};
use libos::println;
use libos::runtime::Environment;
use selftest::check::{Outcome, same};

/// Makes children of `libostest`, and tries what cannot be made.
pub(crate) fn make(mut environment: Environment) -> u64 {
    let outcome = ends_well(&mut environment).and_then(|()| refusals(&environment));
    match outcome {
        Ok(()) => {
            println!("children: done");
            0
        }
        Err(failure) => {
            println!("children: {failure}");
            1
        }
    }
}

/// What a child does: it has a heap, a console and arguments.
pub(crate) fn child(environment: &Environment) -> u64 {
    let numbers: Vec<u64> = (1..=1000).collect();
    let sum: u64 = numbers.iter().sum();
    println!("the sum is {sum}, {} frames are free", environment.free_frames());
    environment.argument("code").and_then(|code| code.parse().ok()).unwrap_or(1)
}

const PROGRAM: Program<'_> = Program {
    image: "libostest",
    name: "a child",
    frames: 768,
    slots: 2,
    arguments: &["as=child", "code=7"],
};

fn ends_well(environment: &mut Environment) -> Outcome {
    let mut free = None;
    for _ in 0..3 {
        let mut child = environment.spawn(&PROGRAM).map_err(refused)?;
        let ended = child.wait(&mut environment.park)?;
        same("state", ended.state, EnvState::Exited as u32)?;
        same("code", ended.code, 7)?;
        drop(child);
        // The first takes page tables to look at children's pages, for good.
        let now = environment.free_frames();
        same("frames free", now, *free.get_or_insert(now))?;
    }
    Ok(())
}

fn refusals(environment: &Environment) -> Outcome {
    let free = environment.free_frames();
    let why = |program| environment.spawn(&program).err();
    same("no image", why(Program { image: "none", ..PROGRAM }), Some(SpawnError::NoImage))?;
    let all = Program { frames: 100_000, ..PROGRAM };
    same("frames", why(all), Some(SpawnError::OutOfFrames))?;
    let few = Program { frames: 10, ..PROGRAM };
    same("too few", why(few), Some(SpawnError::Refused(Error::OutOfRange)))?;
    same("slots", why(Program { slots: 64, ..PROGRAM }), Some(SpawnError::OutOfSlots))?;
    same("no slot", why(Program { slots: 0, ..PROGRAM }), Some(SpawnError::OutOfSlots))?;
    let long = Program { name: "a name of seventeen", ..PROGRAM };
    same("name", why(long), Some(SpawnError::TooLong))?;
    same("frames free", environment.free_frames(), free)
}

fn refused(error: SpawnError) -> Error {
    println!("{error}");
    match error {
        SpawnError::Refused(error) => error,
        _ => Error::NotFree,
    }
}
