//! Messages on the vhost-user socket: a header of three 32-bit words (request, flags,
//! size of the payload), the payload, and file descriptors beside the first byte.
//! Everything in the byte order of the host.

use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, ensure};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// Longest payload: a table of eight memory regions takes 264 bytes.
const LONGEST: u32 = 4096;
/// File descriptors of one message at most.
const DESCRIPTORS: usize = 8;
/// Flags: version 1; this is a reply.
const VERSION: u32 = 1;
const REPLY: u32 = 1 << 2;

/// The requests that are understood.
pub(super) mod request {
    pub(in super::super) const GET_FEATURES: u32 = 1;
    pub(in super::super) const SET_FEATURES: u32 = 2;
    pub(in super::super) const SET_OWNER: u32 = 3;
    pub(in super::super) const RESET_OWNER: u32 = 4;
    pub(in super::super) const SET_MEM_TABLE: u32 = 5;
    pub(in super::super) const SET_VRING_NUM: u32 = 8;
    pub(in super::super) const SET_VRING_ADDR: u32 = 9;
    pub(in super::super) const SET_VRING_BASE: u32 = 10;
    pub(in super::super) const GET_VRING_BASE: u32 = 11;
    pub(in super::super) const SET_VRING_KICK: u32 = 12;
    pub(in super::super) const SET_VRING_CALL: u32 = 13;
    pub(in super::super) const SET_VRING_ERR: u32 = 14;
    pub(in super::super) const GET_PROTOCOL_FEATURES: u32 = 15;
    pub(in super::super) const SET_PROTOCOL_FEATURES: u32 = 16;
    pub(in super::super) const GET_QUEUE_NUM: u32 = 17;
    pub(in super::super) const SET_VRING_ENABLE: u32 = 18;
}

/// A message from QEMU.
pub(super) struct Message {
    pub(super) request: u32,
    payload: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
}

impl Message {
    /// The next message; none if QEMU has closed the socket.
    ///
    /// **Blocking** until there is one.
    pub(super) fn read(mut socket: &UnixStream) -> Result<Option<Self>> {
        let mut header = [0; 12];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut header)];
        let received = loop {
            match recvmsg(socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::CONNRESET) => return Ok(None),
                result => break result.context("cannot read from the vhost-user socket")?,
            }
        };
        if received.bytes == 0 {
            return Ok(None);
        }
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        let cut = "a vhost-user message was cut off";
        socket.read_exact(&mut header[received.bytes..]).context(cut)?;
        let word = |at: usize| {
            u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let (request, size) = (word(0), word(8));
        ensure!(size <= LONGEST, "a vhost-user message of {size} bytes");
        let mut payload = vec![0; size as usize];
        socket.read_exact(&mut payload).context(cut)?;
        Ok(Some(Self { request, payload, descriptors }))
    }

    /// The 64-bit word at byte `at` of the payload.
    pub(super) fn u64(&self, at: usize) -> Result<u64> {
        let bytes = self.payload.get(at..).and_then(|bytes| bytes.first_chunk());
        let bytes =
            bytes.with_context(|| format!("vhost-user request {} is too short", self.request))?;
        Ok(u64::from_ne_bytes(*bytes))
    }

    /// The 32-bit word at byte `at` of the payload.
    pub(super) fn u32(&self, at: usize) -> Result<u32> {
        let bytes = self.payload.get(at..).and_then(|bytes| bytes.first_chunk());
        let bytes =
            bytes.with_context(|| format!("vhost-user request {} is too short", self.request))?;
        Ok(u32::from_ne_bytes(*bytes))
    }

    /// Answers this message.
    pub(super) fn reply(&self, mut socket: &UnixStream, payload: &[u8]) -> Result<()> {
        let mut bytes = Vec::new();
        for word in [self.request, VERSION | REPLY, payload.len() as u32] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(payload);
        socket.write_all(&bytes).context("cannot write to the vhost-user socket")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(bytes: &[u8]) -> Result<Option<Message>> {
        let (mut qemu, own) = UnixStream::pair().unwrap();
        qemu.write_all(bytes).unwrap();
        drop(qemu);
        Message::read(&own)
    }

    fn message(request: u32, payload: &[u8]) -> Vec<u8> {
        let words = [request, VERSION, payload.len() as u32];
        [words.map(u32::to_ne_bytes).concat(), payload.to_vec()].concat()
    }

    #[test]
    fn reads_and_answers() {
        let payload = [1_u64.to_ne_bytes(), 2_u64.to_ne_bytes()].concat();
        let read = sent(&message(9, &payload)).unwrap().unwrap();
        assert_eq!((read.request, read.u64(0).unwrap(), read.u64(8).unwrap()), (9, 1, 2));
        assert!(read.u64(9).is_err() && read.u32(13).is_err());

        let (mut qemu, own) = UnixStream::pair().unwrap();
        read.reply(&own, &5_u64.to_ne_bytes()).unwrap();
        let mut answer = [0; 20];
        qemu.read_exact(&mut answer).unwrap();
        assert_eq!(answer[4..8], (VERSION | REPLY).to_ne_bytes());
        assert_eq!(answer[12..], 5_u64.to_ne_bytes());
    }

    #[test]
    fn ends_and_damage_are_told_apart() {
        assert!(sent(b"").unwrap().is_none());
        let whole = message(5, &[0; 40]);
        for length in 1..whole.len() {
            assert!(sent(&whole[..length]).is_err(), "{length}");
        }
        assert!(sent(&message(5, &vec![0; 5000])).is_err());
    }
}
