//! A service of lines.

use libos::net::Endpoint;
use libos::net::stream::{Next, Progress, StreamService};

pub(crate) struct Lines;

/// Bytes that are still to be sent for a `send`.
#[derive(Default)]
pub(crate) struct State(usize);

impl StreamService for Lines {
    type Connection = State;

    fn open(&mut self, _: Endpoint) -> Option<State> {
        Some(State::default())
    }

    fn serve(&mut self, state: &mut State, input: &[u8], output: &mut [u8]) -> Progress {
        let (mut consumed, mut produced) = (0, 0);
        loop {
            let count = state.0.min(output.len() - produced);
            output[produced..produced + count].fill(b'x');
            (state.0, produced) = (state.0 - count, produced + count);
            if state.0 > 0 {
                return Progress { consumed, produced, next: Next::Room };
            }
            let rest = &input[consumed..];
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                return Progress { consumed, produced, next: Next::Input };
            };
            let line = std::str::from_utf8(&rest[..end]).unwrap_or_default();
            if let Some(text) = line.strip_prefix("echo ") {
                if output.len() - produced <= text.len() {
                    return Progress { consumed, produced, next: Next::Room };
                }
                output[produced..produced + text.len()].copy_from_slice(text.as_bytes());
                output[produced + text.len()] = b'\n';
                produced += text.len() + 1;
            } else if let Some(count) = line.strip_prefix("send ") {
                state.0 = count.parse().unwrap_or(0);
            } else if line == "close" {
                return Progress { consumed: consumed + end + 1, produced, next: Next::Close };
            }
            consumed += end + 1;
        }
    }
}
