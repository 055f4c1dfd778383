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
    use libos::net::serve::{BATCH, serve};
    use libos::net::udp::FastUdp;
    use libos::net::{Endpoint, NetDevice, Service, UdpStack};
    use libos::println;
    use libos::runtime::Environment;

    const PORT: u16 = 11211;
    /// As the store has.
    const RINGS: RingOrder = RingOrder::new(8).expect("1 to 8");

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

        let mut park = environment.park;
        let error = serve(&mut device, &clock, &mut park, |device| match bare {
            true => reflect_all(device, &mut stack),
            false => stack.poll(device, &mut Echo, 0, BATCH),
        });
        println!("network: {error}");
        1
    }

    /// Sends back up to a batch of packets.
    fn reflect_all(device: &mut impl NetDevice, stack: &mut FastUdp) -> Result<u32, Error> {
        let moved = device.exchange(BATCH, |packet, buffer| match floor::reflect(packet, buffer) {
            // No UDP: the stack knows what to do.
            0 => stack.handle(packet, buffer, &mut Echo),
            length => length,
        });
        // What is left had no room for its answer.
        Ok(moved + stack.poll(device, &mut Echo, 0, BATCH - moved)?)
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
