//! UDP sockets of the host: `sendmmsg` and `recvmmsg`, up to 64 datagrams a call.
//!
//! One socket, connected, so that nothing comes in from other addresses and the kernel
//! says when nothing listens at the other end.

use std::io::IoSlice;
use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{self, MsgFlags, MultiHeaders, sockopt};
use nix::sys::time::TimeSpec;

use super::{Batch, Wire};

/// Datagrams of one system call.
const AT_ONCE: usize = 64;
/// Longest datagram received. Longer ones are cut, and found wrong.
const LONGEST: usize = 9216;
/// Longest datagram sent: more than an Ethernet frame holds would be fragmented, and
/// servers take a request in one datagram.
const PAYLOAD: usize = 1472;
/// Bytes that the kernel may keep for this socket each way: a burst of replies must not
/// be lost here, and be put down to the server.
const BUFFER: usize = 4 << 20;

/// A connected UDP socket.
pub struct Sockets {
    socket: UdpSocket,
    server: SocketAddr,
    outgoing: MultiHeaders<()>,
    incoming: MultiHeaders<()>,
    buffers: Vec<u8>,
    refused: u64,
    calls: [u64; 2],
}

impl Sockets {
    /// A socket connected to `server`. Nothing is sent yet.
    pub fn connect(server: SocketAddr) -> Result<Self> {
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => ([0; 4], 0).into(),
            SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
        };
        let socket = UdpSocket::bind(any).context("cannot make a UDP socket")?;
        socket.connect(server).with_context(|| format!("cannot reach {server}"))?;
        socket.set_nonblocking(true)?;
        // As much as the system allows; less is no reason to fail.
        let _ = socket::setsockopt(&socket, sockopt::RcvBuf, &BUFFER);
        let _ = socket::setsockopt(&socket, sockopt::SndBuf, &BUFFER);
        Ok(Self {
            socket,
            server,
            outgoing: MultiHeaders::preallocate(AT_ONCE, None),
            incoming: MultiHeaders::preallocate(AT_ONCE, None),
            buffers: vec![0; AT_ONCE * LONGEST],
            refused: 0,
            calls: [0; 2],
        })
    }

    /// What an error means: no room, or nothing there, or nothing listening (which may pass),
    /// is no error.
    fn tolerate(&mut self, error: Errno) -> Result<usize> {
        match error {
            Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS => Ok(0),
            Errno::ECONNREFUSED => {
                self.refused += 1;
                Ok(0)
            }
            error => Err(error).with_context(|| format!("UDP to {} failed", self.server)),
        }
    }
}

impl Wire for Sockets {
    fn describe(&self) -> String {
        format!("UDP sockets, {AT_ONCE} datagrams a system call at most")
    }

    fn payload_max(&self) -> usize {
        PAYLOAD
    }

    fn send(&mut self, batch: &Batch) -> Result<usize> {
        let mut sent = 0;
        while sent < batch.len() {
            let slices: Vec<[IoSlice<'_>; 1]> =
                batch.iter().skip(sent).take(AT_ONCE).map(|bytes| [IoSlice::new(bytes)]).collect();
            let addresses = [None; AT_ONCE];
            self.calls[0] += 1;
            let result = socket::sendmmsg(
                self.socket.as_raw_fd(),
                &mut self.outgoing,
                &slices,
                addresses,
                [],
                MsgFlags::empty(),
            )
            .map(Iterator::count);
            match result {
                Ok(0) => break,
                Ok(count) => sent += count,
                Err(error) => {
                    let refused = error == Errno::ECONNREFUSED;
                    self.tolerate(error)?;
                    // An earlier datagram was refused; this error is gone with the telling.
                    if !refused {
                        break;
                    }
                }
            }
        }
        Ok(sent)
    }

    fn receive(&mut self, visit: &mut dyn FnMut(&[u8])) -> Result<usize> {
        let mut slices: Vec<[IoSliceMut<'_>; 1]> =
            self.buffers.chunks_mut(LONGEST).map(|buffer| [IoSliceMut::new(buffer)]).collect();
        self.calls[1] += 1;
        let result = socket::recvmmsg(
            self.socket.as_raw_fd(),
            &mut self.incoming,
            slices.iter_mut(),
            MsgFlags::MSG_DONTWAIT,
            None,
        )
        .map(|results| results.map(|message| message.bytes).collect::<Vec<_>>());
        match result {
            Ok(lengths) => {
                for (length, buffer) in lengths.iter().zip(self.buffers.chunks(LONGEST)) {
                    visit(&buffer[..*length]);
                }
                Ok(lengths.len())
            }
            Err(error) => self.tolerate(error),
        }
    }

    fn wait(&mut self, timeout: Duration) -> Result<()> {
        let mut poll = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut poll, Some(TimeSpec::from(timeout)), None) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error).context("cannot wait for datagrams"),
        }
    }

    fn refused(&self) -> u64 {
        self.refused
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![("sendmmsg calls", self.calls[0]), ("recvmmsg calls", self.calls[1])]
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Instant;

    use super::*;

    #[test]
    fn datagrams_go_there_and_back() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut wire = Sockets::connect(server.local_addr().unwrap()).unwrap();
        let mut batch = Batch::default();
        // More than one system call takes.
        for number in 0..100_u8 {
            batch.push(|out| out.extend([number; 10]));
        }
        assert_eq!(wire.send(&batch).unwrap(), 100);
        let mut buffer = [0; 100];
        for _ in 0..100 {
            let (length, from) = server.recv_from(&mut buffer).unwrap();
            server.send_to(&buffer[..length], from).unwrap();
        }
        let mut seen = Vec::new();
        let start = Instant::now();
        while seen.len() < 100 && start.elapsed() < Duration::from_secs(60) {
            wire.wait(Duration::from_millis(100)).unwrap();
            wire.receive(&mut |bytes| seen.push(bytes.to_vec())).unwrap();
        }
        assert_eq!(seen, (0..100_u8).map(|number| vec![number; 10]).collect::<Vec<_>>());
    }

    #[test]
    fn a_closed_port_is_noticed_and_no_error() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut wire = Sockets::connect(server.local_addr().unwrap()).unwrap();
        drop(server);
        let mut batch = Batch::default();
        batch.push(|out| out.push(0));
        let start = Instant::now();
        while wire.refused() == 0 && start.elapsed() < Duration::from_secs(60) {
            wire.send(&batch).unwrap();
            wire.wait(Duration::from_millis(10)).unwrap();
            wire.receive(&mut |_| panic!("nothing can come")).unwrap();
        }
        assert!(wire.refused() > 0);
    }
}
