//! What looks like an answer, and so gets none.
//!
//! Place on the packet path: step 5, before anything is carried out. A datagram whose source
//! is forged makes a store answer another, and that one answer the answer, if only with
//! `ERROR`: for ever. So over UDP nothing is said to what begins like a reply of memcached:
//! no request does. That the datagram's port is not one of those which always answer is the
//! stack's business (`libos::net::answerers`).

/// First words of replies of the text protocol (`protocol.txt`), meta commands included
/// (the two-letter ones).
const REPLIES: [&[u8]; 32] = [
    b"BADCLASS",
    b"BUSY",
    b"CLIENT_ERROR",
    b"DELETED",
    b"EN",
    b"END",
    b"ERROR",
    b"EX",
    b"EXISTS",
    b"HD",
    b"ITEM",
    b"ME",
    b"MN",
    b"NF",
    b"NOSPARE",
    b"NOTFULL",
    b"NOT_FOUND",
    b"NOT_STORED",
    b"NS",
    b"OK",
    b"OK_STORED",
    b"PREFIX",
    b"RESET",
    b"SAME",
    b"SERVER_ERROR",
    b"STAT",
    b"STORED",
    b"TOUCHED",
    b"UNSAFE",
    b"VA",
    b"VALUE",
    b"VERSION",
];

/// First byte of a response of the binary protocol.
const BINARY_RESPONSE: u8 = 0x81;

/// Whether `text`, what follows a datagram's frame, begins like a reply: with a word that
/// only replies begin with, with such a word behind numbers, or with nothing but these (the
/// answer to `incr`), or as a binary response.
///
/// **Cost** one comparison for what begins with a small letter, as requests do.
#[must_use]
#[inline]
pub fn is_reply(text: &[u8]) -> bool {
    match text.first() {
        Some(&BINARY_RESPONSE) => true,
        Some(b'A'..=b'Z' | b'0'..=b'9') => begins_like_a_reply(text),
        _ => false,
    }
}

#[cold]
#[inline(never)]
fn begins_like_a_reply(text: &[u8]) -> bool {
    // Numbers may come before something else.
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // Blanks may follow: `decr` of memcached leaves the value's old length.
        if !line.trim_ascii_end().iter().all(u8::is_ascii_digit) {
            let word = line.split(|byte| *byte == b' ').next().unwrap_or_default();
            return REPLIES.contains(&word);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::{REPLIES, is_reply};
    use std::vec::Vec;

    #[test]
    fn replies_are_recognised() {
        for word in REPLIES {
            for rest in [b"" as &[u8], b"\r\n", b"\n", b" x 0 1\r\nget a\r\n", b" \r\nEND\r\n"] {
                assert!(is_reply(&[word, rest].concat()), "{word:?} {rest:?}");
            }
        }
        for reply in [b"17\r\n" as &[u8], b"0\r\nERROR\r\n", b"9  \r\n", b"\x81\x0a\0\0", b"\x81"] {
            assert!(is_reply(reply), "{reply:?}");
        }
    }

    #[test]
    fn requests_and_nonsense_are_none() {
        let requests = [
            "get VALUE",
            "set END 0 0 3\r\nEND",
            "ma x",
            "mn",
            "me k",
            "version",
            "ERRORS",
            "Value x",
            "STAT\tx",
            "GET k",
            "POST / HTTP/1.1",
            "17 18",
            "-1",
            "1x",
            "end",
            " END",
            "\r",
            "",
            "\u{80}",
        ];
        for request in requests {
            assert!(!is_reply(request.as_bytes()), "{request:?}");
            let line: Vec<u8> = [request.as_bytes(), b"\r\n"].concat();
            assert!(!is_reply(&line), "{request:?}");
        }
        // A request of the binary protocol is not understood, and told so.
        assert!(!is_reply(b"\x80\x0a\0\0"));
    }
}
