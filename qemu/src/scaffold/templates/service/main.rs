//! A service of its own on a UDP port. The host reaches it where the manifest forwards:
//!
//! ```sh
//! exec 3<> /dev/udp/127.0.0.1/9999; echo hello >&3; head -n 1 <&3
//! ```
#![cfg_attr(exo_guest, no_std, no_main)]

#[cfg(any(exo_guest, exo_hosted, test))]
mod service;

libos::app!(guest::main);

#[cfg(any(exo_guest, exo_hosted))]
mod guest {
    use libos::abi::RingOrder;
    use libos::net::bind::bind;
    use libos::net::serve::{BATCH, serve};
    use libos::net::udp::FastUdp;
    use libos::net::{Endpoint, Service, UdpStack};
    use libos::runtime::Environment;
    use libos::{measure, println};

    use crate::service::Capitals;

    const PORT: u16 = 9999;
    /// 64 slots each way.
    const RINGS: RingOrder = RingOrder::new(6).expect("1 to 8");

    pub(crate) fn main(environment: Environment) -> u64 {
        if measure::is_wanted() {
            // Under `cargo exo measure` no packets come: how many instructions is an answer?
            let peer = Endpoint { address: [10, 0, 2, 2], port: 40_000 };
            // Not within the operation: there the compiler could capitalise it beforehand.
            let (request, mut reply) = ([b'a'; 64], [0; 1472]);
            measure::repeat("answer 64 bytes", || Capitals.answer(&request, peer, &mut reply));
            return 0;
        }
        let Some(config) = environment.net_config() else {
            println!("no address: see `address` and `grants` in the manifest");
            return 1;
        };
        // Rings in frames of its own, and filters for ARP, ICMP and its port.
        let mut device = match bind(&environment, &config, PORT, RINGS) {
            Ok(device) => device,
            Err(error) => {
                println!("{error}");
                return 1;
            }
        };
        let mut stack = FastUdp::new(&config, PORT);
        println!("serving {}", Endpoint { address: config.address, port: PORT });
        // Batches of requests, one crossing for each, sleep when there are none.
        let (clock, mut park) = (environment.clock, environment.park);
        let error = serve(&mut device, &clock, &mut park, |device| {
            stack.poll(device, &mut Capitals, 0, BATCH)
        });
        println!("network: {error}");
        1
    }
}
