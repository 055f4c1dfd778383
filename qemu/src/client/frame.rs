//! The eight bytes before each datagram, and answers that span several.
//!
//! | bytes | field, big endian |
//! |---|---|
//! | 0-1 | request id, chosen by the client, copied into the answer |
//! | 2-3 | number of this datagram, from 0 |
//! | 4-5 | number of datagrams |
//! | 6-7 | zero |

use std::net::SocketAddr;

use super::ClientError;

/// Length in bytes of the frame before a datagram's payload.
pub const HEADER_LEN: usize = 8;
/// Longest request in bytes, frame not counted: what an Ethernet frame holds of a
/// UDP datagram. The protocol wants a request in one datagram, and fragments of one
/// are more easily lost than found.
pub const MAX_REQUEST: usize = 1500 - 20 - 8 - HEADER_LEN;

/// A request's datagram.
pub fn request(id: u16, payload: &[u8]) -> Result<Vec<u8>, ClientError> {
    if payload.len() > MAX_REQUEST {
        return Err(ClientError::TooLong(payload.len()));
    }
    let mut datagram = Vec::with_capacity(HEADER_LEN + payload.len());
    for field in [id, 0, 1, 0] {
        datagram.extend(field.to_be_bytes());
    }
    datagram.extend(payload);
    Ok(datagram)
}

/// An answer of which some datagrams may still be missing.
#[derive(Debug)]
pub struct Assembly {
    id: u16,
    parts: Vec<Option<Vec<u8>>>,
}

impl Assembly {
    /// Collects the answer to request `id`.
    #[must_use]
    pub fn new(id: u16) -> Self {
        Self { id, parts: Vec::new() }
    }

    /// The error if nothing more comes.
    pub(super) fn missing(&self, server: SocketAddr) -> ClientError {
        let total = self.parts.len();
        match self.parts.iter().flatten().count() {
            0 => ClientError::NoAnswer { server },
            came => ClientError::InPart { server, came, total },
        }
    }

    /// Takes a datagram in; the whole answer's payload if that was the last one
    /// missing. Datagrams of other answers are ignored, in whatever order they come.
    pub fn accept(&mut self, datagram: &[u8]) -> Result<Option<Vec<u8>>, ClientError> {
        let Some((header, payload)) = datagram.split_first_chunk::<HEADER_LEN>() else {
            return Err(ClientError::malformed(datagram));
        };
        let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        if field(0) != self.id {
            return Ok(None);
        }
        let (number, total) = (usize::from(field(2)), usize::from(field(4)));
        if self.parts.is_empty() {
            self.parts.resize(total, None);
        }
        if self.parts.len() != total {
            return Err(ClientError::malformed(datagram));
        }
        match self.parts.get_mut(number) {
            Some(part) => *part = Some(payload.to_vec()),
            None => return Err(ClientError::malformed(datagram)),
        }
        if self.parts.contains(&None) {
            return Ok(None);
        }
        Ok(Some(self.parts.drain(..).flatten().flatten().collect()))
    }
}
