//! Clients on the same machine: the same results as over the network, whatever else they write
//! into registers and pages.

mod common;

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use common::{Chance, START, ask, config};
use kvstore::{Service, local};
use kvstore_local::client::Call;
use kvstore_local::window::{FoundHead, LEAST_WORDS, MOST_KEYS, VALUE_AT};
use kvstore_local::{Client, Failure, Message, Operation, Reply, Request, Status, Stored, Window};

/// The store, called as a function.
struct Direct<'a, 'm> {
    service: &'a RefCell<Service<'m>>,
    window: Window<'a>,
    scratch: Vec<u8>,
}

impl Call for Direct<'_, '_> {
    fn call(&mut self, request: &Message) -> Result<Message, Failure> {
        let mut service = self.service.borrow_mut();
        Ok(local::serve(&mut service, START, request, self.window.bytes, &mut self.scratch))
    }
}

fn words(bytes: usize) -> Vec<AtomicU64> {
    (0..LEAST_WORDS.max(bytes / 8)).map(|_| AtomicU64::new(0)).collect()
}

fn client<'a, 'm>(
    service: &'a RefCell<Service<'m>>,
    words: &'a [AtomicU64],
) -> Client<'a, Direct<'a, 'm>> {
    let window = Window::new(words).unwrap();
    let direct = Direct { service, window, scratch: vec![0; window.bytes.len()] };
    Client::new(direct, window.bytes)
}

/// What the text protocol says of an operation, in the client's words.
fn stored(answer: &[u8]) -> Result<Stored, Failure> {
    match answer {
        b"STORED\r\n" => Ok(Stored::Stored),
        b"NOT_STORED\r\n" => Ok(Stored::NotStored),
        b"EXISTS\r\n" => Ok(Stored::Exists),
        b"NOT_FOUND\r\n" => Ok(Stored::NotFound),
        b"SERVER_ERROR object too large for cache\r\n" => Err(Failure::TooLarge),
        other => panic!("{}", String::from_utf8_lossy(other)),
    }
}

fn number(answer: &[u8]) -> Result<Option<u64>, Failure> {
    match answer {
        b"NOT_FOUND\r\n" => Ok(None),
        b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n" => {
            Err(Failure::NotANumber)
        }
        text => Ok(Some(std::str::from_utf8(text).unwrap().trim().parse().unwrap())),
    }
}

/// The answer to `gets`: flags, CAS id and value.
fn gets(answer: &[u8]) -> Option<(u32, u64, Vec<u8>)> {
    if answer == b"END\r\n" {
        return None;
    }
    let end = answer.iter().position(|&byte| byte == b'\r').unwrap();
    let line = std::str::from_utf8(&answer[..end]).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let len: usize = words[3].parse().unwrap();
    let value = answer[end + 2..end + 2 + len].to_vec();
    Some((words[2].parse().unwrap(), words[4].parse().unwrap(), value))
}

/// Random operations on two stores, one called and one asked: every result is the same.
#[test]
fn a_call_has_the_result_of_the_text_command() {
    let (mut called, mut asked) = (vec![0xa5; 1 << 20], vec![0xa5; 1 << 20]);
    let service = RefCell::new(Service::new(&mut called, &config()).unwrap());
    let mut other = Service::new(&mut asked, &config()).unwrap();
    let memory = words(32 << 10);
    let mut client = client(&service, &memory);
    let mut chance = Chance(14);
    let mut buffer = vec![0; 32 << 10];
    let (mut cas_seen, mut hits) = (0, 0);
    for round in 0..8_000 {
        let key = format!("{}{}", "k".repeat(1 + 9 * chance.below(3)), chance.below(20));
        let value = match chance.below(4) {
            0 => chance.next().to_string().into_bytes(),
            1 => vec![b'v'; chance.below(9000)],
            _ => (0..chance.below(200)).map(|_| b'a' + chance.below(26) as u8).collect(),
        };
        let flags = if chance.one_in(3) { chance.next() as u32 } else { chance.below(10) as u32 };
        let exptime = [0, 0, 0, -1, 100][chance.below(5)];
        let line = |command: &str, more: &str| {
            let head = format!("{command} {key} {flags} {exptime} {}{more}\r\n", value.len());
            [head.as_bytes(), &value, b"\r\n"].concat()
        };
        let mut ask = |text: &[u8]| ask(&mut other, text, START);
        match chance.below(12) {
            kind @ 0..=4 => {
                let (operation, command) = [
                    (Operation::Set, "set"),
                    (Operation::Add, "add"),
                    (Operation::Replace, "replace"),
                    (Operation::Append, "append"),
                    (Operation::Prepend, "prepend"),
                ][kind];
                let got = client.store(operation, key.as_bytes(), &value, (flags, exptime));
                assert_eq!(got, stored(&ask(&line(command, ""))), "{round} {command} {key}");
            }
            5 => {
                let cas = if chance.one_in(2) { cas_seen } else { chance.below(1000) as u64 };
                let got = client.cas(key.as_bytes(), &value, (flags, exptime), cas);
                assert_eq!(got, stored(&ask(&line("cas", &format!(" {cas}")))), "{round} cas");
            }
            6 => {
                let got = client.delete(key.as_bytes()).unwrap();
                assert_eq!(got, ask(format!("delete {key}\r\n").as_bytes()) == b"DELETED\r\n");
            }
            7 => {
                let by = chance.next() >> chance.below(64);
                let got = client.incr(key.as_bytes(), by);
                assert_eq!(got, number(&ask(format!("incr {key} {by}\r\n").as_bytes())));
            }
            8 => {
                let by = chance.next() >> chance.below(64);
                let got = client.decr(key.as_bytes(), by);
                assert_eq!(got, number(&ask(format!("decr {key} {by}\r\n").as_bytes())));
            }
            9 => {
                let got = client.touch(key.as_bytes(), exptime).unwrap();
                let asked = ask(format!("touch {key} {exptime}\r\n").as_bytes());
                assert_eq!(got, asked == b"TOUCHED\r\n");
            }
            _ => {
                let got = client.get(key.as_bytes(), &mut buffer).unwrap();
                let got = got.map(|it| (it.flags, it.cas, buffer[..it.len].to_vec()));
                assert_eq!(got, gets(&ask(format!("gets {key}\r\n").as_bytes())), "{round}");
                if let Some((_, cas, _)) = got {
                    (cas_seen, hits) = (cas, hits + 1);
                }
            }
        }
    }
    assert!(hits > 300, "{hits}");
    let (called, asked) = (service.borrow(), other);
    assert_eq!(called.engine().usage(), asked.engine().usage());
    let counts = |service: &Service<'_>| {
        let stats = service.engine().stats();
        [stats.get_hits, stats.get_misses, stats.cmd_set, stats.delete_hits, stats.touch_hits]
    };
    assert_eq!(counts(&called), counts(&asked));
}

#[test]
fn many_are_found_in_as_many_calls_as_the_window_needs() {
    let mut memory = vec![0; 1 << 20];
    let service = RefCell::new(Service::new(&mut memory, &config()).unwrap());
    let memory = words(3000);
    let mut client = client(&service, &memory);
    let keys: Vec<String> = (0..200).map(|number| format!("key-{number}")).collect();
    for (number, key) in keys.iter().enumerate().filter(|(number, _)| number % 3 != 0) {
        client.set(key.as_bytes(), &vec![b'0' + (number % 10) as u8; number], 5, 0).unwrap();
    }
    let asked: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
    let (mut buffer, mut next) = (vec![0; 300], 0);
    client
        .get_many(&asked, &mut buffer, |number, found| {
            assert_eq!(number, next);
            next += 1;
            match found {
                None => assert_eq!(number % 3, 0),
                Some((found, value)) => {
                    assert_eq!((found.flags, found.len), (5, number));
                    assert!(value.iter().all(|&byte| byte == b'0' + (number % 10) as u8));
                }
            }
        })
        .unwrap();
    assert_eq!(next, 200);
    let stats = *service.borrow().engine().stats();
    assert_eq!((stats.get_hits, stats.get_misses), (133, 67), "each is counted once");
    // One that does not fit, behind one that does.
    client.store(Operation::Set, b"long", &[b'x'; 2500], (0, 0)).unwrap();
    for _ in 0..3 {
        client.store(Operation::Append, b"long", &[b'x'; 1000], (0, 0)).unwrap();
    }
    assert_eq!(client.get(b"long", &mut vec![0; 9000]), Err(Failure::TooLarge));
    let mut found = 0;
    let got = client.get_many(&[b"key-1", b"long"], &mut buffer, |_, _| found += 1);
    assert_eq!((got, found), (Err(Failure::TooLarge), 1));
}

/// What is no key to the text protocol would forge a part of an answer.
#[test]
fn keys_are_those_of_the_text_protocol() {
    let mut memory = vec![0; 1 << 20];
    let service = RefCell::new(Service::new(&mut memory, &config()).unwrap());
    let memory = words(4096);
    let mut client = client(&service, &memory);
    for key in [&b""[..], b"a b", b"a\nb", &[b'k'; 251], b"x 0 1\r\ny"] {
        assert_eq!(client.set(key, b"v", 0, 0), Err(Failure::Key), "{key:?}");
        assert_eq!(client.get(key, &mut [0; 9]), Err(Failure::Key), "{key:?}");
        assert_eq!(client.get_many(&[key], &mut [0; 9], |_, _| ()), Err(Failure::Key), "{key:?}");
        assert_eq!(client.delete(key), Err(Failure::Key), "{key:?}");
    }
    for key in [&b"\t"[..], b"a\x01b", &[b'k'; 250], "schlüssel".as_bytes()] {
        client.set(key, b"v", 0, 0).unwrap();
        assert_eq!(client.get(key, &mut [0; 9]).unwrap().unwrap().len, 1);
    }
}

fn canary(service: &RefCell<Service<'_>>) {
    let mut service = service.borrow_mut();
    assert_eq!(ask(&mut service, b"get canary\r\n", START), b"VALUE canary 7 4\r\nbird\r\nEND\r\n");
}

/// Registers that may be anything, over pages that may be anything.
#[test]
fn no_register_leads_out_of_the_window() {
    let mut memory = vec![0xa5; 64 << 20];
    let service = RefCell::new(Service::new(&mut memory, &config()).unwrap());
    ask(&mut service.borrow_mut(), b"set canary 7 0 4\r\nbird\r\n", START);
    let memory = words(0);
    let window = Window::new(&memory).unwrap();
    let mut direct = Direct { service: &service, window, scratch: vec![0; window.bytes.len()] };
    let mut chance = Chance(3);
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..100_000 {
        for _ in 0..8 {
            let word = &memory[chance.below(memory.len())];
            word.store(chance.next() >> (8 * chance.below(8)), Relaxed);
        }
        let len = [0, 1, 16, 250, 255, chance.below(1 << 12), chance.next() as u32 as usize];
        let mut message = [0; 6].map(|_: u64| chance.next() >> chance.below(64));
        if !chance.one_in(4) {
            message[0] = chance.below(14) as u64
                | (len[chance.below(6)] as u64 & 0xff) << 8
                | (len[chance.below(7)] as u64) << 32;
        }
        let reply = direct.call(&message).unwrap();
        let reply = Reply::unpack(&reply).expect("a status");
        assert!(VALUE_AT + reply.value_len as usize <= window.bytes.len());
        seen.insert(reply.status as u8);
        if round % 256 == 0 {
            canary(&service);
        }
        if message[0] as u8 == Operation::GetMany as u8 && reply.status == Status::Done {
            let mut at = 0;
            for _ in 0..reply.number {
                let mut head = [0; FoundHead::BYTES];
                window.bytes.read(at, &mut head).unwrap();
                at = FoundHead::from_bytes(&head).end(at);
            }
            assert!(at <= window.bytes.len());
        }
    }
    assert!(seen.len() >= 7, "{seen:?}");
    canary(&service);
}

/// Another processor writes to the window all the while: what is stored is one copy of it.
#[test]
fn a_window_may_change_meanwhile() {
    // The other thread ends also if this one panics.
    struct Ends<'a>(&'a AtomicBool);
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }

    // Room for all that is stored: nothing is given up.
    let mut memory = vec![0xa5; 64 << 20];
    let service = RefCell::new(Service::new(&mut memory, &config()).unwrap());
    ask(&mut service.borrow_mut(), b"set canary 7 0 4\r\nbird\r\n", START);
    let memory = words(4096);
    let window = Window::new(&memory).unwrap();
    let mut direct = Direct { service: &service, window, scratch: vec![0; window.bytes.len()] };
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Blanks, which no key may have, and letters, over key, value and list.
            let mut chance = Chance(9);
            while !over.load(Relaxed) {
                let word = &memory[8 + chance.below(60)];
                word.store(
                    [u64::MAX / 255 * 0x20, u64::MAX / 255 * 0x61][chance.below(2)],
                    Relaxed,
                );
            }
        });
        let _ends = Ends(&over);
        let mut chance = Chance(8);
        for round in 0..100_000 {
            let request = Request {
                operation: Operation::ALL[chance.below(12)],
                key_len: 1 + chance.below(64) as u8,
                value_len: chance.below(200) as u32,
                flags: 0,
                exptime: 0,
                number: 1,
            };
            let reply = direct.call(&request.pack()).unwrap();
            assert!(Reply::unpack(&reply).is_some());
            if round % 1000 == 0 {
                canary(&service);
            }
        }
    });
    // No key got in that was a key when it was looked at and none when it was used.
    let dump = ask(&mut service.borrow_mut(), b"stats items\r\n", START);
    assert!(dump.ends_with(b"END\r\n"));
    canary(&service);
    for len in 1..=64 {
        let key = vec![b'a'; len];
        let line = [b"get ", &key[..], b"\r\n"].concat();
        let answer = ask(&mut service.borrow_mut(), &line, START);
        assert!(answer.starts_with(b"VALUE a") || answer == b"END\r\n");
    }
}

/// However large the window is, a call is short.
#[test]
fn a_call_looks_up_so_many_keys_at_most() {
    let mut memory = vec![0; 1 << 20];
    let service = RefCell::new(Service::new(&mut memory, &config()).unwrap());
    let memory = words(1 << 20);
    let window = Window::new(&memory).unwrap();
    let mut direct = Direct { service: &service, window, scratch: vec![0; window.bytes.len()] };
    let list = [1, b'k'].repeat(300_000);
    window.bytes.write(VALUE_AT, &list).unwrap();
    let request = Request {
        operation: Operation::GetMany,
        key_len: 0,
        value_len: list.len() as u32,
        flags: 0,
        exptime: 0,
        number: 0,
    };
    let reply = Reply::unpack(&direct.call(&request.pack()).unwrap()).unwrap();
    assert_eq!((reply.status, reply.number), (Status::Done, MOST_KEYS as u64));
    // A client asks for the rest.
    let keys = vec![&b"k"[..]; 1000];
    let mut asked = 0;
    client(&service, &memory)
        .get_many(&keys, &mut [], |_, found| {
            assert!(found.is_none());
            asked += 1;
        })
        .unwrap();
    assert_eq!(asked, 1000);
}
