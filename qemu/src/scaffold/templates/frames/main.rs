//! A frame policy of its own: memory whose page frames it chooses.
#![cfg_attr(exo_guest, no_std, no_main)]

#[cfg(any(exo_guest, exo_hosted, test))]
mod policy;

libos::app!(guest::main);

#[cfg(any(exo_guest, exo_hosted))]
mod guest {
    use libos::measure::workload;
    use libos::println;
    use libos::runtime::Environment;

    use crate::policy::HighestFirst;

    pub(crate) fn main(environment: Environment) -> u64 {
        let memory = environment.memory;
        let Some((mut calls, range)) = memory.grant() else { return 1 };
        let mut policy = HighestFirst::new(environment.frame_table, range);
        // For `cargo exo measure`: what a frame costs.
        let refused = workload::frames(&mut policy, &mut calls);
        match memory.map_region_with(&mut policy, 64) {
            Ok(region) => {
                region.fill(7);
                let (taken, last) = (policy.taken(), range.first.0 + range.count - 1);
                println!("{} bytes in {taken} frames up to {last}", region.len());
                u64::from(refused > 0)
            }
            Err(error) => {
                println!("{error}");
                1
            }
        }
    }
}
