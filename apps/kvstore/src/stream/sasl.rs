//! A user and a password in the binary protocol: SASL with its mechanism PLAIN (RFC 4616), as
//! memcached has it with `-S`.
//!
//! memcached serves one protocol where there are users, and which is an option; here either begins
//! with what is usual in it.

use super::{Conversation, Speaks};
use crate::protocol::binary::{Asked, Command, Status};
use crate::protocol::{Reply, TooLarge};
use crate::service::Service;
use crate::users::MOST_NAME;

/// The mechanism.
pub(super) const MECHANISM: &[u8] = b"PLAIN";
/// No message of it is longer: a user to act as, a user and a password, with zeros between them.
pub(super) const MOST: usize = 3 * MOST_NAME + 2;

impl Conversation {
    /// Whether a command is refused because there was no login.
    pub(super) fn bars(&self, command: Command) -> bool {
        let is_open = matches!(command, Command::Mechanisms | Command::Login | Command::Version);
        self.speaks == Speaks::Barred && !is_open
    }

    /// Reads the user and the password in `message`, if it has come. A login that fails takes an earlier
    /// one back.
    pub(super) fn log_in_by_sasl(
        &mut self,
        asked: Asked,
        mechanism: &[u8],
        message: Option<&[u8]>,
        service: &mut Service<'_>,
        output: &mut Reply<'_>,
    ) -> Result<(), TooLarge> {
        let known = message.filter(|_| mechanism == MECHANISM);
        // What is no login at all is one that fails.
        let (user, password) = known.and_then(read).unwrap_or_default();
        if service.admit(user, password) {
            self.speaks = Speaks::Binary;
            asked.put(0, b"", b"", b"Authenticated", output)
        } else {
            self.speaks = Speaks::Barred;
            asked.refuse(Status::BARRED, output)
        }
    }
}

/// User and password of a message; none acts as another.
fn read(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = message.split(|&byte| byte == 0);
    let (other, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    let is_one = parts.next().is_none() && (other.is_empty() || other == user);
    is_one.then_some((user, password))
}
