//! A server beside a computation, in one application: neither stops the other.
//!
//! One thread answers datagrams and parks when there are none; the other computes and
//! never gives way. Each answer is how far the computation has come, and how often the
//! machine has halted, in 8 bytes each, least first. To `busy` the server answers when
//! the computation has gone on while it did not park; after `end` both end.
//!
//! `policy=round-robin` or `policy=deadline` says how the two share the processor.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use exo_abi::{Pages, RingOrder, SystemInfo};
use libos::net::bind::bind;
use libos::net::udp::FastUdp;
use libos::net::{Endpoint, NetDevice, Service, UdpStack};
use libos::println;
use libos::runtime::Environment;
use libos::sched::policy::{EarliestDeadlineFirst, Policy, RoundRobin};
use libos::sched::threads::{Threads, end_of_it};
use libos::sched::{RunToCompletion, Scheduler, Ticks, Turn};

use selftest::check::Failure;

const PORT: u16 = 4003;
const RINGS: RingOrder = RingOrder::new(4).expect("1 to 8");
const BATCH: u32 = 16;
const STACK: Pages = 16;
const UPCALL_STACK: Pages = 4;

/// Serves until told to end. Returns the exit code.
pub(crate) fn run(environment: Environment) -> u64 {
    let result = match environment.argument("policy") {
        Some("round-robin") => share(environment, RoundRobin::new(), (), ()),
        // What computes is never due.
        Some("deadline") => {
            share(environment, EarliestDeadlineFirst::new(), Ticks(0), Ticks(u64::MAX))
        }
        _ => {
            println!("no such policy");
            return 1;
        }
    };
    result.unwrap_or_else(|failure| {
        println!("{failure}");
        1
    })
}

fn share<P: Policy>(
    environment: Environment,
    policy: P,
    serves: P::Terms,
    computes: P::Terms,
) -> Result<u64, Failure> {
    let memory = environment.memory;
    let [first, second] = [memory.map_region(STACK)?, memory.map_region(STACK)?];
    let upcalls = memory.map_region(UPCALL_STACK)?;
    let (progress, ended) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut code = 1;
    let mut threads = Threads::new(policy, end_of_it);
    // First, so that it would keep the processor if it could.
    threads.spawn(first, computes, || {
        while !ended.load(Relaxed) {
            for step in 0..1000 {
                core::hint::black_box(step);
            }
            progress.fetch_add(1, Relaxed);
        }
    })?;
    threads.spawn(second, serves, || {
        let system = environment.system;
        code = serve(environment, Answers { progress: &progress, system, is_last: false });
        ended.store(true, Relaxed);
    })?;
    threads.run(upcalls);
    Ok(code)
}

fn serve(environment: Environment, mut answers: Answers<'_>) -> u64 {
    let Some(config) = environment.net_config() else { return 2 };
    let mut device = match bind(&environment, &config, PORT, RINGS) {
        Ok(device) => device,
        Err(error) => {
            println!("{error}");
            return 3;
        }
    };
    let mut stack = FastUdp::new(&config, PORT);
    println!("serving {}", Endpoint { address: config.address, port: PORT });
    let turn = || {
        let moved = stack.poll(&mut device, &mut answers, 0, BATCH);
        match moved.and_then(|moved| device.sync().map(|_| moved)) {
            Err(_) => Turn::Done(4),
            Ok(_) if answers.is_last => Turn::Done(0),
            Ok(BATCH..) => Turn::Progress,
            Ok(_) => Turn::Idle(None),
        }
    };
    let mut park = environment.park;
    RunToCompletion::new(turn).run(&mut park)
}

struct Answers<'a> {
    progress: &'a AtomicU64,
    system: &'static SystemInfo,
    is_last: bool,
}

impl Service for Answers<'_> {
    fn answer(&mut self, request: &[u8], _: Endpoint, reply: &mut [u8]) -> Option<usize> {
        let before = self.progress.load(Relaxed);
        match request {
            b"busy" => while self.progress.load(Relaxed) == before {},
            b"end" => self.is_last = true,
            _ => {}
        }
        reply.get_mut(..8)?.copy_from_slice(&self.progress.load(Relaxed).to_le_bytes());
        reply.get_mut(8..16)?.copy_from_slice(&self.system.halts.load(Relaxed).to_le_bytes());
        Some(16)
    }
}
