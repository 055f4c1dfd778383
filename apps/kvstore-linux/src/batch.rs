//! Many datagrams with one system call: `recvmmsg(2)`, `sendmmsg(2)`.
//!
//! The crate's only unsafe code is here. Buffers, addresses and what describes them to Linux
//! are made once and stay where they are; describing 64 buffers anew for each call would
//! cost more than answering a request.

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};

use kvstore::MAX_DATAGRAM;
use kvstore::datagrams::Source;

/// Most requests between two system calls, as in the exokernel's application.
pub(crate) const BATCH: usize = 64;

/// What answers requests.
pub(crate) trait Answers {
    /// Writes the answer to `request` into `reply` and returns its length, if there is one.
    fn answer(&mut self, request: &[u8], from: Source, reply: &mut [u8]) -> Option<usize>;

    /// Whether the last answer has datagrams that are still to be written.
    fn has_more(&self) -> bool {
        false
    }

    /// Is called before answers leave of which there will be more.
    fn before_sending(&mut self) {}

    /// Writes the next of them, as [`Answers::answer`] does.
    fn more(&mut self, _reply: &mut [u8]) -> Option<usize> {
        None
    }
}

impl<F: FnMut(&[u8], &mut [u8]) -> Option<usize>> Answers for F {
    fn answer(&mut self, request: &[u8], _: Source, reply: &mut [u8]) -> Option<usize> {
        self(request, reply)
    }
}

/// Requests and the answers to them.
pub(crate) struct Batch {
    requests: Messages,
    received: usize,
    replies: Messages,
    answered: usize,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self { requests: Messages::new(), received: 0, replies: Messages::new(), answered: 0 }
    }

    /// Takes what has come, at most [`BATCH`] datagrams, in place of those before.
    ///
    /// **Blocking** until there is one.
    ///
    /// # Errors
    /// The socket is of no use any more.
    pub(crate) fn receive(&mut self, socket: &UdpSocket) -> io::Result<()> {
        self.received = self.requests.receive(socket)?;
        self.answered = 0;
        Ok(())
    }

    /// Has each request answered. Answers that are more than a batch are sent meanwhile. A
    /// request longer than one Ethernet frame is dropped, as the exokernel's application never
    /// sees it.
    pub(crate) fn answer(&mut self, socket: &UdpSocket, answers: &mut impl Answers) {
        for slot in 0..self.received {
            let Some((request, peer)) = self.requests.received(slot) else { continue };
            let from = Source {
                address: peer.sin_addr.s_addr.to_ne_bytes(),
                port: u16::from_be(peer.sin_port),
            };
            let len = answers.answer(request, from, self.replies.buffer(self.answered));
            self.add(len, peer);
            while answers.has_more() {
                if self.answered == BATCH {
                    answers.before_sending();
                    self.send(socket);
                }
                let len = answers.more(self.replies.buffer(self.answered));
                self.add(len, peer);
            }
            if self.answered == BATCH && slot + 1 < self.received {
                answers.before_sending();
                self.send(socket);
            }
        }
    }

    /// Notes what was written into the next buffer, if anything.
    fn add(&mut self, len: Option<usize>, peer: libc::sockaddr_in) {
        if let Some(len) = len {
            self.replies.address(self.answered, len, peer);
            self.answered += 1;
        }
    }

    /// Sends the replies. One that Linux does not send is lost, as any datagram may be:
    /// its client's address may be one that cannot be sent to.
    pub(crate) fn send(&mut self, socket: &UdpSocket) {
        let mut done = 0;
        while done < self.answered {
            done += match self.replies.send(socket, done, self.answered) {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(_) => 1,
            };
        }
        self.answered = 0;
    }
}

/// Messages with buffers and addresses of their own.
struct Messages(NonNull<Slots>);

struct Slots {
    headers: [libc::mmsghdr; BATCH],
    vectors: [libc::iovec; BATCH],
    peers: [libc::sockaddr_in; BATCH],
    buffers: [[u8; MAX_DATAGRAM]; BATCH],
}

impl Messages {
    fn new() -> Self {
        // SAFETY: all fields are integers, pointers that may be null, and arrays of such,
        // of which zeros are values.
        let slots = Box::new(unsafe { MaybeUninit::<Slots>::zeroed().assume_init() });
        let slots = Box::into_raw(slots);
        for slot in 0..BATCH {
            // SAFETY: `slots` is an allocation that nothing else refers to yet, and `slot`
            // is within all of its arrays. The addresses stored stay good: it is never
            // moved, and freed only when `self` is dropped.
            unsafe {
                let vector = &raw mut (*slots).vectors[slot];
                (*vector).iov_base = (&raw mut (*slots).buffers[slot]).cast();
                (*vector).iov_len = MAX_DATAGRAM;
                let header = &raw mut (*slots).headers[slot].msg_hdr;
                (*header).msg_iov = vector;
                (*header).msg_iovlen = 1;
                (*header).msg_name = (&raw mut (*slots).peers[slot]).cast();
                (*header).msg_namelen = mem::size_of::<libc::sockaddr_in>() as _;
            }
        }
        // SAFETY: what `Box::into_raw` returns is not null.
        Self(unsafe { NonNull::new_unchecked(slots) })
    }

    /// Fills slots from the first on with datagrams; returns how many.
    fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        loop {
            // SAFETY: `headers` are `BATCH` valid headers, whose names and vectors point to
            // memory of the stated lengths in the same allocation; `&mut self` sees to it
            // that nothing else refers to it while Linux writes there. It writes whole
            // integers, bytes and addresses.
            let count = unsafe {
                let headers = (&raw mut (*self.0.as_ptr()).headers).cast();
                let flags = libc::MSG_WAITFORONE as _;
                libc::recvmmsg(socket.as_raw_fd(), headers, BATCH as _, flags, ptr::null_mut())
            };
            match usize::try_from(count) {
                Ok(count) => return Ok(count),
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error => return Err(error),
                },
            }
        }
    }

    /// The datagram received in a slot and its sender, unless it was cut short.
    fn received(&self, slot: usize) -> Option<(&[u8], libc::sockaddr_in)> {
        // SAFETY: the allocation lives as long as `self`, and is written to only through
        // `&mut self`.
        let slots = unsafe { self.0.as_ref() };
        let header = slots.headers.get(slot)?;
        if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
            return None;
        }
        Some((slots.buffers[slot].get(..header.msg_len as usize)?, slots.peers[slot]))
    }

    /// The buffer of a slot, which is below [`BATCH`].
    fn buffer(&mut self, slot: usize) -> &mut [u8] {
        // SAFETY: the allocation lives as long as `self`, which is borrowed exclusively.
        unsafe { &mut (*self.0.as_ptr()).buffers[slot] }
    }

    /// Makes what lies in a slot's buffer a message of `len` bytes to `peer`.
    fn address(&mut self, slot: usize, len: usize, peer: libc::sockaddr_in) {
        // SAFETY: as in `buffer`.
        let slots = unsafe { self.0.as_mut() };
        slots.vectors[slot].iov_len = len.min(MAX_DATAGRAM);
        slots.peers[slot] = peer;
    }

    /// Sends the messages in the slots from `first` up to `end`, which is at most
    /// [`BATCH`]; returns how many, at least one.
    fn send(&mut self, socket: &UdpSocket, first: usize, end: usize) -> io::Result<usize> {
        let count = end.min(BATCH).saturating_sub(first);
        // SAFETY: `first + count` is at most `BATCH`, so these are valid headers, whose
        // names and vectors point into the same allocation; lengths of vectors are never
        // above that of a buffer. Linux writes to the headers only.
        let sent = unsafe {
            let headers = (&raw mut (*self.0.as_ptr()).headers).cast::<libc::mmsghdr>();
            libc::sendmmsg(socket.as_raw_fd(), headers.add(first), count as _, 0)
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        // SAFETY: it came from `Box::into_raw`, and nothing refers to it any more.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn answers_what_came_where_it_came_from() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = server.local_addr().unwrap();
        let clients = [(); 3].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let mut batch = Batch::new();
        // More than one batch over all; lengths from nothing to more than is taken.
        for round in 0..40_usize {
            for (number, client) in clients.iter().enumerate() {
                let request = vec![number as u8; round * 41];
                client.send_to(&request, address).unwrap();
            }
            let mut seen = 0;
            // On the loopback interface all are there when they have been sent.
            batch.receive(&server).unwrap();
            assert_eq!(batch.received, clients.len());
            batch.answer(&server, &mut |request: &[u8], reply: &mut [u8]| {
                seen += 1;
                assert_eq!(request.len(), round * 41);
                let number = *request.first()?;
                reply[..2].copy_from_slice(&[number, round as u8]);
                // One client gets no answers.
                (number != 1).then_some(2)
            });
            let whole = round * 41 <= MAX_DATAGRAM;
            assert_eq!(seen, if whole { clients.len() } else { 0 });
            batch.send(&server);
            for number in [0, 2] {
                if !whole || round == 0 {
                    continue;
                }
                let mut reply = [0; 8];
                assert_eq!(clients[number].recv(&mut reply).unwrap(), 2);
                assert_eq!(reply[..2], [number as u8, round as u8]);
            }
        }
        clients[1].set_nonblocking(true).unwrap();
        assert!(clients[1].recv(&mut [0; 8]).is_err());
    }

    #[test]
    fn a_burst_is_taken_in_batches_and_an_address_that_cannot_be_sent_to_stops_nothing() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for number in 0..BATCH as u8 + 1 {
            client.send_to(&[number], server.local_addr().unwrap()).unwrap();
        }
        let mut batch = Batch::new();
        for count in [BATCH, 1] {
            batch.receive(&server).unwrap();
            assert_eq!(batch.received, count);
            batch.answer(&server, &mut |request: &[u8], reply: &mut [u8]| {
                reply[0] = request[0];
                Some(1)
            });
            if count == BATCH {
                // Port 0: Linux refuses to send there.
                let mut nowhere = batch.requests.received(0).unwrap().1;
                nowhere.sin_port = 0;
                batch.replies.address(0, 1, nowhere);
            }
            batch.send(&server);
        }
        for number in 1..BATCH as u8 + 1 {
            let mut reply = [0; 8];
            client.recv(&mut reply).unwrap();
            assert_eq!(reply[0], number);
        }
    }

    /// Says as many datagrams as are asked for.
    struct Several(u16);

    impl Answers for Several {
        fn answer(&mut self, request: &[u8], _: Source, _: &mut [u8]) -> Option<usize> {
            self.0 = u16::from_le_bytes([request[0], request[1]]);
            None
        }

        fn has_more(&self) -> bool {
            self.0 > 0
        }

        fn more(&mut self, reply: &mut [u8]) -> Option<usize> {
            self.0 -= 1;
            reply[..2].copy_from_slice(&self.0.to_le_bytes());
            Some(2)
        }
    }

    #[test]
    fn an_answer_may_be_more_than_a_batch() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        let counts = [0, 1, 2 * BATCH as u16 + 1, 2];
        for count in counts {
            client.send(&count.to_le_bytes()).unwrap();
        }
        let mut batch = Batch::new();
        batch.receive(&server).unwrap();
        batch.answer(&server, &mut Several(0));
        batch.send(&server);
        for left in counts.into_iter().flat_map(|count| (0..count).rev()) {
            let mut reply = [0; 8];
            assert_eq!(client.recv(&mut reply).unwrap(), 2);
            assert_eq!(u16::from_le_bytes([reply[0], reply[1]]), left);
        }
    }
}
