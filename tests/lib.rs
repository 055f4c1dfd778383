//! What the whole-machine tests share.
//!
//! The tests boot real machines and are numbered by what they depend on: if s10
//! fails, what s20 says means little.
//!
//! | test | shows |
//! |---|---|
//! | `s00_boot` | the kernel boots, or says why not |
//! | `s10_abi` | every system call does what its description says |
//! | `s15_libos` | what the library OS makes of upcalls and frames |
//! | `s20_isolation` | an attacker gets nothing, and its neighbour does not notice |
//! | `s30_filters` | each application gets its own frames and no others, whatever filters come and go |
//! | `s40_network` | ARP, ICMP and UDP as other hosts expect them |
//! | `s45_disk` | extents of the disk are apart, and there in the next machine |
//! | `s50_store` | memcached clients of others are served |
//! | `s52_tcp` | and over connections, many and long ones |
//! | `s53_conform` | it is a memcached to `memccapable`, and to random requests beside one |
//! | `s54_durable` | what the store has acknowledged survives the death of the machine |
//! | `s55_load` | the load generator, as the machine's NIC, gets every answer |
//! | `s56_colocated` | clients on the same machine call the store, and it outlives them |
//! | `s57_shards` | clients and a proxy that share keys out among three stores go on without one of them |
//! | `s58_networks` | the store is reached through `passt`, and over a TAP device |
//! | `s60_soak` | many mixed requests, every answer checked against a model |
//! | `s62_transports` | the same over connections and datagrams, with long values, evicting |
//! | `s70_idle` | an idle machine sleeps |
//! | `s75_clock` | the guest's clock is the host's |
//! | `s80_cores` | the same on two processors |
//! | `s85_bounds` | no call keeps ring 0 long, whatever its input |
//! | `s88_elevation` | ring 0 is given and taken as its capability says, and a buggy program there does not stop the machine |
//! | `s90_fuzz` | what must always be true is, under random calls |
//! | `s95_primitives` | each operation that is compared with Linux is measured |
//! | `s97_linux` | a Linux guest of packages serves on the same machine |
//! | `s97_xdp` | a cache in XDP before memcached answers, and never an old value |
//! | `s98_placements` | the store answers alike wherever it runs |
//! | `s99_module` | the store in Linux's kernel: same answers, loaded under traffic, unhurt |
//!
//! Time limits here only keep a failed test from hanging. Nothing is asserted about
//! how long anything takes.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use exo_cmd::machine::{Config, ECHO_PORT, Machine, Network, STORE_PORT};
use exo_cmd::manifest::{App, Elevate, Forward, Grants, Manifest, OnExit, Transport, VERSION};

pub mod frame;
pub mod model;
pub mod monitor;
pub mod placement;
pub mod soak;

/// Far longer than anything takes.
pub const LONG: Duration = Duration::from_secs(300);

/// Address of the store, as in the manifests of the tree.
pub const STORE: [u8; 4] = [10, 0, 2, 15];
/// Address of the echo service.
pub const ECHO: [u8; 4] = [10, 0, 2, 16];
/// Address of the third application, if there is one.
pub const THIRD: [u8; 4] = [10, 0, 2, 17];
/// Address of the network's router, which in tests with raw frames is the test.
pub const GATEWAY: [u8; 4] = [10, 0, 2, 2];

/// What `test` needs of Debian's packages; where apt cannot give it, that is said past the
/// capture of the test harness, since it has to be seen.
pub fn needed<T>(test: &str, packages: exo_cmd::Result<T>) -> Option<T> {
    let skipped = |error: &exo_cmd::Error| {
        let _ = writeln!(io::stderr(), "\n*** SKIPPED {test}: nothing was booted: {error:#} ***");
    };
    packages.inspect_err(skipped).ok()
}

/// A manifest with these applications.
#[must_use]
pub fn manifest(apps: Vec<App>) -> Manifest {
    Manifest {
        version: VERSION,
        boot_unix_seconds: 1_700_000_000,
        gateway: GATEWAY,
        prefix_len: 24,
        apps,
        shares: Vec::new(),
    }
}

/// An application of that image, with a console and nothing else. Root carries on
/// when it ends.
#[must_use]
pub fn app(image: &str) -> App {
    App {
        name: image.to_owned(),
        image: image.to_owned(),
        images: Vec::new(),
        frames: 2048,
        slots: 16,
        core: None,
        address: None,
        disk: None,
        forward: Vec::new(),
        args: Vec::new(),
        grants: Grants { console: true, net: false, machine: false, keys: false },
        elevate: Elevate::Never,
        on_exit: OnExit::Ignore,
    }
}

/// The same with the network, at `address`; the host reaches the port on which the image
/// serves, if it is one of the services.
#[must_use]
pub fn net_app(image: &str, address: [u8; 4]) -> App {
    let mut app = app(image);
    let services = [("kvstore", STORE_PORT), ("echo", ECHO_PORT)];
    let own = services.iter().filter(|(name, _)| *name == image);
    let forward = |transport| move |port| Forward { transport, guest: port, host: port };
    app.forward = own.map(|&(_, port)| forward(Transport::Udp)(port)).collect();
    // The store serves connections, too.
    app.forward.extend((image == "kvstore").then_some(STORE_PORT).map(forward(Transport::Tcp)));
    app.address = Some(address);
    app.grants.net = true;
    app
}

/// A number of those that a store tells, `stats` being its answer.
///
/// # Panics
/// If there is no such number.
#[must_use]
pub fn stat(stats: &str, name: &str) -> u64 {
    let row = stats.lines().find_map(|row| row.strip_prefix(&format!("STAT {name} ")));
    row.and_then(|row| row.trim().parse().ok()).unwrap_or_else(|| panic!("no {name}: {stats}"))
}

/// Boots a machine with a NIC that ends in user-mode networking.
///
/// # Panics
/// If QEMU cannot be started.
#[must_use]
pub fn boot(manifest: Manifest) -> Machine {
    Machine::boot(&Config::new(manifest)).expect("the machine starts")
}

/// Boots a machine with a NIC that ends in the test's hands.
///
/// # Panics
/// If QEMU cannot be started.
#[must_use]
pub fn boot_with_frames(manifest: Manifest) -> Machine {
    let mut config = Config::new(manifest);
    config.network = Network::Frames;
    Machine::boot(&config).expect("the machine starts")
}

/// Waits for a console line that contains `pattern`.
///
/// # Panics
/// If it does not come. The machine shows its console then.
#[track_caller]
pub fn expect(machine: &Machine, pattern: &str) -> String {
    machine.wait_for_line(pattern, LONG).unwrap_or_else(|_| panic!("no line \"{pattern}\""))
}

/// Waits until `count` console lines contain `pattern`.
///
/// # Panics
/// If they do not come. The machine shows its console then.
#[track_caller]
pub fn expect_times(machine: &Machine, pattern: &str, count: usize) {
    wait_until(&format!("no {count} lines \"{pattern}\""), || {
        let lines = machine.console().lines();
        (lines.iter().filter(|line| line.contains(pattern)).count() >= count).then_some(())
    });
}

/// Waits until `look` finds something.
///
/// # Panics
/// With `otherwise`, if it finds nothing for [`LONG`].
#[track_caller]
pub fn wait_until<T>(otherwise: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{otherwise}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Asserts that every leak check that root has made so far balanced, and that it
/// made `count` of them.
///
/// # Panics
/// If not.
#[track_caller]
pub fn assert_no_leak(machine: &Machine, count: usize) {
    let lines = machine.console().lines();
    let checks: Vec<_> =
        lines.iter().filter_map(|line| line.split_once("root: leak check: ")).collect();
    for (_, check) in &checks {
        let numbers: Vec<u64> =
            check.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [before, after] = numbers[..] else { panic!("\"{check}\" is no leak check") };
        assert_eq!(before, after, "frames were lost: {check}");
    }
    assert_eq!(checks.len(), count, "leak checks");
}
