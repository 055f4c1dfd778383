//! Which key a request is about, so that requests for it can go to one worker.

use kvstore::protocol::{Frame, Input, Request};

/// The first key that a UDP payload names. `None` if it is to get no answer, is no request,
/// or is about no key (`stats`, `flush_all`).
///
/// A datagram may name several keys. One has to do: it only says which worker's processor
/// has its part of the store at hand, and any worker gives the right answer.
#[must_use]
pub fn first_key(datagram: &[u8]) -> Option<&[u8]> {
    Frame::parse(datagram)?;
    let mut input = Input::new(datagram, Frame::LEN);
    let key = match input.request().ok()? {
        Request::Get { .. } => input.key()?.ok()?,
        Request::Store { key, .. }
        | Request::Delete { key, .. }
        | Request::Change { key, .. }
        | Request::Touch { key, .. } => key,
        // Any worker will do: the keys of meta commands may be in base64.
        Request::MetaGet(_)
        | Request::MetaSet { .. }
        | Request::MetaDelete(_)
        | Request::MetaArithmetic { .. }
        | Request::MetaDebug(_)
        | Request::MetaNoop
        | Request::FlushAll { .. }
        | Request::Stats(_)
        | Request::Verbosity { .. }
        | Request::Version
        | Request::Shutdown { .. }
        | Request::Quit => return None,
    };
    Some(key.bytes())
}

#[cfg(test)]
mod tests {
    use super::first_key;

    #[test]
    fn the_first_key_is_found_in_every_command_that_has_one() {
        for (text, key) in [
            ("get a\r\n", Some("a")),
            ("gets  ab c\r\n", Some("ab")),
            ("gat 5 abc\r\n", Some("abc")),
            ("set k 0 0 1\r\nx\r\nget z\r\n", Some("k")),
            ("cas k 0 0 1 7\r\nx\r\n", Some("k")),
            ("append k 0 0 100\r\n", Some("k")),
            ("delete k\r\n", Some("k")),
            ("incr n 5\r\n", Some("n")),
            ("touch k 5\r\n", Some("k")),
            ("stats\r\n", None),
            ("flush_all\r\n", None),
            ("version\r\n", None),
            ("quit\r\n", None),
            ("get\r\n", None),
            ("get a", None),
            ("no such\r\n", None),
            ("", None),
        ] {
            let datagram = [&[0, 1, 0, 0, 0, 1, 0, 0], text.as_bytes()].concat();
            assert_eq!(first_key(&datagram), key.map(str::as_bytes), "{text:?}");
            // Part of a request in several datagrams.
            assert_eq!(first_key(&[&[0, 1, 0, 0, 0, 2, 0, 0], text.as_bytes()].concat()), None);
        }
    }
}
