//! What goes out piece by piece: long values, and statistics.

use super::{Conversation, Keys, Next, State};
use crate::protocol::{Reply, Rest, StatsKind};
use crate::service::Service;
use crate::service::stats::{Form, ROW};

/// Statistics, of which some rows are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    pub(super) kind: StatsKind,
    pub(super) row: u16,
    pub(super) form: Form,
}

impl Conversation {
    /// Writes of an item what there is room for.
    pub(super) fn send(
        &mut self,
        mut rest: Rest,
        then: Option<Keys>,
        service: &mut Service<'_>,
        output: &mut Reply<'_>,
    ) -> Option<Next> {
        let left = (rest.end - rest.at) as usize;
        let len = left.min(output.room());
        let (at, held) = (rest.at as usize, service.engine().held(&rest.held));
        let put = output.put(held.get(at..at + len).unwrap_or_default());
        debug_assert!(put.is_ok(), "no more than there is room for");
        rest.at += len as u32;
        if len < left {
            self.state = State::Send(rest, then);
            return Some(Next::Room);
        }
        service.release(rest.held);
        if let Some(keys) = then {
            self.state = State::Keys(keys);
        }
        None
    }

    /// Writes as many rows of statistics as there is room for.
    pub(super) fn rows(
        &mut self,
        mut rows: Rows,
        service: &mut Service<'_>,
        output: &mut Reply<'_>,
    ) -> Option<Next> {
        loop {
            if output.room() < 2 * ROW {
                self.state = State::Rows(rows);
                return Some(Next::Room);
            }
            match service.put_stat(rows.kind, rows.row, rows.form, output) {
                Ok(true) => rows.row += 1,
                Ok(false) | Err(_) => break,
            }
        }
        let put = rows.form.end(output);
        debug_assert!(put.is_ok(), "room was left");
        None
    }
}
