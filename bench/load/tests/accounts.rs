//! The generator's account, compared with that of a server whose faults are known.
//!
//! Nothing is asserted about how long anything takes, but for order relations on servers
//! that are slow on purpose.

mod server;

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use exo_load::protocol::Protocol;
use exo_load::run::{self, Ended, Load, Measured, Plan, Watch};
use exo_load::wire::sockets::Sockets;
use exo_load::{Arrivals, Items, Schedule, Sizes, Wire, Workload};

use server::{Faults, Server};

/// Far longer than anything takes.
const LONG: Duration = Duration::from_secs(60);

/// Ends the load after a while, or never.
struct Until(Option<Instant>);

impl Watch for Until {
    fn interrupted(&self) -> bool {
        self.0.is_some_and(|until| Instant::now() >= until)
    }

    fn progress(&mut self, _: &str, _: f64, _: &str) {}
}

fn plan(schedule: Schedule, duration: Duration) -> Plan {
    Plan {
        schedule,
        warm_up: Duration::ZERO,
        duration,
        silence: LONG,
        late_after: Duration::from_micros(100),
        spin: false,
    }
}

struct Case {
    workload: Workload,
    timeout: Duration,
    prefill: bool,
    protocol: Protocol,
}

impl Default for Case {
    fn default() -> Self {
        let workload = Workload { keys: 200, get_share: 1.0, ..Workload::default() };
        Self { workload, timeout: LONG, prefill: true, protocol: Protocol::Memcached }
    }
}

impl Case {
    fn run(&self, server: &Server, plan: &Plan, watch: &mut dyn Watch) -> Measured {
        let mut wire = Sockets::connect(server.address).unwrap();
        let items = Items::new(&self.workload, wire.payload_max()).unwrap();
        run::probe(&mut wire, self.protocol, LONG, watch).unwrap();
        let mut load = Load::new(&mut wire, &self.workload, &items, self.protocol, self.timeout);
        if self.prefill {
            assert!(load.prefill(&mut Until(None)).unwrap());
        }
        load.run(plan, watch).unwrap()
    }
}

const HALF: Duration = Duration::from_millis(500);

#[test]
fn an_honest_server_answers_everything() {
    for (keys_per_get, datagram_per_key) in [(1, false), (5, false), (5, true)] {
        let server = Server::start(Faults { datagram_per_key, ..Faults::default() });
        let mut case = Case::default();
        case.workload.keys_per_get = keys_per_get;
        case.workload.get_share = 0.8;
        let measured = case.run(&server, &plan(Schedule::Closed(8), HALF), &mut Until(None));
        let account = measured.account;
        assert_eq!(measured.wrong, None);
        assert_eq!(account.answered, account.sent);
        assert_eq!((account.wrong, account.timed_out, account.late), (0, 0, 0));
        assert_eq!(account.gets, server.deeds.received.load(Relaxed));
        assert_eq!(account.hits, account.gets * u64::from(keys_per_get));
        assert_eq!((account.misses, account.never_sent), (0, 0));
        assert!(account.sets > 0 && account.gets > account.sets);
    }
}

#[test]
fn misses_are_no_hits() {
    let server = Server::start(Faults::default());
    let case = Case { prefill: false, ..Case::default() };
    let account = case.run(&server, &plan(Schedule::Closed(4), HALF), &mut Until(None)).account;
    assert_eq!((account.hits, account.misses), (0, account.sent));
}

#[test]
fn every_loss_is_counted() {
    let server = Server::start(Faults { drop_every: 7, ..Faults::default() });
    // Long enough that a busy machine does not make more of them.
    let case = Case { timeout: Duration::from_secs(3), ..Case::default() };
    for schedule in [Schedule::Closed(200), Schedule::Open(500.0, Arrivals::Poisson)] {
        let before =
            [&server.deeds.received, &server.deeds.dropped].map(|count| count.load(Relaxed));
        let account = case.run(&server, &plan(schedule, HALF), &mut Until(None)).account;
        let [received, dropped] =
            [&server.deeds.received, &server.deeds.dropped].map(|count| count.load(Relaxed));
        assert_eq!(account.sent, received - before[0]);
        assert_eq!(account.timed_out, dropped - before[1]);
        assert_eq!(account.answered, account.sent - account.timed_out);
        assert!(account.timed_out > 0);
        assert!(account.percentile(99.0).unanswered > 0.1);
    }
}

#[test]
fn wrong_replies_and_duplicates_are_found() {
    let server = Server::start(Faults { corrupt_every: 5, twice_every: 11, ..Faults::default() });
    let measured = Case::default().run(&server, &plan(Schedule::Closed(4), HALF), &mut Until(None));
    let account = measured.account;
    assert_eq!(account.wrong, server.deeds.corrupted.load(Relaxed));
    assert_eq!(account.answered + account.wrong, account.sent);
    // The last duplicate may come after the end.
    let doubled = server.deeds.doubled.load(Relaxed);
    assert!((doubled - 1..=doubled).contains(&account.strays.unasked), "{account:?}");
    assert!(measured.wrong.unwrap().contains("in reply to \"get "), "the first is shown");
}

#[test]
fn late_answers_are_not_answers() {
    let server = Server::start(Faults {
        delay_every: 50,
        delay: Duration::from_millis(900),
        ..Faults::default()
    });
    let case = Case { timeout: Duration::from_millis(300), ..Case::default() };
    let measured =
        case.run(&server, &plan(Schedule::Closed(2), Duration::from_secs(3)), &mut Until(None));
    let account = measured.account;
    assert!(account.late > 0, "{account:?}");
    assert_eq!(account.wrong, 0, "a late reply is not taken for another's: {:?}", measured.wrong);
}

#[test]
fn a_server_that_stops_is_noticed() {
    let server = Server::start(Faults { stop_after: 100, ..Faults::default() });
    let case = Case { timeout: Duration::from_millis(200), ..Case::default() };
    let mut plan = plan(Schedule::Closed(4), LONG);
    plan.silence = Duration::from_secs(1);
    let measured = case.run(&server, &plan, &mut Until(None));
    assert_eq!(measured.ended, Ended::Silent);
    assert_eq!(measured.account.answered, 100);
    assert!(measured.account.timed_out > 0);
}

#[test]
fn an_interrupted_load_keeps_what_it_has() {
    let server = Server::start(Faults::default());
    let mut watch = Until(Some(Instant::now() + HALF));
    let measured = Case::default().run(&server, &plan(Schedule::Closed(4), LONG), &mut watch);
    assert_eq!(measured.ended, Ended::Interrupted);
    assert!(measured.seconds < LONG.as_secs_f64());
    assert!(measured.account.answered > 0);
    assert_eq!(measured.account.answered, measured.account.sent);
}

#[test]
fn nothing_at_the_other_end_is_an_error() {
    let address = {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap()
    };
    let mut wire = Sockets::connect(address).unwrap();
    let start = std::time::Instant::now();
    let error = run::probe(&mut wire, Protocol::Memcached, LONG, &mut Until(None)).unwrap_err();
    assert!(error.to_string().contains("nothing listens there"), "{error}");
    assert!(start.elapsed() < LONG / 2, "the first refusal tells");

    let echo = Server::start(Faults { echo: true, ..Faults::default() });
    let mut wire = Sockets::connect(echo.address).unwrap();
    let error = run::probe(&mut wire, Protocol::Memcached, LONG, &mut Until(None)).unwrap_err();
    assert!(error.to_string().contains("--protocol echo"), "{error}");
}

fn echo() -> Case {
    Case { protocol: Protocol::Echo, prefill: false, ..Case::default() }
}

/// A server that takes 20 ms for each request serves 50 a second at most. Of 200 a second
/// the i-th waits for 15 ms times i, so two thirds of them longer than a second.
#[test]
fn latency_rises_with_the_load() {
    let service = Duration::from_millis(20);
    let server = Server::start(Faults { echo: true, service, ..Faults::default() });
    // The share within a second, rather than the median: on a busy machine the last
    // request may not be sent before the end, and the median be refused.
    let within_a_second = |rate: f64, duration: Duration| {
        let schedule = Schedule::Open(rate, Arrivals::Uniform);
        let account = echo().run(&server, &plan(schedule, duration), &mut Until(None)).account;
        assert_eq!(account.answered, account.sent);
        account.within(1_000_000_000)
    };
    let calm = within_a_second(5.0, Duration::from_secs(2));
    let busy = within_a_second(200.0, Duration::from_secs(1));
    assert!(calm >= 0.5, "the median is below a second: {calm}");
    assert!(busy < 0.5, "the median is above a second: {busy}");
}

#[test]
fn a_slowed_server_is_seen() {
    let median = |service: Duration| {
        let server = Server::start(Faults { echo: true, service, ..Faults::default() });
        let measured = echo().run(&server, &plan(Schedule::Closed(1), HALF), &mut Until(None));
        measured.account.percentile(50.0).latency_us.unwrap()
    };
    let slow = Duration::from_millis(20);
    assert!(median(slow) >= 20_000.0);
    assert!(median(slow) > median(Duration::ZERO));
}

#[test]
fn what_cannot_be_sent_refuses_the_percentiles() {
    let server = Server::start(Faults { echo: true, ..Faults::default() });
    let mut case = echo();
    case.timeout = Duration::from_secs(1);
    let schedule = Schedule::Open(100_000_000.0, Arrivals::Uniform);
    let measured = case.run(&server, &plan(schedule, Duration::from_millis(200)), &mut Until(None));
    let account = measured.account;
    assert_eq!(account.intended, 20_000_000);
    assert!(account.never_sent > 10_000_000);
    assert_eq!(account.percentile(50.0).latency_us, None);
    assert!(account.refusal().unwrap().contains("never sent"));
    let text = exo_load::report::Row::new(&Measured { account, ..measured }).to_string();
    assert!(text.contains("refused") && text.contains("no percentile is given"), "{text}");
}

#[test]
fn sizes_as_published_go_through() {
    let server = Server::start(Faults::default());
    for (keys, values) in [(Sizes::Etc, Sizes::Etc), (Sizes::Usr, Sizes::Usr)] {
        let mut case = Case::default();
        (case.workload.key_sizes, case.workload.value_sizes) = (keys, values);
        case.workload.get_share = 0.5;
        let measured = case.run(&server, &plan(Schedule::Closed(4), HALF), &mut Until(None));
        assert_eq!(measured.wrong, None);
        assert_eq!(measured.account.answered, measured.account.sent);
        assert_eq!(measured.account.misses, 0);
    }
}
