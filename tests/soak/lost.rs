//! Datagrams that the host has thrown away, as it tells itself: what came while a socket's buffer
//! was full.

/// Datagrams for the sockets at this port of this host that were thrown away so far.
///
/// # Panics
/// If there is no such socket, or the host does not tell.
#[must_use]
pub fn lost(port: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/udp").expect("Linux tells");
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let own = rows.filter(|row| row.get(1).is_some_and(|local| is_at(local, port)));
    let lost: Vec<u64> = own.map(|row| row.last()?.parse().ok()).map(Option::unwrap).collect();
    assert!(!lost.is_empty(), "no socket at port {port}");
    lost.into_iter().sum()
}

/// Whether an address as the table has it, `0100007F:2BCB`, is at this port.
fn is_at(local: &str, port: u16) -> bool {
    local.split_once(':').and_then(|(_, text)| u16::from_str_radix(text, 16).ok()) == Some(port)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::lost;

    #[test]
    fn what_nothing_has_taken_is_lost_and_counted() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let address = socket.local_addr().expect("bound");
        assert_eq!(lost(address.port()), 0);
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let sent = 10_000;
        for _ in 0..sent {
            sender.send_to(&[0; 1400], address).expect("sent");
        }
        socket.set_nonblocking(true).expect("an option");
        let mut came = 0;
        while socket.recv(&mut [0; 2000]).is_ok() {
            came += 1;
        }
        assert!(came > 0 && came < sent, "{came} came");
        assert_eq!(lost(address.port()), sent - came);
    }
}
