//! What must hold of packet filters, whatever bytes say.
//!
//! A target is a function of bytes that does what they say with filters, and panics if
//! something does not hold. The programs of this package hand them to libFuzzer, which
//! looks for bytes that reach new code of `dpf`; what it found is in `corpus/`, and the
//! tests go through that without libFuzzer. `cargo exo filter fuzz` is the front door.
//!
//! | target | bytes are | what must hold |
//! |---|---|---|
//! | [`wire`] | a filter, as steps or as the kernel takes it, then edits of frames | its meaning is that of the steps as written; canonical form, wire form, predicate, mirror and text agree with it |
//! | [`history`] | filters to install and remove, and frames | merged filters, as code and interpreted, agree with the list of them; comparisons of filters agree with frames |
//! | [`text`] | an expression | an error that can be shown, or a filter with an explanation that means the same |
//!
//! With `DPF_FUZZ_SHOW` in the environment, what the bytes say is printed before it is
//! done.

#[allow(dead_code, reason = "shared with tests that print code")]
#[path = "../../run/tests/common/decode.rs"]
mod decode;
mod history;
mod input;
mod meaning;
#[path = "../../run/tests/common/pieces.rs"]
mod pieces;
mod text;
mod wire;

pub use history::history;
pub use text::text;
pub use wire::wire;

/// A function of bytes that panics if something does not hold.
pub type Target = fn(&[u8]);

/// All of them by name, which is that of the program and the directory of the corpus.
pub const TARGETS: [(&str, Target); 3] = [("wire", wire), ("history", history), ("text", text)];

/// Prints what is about to be done, for a person that looks at one input.
fn show(what: impl FnOnce() -> String) {
    static SHOWN: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    if *SHOWN.get_or_init(|| std::env::var_os("DPF_FUZZ_SHOW").is_some()) {
        eprintln!("{}", what());
    }
}
