//! Services for tests.

use crate::net::Endpoint;
use crate::net::stream::{Next, Progress, StreamService};

/// Sends every byte back, plus one, as far as there is room, and counts.
#[derive(Default)]
pub(in crate::net) struct Increment {
    pub(in crate::net) open: usize,
    pub(in crate::net) opened: usize,
    pub(in crate::net) bytes: usize,
}

impl StreamService for Increment {
    type Connection = Endpoint;

    fn open(&mut self, from: Endpoint) -> Option<Endpoint> {
        self.open += 1;
        self.opened += 1;
        Some(from)
    }

    fn serve(&mut self, _: &mut Endpoint, input: &[u8], output: &mut [u8]) -> Progress {
        let count = input.len().min(output.len());
        for (to, from) in output.iter_mut().zip(input) {
            *to = from.wrapping_add(1);
        }
        self.bytes += count;
        let next = if count < input.len() { Next::Room } else { Next::Input };
        Progress { consumed: count, produced: count, next }
    }

    fn closed(&mut self, _: Endpoint) {
        self.open -= 1;
    }
}
