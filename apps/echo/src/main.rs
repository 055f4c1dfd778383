//! UDP echo (RFC 862) on port 7, or on the port that the argument `port=` names.
//!
//! Beside the key-value store it shows that a library OS is put together by its
//! application: the same memory, rings and filters, but cooperative tasks
//! instead of a loop, and smoltcp's interface instead of the fast path. The tasks
//! share one thread, and threads take turns: there are no deadlines to keep.
#![cfg_attr(exo_guest, no_std, no_main)]

libos::app!(guest::main);

#[cfg(exo_guest)]
mod guest {
    use core::fmt;

    use exo_abi::{Pages, RingOrder};
    use libos::memory::MemoryError;
    use libos::net::bind::{BindError, bind};
    use libos::net::smol::{MAX_PAYLOAD, SmolUdp};
    use libos::net::socket::UdpSocket;
    use libos::net::{Endpoint, NetConfig};
    use libos::println;
    use libos::runtime::Environment;
    use libos::sched::policy::RoundRobin;
    use libos::sched::threads::{SpawnError, Threads, end_of_it};
    use libos::sched::{Scheduler, Tasks};
    use libos::time::Clock;

    /// RFC 862.
    const PORT: u16 = 7;
    /// 64 slots: bursts of an interactive service, in 260 KiB.
    const RINGS: RingOrder = RingOrder::new(6).expect("1 to 8");

    /// Pages of the stack it serves on.
    const STACK: Pages = 16;
    /// Pages of the stack on which threads are chosen.
    const UPCALL_STACK: Pages = 4;

    /// Serves until the network is taken away. Returns 1 then, or if there is
    /// none to begin with.
    pub(crate) fn main(environment: Environment) -> u64 {
        match run(environment) {
            Ok(code) => code,
            Err(error) => {
                println!("{error}");
                1
            }
        }
    }

    /// Serves in a thread.
    fn run(environment: Environment) -> Result<u64, Failure> {
        let stack = environment.memory.map_region(STACK)?;
        let upcalls = environment.memory.map_region(UPCALL_STACK)?;
        let mut code = Ok(0);
        let mut threads = Threads::new(RoundRobin::new(), end_of_it);
        threads.spawn(stack, (), || code = serve(environment).map_err(Failure::Bind))?;
        threads.run(upcalls);
        code
    }

    fn serve(environment: Environment) -> Result<u64, BindError> {
        let port = match environment.argument("port") {
            None => PORT,
            Some(text) => match text.parse() {
                Ok(port @ 1..) => port,
                _ => {
                    println!("argument port: \"{text}\" is no port from 1 to 65535");
                    return Ok(1);
                }
            },
        };
        let config: NetConfig = environment.net_config().ok_or(BindError::NoNetwork)?;
        let mut device = bind(&environment, &config, port, RINGS)?;
        let clock = environment.clock;
        let stack = SmolUdp::new(&config, port, &mut device, clock.micros());
        let socket = UdpSocket::new(stack.ok_or(BindError::NoNetwork)?);
        println!("serving {}", Endpoint { address: config.address, port });

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
            let Some(payload) = buffer.get(..length) else { continue };
            // A full queue loses the answer, as the network may.
            let _ = socket.send(payload, from);
        }
    }
    /// Why it does not serve.
    enum Failure {
        Memory(MemoryError),
        Thread(SpawnError),
        Bind(BindError),
    }

    impl fmt::Display for Failure {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::Memory(error) => write!(f, "memory: {error}"),
                Self::Thread(error) => error.fmt(f),
                Self::Bind(error) => error.fmt(f),
            }
        }
    }

    impl From<MemoryError> for Failure {
        fn from(error: MemoryError) -> Self {
            Self::Memory(error)
        }
    }

    impl From<SpawnError> for Failure {
        fn from(error: SpawnError) -> Self {
            Self::Thread(error)
        }
    }
}
