//! The short form of `cargo exo conform`, in both places that speak TCP: `memccapable`, and
//! random requests beside the installed memcached.

use std::net::{Ipv4Addr, SocketAddr};

use exo_cmd::conform::clients::{Verdict, memccapable};
use exo_cmd::conform::differential::compare;
use exo_cmd::conform::stores::Server;
use machine_tests::{LONG, STORE, boot, manifest, net_app};

/// Random requests; `cargo exo conform` makes 100,000.
const COMMANDS: u64 = 10_000;

/// Tries a store that is new.
#[track_caller]
fn conforms(store: SocketAddr) {
    match Server::memcached().expect("memcached starts") {
        Some(memcached) => {
            let done = compare(store, memcached.address, 1, COMMANDS, |_| Ok(()));
            assert!(done.expect("equal answers").commands >= COMMANDS);
        }
        None => eprintln!("*** SKIPPED: memcached is not installed ***"),
    }
    match memccapable(store).expect("it runs") {
        Verdict::Passed(_) => {}
        Verdict::Skipped(why) => eprintln!("*** SKIPPED: {why} ***"),
        Verdict::Failed(why) => panic!("{why}"),
    }
}

/// The long form: as many requests as find what 10,000 do not.
#[test]
#[ignore = "ten million requests"]
fn the_hosted_store_is_a_memcached_for_long() {
    const COMMANDS: u64 = 10_000_000;
    let store = Server::hosted().expect("the store starts");
    let memcached = Server::memcached().expect("memcached starts").expect("memcached is installed");
    let told = |done| {
        if done % 100_000 < 100 {
            eprintln!("{done} requests compared");
        }
        Ok(())
    };
    let done = compare(store.address, memcached.address, 10, COMMANDS, told);
    assert!(done.expect("equal answers").commands >= COMMANDS);
}

#[test]
fn the_hosted_store_is_a_memcached() {
    conforms(Server::hosted().expect("the store starts").address);
}

#[test]
fn the_booted_store_is_a_memcached() {
    let mut app = net_app("kvstore", STORE);
    app.frames = 16_384;
    let machine = boot(manifest(vec![app]));
    machine.store(LONG).expect("the store answers");
    let port = machine.tcp_port().expect("TCP is forwarded");
    conforms((Ipv4Addr::LOCALHOST, port).into());
}
