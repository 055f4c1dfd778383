//! A frame policy of its own: memory whose page frames it chooses.
#![cfg_attr(exo_guest, no_std, no_main)]

#[cfg(any(exo_guest, test))]
mod policy;

libos::app!(guest::main);

#[cfg(exo_guest)]
mod guest {
    use libos::println;
    use libos::runtime::Environment;

    use crate::policy::HighestFirst;

    pub(crate) fn main(environment: Environment) -> u64 {
        let memory = environment.memory;
        let Some((_, range)) = memory.grant() else { return 1 };
        let mut policy = HighestFirst::new(environment.frame_table, range);
        match memory.map_region_with(&mut policy, 64) {
            Ok(region) => {
                region.fill(7);
                let (taken, last) = (policy.taken(), range.first.0 + range.count - 1);
                println!("{} bytes in {taken} frames up to {last}", region.len());
                0
            }
            Err(error) => {
                println!("{error}");
                1
            }
        }
    }
}
