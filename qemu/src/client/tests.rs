use std::net::Ipv4Addr;
use std::thread::{self, JoinHandle};

use proptest::prelude::*;

use super::*;

/// A store that answers the n-th request with the n-th list of datagrams, in which
/// the request's id is filled in where the id is `ID`, and returns what it was asked.
fn fake(answers: Vec<Vec<Vec<u8>>>) -> (Client, JoinHandle<Vec<Vec<u8>>>) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut client = Client::connect(socket.local_addr().unwrap()).unwrap();
    client.timeout = Duration::from_secs(10);
    let served = thread::spawn(move || {
        let mut asked = Vec::new();
        for datagrams in answers {
            let mut buffer = [0; 2000];
            let (len, peer) = socket.recv_from(&mut buffer).unwrap();
            for mut datagram in datagrams {
                if datagram.starts_with(&ID.to_be_bytes()) {
                    datagram[..2].copy_from_slice(&buffer[..2]);
                }
                socket.send_to(&datagram, peer).unwrap();
            }
            asked.push(buffer[..len].to_vec());
        }
        asked
    });
    (client, served)
}

const ID: u16 = 0xbeef;

fn datagram(id: u16, number: u16, total: u16, payload: &[u8]) -> Vec<u8> {
    let header = [id, number, total, 0].map(u16::to_be_bytes);
    [header.as_flattened(), payload].concat()
}

fn one(payload: &[u8]) -> Vec<Vec<u8>> {
    vec![datagram(ID, 0, 1, payload)]
}

#[test]
fn speaks_the_protocol() {
    let (mut client, served) = fake(vec![
        one(b"VERSION 1.2\r\n"),
        one(b"STORED\r\n"),
        one(b"VALUE k 7 5\r\na\r\nb!\r\nEND\r\n"),
        one(b"VALUE k 7 0 99\r\n\r\nEND\r\n"),
        one(b"EXISTS\r\n"),
        one(b"END\r\n"),
        one(b"43\r\n"),
        one(b"NOT_FOUND\r\n"),
        one(b"DELETED\r\n"),
        one(b"TOUCHED\r\n"),
        one(b"OK\r\n"),
        one(b"STAT pid 1\r\nSTAT version 1 2\r\nEND\r\n"),
    ]);
    let item = |value: &[u8], cas| Item { key: b"k".into(), value: value.into(), flags: 7, cas };
    assert_eq!(client.version().unwrap(), "1.2");
    assert_eq!(client.set(b"k", b"a\r\nb!", 7, -1).unwrap(), Stored::Stored);
    assert_eq!(client.get(b"k").unwrap(), Some(item(b"a\r\nb!", None)));
    assert_eq!(client.gets(b"k").unwrap(), Some(item(b"", Some(99))));
    assert_eq!(client.store(Storage::Cas(98), b"k", b"", 0, 0).unwrap(), Stored::Exists);
    assert_eq!(client.get(b"x").unwrap(), None);
    assert_eq!(client.incr(b"n", 1).unwrap(), Some(43));
    assert_eq!(client.decr(b"n", 2).unwrap(), None);
    assert!(client.delete(b"k").unwrap());
    assert!(client.touch(b"k", 60).unwrap());
    client.flush_all(0).unwrap();
    let stats = client.stats().unwrap();
    assert_eq!(stats[1], ("version".to_owned(), "1 2".to_owned()));

    let asked: Vec<_> =
        served.join().unwrap().iter().map(|request| request[2..].to_vec()).collect();
    let expected = [
        "version\r\n",
        "set k 7 -1 5\r\na\r\nb!\r\n",
        "get k\r\n",
        "gets k\r\n",
        "cas k 0 0 0 98\r\n\r\n",
        "get x\r\n",
        "incr n 1\r\n",
        "decr n 2\r\n",
        "delete k\r\n",
        "touch k 60\r\n",
        "flush_all 0\r\n",
        "stats\r\n",
    ];
    for (asked, expected) in asked.iter().zip(expected) {
        assert_eq!(*asked, [&[0, 0, 0, 1, 0, 0], expected.as_bytes()].concat());
    }
}

#[test]
fn asks_again_and_ignores_other_answers() {
    let stale = datagram(ID ^ 0x5555, 0, 1, b"VERSION stale\r\n");
    let (mut client, served) = fake(vec![
        vec![],
        vec![stale, datagram(ID, 1, 2, b"new\r\n"), datagram(ID, 0, 2, b"VERSION ")],
    ]);
    // Long enough for the answer of a thread on this machine, else it asks a third time.
    client.timeout = Duration::from_millis(500);
    // The stale id could by chance be the next request's.
    client.id = 0;
    assert_eq!(client.version().unwrap(), "new");
    let asked = served.join().unwrap();
    assert_ne!(asked[0][..2], asked[1][..2], "a request id was used twice");
    assert_eq!(asked[0][2..], asked[1][2..]);
}

#[test]
fn asks_once_what_must_not_happen_twice() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut client = Client::connect(socket.local_addr().unwrap()).unwrap();
    client.timeout = Duration::from_millis(20);
    let count = || {
        socket.set_nonblocking(true).unwrap();
        let mut buffer = [0; 100];
        std::iter::from_fn(|| socket.recv(&mut buffer).ok()).count()
    };
    assert!(matches!(client.incr(b"n", 1), Err(ClientError::NoAnswer { .. })));
    assert_eq!(count(), 1);
    assert!(matches!(client.get(b"n"), Err(ClientError::NoAnswer { .. })));
    assert_eq!(count(), 3);
}

#[test]
fn an_answer_in_part_is_told_as_such() {
    let part = || vec![datagram(ID, 0, 3, b"VALUE k 0 9\r\n"), datagram(ID, 2, 3, b"END\r\n")];
    let (mut client, served) = fake(vec![part(), part()]);
    client.timeout = Duration::from_millis(500);
    client.attempts = 2;
    let error = client.get(b"k").unwrap_err();
    assert!(matches!(error, ClientError::InPart { came: 2, total: 3, .. }), "{error}");
    assert!(error.to_string().contains("2 of its 3 datagrams"), "{error}");
    assert_eq!(served.join().unwrap().len(), 2, "it was not asked again");
}

#[test]
fn nobody_there_is_no_answer() {
    let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let mut client = Client::connect(free).unwrap();
    client.timeout = Duration::from_millis(20);
    let error = client.version().unwrap_err().to_string();
    assert_eq!(error, format!("no answer from {free}; is `cargo exo run` running?"));
}

#[test]
fn reports_refusals_and_nonsense() {
    let (mut client, served) = fake(vec![
        one(b"SERVER_ERROR out of memory\r\n"),
        one(b"VALUE k 0 9\r\nshort\r\nEND\r\n"),
        one(b"VALUE other 0 1\r\nx\r\nEND\r\n"),
        vec![datagram(ID, 0, 0, b"")],
        vec![datagram(ID, 2, 2, b"")],
    ]);
    let refusal = client.set(b"k", b"v", 0, 0).unwrap_err();
    assert!(matches!(refusal, ClientError::Refused(line) if line == "SERVER_ERROR out of memory"));
    for _ in 0..4 {
        assert!(matches!(client.get(b"k"), Err(ClientError::Malformed(_))));
    }
    served.join().unwrap();
}

#[test]
fn refuses_requests_that_would_be_something_else() {
    let (mut client, _) = fake(vec![]);
    for key in [&b""[..], b"a b", b"a\r\nflush_all", &[b'k'; 251]] {
        assert!(matches!(client.get(key), Err(ClientError::Key)));
    }
    let value = [0; MAX_REQUEST];
    assert!(matches!(client.set(b"k", &value, 0, 0), Err(ClientError::TooLong(_))));
}

proptest! {
    #[test]
    fn assembles_in_any_order(
        parts in proptest::collection::vec("[a-z]{0,9}", 1..9).prop_shuffle(),
        order in any::<u64>(),
    ) {
        let total = parts.len() as u16;
        let mut datagrams: Vec<_> = (0..total)
            .map(|number| datagram(ID, number, total, parts[usize::from(number)].as_bytes()))
            .collect();
        let middle = order as usize % datagrams.len();
        datagrams.rotate_left(middle);
        let mut assembly = Assembly::new(ID);
        let last = datagrams.pop().unwrap();
        for datagram in datagrams {
            prop_assert!(assembly.accept(&datagram).unwrap().is_none());
            prop_assert!(assembly.accept(&datagram).unwrap().is_none(), "a duplicate");
        }
        prop_assert_eq!(assembly.accept(&last).unwrap(), Some(parts.concat().into_bytes()));
    }

    #[test]
    fn survives_anything(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = Assembly::new(0).accept(&bytes);
        let _ = values(&bytes);
        let _ = text::stats(&bytes);
        let _ = number(&bytes);
        let _ = text::no_error(bytes);
    }
}
