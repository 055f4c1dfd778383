//! All contenders, the quick form: none is wrong about a packet (which [`measure`] refuses),
//! and every figure is there.

use std::process::Command;

use bench_dpf::contenders::{KINDS, OURS};
use bench_dpf::figures::Outcome;
use bench_dpf::measure::{Plan, count, measure};

#[test]
fn contenders_agree() {
    count(&Plan::quick(), |_| {}).unwrap();
}

#[test]
fn all_is_measured() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("skipped: valgrind is missing");
        return;
    }
    let mut counted = Command::new(env!("CARGO_BIN_EXE_bench-dpf"));
    counted.args(["--count", "--quick"]);
    let figures = measure(&Plan::quick(), &counted, |_| {}).unwrap();
    assert_eq!(figures.cases.len(), Plan::quick().cases.len());
    for case in &figures.cases {
        assert_eq!(case.results.len(), KINDS.len());
        for (kind, result) in KINDS.iter().zip(&case.results) {
            let at = format!("{} of {} {}", kind.name, case.filters, case.set);
            match result {
                Outcome::Measured(measured) => {
                    assert_eq!(measured.packets.len(), 5, "{at}");
                    for packets in &measured.packets {
                        assert!(packets.instructions > 0.0, "{at}, {}", packets.mix);
                    }
                }
                Outcome::Cannot(why) => {
                    assert!(kind.name != OURS && !why.is_empty(), "{at}: {why}");
                    let pcap = kind.name.starts_with("pcap") && figures.libpcap.is_none();
                    assert!(pcap || case.set != "ports", "{at}: {why}");
                }
            }
        }
    }
}
