//! All contenders, the quick form: every figure is there, and nobody is wrong about a
//! packet (which [`measure`] refuses).

use bench_dpf::contenders::{KINDS, OURS};
use bench_dpf::figures::Outcome;
use bench_dpf::measure::{Plan, measure};

#[test]
fn contenders_agree_and_all_is_measured() {
    let figures = measure(&Plan::quick(), |_| {}).unwrap();
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
                        assert!(packets.most as f64 >= packets.instructions, "{at}");
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
