//! `docs/abi/` is the system-call table in print: an index, and a page for each call.
//! This test fails when the two differ; `BLESS=1 cargo test -p exo-abi` writes the
//! pages anew.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use exo_abi::{ABI_VERSION, Entry, Error, SYSCALLS};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/abi");

/// The chapter of `docs/primitives.md` that a call belongs to.
fn chapter(name: &str) -> &'static str {
    let chapters: &[(&str, &[&str])] = &[
        ("page-frames", &["frames_", "map", "unmap", "table_"]),
        ("capabilities", &["cap_"]),
        ("processor-time", &["slots_", "slice_", "wait", "exit"]),
        ("wakeup-predicates", &["wait_until"]),
        ("protected-control-transfer", &["entry_", "transfer_"]),
        ("events-and-doorbells", &["doorbell_"]),
        ("visible-revocation", &["revoke_"]),
        ("batched-calls", &["batch"]),
        ("elevation", &["elevate", "lower"]),
        ("protection-keys", &["env_guard", "code_admit", "map_keyed"]),
        ("life-cycle", &["env_"]),
        ("network", &["net_", "filter_"]),
        ("disk-extents", &["disk_"]),
    ];
    let longest = chapters
        .iter()
        .flat_map(|(chapter, begins)| begins.iter().map(move |begin| (begin, chapter)))
        .filter(|(begin, _)| name.starts_with(**begin))
        .max_by_key(|(begin, _)| begin.len());
    longest.map_or("the-rest", |(_, chapter)| chapter)
}

fn call(entry: &Entry) -> String {
    let arguments: Vec<_> =
        entry.arguments.iter().map(|(name, kind)| format!("{name}: {kind}")).collect();
    let returns = match entry.returns {
        "()" => String::new(),
        returns => format!(" -> {returns}"),
    };
    format!("{}({}){returns}", entry.name, arguments.join(", "))
}

fn page(entry: &Entry) -> String {
    let registers = ["rdi", "rsi", "rdx", "r10", "r8", "r9"];
    let mut text = format!("# {} `{}`\n\n", entry.number, call(entry));
    text += entry.doc.lines().map(str::trim).collect::<Vec<_>>().join("\n").trim();
    text += "\n\n| register | value |\n|---|---|\n";
    let _ = writeln!(text, "| `rax` | {} |", entry.number);
    for ((name, kind), register) in entry.arguments.iter().zip(registers) {
        let _ = writeln!(text, "| `{register}` | `{name}`: `{kind}` |");
    }
    if entry.leaves {
        text += "\nMay go on elsewhere than in its caller, and so cannot be part of a batch.\n";
    }
    let _ = write!(
        text,
        "\nIdea and neighbours: [primitives](../primitives.md#{}). Convention and errors: \
         [all calls](README.md).\n",
        chapter(entry.name)
    );
    text
}

fn index() -> String {
    let mut text = format!(
        "# System calls (ABI version {ABI_VERSION})\n\n\
         Made from the table in `exo/abi/src/syscall.rs`; a test keeps the two equal\n\
         (`BLESS=1 cargo test -p exo-abi` rewrites these pages). A library OS calls them as\n\
         `libos::sys::NAME`. What they are for: [primitives](../primitives.md).\n\n\
         Number in `rax`, arguments in `rdi rsi rdx r10 r8 r9`, instruction `syscall`. On\n\
         return `rax` is zero or an error and `rdx` the value: with an error zero, unless the\n\
         call's page says what it is; `rbx rbp rsp r12-r15` are preserved, `rcx r11` are the\n\
         processor's, all other general and vector registers come back zero. Every call is\n\
         bounded; `again` means: call again to go on. If there are several reasons to refuse,\n\
         any one of them is given.\n\n\
         | number | call |\n|---|---|\n"
    );
    for entry in SYSCALLS {
        let _ = writeln!(text, "| {} | [`{}`]({1}.md) |", entry.number, entry.name);
    }
    text.push_str("\n## Errors\n\n| number | name |\n|---|---|\n");
    for error in Error::ALL {
        let _ = writeln!(text, "| {} | {error} |", error.code());
    }
    text
}

#[test]
fn printed_reference_is_the_table() {
    let folder = Path::new(FOLDER);
    let mut pages = vec![("README.md".to_owned(), index())];
    pages.extend(SYSCALLS.iter().map(|entry| (format!("{}.md", entry.name), page(entry))));
    let plain = |text: &str| text.replace("[`", "`").replace("`]", "`");
    // Links to pages are kept; those of the source are not links here.
    for (name, text) in &mut pages {
        if name != "README.md" {
            *text = plain(text);
        }
    }
    if std::env::var_os("BLESS").is_some() {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).expect("docs/ can be written");
        for (name, text) in &pages {
            fs::write(folder.join(name), text).expect("docs/ can be written");
        }
    }
    for (name, text) in &pages {
        let printed = fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(printed == *text, "docs/abi/{name} is out of date: BLESS=1 cargo test -p exo-abi");
    }
    let there = fs::read_dir(folder).expect("docs/abi").count();
    assert_eq!(there, pages.len(), "docs/abi holds pages of calls that are gone");
    let chapters = fs::read_to_string(folder.join("../primitives.md")).expect("docs/primitives.md");
    for entry in SYSCALLS {
        let heading = format!("\n## {}\n", chapter(entry.name).replace('-', " "));
        assert!(chapters.to_lowercase().contains(&heading), "{}: no chapter", entry.name);
    }
}
