//! UDP echo (RFC 862) on port 7.
//!
//! Beside the key-value store it shows that a library OS is put together by its
//! application: the same memory, rings and filters, but cooperative tasks
//! instead of a loop, and smoltcp's interface instead of the fast path.
#![cfg_attr(exo_guest, no_std, no_main)]

libos::app!(guest::main);

#[cfg(exo_guest)]
mod guest {
    use exo_abi::RingOrder;
    use libos::net::bind::{BindError, bind};
    use libos::net::smol::{MAX_PAYLOAD, SmolUdp};
    use libos::net::socket::UdpSocket;
    use libos::net::{Endpoint, NetConfig};
    use libos::println;
    use libos::runtime::Environment;
    use libos::sched::{Scheduler, Tasks};
    use libos::time::Clock;

    const PORT: u16 = 7;
    /// 64 slots: bursts of an interactive service, in 260 KiB.
    const RINGS: RingOrder = RingOrder::new(6).expect("1 to 8");

    /// Serves until the network is taken away. Returns 1 then, or if there is
    /// none to begin with.
    pub(crate) fn main(environment: Environment) -> u64 {
        match serve(environment) {
            Ok(code) => code,
            Err(error) => {
                println!("{error}");
                1
            }
        }
    }

    fn serve(environment: Environment) -> Result<u64, BindError> {
        let config: NetConfig = environment.net_config().ok_or(BindError::NoNetwork)?;
        let mut device = bind(&environment, &config, PORT, RINGS)?;
        let clock = environment.clock;
        let stack = SmolUdp::new(&config, PORT, &mut device, clock.micros());
        let socket = UdpSocket::new(stack.ok_or(BindError::NoNetwork)?);
        println!("serving {}", Endpoint { address: config.address, port: PORT });

        let mut tasks = Tasks::new();
        let events = tasks.events();
        let (socket, clock) = (&socket, &clock);
        let network = async move {
            let error = socket.drive(device, clock, &events).await;
            println!("network: {error}");
            1
        };
        let spawned = tasks.spawn(network).and_then(|()| tasks.spawn(echo(socket)));
        spawned.expect("two tasks are not too many");
        let mut park = environment.park;
        Ok(tasks.run(&mut park))
    }

    /// Sends back what comes in.
    async fn echo(socket: &UdpSocket) -> u64 {
        let mut buffer = [0; MAX_PAYLOAD];
        loop {
            let (length, from) = socket.receive(&mut buffer).await;
            // Two echo services that are set on each other never stop.
            if from.port == PORT {
                continue;
            }
            let Some(payload) = buffer.get(..length) else { continue };
            // A full queue loses the answer, as the network may.
            let _ = socket.send(payload, from);
        }
    }
}
