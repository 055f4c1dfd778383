//! Ports of the host's loopback interface: whether they can be bound, and why not.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use anyhow::{Context, Result, anyhow};
use root::manifest::Transport;

/// What a port is a port of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Udp,
    Tcp,
}

impl From<Transport> for Protocol {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Udp => Self::Udp,
            Transport::Tcp => Self::Tcp,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        })
    }
}

/// Fails if this process cannot bind a port. The error says why and names the option that
/// chooses another, and what the port is meant for.
pub(crate) fn ensure_free(
    protocol: Protocol,
    port: u16,
    option: &str,
    purpose: &str,
) -> Result<()> {
    bind(protocol, port).map(drop).map_err(|error| {
        anyhow!("{}; choose another with {option}", why(protocol, port, purpose, &error))
    })
}

/// A port that was free a moment ago.
pub(crate) fn free_port(protocol: Protocol) -> Result<u16> {
    bind(protocol, 0).with_context(|| format!("no free {protocol} port"))
}

/// A number that was free a moment ago as a port of all of `protocols`.
pub(crate) fn free_port_of(protocols: &[Protocol]) -> Result<u16> {
    const TRIES: usize = 100;
    let first = protocols.first().copied().unwrap_or(Protocol::Udp);
    for _ in 0..TRIES {
        let port = free_port(first)?;
        if protocols.iter().all(|&protocol| bind(protocol, port).is_ok()) {
            return Ok(port);
        }
    }
    Err(anyhow!("no number that is free as a port of both UDP and TCP"))
}

/// The port, once it was bound.
fn bind(protocol: Protocol, port: u16) -> io::Result<u16> {
    let place = (Ipv4Addr::LOCALHOST, port);
    let address = match protocol {
        Protocol::Udp => UdpSocket::bind(place)?.local_addr()?,
        Protocol::Tcp => TcpListener::bind(place)?.local_addr()?,
    };
    Ok(address.port())
}

fn why(protocol: Protocol, port: u16, purpose: &str, error: &io::Error) -> String {
    let port = format!("{protocol} port {port} on 127.0.0.1, meant for {purpose},");
    match error.kind() {
        ErrorKind::AddrInUse => {
            format!("{port} is taken by another program (another `cargo exo run`?)")
        }
        ErrorKind::PermissionDenied => {
            let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
            let first = first.as_deref().map_or("1024", str::trim);
            format!(
                "{port} may not be bound by this user: permission denied (those from {first} on may)"
            )
        }
        _ => format!("{port} cannot be bound: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_an_error() {
        let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = ensure_free(Protocol::Udp, port, "--port", "the store").unwrap_err();
        let error = error.to_string();
        assert!(error.contains(&port.to_string()) && error.contains("--port"), "{error}");
        assert!(error.contains("taken"), "{error}");
        drop(taken);
        assert!(ensure_free(Protocol::Udp, port, "--port", "the store").is_ok());
    }

    #[test]
    fn what_may_not_be_bound_is_not_taken() {
        let denied = io::Error::from(ErrorKind::PermissionDenied);
        let text = why(Protocol::Udp, 111, "the store", &denied);
        assert!(text.contains("permission denied") && !text.contains("taken"), "{text}");
        let odd = why(Protocol::Tcp, 111, "a debugger", &io::Error::from(ErrorKind::OutOfMemory));
        assert!(odd.contains("out of memory") && !odd.contains("taken"), "{odd}");
    }
}
