//! What `cargo exo top` shows: counters and environments of a machine that runs, and what changed
//! since the last look.
//!
//! | file | what it is |
//! |---|---|
//! | [`sample`] | one look at the machine |
//! | [`view`] | two of them, as rows of text |
//! | [`screen`] | the rows on a terminal |

mod sample;
mod screen;
mod view;

pub(crate) use sample::Sample;
pub(crate) use screen::Screen;
pub(crate) use view::View;
