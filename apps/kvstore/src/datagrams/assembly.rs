//! Requests of which some datagrams have come.
//!
//! The datagrams of a request have one source and one number, and come in any order. Each has a
//! place of its own until all are there; then they are moved together and read as if they had been
//! one. Memory is bounded in each direction: so many datagrams a request, so many requests in all and
//! for each address. A request beyond that takes the place of the one that has waited longest,
//! of its own address first: senders that never send the rest hold up none but their own.

use crate::protocol::Frame;
use crate::service::MAX_DATAGRAM;

use super::Source;

/// Most datagrams of a request.
pub const MOST_PARTS: usize = 48;

/// Most requests under way.
pub const MOST_REQUESTS: usize = 8;

/// Of these, most from one address.
const MOST_OF_ONE: usize = 2;

/// Bytes of text in one datagram.
const PART: usize = MAX_DATAGRAM - Frame::LEN;

/// Bytes of memory for a request.
pub(super) const BYTES: usize = Frame::LEN + MOST_PARTS * PART;

/// A datagram belongs to one that came up to so many seconds before it; later, it begins a new
/// request, since clients use their numbers again.
const PATIENCE: u32 = 1;

/// Why there is no request to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotWhole {
    /// Other datagrams are to come, or this one belongs to nothing.
    Wait,
    /// It has more datagrams than are taken together: this is the first.
    TooLong,
}

/// What has come of the requests under way.
pub(super) struct Assembly<'m> {
    memory: &'m mut [[u8; BYTES]],
    requests: [Option<Request>; MOST_REQUESTS],
    /// Datagrams that have come.
    clock: u64,
    /// Requests that were given up, since others took their place or their rest did not come.
    given_up: u64,
}

/// One of them.
#[derive(Clone, Copy)]
struct Request {
    from: Source,
    frame: Frame,
    total: u16,
    /// A bit for each datagram that has come.
    seen: u64,
    lengths: [u16; MOST_PARTS],
    /// When the last one came: in seconds, and by the number of datagrams.
    second: u32,
    at: u64,
}

impl<'m> Assembly<'m> {
    /// As many as fit into `memory`, up to [`MOST_REQUESTS`].
    pub(super) fn new(memory: &'m mut [u8]) -> Self {
        let (memory, _) = memory.as_chunks_mut();
        Self { memory, requests: [None; MOST_REQUESTS], clock: 0, given_up: 0 }
    }

    /// Requests given up since this was last asked.
    pub(super) fn take_given_up(&mut self) -> u64 {
        core::mem::take(&mut self.given_up)
    }

    /// Takes a datagram, which comes at second `now`. Returns the whole request, with room for a
    /// frame before it, once all of them are there.
    pub(super) fn add(
        &mut self,
        (frame, sequence, total): (Frame, u16, u16),
        from: Source,
        datagram: &[u8],
        now: u32,
    ) -> Result<&[u8], NotWhole> {
        let text = datagram.get(Frame::LEN..).unwrap_or_default();
        let part = usize::from(sequence);
        if usize::from(total) > MOST_PARTS {
            return Err(if part == 0 { NotWhole::TooLong } else { NotWhole::Wait });
        }
        let slot = self.slot(from, frame).ok_or(NotWhole::Wait)?;
        let (Some(request), Some(memory)) =
            (self.requests.get_mut(slot), self.memory.get_mut(slot))
        else {
            return Err(NotWhole::Wait);
        };
        let new = Request {
            from,
            frame,
            total,
            seen: 0,
            lengths: [0; MOST_PARTS],
            second: now,
            at: self.clock,
        };
        let start = Frame::LEN + part * PART;
        let place =
            memory.get_mut(start..start + PART).and_then(|place| place.get_mut(..text.len()));
        let place = place.ok_or(NotWhole::Wait)?;
        let request = request.get_or_insert(new);
        let is_its = request.from == from
            && request.frame == frame
            && request.total == total
            && now.saturating_sub(request.second) <= PATIENCE
            // One that comes twice and is not the same is of another request of that number.
            && (request.seen & 1 << part == 0
                || usize::from(request.lengths[part]) == text.len() && place == text);
        if !is_its {
            *request = new;
            self.given_up += 1;
        }
        place.copy_from_slice(text);
        request.seen |= 1 << part;
        request.lengths[part] = text.len() as u16;
        (request.second, request.at) = (now, self.clock);
        self.clock += 1;
        if request.seen.count_ones() != u32::from(total) {
            return Err(NotWhole::Wait);
        }
        let lengths = request.lengths;
        self.requests[slot] = None;
        let mut end = Frame::LEN;
        for (part, len) in lengths.into_iter().enumerate().take(total.into()) {
            let start = Frame::LEN + part * PART;
            memory.copy_within(start..start + usize::from(len), end);
            end += usize::from(len);
        }
        memory.get(..end).ok_or(NotWhole::Wait)
    }

    /// Where the datagrams of a request lie, or may lie. `None` if there is no memory for any.
    fn slot(&self, from: Source, frame: Frame) -> Option<usize> {
        let slots = || self.requests.iter().take(self.memory.len()).enumerate();
        let waiting = || slots().filter_map(|(slot, request)| Some((slot, request.as_ref()?)));
        let of_address = || waiting().filter(|(_, other)| other.from.address == from.address);
        let its = of_address().find(|(_, other)| other.from == from && other.frame == frame);
        if let Some((slot, _)) = its {
            return Some(slot);
        }
        if of_address().count() >= MOST_OF_ONE {
            return of_address().min_by_key(|(_, other)| other.at).map(|(slot, _)| slot);
        }
        let free = slots().find(|(_, request)| request.is_none()).map(|(slot, _)| slot);
        free.or_else(|| waiting().min_by_key(|(_, other)| other.at).map(|(slot, _)| slot))
    }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;

    fn from(address: u8, port: u16) -> Source {
        Source { address: [10, 0, 0, address], port }
    }

    /// Datagram `sequence` of `total`, of a request with this number.
    fn datagram(id: u8, sequence: u16, total: u16, text: &[u8]) -> Vec<u8> {
        let ([s0, s1], [t0, t1]) = (sequence.to_be_bytes(), total.to_be_bytes());
        [&[0, id, s0, s1, t0, t1, 0, 0], text].concat()
    }

    fn add(
        assembly: &mut Assembly<'_>,
        source: Source,
        datagram: &[u8],
        now: u32,
    ) -> Result<Vec<u8>, NotWhole> {
        let part = Frame::part(datagram).expect("a part");
        assembly.add(part, source, datagram, now).map(|whole| whole[Frame::LEN..].to_vec())
    }

    const WAIT: Result<Vec<u8>, NotWhole> = Err(NotWhole::Wait);

    #[test]
    fn parts_come_in_any_order_and_twice() {
        let mut memory = vec![0xa5; 2 * BYTES + 5];
        let mut assembly = Assembly::new(&mut memory);
        let parts = [vec![b'a'; PART], b"bb".to_vec(), vec![b'c'; 700]];
        let whole = parts.concat();
        for (round, order) in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]].into_iter().enumerate() {
            let now = 10 * round as u32;
            let part = |n: usize| datagram(7, n as u16, 3, &parts[n]);
            assert_eq!(add(&mut assembly, from(1, 9), &part(order[0]), now), WAIT);
            assert_eq!(add(&mut assembly, from(1, 9), &part(order[0]), now), WAIT);
            // Another one in between, from another port.
            assert_eq!(add(&mut assembly, from(1, 8), &part(order[1]), now), WAIT);
            assert_eq!(add(&mut assembly, from(1, 9), &part(order[1]), now + 1), WAIT);
            assert!(
                add(&mut assembly, from(1, 9), &part(order[2]), now + 2).as_ref() == Ok(&whole)
            );
        }
    }

    #[test]
    fn requests_of_one_number_are_not_mixed() {
        let mut memory = vec![0; BYTES];
        let mut assembly = Assembly::new(&mut memory);
        let first = |text: &[u8]| datagram(7, 0, 2, text);
        let second = |text: &[u8]| datagram(7, 1, 2, text);
        assert_eq!(add(&mut assembly, from(1, 9), &first(b"old"), 5), WAIT);
        // Another first one: what came before is of another request.
        assert_eq!(add(&mut assembly, from(1, 9), &first(b"new"), 5), WAIT);
        assert_eq!(add(&mut assembly, from(1, 9), &second(b"er"), 5), Ok(b"newer".to_vec()));
        // Too late.
        assert_eq!(add(&mut assembly, from(1, 9), &first(b"old"), 5), WAIT);
        assert_eq!(add(&mut assembly, from(1, 9), &second(b"er"), 7), WAIT);
        assert_eq!(add(&mut assembly, from(1, 9), &first(b"new"), 7), Ok(b"newer".to_vec()));
        // Another total.
        assert_eq!(add(&mut assembly, from(1, 9), &first(b"old"), 8), WAIT);
        assert_eq!(add(&mut assembly, from(1, 9), &datagram(7, 1, 3, b"er"), 8), WAIT);
        assert_eq!(add(&mut assembly, from(1, 9), &second(b"er"), 8), WAIT);
    }

    #[test]
    fn an_address_has_its_share_and_the_oldest_goes() {
        let mut memory = vec![0; 3 * BYTES];
        let mut assembly = Assembly::new(&mut memory);
        let first = |id: u8| datagram(id, 0, 2, b"x");
        let second = |id: u8| datagram(id, 1, 2, b"y");
        assert_eq!(add(&mut assembly, from(1, 1), &first(1), 0), WAIT);
        // However many another address begins, that one stays.
        for id in 0..100 {
            assert_eq!(add(&mut assembly, from(2, id.into()), &first(id), 0), WAIT);
        }
        assert_eq!(add(&mut assembly, from(1, 1), &second(1), 0), Ok(b"xy".to_vec()));
        assert_eq!(add(&mut assembly, from(2, 99), &second(99), 0), Ok(b"xy".to_vec()));
        assert_eq!(assembly.take_given_up(), 98, "but the last two");
        assert_eq!(add(&mut assembly, from(2, 97), &second(97), 0), WAIT, "it went");
        assert_eq!(assembly.take_given_up(), 0, "there was a free place");
        // From many addresses: the oldest goes.
        for address in 10..14 {
            assert_eq!(add(&mut assembly, from(address, 1), &first(1), 0), WAIT);
        }
        assert_eq!(add(&mut assembly, from(13, 1), &second(1), 0), Ok(b"xy".to_vec()));
        assert_eq!(add(&mut assembly, from(10, 1), &second(1), 0), WAIT);
    }

    #[test]
    fn what_is_too_long_is_told_once_and_without_memory_nothing_waits() {
        let mut memory = vec![0; BYTES];
        let mut assembly = Assembly::new(&mut memory);
        let total = MOST_PARTS as u16 + 1;
        let long = |sequence| datagram(1, sequence, total, b"x");
        assert_eq!(add(&mut assembly, from(1, 1), &long(0), 0), Err(NotWhole::TooLong));
        assert_eq!(add(&mut assembly, from(1, 1), &long(1), 0), WAIT);
        let parts = [vec![b'z'; PART + 1], vec![b'z'; 9000]];
        for part in parts {
            assert_eq!(add(&mut assembly, from(1, 1), &datagram(1, 0, 2, &part), 0), WAIT);
        }
        let whole = vec![b'w'; PART * MOST_PARTS];
        for (n, part) in whole.chunks(PART).enumerate() {
            let part = datagram(2, n as u16, MOST_PARTS as u16, part);
            let is_last = n == MOST_PARTS - 1;
            let expected = if is_last { Ok(whole.clone()) } else { WAIT };
            assert!(add(&mut assembly, from(1, 1), &part, 0) == expected, "datagram {n}");
        }
        let mut none = Assembly::new(&mut []);
        for n in 0..2 {
            assert_eq!(add(&mut none, from(1, 1), &datagram(1, n, 2, b"x"), 0), WAIT);
        }
    }
}
