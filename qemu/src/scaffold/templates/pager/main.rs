//! A pager of its own: 64 pages of memory in 8 page frames.
#![cfg_attr(exo_guest, no_std, no_main)]

#[cfg(any(exo_guest, test))]
extern crate alloc;

#[cfg(any(exo_guest, test))]
mod pager;

libos::app!(guest::main);

#[cfg(exo_guest)]
mod guest {
    use libos::abi::Pages;
    use libos::measure::workload;
    use libos::memory::MemoryError;
    use libos::paging::guest::{Paged, serve_on};
    use libos::println;
    use libos::runtime::Environment;

    use crate::pager::FirstOut;

    /// Pages of the stack on which the pager runs.
    const STACK: Pages = 8;
    const PAGES: Pages = 64;
    const FRAMES: usize = 8;

    pub(crate) fn main(environment: Environment) -> u64 {
        run(&environment).map_or_else(
            |error| {
                println!("{error}");
                1
            },
            |()| 0,
        )
    }

    fn run(environment: &Environment) -> Result<(), MemoryError> {
        // From here on page faults are the pager's, and any other exception ends the application.
        serve_on(environment.memory.map_region(STACK)?);
        // For `cargo exo measure`: what a page costs when it is touched.
        workload::pager(|_| Ok(FirstOut::new(PAGES, FRAMES)))?;

        let mut region = Paged::new(PAGES, |_| Ok(FirstOut::new(PAGES, FRAMES)))?;
        let sum = region.enter(|memory| {
            memory.fill(7);
            memory.iter().map(|byte| u64::from(*byte)).sum::<u64>()
        })?;
        let (faults, evicted) = (region.faults(), region.pager().evicted());
        println!("sum {sum}: {faults} faults, {evicted} pages evicted");
        region.close()
    }
}
