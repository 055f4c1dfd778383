//! What a TCP stack is, seen from both sides.

use exo_abi::Error;

use super::{Endpoint, NetDevice};

/// What a [`StreamService`] did with its input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Bytes at the front of the input that it does not want to see again.
    pub consumed: usize,
    /// Bytes at the front of the output that it has written.
    pub produced: usize,
    /// What it waits for.
    pub next: Next,
}

/// What a [`StreamService`] waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// More input than it was shown: what it did not consume, and more.
    Input,
    /// More room for output than it was given. The input is shown to it again.
    Room,
    /// Nothing: the output is to be sent and the connection closed. Further input is dropped.
    Close,
}

/// An application that serves connections.
pub trait StreamService {
    /// What the application keeps for each connection.
    type Connection;

    /// A client at `from` is connected. Returns what is kept for it, or `None` to have the
    /// connection reset. An application that would rather say why it refuses keeps that in its
    /// connection, says it when it is asked to serve, and closes.
    fn open(&mut self, from: Endpoint) -> Option<Self::Connection>;

    /// Serves a connection: reads what is at the front of `input`, writes answers to the front
    /// of `output`.
    ///
    /// Called once with no input after [`StreamService::open`], and then whenever what it
    /// waited for may have come. `input` is all that was received and not consumed, in one
    /// piece. When the client has sent its last byte and the service still wants
    /// [`Next::Input`], the connection is closed once the output is sent. A service makes
    /// progress if it is given all of its input that fits ([`TcpStack::most_input`]) and an
    /// empty output of [`TcpStack::most_output`] bytes; if not even then, its connection is reset.
    ///
    /// **Blocking** must not. **Trust** any host can send anything. **Cost** all connections wait
    /// meanwhile: a service ends a call after a bounded amount of work, for example because
    /// output is bounded.
    fn serve(
        &mut self,
        connection: &mut Self::Connection,
        input: &[u8],
        output: &mut [u8],
    ) -> Progress;

    /// As [`Service::settle`](super::Service::settle).
    ///
    /// # Errors
    /// If that failed. No answer leaves then.
    #[inline(always)]
    fn settle(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// The connection has ended, in whichever way.
    fn closed(&mut self, connection: Self::Connection) {
        drop(connection);
    }
}

/// Turns frames into the bytes of connections, and answers into frames.
///
/// What every stack must do beyond that is in [`stream_conformance`](super::stream_conformance).
pub trait TcpStack<S: StreamService> {
    /// Handles up to `budget` of the frames that `device` has received, sends what is to be
    /// sent, and does what is due. Returns how many frames were handled or queued: at zero there
    /// is nothing to do until the device has an event or [`TcpStack::wait_micros`] have passed.
    /// `now` is in microseconds.
    ///
    /// Leaves it to the caller to call [`NetDevice::sync`] afterwards, once for the whole batch;
    /// calls it only if the transmit ring is full. Before either, it has the service settle its
    /// answers ([`StreamService::settle`]).
    ///
    /// # Errors
    /// Those of [`NetDevice::sync`] and of the service.
    fn poll<D: NetDevice>(
        &mut self,
        device: &mut D,
        service: &mut S,
        now: u64,
        budget: u32,
    ) -> Result<u32, Error>;

    /// Microseconds after which the stack wants to be polled though nothing was received, if
    /// any.
    fn wait_micros(&mut self, now: u64) -> Option<u64>;

    /// Bytes of input that are kept for a service that does not consume them.
    fn most_input(&self) -> usize;

    /// Bytes of output that a service is given when nothing is waiting to be sent.
    fn most_output(&self) -> usize;
}
