//! A UDP stack of its own, under a service that answers in capitals. The host reaches it where the
//! manifest forwards:
//!
//! ```sh
//! exec 3<> /dev/udp/127.0.0.1/9999; echo hello >&3; head -n 1 <&3
//! ```
#![cfg_attr(exo_guest, no_std, no_main)]

#[cfg(any(exo_guest, exo_hosted, test))]
mod stack;

libos::app!(guest::main);

#[cfg(any(exo_guest, exo_hosted))]
mod guest {
    use libos::abi::RingOrder;
    use libos::measure::{self, workload};
    use libos::net::bind::bind;
    use libos::net::serve::{BATCH, serve};
    use libos::net::{Endpoint, Service, UdpStack};
    use libos::println;
    use libos::runtime::Environment;

    use crate::stack::Mirror;

    const PORT: u16 = 9999;
    /// 64 slots each way.
    const RINGS: RingOrder = RingOrder::new(6).expect("1 to 8");

    struct Capitals;

    impl Service for Capitals {
        fn answer(&mut self, request: &[u8], _: Endpoint, reply: &mut [u8]) -> Option<usize> {
            let reply = reply.get_mut(..request.len())?;
            reply.copy_from_slice(request);
            reply.make_ascii_uppercase();
            Some(reply.len())
        }
    }

    pub(crate) fn main(environment: Environment) -> u64 {
        if measure::is_wanted() {
            // Under `cargo exo measure` no packets come: what does an answer cost?
            let answers = workload::udp(|config, port, _| Mirror::new(config, port));
            return u64::from(answers == 0);
        }
        let Some(config) = environment.net_config() else {
            println!("no address: see `address` and `grants` in the manifest");
            return 1;
        };
        let mut device = match bind(&environment, &config, PORT, RINGS) {
            Ok(device) => device,
            Err(error) => {
                println!("{error}");
                return 1;
            }
        };
        let mut stack = Mirror::new(&config, PORT);
        println!("serving {}", Endpoint { address: config.address, port: PORT });
        let (clock, mut park) = (environment.clock, environment.park);
        let error = serve(&mut device, &clock, &mut park, |device| {
            stack.poll(device, &mut Capitals, 0, BATCH)
        });
        println!("network: {error}");
        1
    }
}
