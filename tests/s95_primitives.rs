//! Each operation that is compared with Linux is really measured here. What the figures
//! are is not asserted, and Linux is not booted: `cargo exo bench primitives` does that.

#[test]
fn every_row_has_a_figure() {
    let unmeasured = exo_cmd::unmeasured_primitives().expect("the machine measures itself");
    assert!(unmeasured.is_empty(), "no figure for: {}", unmeasured.join("; "));
}
