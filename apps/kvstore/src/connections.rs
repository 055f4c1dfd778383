//! Which connections are served: as many as the limit says, and to those beyond it memcached's
//! word for that.
//!
//! Place on the packet path: between a TCP stack and the [`Conversation`]s, the same in all
//! placements of the store.

use crate::service::{Service, Time};
use crate::stream::{Conversation, Next, Progress};

/// What memcached says to a client beyond its limit, before it closes.
const TOO_MANY: &[u8] = b"ERROR Too many open connections\r\n";

/// memcached's limit, unless it is told another (`-c`).
pub const DEFAULT_LIMIT: u32 = 1024;

/// Counts connections, up to a limit.
#[derive(Debug)]
pub struct Connections {
    limit: u32,
    open: u32,
}

/// A connection: one that is served, or one that is told why not.
#[derive(Debug)]
pub enum Session {
    /// Below the limit.
    Served(Conversation),
    /// Beyond it.
    Refused,
}

impl Connections {
    /// None yet, and at most `limit`.
    #[must_use]
    pub const fn new(limit: u32) -> Self {
        Self { limit, open: 0 }
    }

    /// Connections that are served now.
    #[must_use]
    pub const fn open(&self) -> u32 {
        self.open
    }

    /// A client has connected.
    pub const fn begin(&mut self) -> Session {
        if self.open >= self.limit {
            return Session::Refused;
        }
        self.open += 1;
        Session::Served(Conversation::new())
    }

    /// Its connection has ended, in whichever way.
    pub fn end(&mut self, session: Session, service: &mut Service<'_>) {
        if let Session::Served(mut conversation) = session {
            conversation.end(service);
            self.open -= 1;
        }
    }
}

impl Session {
    /// As [`Conversation::serve`]; a refused one is told so and closed.
    pub fn serve(
        &mut self,
        service: &mut Service<'_>,
        now: Time,
        input: &[u8],
        output: &mut [u8],
    ) -> Progress {
        match self {
            Self::Served(conversation) => conversation.serve(service, now, input, output),
            Self::Refused => {
                let place = output.get_mut(..TOO_MANY.len());
                let produced = place.map_or(0, |place| {
                    place.copy_from_slice(TOO_MANY);
                    TOO_MANY.len()
                });
                Progress { consumed: input.len(), produced, next: Next::Close }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::{Connections, Session, TOO_MANY};
    use crate::stream::Next;
    use crate::{Config, Service, Time};

    #[test]
    fn one_beyond_the_limit_is_told_so_and_an_end_makes_room() {
        let mut memory = vec![0; 1 << 20];
        let mut service = Service::new(&mut memory, &Config::default()).expect("enough");
        let now = Time { unix: 1_700_000_000, uptime: 0 };
        let mut connections = Connections::new(1);
        let mut output = [0; 8192];
        let mut first = connections.begin();
        let progress = first.serve(&mut service, now, b"get k\r\n", &mut output);
        assert_eq!(&output[..progress.produced], b"END\r\n");
        let mut second = connections.begin();
        assert!(matches!(second, Session::Refused));
        let progress = second.serve(&mut service, now, b"get k\r\n", &mut output);
        assert_eq!((progress.consumed, progress.next), (7, Next::Close));
        assert_eq!(&output[..progress.produced], TOO_MANY);
        connections.end(second, &mut service);
        assert_eq!(connections.open(), 1);
        connections.end(first, &mut service);
        assert!(matches!(connections.begin(), Session::Served(_)));
    }
}
