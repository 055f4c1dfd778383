//! A Linux guest, made of Debian's packages, serves on the same machine and NIC.
//!
//! What it is made of is fetched through apt the first time. Where apt cannot do that, these
//! tests say so and show nothing.

use exo_cmd::linux::{FAILED, Guest, Kernel, Memcached, Mitigations, READY};
use machine_tests::{LONG, expect, needed};

/// A networked guest, unless there are no packages to make it of.
fn guest(test: &str) -> Option<Guest> {
    let packages = Kernel::of_distribution().and_then(|kernel| {
        Memcached::packages()?;
        Ok(kernel)
    });
    let mut guest = Guest::new(needed(test, packages)?);
    guest.networked();
    Some(guest)
}

#[test]
fn memcached_answers_from_a_linux_guest() {
    let Some(mut guest) = guest("memcached_answers_from_a_linux_guest") else { return };
    guest.mitigations = Mitigations::Off;
    guest.command("echo \"linux: $(uname -r), $(nproc) processors, $(cat /proc/cmdline)\"");
    Memcached { threads: 2, memory_mib: 64, tcp: true }.add_to(&mut guest).expect("its libraries");
    guest.command(
        "for t in $(grep -l mc-worker /proc/$(pidof memcached)/task/*/comm); do \
         taskset -p $(basename ${t%/comm}); done",
    );
    let mut config = guest.config();
    config.cpus = 2;
    let machine = guest.boot(&config).expect("the machine starts");
    let line = expect(&machine, "linux: 6");
    for part in [guest.kernel.release(), "2 processors", "mitigations=off"] {
        assert!(line.contains(part), "no {part}: {line}");
    }
    // Each worker has a processor of its own, as a mask.
    expect(&machine, "affinity mask: 2");
    expect(&machine, "affinity mask: 1");
    expect(&machine, READY);
    let mut store = machine.store(LONG).expect("memcached answers");
    assert!(Memcached::packages().expect("kept").version("memcached").is_some());
    let version = store.version().expect("an answer");
    assert!(version.starts_with("1."), "{version} is not memcached's");
    for number in 0..200_u32 {
        let (key, value) = (format!("key{number}"), "v".repeat(number as usize * 5));
        store.set(key.as_bytes(), value.as_bytes(), number, 0).expect("stored");
        let item = store.get(key.as_bytes()).expect("an answer").expect("found");
        assert_eq!((item.value, item.flags), (value.into_bytes(), number));
    }
}

/// What a module is built with is of the same version, and runs here.
#[test]
fn the_kernels_headers_come_with_their_tools() {
    let Some(guest) = guest("the_kernels_headers_come_with_their_tools") else { return };
    let headers = guest.kernel.headers().expect("headers of the kernel");
    let of = |path: &str| headers.file(&path.replace('*', guest.kernel.release()));
    for path in ["usr/src/linux-headers-*/Makefile", "usr/src/linux-headers-*/.config"] {
        of(path).unwrap_or_else(|error| panic!("{error}"));
    }
    assert!(headers.versions().iter().any(|(name, _)| name.starts_with("linux-kbuild-")));
    let package = format!("linux-headers-{}", guest.kernel.release());
    assert_eq!(headers.version(&package), guest.kernel.version());
}

#[test]
fn a_guest_whose_service_ends_says_so_and_ends() {
    let Some(mut guest) = guest("a_guest_whose_service_ends_says_so_and_ends") else { return };
    guest.service("short", "sleep 1; false");
    let machine = guest.boot(&guest.config()).expect("the machine starts");
    expect(&machine, &format!("{FAILED}short has ended with code 1"));
    machine.exit_status(LONG).expect("the machine ends");
}
