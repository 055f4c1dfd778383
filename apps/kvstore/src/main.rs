//! The store as an application of the exokernel, in ring 3.
//!
//! Steps 4 to 6 of a packet's journey, run to completion ([`libos::net::serve`]). There is no
//! queue and, once it serves, no allocation.
//!
//! All of it is one thread, under earliest deadline first, as the one whose work is due
//! at once: whatever else is to run here some day is due later and cannot hold a request
//! up for more than a slice. There is nothing else now. The store reclaims what has
//! expired where it meets it; a thread that looked for it could not share the store
//! with requests without a lock on their way, nor sleep as long as the machine does.
//!
//! Arguments: `memory-mib=N`, the memory of the store (most of what was granted,
//! otherwise); `seed=N`, the secret of its index, for runs that must repeat.
#![cfg_attr(exo_guest, no_std, no_main)]

libos::app!(guest::main);

#[cfg(exo_guest)]
mod guest {
    use core::fmt;

    use exo_abi::{FRAME_BYTES, Pages, RingOrder};
    use kvstore::{Config, MAX_DATAGRAM, Service, SetupError, Time};
    use libos::memory::MemoryError;
    use libos::net::bind::{BindError, bind};
    use libos::net::checksum::Sum;
    use libos::net::serve::{BATCH, serve as serve_network};
    use libos::net::udp::FastUdp;
    use libos::net::{Endpoint, UdpStack};
    use libos::println;
    use libos::runtime::{Environment, seed};
    use libos::sched::Ticks;
    use libos::sched::policy::EarliestDeadlineFirst;
    use libos::sched::threads::{SpawnError, Threads, end_of_it};
    use libos::time::Clock;

    const PORT: u16 = 11211;
    /// 256 slots each way, in 1 MiB.
    const RINGS: RingOrder = RingOrder::new(8).expect("1 to 8");
    /// Frames left to heap and page tables when the store takes the rest.
    const RESERVE: Pages = 128;
    /// Frames that one page table maps.
    const TABLE: Pages = 512;

    /// Pages of the stack it serves on.
    const STACK: Pages = 16;
    /// Pages of the stack on which threads are chosen.
    const UPCALL_STACK: Pages = 4;
    /// A request is due when it comes.
    const DUE_WITHIN: Ticks = Ticks(0);

    /// Serves until the network is taken away. Returns 1 then, or if something
    /// is missing to begin with.
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
        let mut threads = Threads::new(EarliestDeadlineFirst::new(), end_of_it);
        threads.spawn(stack, DUE_WITHIN, || code = serve(environment))?;
        threads.run(upcalls);
        code
    }

    fn serve(environment: Environment) -> Result<u64, Failure> {
        let config = environment.net_config().ok_or(BindError::NoNetwork)?;
        let mut device = bind(&environment, &config, PORT, RINGS)?;
        let mut stack = FastUdp::new(&config, PORT);
        let clock = environment.clock;
        let start = clock.unix_seconds();
        let memory = environment.memory.map_region(store_pages(&environment)?)?;
        let mut store = Store {
            service: Service::new(memory, &store_config(&environment)?)?,
            now: Time { unix: start, uptime: 0 },
        };
        println!("serving {}", Endpoint { address: config.address, port: PORT });

        let mut park = environment.park;
        let error = serve_network(&mut device, &clock, &mut park, |device| {
            // One reading of the clock serves a batch: expiry has seconds.
            let unix = clock.unix_seconds();
            store.now = Time { unix, uptime: unix.saturating_sub(start) as u32 };
            stack.poll(device, &mut store, 0, BATCH)
        });
        println!("network: {error}");
        Ok(1)
    }

    /// The store and the time of the current batch.
    struct Store {
        service: Service<'static>,
        now: Time,
    }

    impl libos::net::Service for Store {
        #[inline]
        fn answer(&mut self, request: &[u8], from: Endpoint, reply: &mut [u8]) -> Option<usize> {
            self.answer_with_sum(request, from, reply).map(|(length, _)| length)
        }

        #[inline(always)]
        fn answer_with_sum(
            &mut self,
            request: &[u8],
            _: Endpoint,
            reply: &mut [u8],
        ) -> Option<(usize, Sum)> {
            let reply = reply.get_mut(..MAX_DATAGRAM)?;
            self.service.answer_with_sum(request, self.now, reply)
        }
    }

    /// Pages for the store: those asked for, or all but a reserve.
    fn store_pages(environment: &Environment) -> Result<Pages, Failure> {
        let free = environment.free_frames();
        let tables = free / TABLE + 1;
        let most = free.saturating_sub(RESERVE + tables);
        let Some(mib) = environment.argument("memory-mib") else { return Ok(most) };
        let mib: Pages = mib.parse().map_err(|_| Failure::Argument("memory-mib"))?;
        let pages = mib.checked_mul((1 << 20) / FRAME_BYTES as Pages);
        pages.filter(|&pages| pages <= most).ok_or(Failure::Argument("memory-mib"))
    }

    fn store_config(environment: &Environment) -> Result<Config, Failure> {
        let seed = match environment.argument("seed") {
            None => seed(),
            Some(number) => [number.parse().map_err(|_| Failure::Argument("seed"))?, 0],
        };
        Ok(Config { seed, pid: environment.id.0, ..Config::default() })
    }

    /// Why the store does not serve.
    enum Failure {
        Argument(&'static str),
        Memory(MemoryError),
        Bind(BindError),
        Store(SetupError),
        Thread(SpawnError),
    }

    impl fmt::Display for Failure {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::Argument(name) => {
                    write!(f, "argument {name}: not a number, or more than there is")
                }
                Self::Memory(error) => write!(f, "memory: {error}"),
                Self::Bind(error) => error.fmt(f),
                Self::Store(error) => write!(f, "store: {error:?}"),
                Self::Thread(error) => error.fmt(f),
            }
        }
    }

    impl From<MemoryError> for Failure {
        fn from(error: MemoryError) -> Self {
            Self::Memory(error)
        }
    }

    impl From<BindError> for Failure {
        fn from(error: BindError) -> Self {
            Self::Bind(error)
        }
    }

    impl From<SpawnError> for Failure {
        fn from(error: SpawnError) -> Self {
            Self::Thread(error)
        }
    }

    impl From<SetupError> for Failure {
        fn from(error: SetupError) -> Self {
            Self::Store(error)
        }
    }
}
