//! What two filters have to do with each other, decided exactly.
//!
//! For people and tests: `cargo exo filter explain` says whether two filters share a packet
//! and shows one. The kernel does not ask: which packets are an environment's is said by
//! [`Key`](crate::Key)s, which are compared in a few instructions.

mod cases;
mod overlap;
mod satisfy;
mod witness;

pub use overlap::{implies, overlap};
pub use witness::witness;

use crate::filter::Filter;
use crate::language::FilterError;

/// Whether some packet matches `filter`, and what it does in each case of its shifts can be
/// compared. The others are refused where filters are written, and do no harm elsewhere.
///
/// # Errors
/// [`FilterError::Contradiction`] if no packet matches; what else is wrong in some case.
pub fn sound(filter: &Filter) -> Result<(), FilterError> {
    let mut is_empty = true;
    for digits in filter.assignments() {
        match filter.case(digits) {
            Ok(_) => is_empty = false,
            Err(FilterError::Contradiction) => {}
            Err(error) => return Err(error),
        }
    }
    if is_empty { Err(FilterError::Contradiction) } else { Ok(()) }
}
