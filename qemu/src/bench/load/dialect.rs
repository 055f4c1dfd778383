//! What requests and answers look like, over connections.

use super::{Verb, Workload};

/// A protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// memcached's text.
    #[default]
    Memcached,
    /// Redis's (RESP2, as its clients send it): lengths before bytes.
    Redis,
    /// That of [`Fio`](crate::linux::Fio), for an engine: as many blocks as a value has bytes.
    Fio(&'static str),
}

impl Dialect {
    /// What asks for key `number`, or stores it.
    pub(crate) fn request(self, workload: Workload, number: u32) -> Vec<u8> {
        match (self, workload.verb) {
            (Self::Memcached, _) => workload.request(number),
            (Self::Redis, Verb::Set) => {
                words(&[b"SET", &workload.key(number), &workload.value(number)])
            }
            (Self::Redis, Verb::Get | Verb::Echo) => words(&[b"GET", &workload.key(number)]),
            (Self::Fio(engine), _) => format!("{engine} {}\n", workload.value_bytes).into_bytes(),
        }
    }

    /// What must come back.
    pub(crate) fn answer(self, workload: Workload, number: u32) -> Vec<u8> {
        match (self, workload.verb) {
            (Self::Memcached, _) => workload.answer(number),
            (Self::Redis, Verb::Set) => b"+OK\r\n".to_vec(),
            (Self::Redis, Verb::Get | Verb::Echo) => bulk(&workload.value(number)),
            (Self::Fio(_), _) => b"done\n".to_vec(),
        }
    }
}

fn words(words: &[&[u8]]) -> Vec<u8> {
    let mut all = format!("*{}\r\n", words.len()).into_bytes();
    all.extend(words.iter().flat_map(|word| bulk(word)));
    all
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_is_asked_in_its_own_words() {
        let set = Workload { verb: Verb::Set, key_bytes: 4, value_bytes: 5 };
        let get = Workload { verb: Verb::Get, ..set };
        let redis = Dialect::Redis;
        let expected = b"*3\r\n$3\r\nSET\r\n$4\r\n0012\r\n$5\r\n21002\r\n";
        assert_eq!(redis.request(set, 12), expected);
        assert_eq!(redis.answer(set, 12), b"+OK\r\n");
        assert_eq!(redis.request(get, 12), b"*2\r\n$3\r\nGET\r\n$4\r\n0012\r\n");
        assert_eq!(redis.answer(get, 12), b"$5\r\n21002\r\n");
        assert_eq!(Dialect::Memcached.request(get, 12), b"get 0012\r\n");
    }
}
