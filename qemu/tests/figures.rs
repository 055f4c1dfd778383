//! What the documents state is what the commands print now, where that repeats.

use std::process::Command;

use exo_cmd::prerequisites::QEMU;

/// Lines of ring 0 exactly; instructions of GET, boot and the primitives within a few percent:
/// another compiler makes other code. No times.
#[test]
fn what_repeats_is_as_stated() {
    if QEMU.find().is_none() {
        eprintln!("skipped: {} is missing", QEMU.name);
        return;
    }
    let exo = env!("CARGO_BIN_EXE_exo");
    let output = Command::new(exo).args(["figures", "--check"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.contains("are as stated"), "{text}");
}
