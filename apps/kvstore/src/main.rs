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
//! Datagrams and connections come to one port number, through one binding: one filter more than
//! for datagrams alone.
//!
//! If it was granted an extent of the disk, the store is durable: between steps 5 and 6 what a batch
//! has changed goes there, with one write and one flush, or as `durable=PROMISE` says
//! ([`kvstore::durable::promise`]).
//!
//! With a capability for it (`elevate` in the manifest) it serves in ring 0, and with the right
//! to direct calls moves packets by them; the same program all the same.
//!
//! Environments that the manifest lets share pages with it, each alone and the store first, are
//! clients that call it (`colocated`), or enter it through its gate (`gated`).
//!
//! Arguments: `memory-mib=N`, the memory of the store (most of what was granted,
//! otherwise); `seed=N`, the secret of its index, for runs that must repeat; `connections=N`,
//! how many clients may be connected (1024, otherwise); `udp-kib=N`, how many KiB a second a source
//! that has not connected is sent in answers of several datagrams (4096, otherwise);
//! `disk-seconds=N`, how long the disk may take over a request before the store gives up (30,
//! otherwise; 0 for ever); `auth=USER:PASSWORD,…`, the users that are served, over connections only (all, and datagrams
//! too, otherwise); `eviction=NAME`, which items are given up first
//! ([`kvstore::engine::Eviction`]); `shutdown=yes`, to end when a client says `shutdown`.
#![cfg_attr(exo_guest, no_std, no_main)]

#[cfg(exo_guest)]
extern crate alloc;

#[cfg(exo_guest)]
mod colocated;
#[cfg(exo_guest)]
mod gated;

libos::app!(guest::main);

#[cfg(exo_guest)]
mod guest {
    use core::fmt;

    use dpf::packet::tcp_to;
    use exo_abi::{Error, FRAME_BYTES, Pages, RingOrder};
    use kvstore::connections::{Connections, DEFAULT_LIMIT, Session};
    use kvstore::datagrams::{
        DEFAULT_BUDGET, Datagrams, LEAST_MEMORY, MOST_REQUESTS, REQUEST_MEMORY, Source,
    };
    use kvstore::durable::promise::Promise;
    use kvstore::durable::{self, Durable, Forgetful, Keeper};
    use kvstore::engine::Eviction;
    use kvstore::users::Users;
    use kvstore::{Config, MAX_DATAGRAM, Service, SetupError, Time};
    use libos::disk::{self, Blocking};
    use libos::elevation::{Elevation, Stretch};
    use libos::gate::Domain;
    use libos::gate::shared::{Place, Shared};
    use libos::lend::Serve;
    use libos::memory::MemoryError;
    use libos::net::bind::{BindError, KernelBell, bind, install};
    use libos::net::checksum::Sum;
    use libos::net::dual::Dual;
    use libos::net::rings::Rings;
    use libos::net::serve::{BATCH, serve_in_time};
    use libos::net::stream::{Next, Progress, StreamService};
    use libos::net::tcp::{BUFFER, FastTcp, TcpLimits};
    use libos::net::udp::FastUdp;
    use libos::net::{Endpoint, NetDevice};
    use libos::paging::DemandZero;
    use libos::paging::guest::{Paged, fault};
    use libos::println;
    use libos::runtime::{Environment, seed};
    use libos::sched::policy::EarliestDeadlineFirst;
    use libos::sched::threads::{SpawnError, Threads};
    use libos::sched::{KernelPark, Ticks};
    use libos::storage::{Fault, OpenError};
    use libos::time::{Clock, timestamp};

    use crate::colocated::{self, Clients, STORE, Visit, Windows};
    use crate::gated::{self, Common, Seconds, Terms};

    const PORT: u16 = 11211;
    /// 256 slots each way, in 1 MiB.
    const RINGS: RingOrder = RingOrder::new(8).expect("1 to 8");
    /// Frames left to heap and page tables when the store takes the rest.
    const RESERVE: Pages = 128;
    /// Bytes of the heap for a connection: what the stack and the store keep for it, in powers
    /// of two.
    const CONNECTION: u32 = 1024;
    /// Connections beyond the limit, which are told so.
    const REFUSED: u32 = 64;
    /// Which part of what is granted is for data under way.
    const BUFFERS: Pages = 8;
    /// As many connections as there are, all busy, need no more.
    const MOST_BUFFERS: Pages = 512;
    /// Pages of the buffer through which the disk is written.
    const DISK_BUFFER: Pages = 16;
    /// How long the disk may take over a request.
    const DISK_SECONDS: u64 = 30;
    /// Pages of the two buffers of a journal, for the largest items there may be.
    const JOURNAL: Pages = 2 * 320;
    /// Which part of what is granted is for requests and answers of several datagrams.
    const DATAGRAMS: Pages = 32;
    /// With less, none are taken together; with more, there is no use for it.
    const LEAST_DATAGRAMS: Pages = LEAST_MEMORY.div_ceil(FRAME_BYTES as usize) as Pages;
    const MOST_DATAGRAMS: Pages =
        (LEAST_MEMORY + MOST_REQUESTS * REQUEST_MEMORY).div_ceil(FRAME_BYTES as usize) as Pages;
    /// Pages that come at a time as memory fills.
    const RUN: Pages = 16;
    /// Frames that one page table maps.
    const TABLE: Pages = 512;

    /// Pages of the stack it serves on.
    const STACK: Pages = 16;
    /// Pages of the stack on which threads are chosen.
    const UPCALL_STACK: Pages = 4;
    /// A request is due when it comes.
    const DUE_WITHIN: Ticks = Ticks(0);

    /// Serves until the network is taken away. Returns 1 then, or if something
    /// is missing to begin with; 0 if a client has ended it.
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
        let mut threads = Threads::new(EarliestDeadlineFirst::new(), fault);
        threads.spawn(stack, DUE_WITHIN, || code = serve(environment))?;
        threads.run(upcalls);
        code
    }

    fn serve(environment: Environment) -> Result<u64, Failure> {
        let config = environment.net_config().ok_or(BindError::NoNetwork)?;
        let mut device = bind(&environment, &config, PORT, RINGS)?;
        install(&environment, device.bell().binding, &tcp_to(config.address, PORT))?;
        let clock = environment.clock;
        let time = Seconds::new(clock);
        let now = time.now;
        let limit = connections(&environment)?;
        let Memory { buffers, datagrams, store, domain } = memory(&environment)?;
        let (place, memory) = Place::take(store).ok_or(MemoryError::OutOfFrames)?;
        let limits = TcpLimits { connections: limit + REFUSED, ..TcpLimits::default() };
        let tcp = FastTcp::new(&config, PORT, buffers, limits, seed(), clock.micros());
        let users = users(&environment)?;
        let udp = match users {
            None => FastUdp::new(&config, PORT),
            Some(_) => FastUdp::deaf(&config),
        };
        let stack = Dual::new(udp, tcp);
        let datagrams = Datagrams::new(datagrams, budget(&environment)?);
        let datagrams = datagrams.ok_or(Failure::Datagrams)?;
        let shutdown = match environment.argument("shutdown") {
            None | Some("no") => false,
            Some("yes") => true,
            Some(_) => return Err(Failure::Shutdown),
        };
        let terms = Terms { config: store_config(&environment)?, users, shutdown };
        let mut common = Common::new(memory, terms, time)?;
        let connections = Connections::new(limit);
        let promise = promise(&environment)?;
        let Some(disk) = open_disk(&environment)? else {
            if promise.is_some() {
                return Err(Failure::NoDisk);
            }
            let common = place.fill(common);
            if let Some(domain) = &domain {
                domain.open(&common);
            }
            let clients = Clients::open(&environment, domain)?;
            let (keeper, failed, micros) = (Forgetful, None, 0);
            let rest = Rest { datagrams, keeper, failed, connections, micros };
            return serve_with(&environment, device, stack, Store { common, clients, rest });
        };
        let promise = promise.unwrap_or_default();
        let bytes = durable::buffer_bytes(&common.service);
        let buffers = [buffer(&environment, bytes)?, buffer(&environment, bytes)?];
        let mut keeper = Durable::open(disk, &mut common.service, buffers, now)?;
        keeper.promise(promise);
        let items = common.service.engine().usage().items;
        match promise {
            Promise::Always => println!("durable; {items} items"),
            _ => println!("durable, {promise}; {items} items"),
        }
        let clients = Clients::none(&environment);
        let (failed, micros) = (None, 0);
        let common = place.fill(common);
        let rest = Rest { datagrams, keeper, failed, connections, micros };
        serve_with(&environment, device, stack, Store { common, clients, rest })
    }

    fn serve_with<K: Keeper + 'static>(
        environment: &Environment,
        mut device: Rings<KernelBell>,
        mut stack: Dual<'static, Client>,
        mut store: Store<K>,
    ) -> Result<u64, Failure> {
        let address = environment.net_config().ok_or(BindError::NoNetwork)?.address;
        println!("serving {}", Endpoint { address, port: PORT });

        let clock = environment.clock;
        let mut ring_0 = ring_0(environment);
        device.bell().direct = ring_0.as_ref().is_some_and(Stretch::calls_directly);
        let mut park = environment.park;
        let error = STORE.lend(&mut store, |store| {
            serve_in_time(&mut device, &clock, &mut park, |device| {
                if let Some(Err(error)) = ring_0.as_mut().map(Stretch::keep) {
                    println!("no more ring 0: {error}");
                    ring_0 = None;
                }
                // One reading of the clock serves a batch: expiry has seconds.
                let micros = clock.micros();
                store.hold(|store| {
                    store.batch(micros, |windows, batch| {
                        windows.serve_post(batch.service, batch.now);
                        let handled = stack.poll(device, batch, micros, BATCH)?;
                        if batch.service.is_shut_down() {
                            // The answers of this batch leave; then the loop ends, as if the network had.
                            device.sync()?;
                            return Err(Error::BadHandle);
                        }
                        let wait = stack.wait_micros(micros);
                        match batch.rest.keeper.wait_micros(micros) {
                            None => Ok((handled, wait)),
                            Some(0) => batch.settle().map(|()| (handled, wait)),
                            Some(owed) => {
                                Ok((handled, Some(wait.map_or(owed, |wait| wait.min(owed)))))
                            }
                        }
                    })
                })
            })
        });
        // What is owed.
        let shut_down = store.batch(u64::MAX, |_, batch| {
            let _ = batch.settle();
            batch.service.is_shut_down()
        });
        match store.rest.failed {
            None if shut_down => {
                println!("shut down by a client");
                return Ok(0);
            }
            Some(fault) => println!("storage: {fault}; nothing more is acknowledged"),
            None => println!("network: {error}"),
        }
        Ok(1)
    }

    /// Ring 0, if it was granted and is not refused.
    fn ring_0(environment: &Environment) -> Option<Stretch> {
        let stretch = Elevation::new(environment.start.elevation?).begin();
        stretch.inspect_err(|error| println!("no ring 0: {error}")).ok()
    }

    /// The store, and everything that serves it.
    struct Store<K> {
        common: Shared<Common>,
        clients: Clients,
        rest: Rest<K>,
    }

    /// What the network alone uses.
    struct Rest<K> {
        datagrams: Datagrams<'static>,
        keeper: K,
        /// Why nothing is kept any more.
        failed: Option<Fault>,
        connections: Connections,
        /// The time of the batch in microseconds since the machine was started.
        micros: u64,
    }

    /// The store during a batch of the network's.
    struct Batch<'b, K> {
        service: &'b mut Service<'static>,
        now: Time,
        rest: &'b mut Rest<K>,
    }

    impl<K> Serve<Visit> for Store<K> {
        #[inline]
        fn serve(&mut self, visit: &mut Visit) {
            let Self { common, clients, .. } = self;
            clients.serve(visit, common);
        }
    }

    impl<K> Store<K> {
        /// Does a batch of the network's, at `micros` since the machine was started.
        fn batch<R>(
            &mut self,
            micros: u64,
            act: impl FnOnce(&mut Windows, &mut Batch<'_, K>) -> R,
        ) -> R {
            let Self { common, clients: Clients { domain, windows }, rest } = self;
            rest.micros = micros;
            let wait = |number| domain.as_ref().is_none_or(|domain| domain.wait_for(number));
            common.hold(wait, Common::mend, |Common { service, time, .. }| {
                time.set(micros);
                act(windows, &mut Batch { service, now: time.now, rest })
            })
        }
    }

    impl<K: Keeper> Batch<'_, K> {
        #[inline(always)]
        fn settle(&mut self) -> Result<(), Error> {
            self.rest.keeper.settle(self.service, self.rest.micros).map_err(|fault| {
                self.rest.failed = Some(fault);
                Error::DeviceFailed
            })
        }
    }

    /// A client that is connected.
    struct Client {
        session: Session,
        address: [u8; 4],
    }

    impl<K: Keeper> StreamService for Batch<'_, K> {
        type Connection = Client;

        fn open(&mut self, from: Endpoint) -> Option<Client> {
            self.rest.datagrams.connected(from.address);
            Some(Client { session: self.rest.connections.begin(), address: from.address })
        }

        fn serve(&mut self, client: &mut Client, input: &[u8], output: &mut [u8]) -> Progress {
            self.rest.keeper.make_room(self.service);
            let progress = client.session.serve(self.service, self.now, input, output);
            let next = match progress.next {
                kvstore::stream::Next::Input => Next::Input,
                kvstore::stream::Next::Room => Next::Room,
                kvstore::stream::Next::Close => Next::Close,
            };
            Progress { consumed: progress.consumed, produced: progress.produced, next }
        }

        #[inline(always)]
        fn settle(&mut self) -> Result<(), Error> {
            self.settle()
        }

        fn closed(&mut self, client: Client) {
            self.rest.datagrams.disconnected(client.address);
            self.rest.connections.end(client.session, self.service);
        }
    }

    impl<K: Keeper> libos::net::Service for Batch<'_, K> {
        #[inline(always)]
        fn settle(&mut self) -> Result<(), Error> {
            self.settle()
        }

        #[inline]
        fn answer(&mut self, request: &[u8], from: Endpoint, reply: &mut [u8]) -> Option<usize> {
            self.answer_with_sum(request, from, reply).map(|(length, _)| length)
        }

        #[inline(always)]
        fn answer_with_sum(
            &mut self,
            request: &[u8],
            from: Endpoint,
            reply: &mut [u8],
        ) -> Option<(usize, Sum)> {
            let reply = reply.get_mut(..MAX_DATAGRAM)?;
            self.rest.keeper.make_room(self.service);
            let from = Source { address: from.address, port: from.port };
            self.rest.datagrams.answer(self.service, request, from, self.now, reply)
        }

        #[inline(always)]
        fn has_more(&self) -> bool {
            self.rest.datagrams.has_more()
        }

        fn more(&mut self, reply: &mut [u8]) -> Option<(usize, Sum)> {
            let reply = reply.get_mut(..MAX_DATAGRAM)?;
            self.rest.datagrams.next(self.service, reply)
        }
    }

    /// The extent that was granted, if one was.
    fn open_disk(
        environment: &Environment,
    ) -> Result<Option<Blocking<disk::Kernel, KernelPark>>, Failure> {
        let Some((handle, extent)) = environment.start.disk else { return Ok(None) };
        let (memory, park) = (environment.memory, environment.park);
        let disk = disk::blocking(memory, park, handle, extent, DISK_BUFFER);
        let mut disk = disk.map_err(Failure::Disk)?;
        let seconds = match environment.argument("disk-seconds") {
            None => DISK_SECONDS,
            Some(number) => number.parse().map_err(|_| Failure::Argument("disk-seconds"))?,
        };
        if seconds > 0 {
            let hz = environment.clock.frequency().get();
            disk.give_up_after(timestamp, hz.saturating_mul(seconds));
        }
        Ok(Some(disk))
    }

    /// What answers promise, if that was chosen.
    fn promise(environment: &Environment) -> Result<Option<Promise>, Failure> {
        let Some(text) = environment.argument("durable") else { return Ok(None) };
        Promise::parse(text).map(Some).ok_or(Failure::Promise)
    }

    /// Memory of so many bytes.
    fn buffer(environment: &Environment, bytes: usize) -> Result<&'static mut [u8], Failure> {
        let pages = bytes.div_ceil(FRAME_BYTES as usize) as Pages;
        let buffer = environment.memory.map_region(pages)?;
        buffer.get_mut(..bytes).ok_or(Failure::Memory(MemoryError::OutOfFrames))
    }

    /// Pages for the store: those asked for, or all but a reserve.
    fn store_pages(environment: &Environment) -> Result<Pages, Failure> {
        let free = environment.free_frames();
        let tables = free / TABLE + 1;
        let connections = connections(environment)? * CONNECTION / FRAME_BYTES as u32;
        let mut reserve = RESERVE
            + buffer_pages(environment)
            + datagram_pages(environment)
            + colocated::pages(environment)
            + connections;
        if environment.start.disk.is_some() {
            reserve += DISK_BUFFER + JOURNAL;
        }
        // The pager's notes take as much as the tables, and up to twice that on the heap.
        let most = free.saturating_sub(reserve + 3 * tables);
        let Some(mib) = environment.argument("memory-mib") else { return Ok(most) };
        let mib: Pages = mib.parse().map_err(|_| Failure::Argument("memory-mib"))?;
        let pages = mib.checked_mul((1 << 20) / FRAME_BYTES as Pages);
        pages.filter(|&pages| pages <= most).ok_or(Failure::Argument("memory-mib"))
    }

    /// What memory is for.
    struct Memory {
        /// Data under way.
        buffers: &'static mut [u8],
        /// Requests and answers of several datagrams.
        datagrams: &'static mut [u8],
        store: &'static mut [u8],
        /// If the store's is behind a gate.
        domain: Option<Domain>,
    }

    /// Divides memory. Its pages come as it fills, but where an exception would be in the way:
    /// one takes ring 0 away, and cannot be served in the middle of a call.
    fn memory(environment: &Environment) -> Result<Memory, Failure> {
        let parts = [buffer_pages(environment), datagram_pages(environment)];
        let pages = store_pages(environment)?;
        let behind = match colocated::sizes(environment) {
            Some(sizes) if environment.start.disk.is_none() => {
                gated::domain(environment, pages, sizes)?
            }
            _ => None,
        };
        let (domain, behind) = behind.unzip();
        let pages = parts[0] + parts[1] + if behind.is_some() { 0 } else { pages };
        let memory = if environment.start.elevation.is_some() || colocated::are_there(environment) {
            environment.memory.map_region(pages)?
        } else {
            Paged::new(pages, |_| Ok(DemandZero::new(pages).in_runs_of(RUN)))?.for_good()?
        };
        let [buffers, datagrams] = parts.map(|pages| pages as usize * FRAME_BYTES as usize);
        let cut = |from: &'static mut [u8], at| {
            from.split_at_mut_checked(at).ok_or(MemoryError::OutOfFrames)
        };
        let (buffers, rest) = cut(memory, buffers)?;
        let (datagrams, store) = cut(rest, datagrams)?;
        Ok(Memory { buffers, datagrams, store: behind.unwrap_or(store), domain })
    }

    /// How many clients may be connected.
    fn connections(environment: &Environment) -> Result<u32, Failure> {
        let Some(limit) = environment.argument("connections") else { return Ok(DEFAULT_LIMIT) };
        let limit = limit.parse().ok().filter(|limit| (1..=65_536).contains(limit));
        limit.ok_or(Failure::Argument("connections"))
    }

    /// Pages for data under way.
    fn buffer_pages(environment: &Environment) -> Pages {
        let buffer = (BUFFER / FRAME_BYTES as usize) as Pages;
        let granted = environment.start.frame_count / BUFFERS / buffer;
        granted.clamp(2, MOST_BUFFERS) * buffer
    }

    /// The users that are served, if not all.
    fn users(environment: &Environment) -> Result<Option<Users<'static>>, Failure> {
        let Some(text) = environment.argument("auth") else { return Ok(None) };
        Users::new(text.as_bytes(), b',').map(Some).map_err(|_| Failure::Users)
    }

    /// Pages for requests and answers of several datagrams.
    fn datagram_pages(environment: &Environment) -> Pages {
        let granted = environment.start.frame_count / DATAGRAMS;
        granted.clamp(LEAST_DATAGRAMS, MOST_DATAGRAMS)
    }

    /// Bytes a second for a source of datagrams.
    fn budget(environment: &Environment) -> Result<u32, Failure> {
        let Some(kib) = environment.argument("udp-kib") else { return Ok(DEFAULT_BUDGET) };
        let bytes = kib.parse().ok().and_then(|kib: u32| kib.checked_mul(1 << 10));
        bytes.ok_or(Failure::Argument("udp-kib"))
    }

    fn store_config(environment: &Environment) -> Result<Config, Failure> {
        let seed = match environment.argument("seed") {
            None => seed(),
            Some(number) => [number.parse().map_err(|_| Failure::Argument("seed"))?, 0],
        };
        let eviction = match environment.argument("eviction") {
            None => Eviction::default(),
            Some(name) => Eviction::named(name).ok_or(Failure::Policy)?,
        };
        Ok(Config { seed, pid: environment.id.0, eviction, ..Config::default() })
    }

    /// Why the store does not serve.
    pub(crate) enum Failure {
        Entry(Error),
        Argument(&'static str),
        Policy,
        Promise,
        Shutdown,
        NoDisk,
        Datagrams,
        Users,
        Memory(MemoryError),
        Bind(BindError),
        Store(SetupError),
        Thread(SpawnError),
        Disk(Error),
        Log(OpenError),
    }

    impl fmt::Display for Failure {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::Argument(name) => {
                    write!(f, "argument {name}: not a number, or more than there is")
                }
                Self::Entry(error) => write!(f, "clients on this machine: {error}"),
                Self::Policy => f.write_str("argument eviction: no policy has this name"),
                Self::Promise => f.write_str("argument durable: not always, group:MS or async:MS"),
                Self::Shutdown => f.write_str("argument shutdown: not yes or no"),
                Self::NoDisk => f.write_str("argument durable: there is no disk"),
                Self::Datagrams => f.write_str("datagrams: too little memory"),
                Self::Users => {
                    f.write_str("argument auth: not USER:PASSWORD, or several with commas")
                }
                Self::Memory(error) => write!(f, "memory: {error}"),
                Self::Bind(error) => error.fmt(f),
                Self::Store(error) => write!(f, "store: {error:?}"),
                Self::Thread(error) => error.fmt(f),
                Self::Disk(error) => write!(f, "disk: {error}"),
                Self::Log(error) => write!(f, "disk: {error}"),
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

    impl From<OpenError> for Failure {
        fn from(error: OpenError) -> Self {
            Self::Log(error)
        }
    }

    impl From<SetupError> for Failure {
        fn from(error: SetupError) -> Self {
            Self::Store(error)
        }
    }
}
