//! What expressions mean, and the way back.

use dpf::{Atom, Filter, Key, Step, packet};
use dpf_text::{explain, parse};
use proptest::collection::vec;
use proptest::prelude::*;

fn filter(text: &str) -> Filter {
    parse(text).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn what_applications_install_can_be_written() {
    let plain = "ip[0] = 0x45 and ip[6:2] & 0x3fff = 0";
    let udp = filter(&format!("ip and udp dst port 11211 and dst host 10.0.2.15 and {plain}"));
    assert_eq!(udp, packet::udp_to([10, 0, 2, 15], 11211));
    assert!(Key::of(&udp).is_some_and(|key| key.mirror([2; 6]).is_ok()));
    let icmp = filter(&format!("icmp and dst host 10.0.2.15 and {plain}"));
    assert_eq!(icmp, packet::icmp_to([10, 0, 2, 15]));
    let arp = filter("arp dst host 10.0.2.15 and arp[0:4] = 0x00010800 and arp[4:2] = 0x0604");
    assert_eq!(arp, packet::arp_for([10, 0, 2, 15]));
    assert_eq!(filter("ip dst host 10.0.2.15"), packet::ipv4_all([10, 0, 2, 15]));
}

#[test]
fn different_words_for_the_same() {
    for (one, other) in [
        ("ip", "ether proto 0x0800"),
        ("arp", "ether proto arp"),
        ("udp", "ip proto 17"),
        ("udp", "ip[9] = 17 and ip proto \\udp"),
        ("udp dst port 53", "(udp) && (dst port 53)"),
        ("dst port 53 and udp", "udp[2:2] = 53"),
        ("udp dst portrange 1-9", "udp[2:2] > 0 and udp[2:2] < 10"),
        ("tcp[tcpflags] & (tcp-syn|tcp-ack) = tcp-syn", "tcp[13] & 0x12 = 2"),
        ("tcp[13] & tcp-syn != 0", "tcp[13] & 2 == 2"),
        ("ip[6:2] & 0x1fff != 0", "ip[6:2] & 0x1fff >= 1"),
        ("ip[0] & 0xf0 < 0x45", "ip[0] & 0xf0 <= 0x40"),
        ("ip and src net 10.0.0.0/8", "ip src net 10.0.0.0 mask 255.0.0.0"),
        ("ip and dst 10.0.2.15", "ip[16:4] = 0x0a00020f"),
        ("ether dst 52:54:0:12:34:56", "ether[0:4] = 0x52540012 and ether[4:2] = 0x3456"),
        ("ether broadcast", "ether dst ff:ff:ff:ff:ff:ff"),
        ("multicast", "ether[0] & 1 != 0"),
        ("len >= 100", "greater 100"),
        ("len > 100", "len >= 101"),
        (
            "vlan 5 and ip",
            "ether[12:2] = 0x8100 and ether[14:2] & 0xfff = 5 and ether[16:2] = 0x800",
        ),
        (
            "vlan and vlan 7",
            "ether[12:2] = 0x8100 and ether[16:2] = 0x8100 and ether[18:2] & 0xfff = 7",
        ),
        ("arp and src host 10.0.0.1", "arp src host 10.0.0.1"),
        ("udp src and dst port 53", "udp src port 53 and udp dst port 53"),
        ("udp dst and src portrange 1-9", "udp src portrange 1-9 and udp dst portrange 1-9"),
        ("arp src and dst 10.0.0.1", "arp src host 10.0.0.1 and arp dst host 10.0.0.1"),
        ("ip and src and dst net 10.0.0.0/8", "ip[12] = 10 and ip[16] = 10 and len >= 34"),
        ("ether src and dst 2:0:0:0:0:1", "ether src 2:0:0:0:0:1 and ether dst 2:0:0:0:0:1"),
        ("ip multicast", "ip[16] & 0xf0 >= 0xe0"),
        ("ip6 multicast", "ip6[24] = 0xff"),
        ("ip6 and len >= 100", "ether proto ip6 and ether[99] >= 0"),
        ("icmp6[icmp6type] = icmp6-echo", "ip6[6] = 58 and ip6[40] = 128"),
    ] {
        assert_eq!(parse(one).as_ref(), Ok(&filter(other)), "{one}");
    }
}

/// In every place where a number is read.
#[test]
fn numbers_are_those_of_pcap() {
    for (number, decimal) in [
        ("tcp dst port 0120", "tcp dst port 80"),
        ("tcp dst port 0x50", "tcp dst port 80"),
        ("udp src port 0X35", "udp src port 53"),
        ("udp dst port 00", "udp dst port 0"),
        ("udp dst portrange 010-020", "udp dst portrange 10-20"),
        ("udp dst portrange 08-0009", "udp dst portrange 8-9"),
        ("ip dst net 10.0.0.0/010", "ip dst net 10.0.0.0/8"),
        ("ip dst net 10.0.0.0/0x8", "ip dst net 10.0.0.0/8"),
        ("ip dst host 010.0.02.015", "ip dst host 10.0.2.15"),
        ("ip dst net 010.0.0.0 mask 0255.0.0.0", "ip dst net 10.0.0.0/8"),
        ("ether dst 10:9:08:0a:A:00", "ether[0:4] = 0x1009080a and ether[4:2] = 0x0a00"),
        ("ip proto 021", "ip proto 17"),
        ("ip proto 0x11", "udp"),
        ("ether proto 04000", "ether proto 2048"),
        ("vlan 010", "vlan 8"),
        ("vlan 0xfff", "vlan 4095"),
        ("greater 0100", "len >= 64"),
        ("len > 0x3f", "len >= 64"),
        ("ip[010:02] = 010", "ip[8:2] = 8"),
        ("ip[8] < 010", "ip[8] <= 0x7"),
        ("ip[0x8] & 017 = 0xA", "ip[8] & 15 = 10"),
    ] {
        assert_eq!(parse(number).as_ref(), Ok(&filter(decimal)), "{number}");
    }
    for octal in [
        "tcp dst port 080",
        "ip dst net 10.0.0.0/09",
        "ip proto 08",
        "ether proto 09999",
        "vlan 08",
        "greater 0900",
        "len >= 0900",
        "ip[08] = 1",
        "ip[8:08] = 1",
        "ip[8] & 08 = 0",
        "ip[8] = 09",
    ] {
        let error = parse(octal).expect_err(octal).to_string();
        assert!(error.contains("octal"), "{error}");
    }
}

#[test]
fn comparisons_in_parentheses() {
    for (one, other) in [
        ("(ip[6:2] & 0x1fff) = 0", "ip[6:2] & 0x1fff = 0"),
        ("((ip[6:2]) & (0x1fff)) = (0)", "ip[6:2] & 0x1fff = 0"),
        ("((ip[6:2] & 0x1fff) = 0)", "ip[6:2] & 0x1fff = 0"),
        ("(ip and (ip[6:2] & 0x1fff) = 0) and (udp)", "ip[6:2] & 0x1fff = 0 and udp"),
        ("0 = ip[6:2] & 0x1fff", "ip[6:2] & 0x1fff = 0"),
        ("(0x1fff & ip[6:2]) == 0", "ip[6:2] & 0x1fff = 0"),
        ("5 < ip[8]", "ip[8] > 5"),
        ("64 <= len", "len >= 64"),
        ("(len) > 63", "len >= 64"),
        ("ip[0] & 0xff & 0xf >= 6", "ip[0] & 0xf >= 6"),
        ("tcp[tcpflags] = tcp-syn|tcp-ack", "tcp[13] = 18"),
        ("tcp[tcpflags] & (tcp-syn|tcp-ack) = tcp-ack|tcp-syn", "tcp[13] & 18 = 18"),
        ("tcp[tcpflags] & ( tcp-syn | (tcp-rst) ) != 0x12 & tcp-urg", "tcp[13] & 6 > 0"),
        ("tcp-syn = tcp[13] and (tcp)", "tcp[13] = 2"),
    ] {
        assert_eq!(parse(one).as_ref(), Ok(&filter(other)), "{one}");
    }
    assert!(parse(&format!("{}ip{}", "(".repeat(32), ")".repeat(32))).is_ok());
    for text in [
        format!("{}ip", "(".repeat(33)),
        format!("{}1{} = ip[8]", "(".repeat(33), ")".repeat(33)),
        "(".repeat(100_000),
    ] {
        assert!(parse(&text).is_err());
    }
}

/// All that `pcap-filter` has.
#[test]
fn types_of_icmp_have_names() {
    for (name, number) in [
        ("echoreply", 0),
        ("unreach", 3),
        ("sourcequench", 4),
        ("redirect", 5),
        ("echo", 8),
        ("routeradvert", 9),
        ("routersolicit", 10),
        ("timxceed", 11),
        ("paramprob", 12),
        ("tstamp", 13),
        ("tstampreply", 14),
        ("ireq", 15),
        ("ireqreply", 16),
        ("maskreq", 17),
        ("maskreply", 18),
    ] {
        let named = filter(&format!("icmp[icmptype] = icmp-{name}"));
        assert_eq!(named, filter(&format!("icmp[0] = {number}")), "{name}");
    }
}

#[test]
fn tags_move_what_follows() {
    let tagged = filter(
        "ether dst 02:00:00:00:00:01 and vlan 5 and udp dst port 53 and ip dst net 10.0.0.0/8",
    );
    let mut frame = vec![0; 64];
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    frame[12..18].copy_from_slice(&[0x81, 0, 0xe0, 5, 8, 0]);
    frame[18] = 0x46;
    frame[27] = 17;
    frame[34] = 10;
    frame[18 + 24 + 3] = 53;
    assert!(tagged.matches(&frame));
    frame[18] = 0x45;
    assert!(!tagged.matches(&frame), "the port is elsewhere");
}

#[test]
fn explanations_read_as_written() {
    for (text, explained) in [
        ("arp", "arp"),
        ("udp and dst host 10.0.2.15", "ip proto 17 and ip dst host 10.0.2.15"),
        ("udp dst port 53", "udp dst port 53"),
        (
            "tcp dst port 80 and dst net 10.0.0.0/8 and tcp[13] & 2 != 0",
            "ip[16] = 0x0a and len >= 34 and tcp dst port 80 and tcp[13] & 0x02 = 0x02",
        ),
        ("udp dst portrange 8000-8100", "udp[2] = 0x1f and udp[3] >= 64 and udp[3] <= 164"),
        ("arp src host 10.0.2.2", "arp and arp src host 10.0.2.2"),
        (
            "ip[8] < 5 and len >= 64",
            "ip and ip[8] & 0xf8 = 0x00 and ip[8] & 0x7 <= 4 and len >= 64",
        ),
        ("ether dst 52:54:00:12:34:56", "ether dst 52:54:00:12:34:56"),
        ("ip6[6] = 17 and len >= 100", "ip6 and ip6[6] = 0x11 and len >= 100"),
        (
            "vlan 5 and arp",
            "ether[12:2] = 0x8100 and ether[14:2] & 0x0fff = 0x0005 and ether[16:2] = 0x0806",
        ),
    ] {
        assert_eq!(explain(&filter(text)).to_string(), explained);
    }
    let tagged = explain(&filter("vlan and udp dst port 53")).to_string();
    assert!(
        tagged.ends_with("base += ((base[18] & 0x0f) >> 0) << 2 and base[20:2] = 0x0035"),
        "{tagged}"
    );
}

#[test]
fn ranges_at_the_beginning_are_explained_where_they_are() {
    for text in
        ["ether[0:4] & 0xffffff00 <= 0x12345600", "ether[0:8] & 0xfffffffff0000 < 0x7ffff0000"]
    {
        let again = explain(&filter(text)).to_string();
        assert_eq!(filter(&again), filter(text), "{again}");
    }
}

/// Terms of which most conjunctions make sense.
fn term() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("ip".to_owned()),
        Just("arp".to_owned()),
        Just("udp".to_owned()),
        Just("tcp[13] & 2 != 0".to_owned()),
        any::<u16>().prop_map(|port| format!("udp dst port {port}")),
        any::<(u16, u16)>().prop_map(|(a, b)| format!(
            "udp src portrange {}-{}",
            a.min(b),
            a.max(b)
        )),
        any::<[u8; 4]>().prop_map(|[a, b, c, d]| format!("ip dst host {a}.{b}.{c}.{d}")),
        (any::<[u8; 2]>()).prop_map(|[a, b]| format!("ip src net {a}.{b}.0.0/16")),
        (any::<u8>(), 0u16..20).prop_map(|(n, at)| format!("ip[{at}] > {n}")),
        (any::<u16>(), 0u16..40).prop_map(|(n, at)| format!("udp[{at}:2] <= {n}")),
        (any::<u32>(), 0u16..40).prop_map(|(n, at)| format!("ether[{at}:4] & 0xffff00 < {n}")),
        (0u16..1514).prop_map(|n| format!("len >= {n}")),
        (0u16..4096).prop_map(|n| format!("vlan {n}")),
    ]
}

/// Equalities, and ranges over whole fields.
fn atom() -> impl Strategy<Value = Atom> {
    let width = prop::sample::select(vec![1u8, 2, 4, 8]);
    (0u16..80, width, any::<[u64; 3]>(), any::<bool>()).prop_map(|(offset, width, bits, range)| {
        let [mask, lo, hi] = bits.map(|bits| bits >> (64 - 8 * u32::from(width)));
        match range {
            true => Atom::range(offset, width, lo.min(hi), lo.max(hi)),
            false => Atom::masked(offset, width, mask, lo & mask),
        }
    })
}

proptest! {
    /// What was parsed can be explained and parsed again.
    #[test]
    fn explained_and_parsed_again(terms in vec(term(), 1..5)) {
        if let Ok(filter) = parse(&terms.join(" and ")) {
            let text = explain(&filter).to_string();
            if !text.contains("base") && !text.contains(":3]") {
                match parse(&text) {
                    Ok(again) => prop_assert_eq!(again, filter, "{}", text),
                    // Windows are fewer than the fields they are explained by.
                    Err(error) => prop_assert!(error.to_string().contains("more than 12"), "{}", error),
                }
            }
        }
    }

    /// And so can any filter without shifts that is small enough.
    #[test]
    fn any_filter_can_be_explained(atoms in vec(atom(), 1..4)) {
        if let Ok(filter) = Filter::new(&atoms) {
            let text = explain(&filter).to_string();
            let odd = [":3]", ":5]", ":6]", ":7]"].into_iter().any(|odd| text.contains(odd));
            match parse(&text) {
                Ok(again) => prop_assert_eq!(again, filter, "{}", text),
                Err(error) => prop_assert!(odd || error.to_string().contains("more than 12"), "{}", error),
            }
        }
    }

    /// Any text is a filter or an error that can be shown.
    #[test]
    fn any_text_has_an_answer(
        text in "\\PC{0,40}",
        words in vec(prop::sample::select(vec![
            "ip", "udp", "dst", "src", "port", "host", "and", "or", "not", "(", ")", "[", "]", ":", "&",
            "=", "<", "!=", "|", ">>", "len", "tcp-syn", "ip6", "icmp6", "proto", "multicast", "010", "10.0.0.1", "53", "8000-8100", "vlan", "0x10", "ether", "net", "10.0.0.0/8", "é", "\n",
        ]), 0..12),
    ) {
        for text in [text, words.join(" "), words.concat()] {
            match parse(&text) {
                Ok(filter) => drop(explain(&filter).to_string()),
                Err(error) => {
                    let (line, column) = error.line_and_column();
                    prop_assert!(line >= 1 && column >= 1 && error.to_string().contains('^'));
                    prop_assert!(text.get(error.place()).is_some());
                }
            }
        }
    }

    /// Explaining needs no particular filter.
    #[test]
    fn shifts_can_be_explained(atoms in vec(atom(), 1..4), offset in 14u16..60, mask in 1u8..16, behind in atom()) {
        let shift = Step::Shift(dpf::Shift { offset, mask, scale: 1 });
        let atoms = atoms.into_iter().map(Step::Atom);
        let behind = Step::Atom(Atom { offset: behind.offset + 14, ..behind });
        let steps: Vec<_> = atoms.chain([shift, behind]).collect();
        if let Ok(filter) = Filter::of_steps(&steps) {
            prop_assert!(!explain(&filter).to_string().is_empty());
        }
    }
}
