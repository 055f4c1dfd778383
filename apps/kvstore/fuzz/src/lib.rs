//! What must hold of the store, whatever comes over a connection or in datagrams.
//!
//! A target is a function of bytes that panics if something does not hold. The programs of this package
//! hand them to libFuzzer, which looks for bytes that reach new code of the store's parsers; what it
//! found is in `corpus/`, and the tests go through that without libFuzzer.
//!
//! | target | bytes are | what must hold |
//! |---|---|---|
//! | [`stream`] | how a connection is cut, and what comes over it | answers do not depend on the cuts, nor on the room for them |
//! | [`datagrams`] | datagrams of a few sources, whole requests and parts | an answer is numbered, of bounded length, with the sum of its bytes; the store answers on |
//!
//! To look for more, with the instrumentation that packet filters have (a C++ compiler is needed):
//!
//! ```text
//! export RUSTC_WORKSPACE_WRAPPER=$PWD/dpf/fuzz/instrument DPF_FUZZ_COMPARES=1
//! cargo run --profile fuzz --target-dir target/fuzz/kvstore -p kvstore-fuzz --features libfuzzer \
//!     --bin stream -- -dict=apps/kvstore/fuzz/protocol.dict NEW apps/kvstore/fuzz/corpus/stream
//! ```
//!
//! What is new goes to the directory `NEW`, which is to be there; `-merge=1` with the corpus before it
//! keeps as few inputs as do the same.

mod datagrams;
mod stream;

pub use datagrams::datagrams;
pub use stream::stream;

use kvstore::{Config, Service, Time};

/// A function of bytes that panics if something does not hold.
pub type Target = fn(&[u8]);

/// All of them by name, which is that of the program and the directory of the corpus.
pub const TARGETS: [(&str, Target); 2] = [("stream", stream), ("datagrams", datagrams)];

/// When all of it happens.
const START: Time = Time { unix: 1_700_000_000, uptime: 100 };

/// A small store that is always the same.
fn with_service<T>(test: impl FnOnce(&mut Service<'_>) -> T) -> T {
    let mut memory = vec![0; 512 << 10];
    let config =
        Config { page_size: 16 << 10, max_item: 32 << 10, seed: [1, 2], ..Config::default() };
    test(&mut Service::new(&mut memory, &config).expect("memory enough"))
}
