//! Datagrams of a few sources.

use exo_sum::Sum;
use kvstore::MAX_DATAGRAM;
use kvstore::datagrams::{Datagrams, LEAST_MEMORY, REQUEST_MEMORY, Source};

use crate::{START, with_service};

/// Each datagram begins with three bytes: its source, number and second, which of how many it is, and
/// how long it is. What follows is its text.
pub fn datagrams(mut bytes: &[u8]) {
    let mut memory = vec![0; LEAST_MEMORY + 3 * REQUEST_MEMORY];
    with_service(|service| {
        let mut datagrams = Datagrams::new(&mut memory, 200_000).expect("memory enough");
        let (mut now, mut reply) = (START, [0; MAX_DATAGRAM]);
        while let Some((&[how, parts, len], rest)) = bytes.split_first_chunk() {
            let (text, rest) = rest.split_at(rest.len().min(usize::from(len) * 8));
            bytes = rest;
            let from =
                Source { address: [10, 0, 0, how & 3], port: 4000 + u16::from(how >> 2 & 1) };
            now.uptime += u32::from(how >> 3 & 1);
            let id = how >> 4;
            let (sequence, total) = (parts & 15, parts >> 4);
            let total = if total == 15 { 255 } else { total };
            let datagram = [&[7, id, 0, sequence, 0, total, 0, 0], text].concat();
            let answer = datagrams.answer(service, &datagram, from, now, &mut reply);
            let mut count = 0;
            if let Some((len, sum)) = answer {
                assert!(!datagrams.has_more());
                check(&reply[..len], sum, [id, 0, 1]);
            }
            while datagrams.has_more() {
                let (len, sum) = datagrams.next(service, &mut reply).expect("there is more");
                let total = reply[5];
                check(&reply[..len], sum, [id, count, total]);
                count += 1;
                assert!(datagrams.has_more() == (count < total));
            }
        }
        now.uptime += 1;
        let ask = [&[1, 1, 0, 0, 0, 1, 0, 0], &b"version\r\n"[..]].concat();
        let from = Source { address: [10, 0, 0, 9], port: 4000 };
        let (len, _) = datagrams.answer(service, &ask, from, now, &mut reply).expect("an answer");
        assert!(reply[8..len].starts_with(b"VERSION "));
    });
}

/// A datagram of an answer, which is of fewer than 256.
fn check(datagram: &[u8], sum: Sum, [id, sequence, total]: [u8; 3]) {
    assert!(datagram.len() > 8, "nothing in it");
    assert_eq!(datagram[..8], [7, id, 0, sequence, 0, total, 0, 0]);
    assert_eq!(sum.checksum(), Sum::of(datagram).checksum());
}
