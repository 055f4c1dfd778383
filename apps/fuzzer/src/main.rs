//! Random system calls from several environments at once, for a kernel that checks
//! itself.
//!
//! The program makes a crew of children again and again, gives each other authority
//! over frames, the network, sectors of the disk and its fellows, and lets them call the kernel at random:
//! single calls made from the table of calls, with arguments likely to mean
//! something, and short sequences that make objects and take them apart. Meanwhile it
//! asks for frames back, takes them, and now and then begins to destroy a child that runs.
//! After each round the crew is destroyed, and every frame must be back. That the kernel did
//! what it should is for the kernel's checker to say (`exo/src/check`, `cargo exo fuzz`).
//!
//! Arguments: `seed=N` (default 1), `calls=N` made by the children (default 20000),
//! `net=silent` to send no packets: their way out takes a time of its own.
//!
//! What happens follows from the seed alone on one processor with a clock that counts
//! instructions. With a real clock slices end elsewhere, and on several processors calls
//! interleave differently; the random choices are still the same, but what they refer to
//! (free frames, handles) may not be.
#![cfg_attr(exo_guest, no_std, no_main)]

#[cfg(exo_guest)]
extern crate alloc;

#[cfg(exo_guest)]
mod crew;
#[cfg(exo_guest)]
mod member;
#[cfg(exo_guest)]
mod pick;
#[cfg(exo_guest)]
mod place;
#[cfg(exo_guest)]
mod requests;
#[cfg(exo_guest)]
mod rounds;
#[cfg(exo_guest)]
mod sequences;
#[cfg(exo_guest)]
mod slots;
#[cfg(exo_guest)]
mod upcall;

libos::app!(guest::main);

#[cfg(exo_guest)]
mod guest {
    use libos::println;
    use libos::runtime::Environment;

    use crate::rounds::{Rounds, Setting};

    pub(crate) fn main(environment: Environment) -> u64 {
        let number = |name, default| {
            let text = environment.argument(name);
            text.map_or(Some(default), |text| text.parse::<u64>().ok())
        };
        let (Some(seed), Some(calls)) = (number("seed", 1), number("calls", 20_000)) else {
            println!("seed and calls are numbers");
            return 2;
        };
        let silent = environment.argument("net") == Some("silent");
        let setting = Setting { seed, calls, silent };
        match Rounds::new(environment, setting).and_then(Rounds::run) {
            Ok(report) => {
                println!("{report}");
                u64::from(!report.is_clean())
            }
            Err(error) => {
                println!("cannot go on: {error}");
                1
            }
        }
    }
}

#[cfg(not(exo_guest))]
use {dpf as _, exo_abi as _, selftest as _};
