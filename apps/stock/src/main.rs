//! What the library OS has of each abstraction, under the work that `libos::measure::workload`
//! does with every implementation: for `cargo exo measure mine --against stock`.
//!
//! Of some it has two. Its pager maps zeros when they are touched. `policy=earliest`, `frames=first-fit` and `stack=smol` are the others.
#![cfg_attr(exo_guest, no_std, no_main)]

libos::app!(guest::main);

#[cfg(exo_guest)]
mod guest {
    use libos::measure::workload;
    use libos::memory::frames::{FirstFit, FrameSource, NextFit};
    use libos::net::smol::SmolUdp;
    use libos::net::udp::FastUdp;
    use libos::paging::DemandZero;
    use libos::paging::guest::serve_on;
    use libos::println;
    use libos::runtime::Environment;
    use libos::sched::Ticks;
    use libos::sched::policy::{EarliestDeadlineFirst, RoundRobin};

    pub(crate) fn main(environment: Environment) -> u64 {
        workload::heap();
        match environment.argument("policy") {
            Some("earliest") => workload::policy(&mut EarliestDeadlineFirst::new(), Ticks(7)),
            _ => workload::policy(&mut RoundRobin::new(), ()),
        }
        let Some((mut calls, range)) = environment.memory.grant() else { return 1 };
        let (mut first, mut next);
        let frames: &mut dyn FrameSource = match environment.argument("frames") {
            Some("first-fit") => {
                first = FirstFit::new(environment.frame_table, range);
                &mut first
            }
            _ => {
                next = NextFit::new(range);
                &mut next
            }
        };
        let refused = workload::frames(frames, &mut calls);
        let answers = match environment.argument("stack") {
            Some("smol") => workload::udp(|config, port, device| {
                SmolUdp::new(config, port, device, 0).expect("a port")
            }),
            _ => workload::udp(|config, port, _| FastUdp::new(config, port)),
        };
        // A stack for page faults; all others end the application.
        let paged = environment.memory.map_region(8).and_then(|stack| {
            serve_on(stack);
            workload::pager(|_| Ok(DemandZero::new(workload::PAGER_PAGES)))
        });
        if let Err(error) = paged {
            println!("{error}");
            return 1;
        }
        println!("{answers} datagrams answered, {refused} frames not to be had");
        u64::from(refused > 0)
    }
}
