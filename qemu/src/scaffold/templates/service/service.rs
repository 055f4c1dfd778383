//! What it answers: each request in capitals.

use libos::net::{Endpoint, Service};

/// Answers in capitals.
pub(crate) struct Capitals;

impl Service for Capitals {
    /// `request` lies where it arrived, `reply` where it is sent from: nothing is copied that is
    /// not copied here. Any host can send anything, so nothing here may panic.
    fn answer(&mut self, request: &[u8], _: Endpoint, reply: &mut [u8]) -> Option<usize> {
        let reply = reply.get_mut(..request.len())?;
        reply.copy_from_slice(request);
        reply.make_ascii_uppercase();
        Some(reply.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Endpoint = Endpoint { address: [10, 0, 2, 2], port: 40_000 };

    #[test]
    fn answers_in_capitals() {
        let mut reply = [0; 1472];
        let length = Capitals.answer(b"hello, 1", PEER, &mut reply);
        assert_eq!((length, &reply[..8]), (Some(8), &b"HELLO, 1"[..]));
        assert_eq!(Capitals.answer(&[0; 2], PEER, &mut reply[..1]), None, "no room");
    }
}
