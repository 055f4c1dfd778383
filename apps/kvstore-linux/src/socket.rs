//! UDP sockets at one port.

use std::net::{SocketAddrV4, UdpSocket};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// Bytes a socket may hold that were not yet taken, if the system's limit allows it: some
/// thousand requests, so that a burst is not lost while a batch is answered.
const RECEIVE_BUFFER: usize = 4 << 20;

/// As many sockets as `threads`, at least one, at the same address.
///
/// # Errors
/// As a sentence, if the address is not this host's or its port is taken.
pub(crate) fn bind(address: SocketAddrV4, threads: u16) -> Result<Vec<UdpSocket>, String> {
    let failed = |error: &dyn std::fmt::Display| {
        format!("cannot serve on {address}: {error}; choose others with --listen and --port")
    };
    // Alone: another store at this port that shares it, too, would get a part of the
    // requests, and neither would notice.
    let alone = UdpSocket::bind(address).map_err(|error| failed(&error))?;
    let _ = sockopt::set_socket_recv_buffer_size(&alone, RECEIVE_BUFFER);
    if threads <= 1 {
        return Ok(vec![alone]);
    }
    let port = alone.local_addr().map_err(|error| failed(&error))?.port();
    drop(alone);
    let address = SocketAddrV4::new(*address.ip(), port);
    let shared = || -> rustix::io::Result<UdpSocket> {
        let (family, kind) = (AddressFamily::INET, SocketType::DGRAM);
        let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseport(&socket, true)?;
        let _ = sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
        rustix::net::bind(&socket, &address)?;
        Ok(UdpSocket::from(socket))
    };
    (0..threads).map(|_| shared().map_err(|error| failed(&error))).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_port_is_shared_with_oneself_only() {
        for threads in [1, 3] {
            let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
            let sockets = bind(any, threads).unwrap();
            assert_eq!(sockets.len(), usize::from(threads));
            let port = sockets[0].local_addr().unwrap().port();
            assert!(sockets.iter().all(|socket| socket.local_addr().unwrap().port() == port));
            for others in [1, 2] {
                let taken = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
                let error = bind(taken, others).unwrap_err();
                assert!(error.contains("--port"), "{error}");
            }
        }
    }
}
