//! The back end that is a guest's NIC, with a guest that is no machine.

mod guest;

use std::time::Duration;

use exo_load::protocol::Protocol;
use exo_load::run::{self, Ended, Load, Measured, Plan, Watch};
use exo_load::wire::vhost::{Listener, VhostUser};
use exo_load::{Items, Schedule, Wire, Workload};

use guest::{Behaviour, EVENT_IDX, Guest, OWN, SERVER, VERSION_1};

/// Far longer than anything takes.
const LONG: Duration = Duration::from_secs(60);

struct Quiet;

impl Watch for Quiet {
    fn interrupted(&self) -> bool {
        false
    }

    fn progress(&mut self, _: &str, _: f64, _: &str) {}
}

/// Ends the machine as soon as something was measured.
struct EndsIt(Option<Guest>);

impl Watch for EndsIt {
    fn interrupted(&self) -> bool {
        false
    }

    fn progress(&mut self, stage: &str, _: f64, text: &str) {
        if stage == "measuring"
            && !text.starts_with("0 answers")
            && let Some(guest) = self.0.take()
        {
            guest.end();
        }
    }
}

fn connect(listener: Listener, patience: Duration) -> anyhow::Result<VhostUser> {
    let (own, server) = ((OWN.address, OWN.port), (SERVER.address, SERVER.port));
    listener.connect(own, server, patience, || Ok(()))
}

fn plan(duration: Duration) -> Plan {
    Plan {
        schedule: Schedule::Closed(40),
        warm_up: Duration::ZERO,
        duration,
        silence: LONG,
        late_after: LONG,
        spin: false,
    }
}

fn load(wire: &mut VhostUser, timeout: Duration) -> Measured {
    let workload = Workload::default();
    let items = Items::new(&workload, wire.payload_max()).unwrap();
    let plan = plan(Duration::from_millis(500));
    Load::new(wire, &workload, &items, Protocol::Echo, timeout).run(&plan, &mut Quiet).unwrap()
}

#[test]
fn a_guest_is_loaded_through_its_queues() {
    for features in [VERSION_1, VERSION_1 | EVENT_IDX] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nic");
        let listener = Listener::bind(&path).unwrap();
        let guest = Guest::start(&path, Behaviour { features, bad_buffer: false });
        let mut wire = connect(listener, LONG).unwrap();
        let text = wire.describe();
        assert!(text.contains("queues of 16 and 16 entries"), "{text}");
        assert_eq!(text.contains("negotiated: EVENT_IDX"), features & EVENT_IDX != 0, "{text}");
        run::probe(&mut wire, Protocol::Echo, LONG, &mut Quiet).unwrap();

        // More outstanding than there are buffers: they wait, and none is lost.
        let measured = load(&mut wire, LONG);
        let account = measured.account;
        assert_eq!((measured.wrong, account.timed_out), (None, 0));
        assert_eq!(account.answered, account.sent);
        assert!(account.sent > 40);
        let calls = measured.counts.iter().find(|(name, _)| *name == "interrupts asked for");
        assert!(calls.unwrap().1 > 0 || features & EVENT_IDX != 0);

        let (echoed, base, qemu) = guest.end();
        assert!(echoed > account.sent, "the probe, too");
        assert_eq!(base as u16, (echoed + 1) as u16, "all, and an answer to ARP");
        drop(qemu);
        // QEMU's end is an error that says so.
        let mut error = String::new();
        for _ in 0..6000 {
            match wire.receive(&mut |_| {}) {
                Err(gone) => {
                    error = gone.to_string();
                    break;
                }
                Ok(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        assert!(error.contains("the machine has ended"), "{error}");
        drop(wire);
        assert!(!path.exists(), "the socket is gone");
    }
}

#[test]
fn a_buffer_outside_the_guests_memory_loses_one_packet() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nic");
    let listener = Listener::bind(&path).unwrap();
    let features = VERSION_1 | EVENT_IDX;
    let guest = Guest::start(&path, Behaviour { features, bad_buffer: true });
    // The first question falls into it and is asked again.
    let mut wire = connect(listener, LONG).unwrap();
    let measured = load(&mut wire, Duration::from_secs(2));
    assert!(measured.account.answered > 0);
    assert_eq!(measured.account.wrong, 0);
    let lost = wire.counts().into_iter().find(|(name, _)| *name == "frames that fit no buffer");
    assert!(lost.unwrap().1 > 0);
    guest.end();
}

/// What was measured before the machine ended is not lost.
#[test]
fn a_machine_that_ends_leaves_its_figures() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nic");
    let listener = Listener::bind(&path).unwrap();
    let features = VERSION_1 | EVENT_IDX;
    let guest = Guest::start(&path, Behaviour { features, bad_buffer: false });
    let mut wire = connect(listener, LONG).unwrap();
    let workload = Workload::default();
    let items = Items::new(&workload, wire.payload_max()).unwrap();
    let plan = plan(LONG);
    let mut load = Load::new(&mut wire, &workload, &items, Protocol::Echo, LONG);
    let measured = load.run(&plan, &mut EndsIt(Some(guest))).unwrap();
    assert_eq!(measured.ended, Ended::Broken);
    assert!(measured.broken.unwrap().contains("the machine has ended"));
    let account = measured.account;
    assert!(account.answered > 0);
    assert_eq!(account.sent, account.answered + account.timed_out);
}

#[test]
fn no_guest_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nic");
    let listener = Listener::bind(&path).unwrap();
    assert!(Listener::bind(&path).is_err(), "the socket is taken");
    let error = connect(listener, Duration::from_millis(50)).err().unwrap().to_string();
    assert!(error.contains("no guest has started"), "{error}");
}
