//! A client of the store on the same machine: loads it in the mixes of YCSB, from one, two and
//! four environments at a time.
//!
//! The first client fills the store, says which mix comes next, and prints the table; the others
//! of the manifest (`number=1` and so on) join in. They have nothing in common but the store, so
//! what they tell each other are items of it: how many are ready, how many are done.
//!
//! Arguments: `number=N`, which client this is, and `of=N`, of how many; `mixes=LETTERS` (ABCDEF,
//! otherwise), `operations=N` of each client in each mix, `records=N` and `value=BYTES` of them.
//! With `by=transfer` it does not enter the store through its gate. With `as=count` it counts the
//! instructions of single operations instead, and with `as=example` it is the worked example of
//! `docs/colocated.md`.
#![cfg_attr(exo_guest, no_std, no_main)]

#[cfg(exo_guest)]
extern crate alloc;

#[cfg(exo_guest)]
mod count;
#[cfg(exo_guest)]
mod crowd;
#[cfg(exo_guest)]
mod example;

libos::app!(guest::main);

#[cfg(exo_guest)]
mod guest {
    use core::fmt;

    use exo_abi::Error;
    use kvstore_local::{Door, Failure};
    use libos::println;
    use libos::runtime::Environment;

    use crate::{count, crowd, example};

    /// A way to the store.
    pub(crate) type Store = kvstore_local::Client<'static, Door>;

    pub(crate) fn main(environment: Environment) -> u64 {
        match run(&environment) {
            Ok(()) => 0,
            Err(problem) => {
                println!("failed: {problem}");
                1
            }
        }
    }

    fn run(environment: &Environment) -> Result<(), Problem> {
        if environment.argument("as") == Some("example") {
            return example::run(environment).map_err(Problem::Store);
        }
        let share = environment.shares().next().ok_or(Problem::NoShare)?;
        let by_transfer = environment.argument("by") == Some("transfer");
        let store = if by_transfer { Door::open_by_transfer(share) } else { Door::open(share) };
        let store = store.map_err(Problem::Kernel)?;
        if environment.argument("as") == Some("count") {
            return count::run(store);
        }
        crowd::run(environment, store)
    }

    /// A number among the arguments.
    pub(crate) fn number(
        environment: &Environment,
        name: &'static str,
        usual: u32,
    ) -> Result<u32, Problem> {
        let Some(text) = environment.argument(name) else { return Ok(usual) };
        text.parse().map_err(|_| Problem::Argument(name))
    }

    /// Why nothing was measured.
    pub(crate) enum Problem {
        NoShare,
        Argument(&'static str),
        Kernel(Error),
        Store(Failure),
        /// An answer was another record's, or none.
        Wrong,
    }

    impl fmt::Display for Problem {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::NoShare => f.write_str("the manifest has no share for it and the store"),
                Self::Argument(name) => write!(f, "argument {name}: not a number in its range"),
                Self::Kernel(error) => error.fmt(f),
                Self::Store(failure) => write!(f, "store: {failure}"),
                Self::Wrong => f.write_str("a wrong answer"),
            }
        }
    }

    impl From<Failure> for Problem {
        fn from(failure: Failure) -> Self {
            Self::Store(failure)
        }
    }
}

#[cfg(not(exo_guest))]
use {exo_abi as _, kvstore_local as _, rand as _, rand_distr as _, ruler as _, ycsb as _};
