//! What comes before the first request where there are users: a `set` of any key, whose value is a
//! user and a password.

use super::{ANSWER, Conversation, MAX_LINE, Next, Speaks, State, put};
use crate::protocol::{Input, Reply, login};
use crate::service::Service;
use crate::users::MOST_NAME;

/// No user and password are longer, with what is between them.
const MOST: usize = 2 * MOST_NAME + 1;

const UNAUTHENTICATED: &[u8] = b"CLIENT_ERROR unauthenticated\r\n";
const NO_END: &[u8] = b"CLIENT_ERROR bad command line termination\r\n";
const NO_TOKEN: &[u8] = b"CLIENT_ERROR bad authentication token format\r\n";
const FAILURE: &[u8] = b"CLIENT_ERROR authentication failure\r\n";

impl Conversation {
    /// Reads the line before a user and a password; any other is refused.
    pub(super) fn log_in(&mut self, input: &mut Input<'_>, output: &mut Reply<'_>) -> Option<Next> {
        if input.line_len().is_none() {
            let is_long = input.rest().len() > MAX_LINE;
            return Some(if is_long { Next::Close } else { Next::Input });
        }
        if output.room() < ANSWER {
            return Some(Next::Room);
        }
        match login(input) {
            None => put(output, UNAUTHENTICATED),
            // It is not waited for: memcached waits, without an end if it never has the room.
            Some(len) if len > MOST => {
                put(output, FAILURE);
                Some(Next::Close)
            }
            Some(len) => {
                self.state = State::Login(len);
                None
            }
        }
    }

    /// Reads a user and a password of `len` bytes.
    pub(super) fn check(
        &mut self,
        len: usize,
        service: &mut Service<'_>,
        input: &mut Input<'_>,
        output: &mut Reply<'_>,
    ) -> Option<Next> {
        self.state = State::Login(len);
        let Some(text) = input.rest().get(..len + 2) else { return Some(Next::Input) };
        if output.room() < ANSWER {
            return Some(Next::Room);
        }
        self.state = State::Idle;
        input.skip(len + 2);
        let Some(text) = text.strip_suffix(b"\r\n") else { return put(output, NO_END) };
        let mut words = text.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
        let (Some(user), Some(password)) = (words.next(), words.next()) else {
            return put(output, NO_TOKEN);
        };
        if !service.admit(user, password) {
            return put(output, FAILURE);
        }
        self.speaks = Speaks::Text;
        put(output, b"STORED\r\n")
    }
}
