//! The load generator is the NIC of a whole machine, and accounts for every request.
//!
//! Nothing is asserted about how fast anything is.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use exo_cmd::machine::{Config, ECHO_PORT, Machine, Network, STORE_PORT};
use exo_load::protocol::Protocol;
use exo_load::run::{self, Ended, Load, Measured, Plan, Watch};
use exo_load::wire::vhost::{Listener, VhostUser};
use exo_load::{Arrivals, Items, Schedule, Sizes, Wire, Workload};
use machine_tests::{ECHO, GATEWAY, LONG, STORE};

struct Quiet;

impl Watch for Quiet {
    fn interrupted(&self) -> bool {
        false
    }

    fn progress(&mut self, _: &str, _: f64, _: &str) {}
}

/// The tree's default machine, with the test as its NIC; the way to the service at `server`.
fn boot(dir: &Path, server: ([u8; 4], u16)) -> (VhostUser, Machine) {
    let socket = dir.join("nic");
    let listener = Listener::bind(&socket).expect("a socket");
    let mut config = Config::named("default").expect("boot/manifests/default.toml");
    config.network = Network::VhostUser(socket);
    let machine = Machine::boot(&config).expect("the machine starts");
    let own = (Ipv4Addr::from(GATEWAY), 40_000);
    let server = (Ipv4Addr::from(server.0), server.1);
    let wire = listener.connect(own, server, LONG, || {
        assert!(machine.running(), "{}", machine.report());
        Ok(())
    });
    let mut wire = wire.unwrap_or_else(|error| panic!("{error:#}\n{}", machine.report()));
    let text = wire.describe();
    assert!(text.contains("negotiated: EVENT_IDX VERSION_1;"), "{text}");
    assert!(text.contains("queues of 256 and 256 entries"), "{text}");
    let protocol = if server.1 == ECHO_PORT { Protocol::Echo } else { Protocol::Memcached };
    run::probe(&mut wire, protocol, LONG, &mut Quiet).expect("the service answers");
    (wire, machine)
}

fn plan(schedule: Schedule) -> Plan {
    Plan {
        schedule,
        warm_up: Duration::from_millis(200),
        duration: Duration::from_secs(1),
        silence: LONG,
        late_after: Duration::from_millis(1),
        spin: false,
    }
}

fn assert_all_answered(measured: &Measured, machine: &Machine) {
    let account = &measured.account;
    assert_eq!(measured.ended, Ended::Complete);
    assert_eq!(measured.wrong, None);
    assert_eq!(account.answered, account.sent, "{account:?}\n{}", machine.report());
    assert!(account.sent > 100, "{}", account.sent);
}

#[test]
fn the_store_serves_a_nic_of_ours() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut wire, machine) = boot(dir.path(), (STORE, STORE_PORT));
    let workload = Workload {
        keys: 2000,
        key_sizes: Sizes::Etc,
        value_sizes: Sizes::Etc,
        get_share: 0.9,
        ..Workload::default()
    };
    let items = Items::new(&workload, wire.payload_max()).expect("items");
    // What overflows the guest's rings is lost, and waited for so long.
    let timeout = Duration::from_secs(10);
    let mut load = Load::new(&mut wire, &workload, &items, Protocol::Memcached, timeout);
    assert!(load.prefill(&mut Quiet).expect("all stored"));
    // One at a time: the guest sleeps between. Many: its receive queue runs full.
    for outstanding in [1, 64, 1000] {
        let measured = load.run(&plan(Schedule::Closed(outstanding)), &mut Quiet).expect("a load");
        let account = &measured.account;
        assert_eq!(measured.wrong, None);
        assert_eq!(account.sent, account.answered + account.timed_out, "{account:?}");
        assert!(account.misses == 0 && account.hits > 0, "{account:?}");
        if outstanding < 256 {
            assert_all_answered(&measured, &machine);
        }
    }
    let open = plan(Schedule::Open(500.0, Arrivals::Poisson));
    assert_all_answered(&load.run(&open, &mut Quiet).expect("a load"), &machine);
}

#[test]
fn several_keys_come_in_one_answer() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut wire, machine) = boot(dir.path(), (STORE, STORE_PORT));
    let workload = Workload { keys: 500, get_share: 1.0, keys_per_get: 8, ..Workload::default() };
    let items = Items::new(&workload, wire.payload_max()).expect("items");
    let mut load = Load::new(&mut wire, &workload, &items, Protocol::Memcached, LONG);
    assert!(load.prefill(&mut Quiet).expect("all stored"));
    let measured = load.run(&plan(Schedule::Closed(16)), &mut Quiet).expect("a load");
    assert_all_answered(&measured, &machine);
    assert_eq!(measured.account.hits, measured.account.answered * 8);
}

/// As many at once as `cargo exo repro unbuckle-4.3` sends: they fit the guest's ring of 256.
#[test]
fn of_bursts_of_large_sets_none_is_lost() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut wire, machine) = boot(dir.path(), (STORE, STORE_PORT));
    let workload = Workload {
        keys: 192,
        key_sizes: Sizes::Fixed(64),
        value_sizes: Sizes::Fixed(1024),
        get_share: 0.0,
        ..Workload::default()
    };
    let items = Items::new(&workload, wire.payload_max()).expect("items");
    let mut load = Load::new(&mut wire, &workload, &items, Protocol::Memcached, LONG);
    let measured = load.run(&plan(Schedule::Closed(192)), &mut Quiet).expect("a load");
    assert_all_answered(&measured, &machine);
}

#[test]
fn echo_is_the_floor() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut wire, machine) = boot(dir.path(), (ECHO, ECHO_PORT));
    let workload = Workload::default();
    let items = Items::new(&workload, wire.payload_max()).expect("items");
    let mut load = Load::new(&mut wire, &workload, &items, Protocol::Echo, LONG);
    let measured = load.run(&plan(Schedule::Closed(16)), &mut Quiet).expect("a load");
    assert_all_answered(&measured, &machine);

    // Its end is noticed, and is no silence.
    drop(machine);
    let error = load.run(&plan(Schedule::Closed(16)), &mut Quiet).expect_err("nothing is there");
    assert!(error.to_string().contains("machine has ended"), "{error:#}");
}
