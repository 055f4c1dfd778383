//! Bytes of one connection.

use kvstore::stream::{Conversation, MIN_INPUT, MIN_OUTPUT, Next};
use kvstore::users::Users;

use crate::{START, with_service};

/// A longer line closes a connection on which its end has not come.
const LINE: usize = 2000;

/// The first byte says how long the pieces are, and whether users have to log in.
pub fn stream(bytes: &[u8]) {
    let Some((&how, text)) = bytes.split_first() else { return };
    let (piece, has_users) = (usize::from(how >> 1) + 1, how & 1 == 1);
    let whole = converse(text, text.len().max(1), 1 << 20, has_users);
    let cut = converse(text, piece, MIN_OUTPUT, has_users);
    let is_short = text.split(|&byte| byte == b'\n').all(|line| line.len() < LINE);
    // How many bytes were counted depends on the cuts.
    if is_short && !contains(&whole.0, b"bytes_read") && !contains(&cut.0, b"bytes_read") {
        assert!(whole == cut, "cut in pieces of {piece}, the answers differ");
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|part| part == word)
}

/// What is answered to `text` in pieces, with so much room for answers; and whether it is closed.
fn converse(text: &[u8], piece: usize, room: usize, has_users: bool) -> (Vec<u8>, bool) {
    with_service(|service| {
        if has_users {
            service.require(Users::new(b"a:b", b',').expect("a user"));
        }
        let mut conversation = Conversation::new();
        let (mut input, mut answer, mut output) = (Vec::new(), Vec::new(), vec![0; room]);
        let mut closed = false;
        for part in text.chunks(piece) {
            input.extend_from_slice(part);
            loop {
                let progress = conversation.serve(service, START, &input, &mut output);
                input.drain(..progress.consumed);
                answer.extend_from_slice(&output[..progress.produced]);
                match progress.next {
                    Next::Input => {
                        assert!(input.len() < MIN_INPUT, "it waits for what never comes");
                        break;
                    }
                    Next::Room => assert!(progress.produced > 0 || progress.consumed > 0),
                    Next::Close => {
                        closed = true;
                        break;
                    }
                }
            }
            if closed {
                break;
            }
        }
        conversation.end(service);
        (answer, closed)
    })
}
