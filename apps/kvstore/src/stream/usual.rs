//! Usual requests at the front of a stream, each taken apart at once, as datagrams are.
//!
//! Whatever is not such a request, or meets no item, or has no room for its answer or its notes, is
//! left to the reading of lines, and nothing was done to it.

use crate::protocol::{Input, Reply, first_get, first_set};
use crate::service::{Service, code};

/// The longest answer to a `set`.
const ANSWER: usize = 64;

/// Carries out the one request that `input` is, if it is a usual one. Returns how much of
/// `output` is its answer.
#[inline]
pub(super) fn carry_out_one(
    service: &mut Service<'_>,
    input: &[u8],
    output: &mut [u8],
) -> Option<usize> {
    let mut output = Reply::new(output);
    if service.engine().must_commit() {
        return None;
    }
    if let Some((key, len)) = first_get(input) {
        return (len == input.len() && service.put_hit(key, &mut output)).then(|| output.len());
    }
    let (set, len) = first_set(input)?;
    if len != input.len() || output.room() < ANSWER {
        return None;
    }
    // There is room for it.
    let _ = output.put(code(service.set(&set)));
    Some(output.len())
}

/// Carries out usual requests, one after the other, until there is another.
#[inline]
pub(super) fn carry_out(service: &mut Service<'_>, input: &mut Input<'_>, output: &mut Reply<'_>) {
    while !service.engine().must_commit() {
        let rest = input.rest();
        let len = if let Some((key, len)) = first_get(rest) {
            if !service.put_hit(key, output) {
                return;
            }
            len
        } else if let Some((set, len)) = first_set(rest).filter(|_| output.room() >= ANSWER) {
            // There is room for it.
            let _ = output.put(code(service.set(&set)));
            len
        } else {
            return;
        };
        input.skip(len);
    }
}
