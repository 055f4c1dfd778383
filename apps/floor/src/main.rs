//! The floors of the comparison: a UDP service that does nothing.
//!
//! A store on the same rings and the same library OS costs what this costs, and its own work.
//! `mode=udp`, the default, sends payloads back through the fast path of the library OS;
//! `mode=ring` sends packets back with nothing above the rings ([`floor::reflect`]), and
//! leaves only ARP and the like to the fast path. No threads: one loop, run to completion.
//! It answers on the store's port, so that the same load goes to both.
#![cfg_attr(exo_guest, no_std, no_main)]

libos::app!(guest::main);

#[cfg(exo_guest)]
mod guest {
    use exo_abi::{Error, RingOrder};
    use libos::net::bind::bind;
    use libos::net::udp::FastUdp;
    use libos::net::{Endpoint, NetDevice, Service, Slots, UdpStack};
    use libos::println;
    use libos::runtime::Environment;
    use libos::sched::{RunToCompletion, Scheduler, Turn};
    use libos::time::Clock;

    const PORT: u16 = 11211;
    /// As the store has.
    const RINGS: RingOrder = RingOrder::new(8).expect("1 to 8");
    /// As the store has.
    const BATCH: u32 = 64;
    /// How long to leave a busy device alone.
    const BUSY_MICROS: u64 = 100;

    /// Serves until the network is taken away. Returns 1 then, or if something is missing
    /// to begin with.
    pub(crate) fn main(environment: Environment) -> u64 {
        let bare = match environment.argument("mode").unwrap_or("udp") {
            "udp" => false,
            "ring" => true,
            other => {
                println!("argument mode: \"{other}\" is neither udp nor ring");
                return 1;
            }
        };
        let Some(config) = environment.net_config() else {
            println!("no network");
            return 1;
        };
        let mut device = match bind(&environment, &config, PORT, RINGS) {
            Ok(device) => device,
            Err(error) => {
                println!("{error}");
                return 1;
            }
        };
        let mut stack = FastUdp::new(&config, PORT);
        let clock = environment.clock;
        println!("serving {}", Endpoint { address: config.address, port: PORT });

        let turn = || {
            let moved = match bare {
                true => reflect_all(&mut device, &mut stack),
                false => stack.poll(&mut device, &mut Echo, 0, BATCH),
            };
            let cross = |moved| {
                if moved > 0 || device.has_unsent() { device.sync().map(|_| moved) } else { Ok(0) }
            };
            match moved.and_then(cross) {
                Ok(BATCH..) => Turn::Progress,
                Ok(_) if device.has_unsent() => Turn::Idle(Some(clock.after_micros(BUSY_MICROS))),
                Ok(_) => Turn::Idle(None),
                Err(error) => {
                    println!("network: {error}");
                    Turn::Done(1)
                }
            }
        };
        let mut park = environment.park;
        RunToCompletion::new(turn).run(&mut park)
    }

    /// Sends back up to a batch of packets.
    fn reflect_all(device: &mut impl NetDevice, stack: &mut FastUdp) -> Result<u32, Error> {
        let mut moved = 0;
        while moved < BATCH {
            let length = match device.slots() {
                Slots { received: None, .. } => break,
                Slots { received: Some(packet), free: Some(buffer) } => {
                    floor::reflect(packet, buffer)
                }
                Slots { received: Some(_), free: None } => 0,
            };
            moved += 1;
            if length == 0 {
                // No UDP, or no room: the stack knows what to do.
                stack.poll(device, &mut Echo, 0, 1)?;
                continue;
            }
            device.consume();
            device.commit(length);
        }
        Ok(moved)
    }

    /// Sends payloads back.
    struct Echo;

    impl Service for Echo {
        #[inline]
        fn answer(&mut self, request: &[u8], _: Endpoint, reply: &mut [u8]) -> Option<usize> {
            reply.get_mut(..request.len())?.copy_from_slice(request);
            Some(request.len())
        }
    }
}
