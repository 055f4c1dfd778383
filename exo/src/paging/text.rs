//! Machine code of environments that take part in protection keys ([`crate::keys`]).
//!
//! There, pages can be executed only if their frames are [`FrameKind::Text`], which no
//! environment can write. They become that by being looked through ([`admit`]): `wrpkru` stands in
//! them only as part of a gate. Where two such pages meet, that is looked at when they are
//! mapped ([`seams_hold`]). A gate that opens a key is admitted only for the holder of the key.

use exo_abi::{
    CLOSED, EnvId, Error, FRAME_BYTES, FrameKind, GATE_BYTES, KEYS, Pfn, VirtAddr, gate, opened,
};

use super::translate;
use crate::frames::FrameTable;
use crate::memory;

/// What looking through a frame costs.
pub const ADMIT: u32 = 30_000;

type Page = [u8; FRAME_BYTES as usize];

pub(crate) const WRPKRU: [u8; 3] = [0x0f, 0x01, 0xef];

/// What is in a frame of admitted code, or of memory that could become such.
fn code(frames: &FrameTable, frame: Pfn) -> Option<&'static Page> {
    let still = frames.kind(frame) == Some(FrameKind::Text) || frames.is_quiet_memory(frame);
    // SAFETY: a frame that is nothing but bytes, and that nothing writes: no page table has it
    // writable, no device has it, and the kernel writes neither kind while this is looked at.
    still.then(|| unsafe { &*memory::frame(frame).cast() })
}

/// Makes `frame` of `owner` code; `opens` says for which keys it may have gates.
///
/// # Errors
/// As [`FrameTable::check_donation`]; [`Error::NoRight`] for code that is not admitted.
pub fn admit(
    frames: &FrameTable,
    owner: EnvId,
    frame: Pfn,
    opens: impl Fn(u32) -> bool,
) -> Result<(), Error> {
    frames.check_donation(frame, owner)?;
    if !code(frames, frame).is_some_and(|code| is_harmless(code, opens)) {
        return Err(Error::NoRight);
    }
    frames.make_code(frame, FrameKind::Text);
    Ok(())
}

/// Whether every `wrpkru` in `code`, at whatever byte it begins, is that of a gate which closes
/// all keys, or opens one as `opens` allows.
pub(crate) fn is_harmless(code: &[u8], opens: impl Fn(u32) -> bool) -> bool {
    let last = |at: &usize| code[*at] == WRPKRU[2] && code[..=*at].ends_with(&WRPKRU);
    let is_gate = |at: usize| {
        let form: Option<&[u8; GATE_BYTES]> = code.get(at..).and_then(|rest| rest.first_chunk());
        form.is_some_and(|form| {
            let rights = u32::from_le_bytes([form[4], form[5], form[6], form[7]]);
            let key = ((rights ^ CLOSED).trailing_zeros() / 2).min(KEYS - 1);
            let may = rights == CLOSED || rights == opened(key) && opens(key);
            may && *form == gate(rights)
        })
    };
    (2..code.len()).filter(last).all(|at| is_gate(at - 2))
}

/// Whether there is no `wrpkru` half in the code `frame`, mapped at `page`, and half on a page beside.
pub fn seams_hold(frames: &FrameTable, root: Pfn, page: VirtAddr, frame: Pfn) -> bool {
    let beside =
        |address: u64| code(frames, translate(frames, root, VirtAddr::new(address)?, false)?);
    let holds = |before: Option<&Page>, after: Option<&Page>| {
        let (Some([.., a, b]), Some([c, d, ..])) = (before, after) else { return true };
        ![[*a, *b, *c], [*b, *c, *d]].contains(&WRPKRU)
    };
    let (own, at) = (code(frames, frame), page.get());
    holds(beside(at.wrapping_sub(FRAME_BYTES)), own) && holds(own, beside(at + FRAME_BYTES))
}
