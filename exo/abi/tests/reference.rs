//! `docs/abi.md` is the system-call table in print. This test fails when the two
//! differ; `BLESS=1 cargo test -p exo-abi` writes the file anew.

use std::fmt::Write as _;

use exo_abi::{ABI_VERSION, Error, SYSCALLS};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/abi.md");

fn reference() -> String {
    let mut text = format!(
        "# System calls (ABI version {ABI_VERSION})\n\n\
         Made from the table in `exo/abi/src/syscall.rs`; a test keeps the two equal\n\
         (`BLESS=1 cargo test -p exo-abi` rewrites this file). A library OS calls them as\n\
         `libos::sys::NAME`.\n\n\
         Number in `rax`, arguments in `rdi rsi rdx r10 r8 r9`, instruction `syscall`. On\n\
         return `rax` is zero or an error and `rdx` the value; `rbx rbp rsp r12-r15` are\n\
         preserved, `rcx r11` are the processor's, all other general and vector registers\n\
         come back zero. Every call is bounded; `again` means: call again to go on.\n\n"
    );
    for entry in SYSCALLS {
        let arguments: Vec<_> =
            entry.arguments.iter().map(|(name, kind)| format!("{name}: {kind}")).collect();
        let _ = writeln!(
            text,
            "## {} `{}({})`\n\n{}",
            entry.number,
            entry.name,
            arguments.join(", "),
            entry.doc.lines().map(str::trim).collect::<Vec<_>>().join("\n").trim()
        );
        text.push('\n');
    }
    text.push_str("## Errors\n\n| number | name |\n|---|---|\n");
    for error in Error::ALL {
        let _ = writeln!(text, "| {} | {error} |", error.code());
    }
    text
}

#[test]
fn printed_reference_is_the_table() {
    let expected = reference().replace("[`", "`").replace("`]", "`");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(PATH, &expected).expect("docs/ can be written");
    }
    let printed = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(printed == expected, "docs/abi.md is out of date: BLESS=1 cargo test -p exo-abi");
}
