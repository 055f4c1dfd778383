//! Which datagrams must not be answered, because their sender would answer the answer.
//!
//! UDP's source can be forged. One datagram that claims to come from a service which answers
//! whatever it is sent, and goes to another such service, makes the two talk to each other
//! for ever. A stack therefore passes no datagram to a [`Service`](super::Service) whose
//! source port is that of such a service, or the own: clients use other ports (RFC 6335,
//! section 6).

/// Ports of services that answer datagrams, with what they are (IANA's registry of service
/// names and port numbers; the RFC, where there is one). In ascending order.
pub const ANSWERING_PORTS: [(u16, &str); 23] = [
    (7, "echo, RFC 862"),
    (11, "active users, RFC 866"),
    (13, "daytime, RFC 867"),
    (17, "quote of the day, RFC 865"),
    (19, "character generator, RFC 864"),
    (37, "time, RFC 868"),
    (53, "DNS, RFC 1035"),
    (69, "TFTP, RFC 1350"),
    (88, "Kerberos, RFC 4120"),
    (111, "port mapper, RFC 1833"),
    (123, "NTP, RFC 5905"),
    (137, "NetBIOS names, RFC 1002"),
    (161, "SNMP, RFC 3417"),
    (389, "connectionless LDAP, RFC 1798"),
    (427, "service location, RFC 2608"),
    (500, "IKE, RFC 7296"),
    (520, "RIP, RFC 2453"),
    (1434, "SQL server monitor"),
    (1900, "SSDP"),
    (3702, "WS-Discovery"),
    (5353, "multicast DNS, RFC 6762"),
    (5683, "CoAP, RFC 7252"),
    (11211, "memcached"),
];

/// Whether a service on port `own` must not answer a datagram from port `from`.
#[must_use]
pub fn is_answerer(from: u16, own: u16) -> bool {
    let is_listed = || ANSWERING_PORTS.binary_search_by_key(&from, |(port, _)| *port).is_ok();
    !is_plainly_a_client(from, own) && (from == own || is_listed())
}

/// Whether that can be denied at a glance: nearly all clients' ports are above the list.
#[must_use]
#[inline(always)]
pub fn is_plainly_a_client(from: u16, own: u16) -> bool {
    const LAST: u16 = ANSWERING_PORTS[ANSWERING_PORTS.len() - 1].0;
    from > LAST && from != own
}

#[cfg(test)]
mod tests {
    use super::{ANSWERING_PORTS, is_answerer};

    #[test]
    fn exactly_the_listed_ports_and_the_own_are_not_answered() {
        assert!(ANSWERING_PORTS.is_sorted_by(|(a, _), (b, _)| a < b));
        for port in 1..=u16::MAX {
            let listed = ANSWERING_PORTS.iter().any(|(listed, _)| *listed == port);
            assert_eq!(is_answerer(port, 40_000), listed || port == 40_000, "{port}");
        }
    }

    #[test]
    fn the_documentation_lists_them_all() {
        let text = include_str!("../../../docs/libos/net.md");
        let (_, list) = text.split_once("<!-- answering ports -->").expect("a list");
        let (list, _) = list.split_once("<!-- end -->").expect("its end");
        let numbers: Vec<u16> = list
            .split_whitespace()
            .filter_map(|word| word.trim_matches(|c: char| !c.is_ascii_digit()).parse().ok())
            .collect();
        assert_eq!(numbers, ANSWERING_PORTS.map(|(port, _)| port));
    }
}
