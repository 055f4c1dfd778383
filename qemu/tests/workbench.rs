//! What `cargo exo new` makes, outside of this tree: it passes the lints and its own tests, and
//! runs. (What it makes in `apps/` is the tutorial's, `tutorial.rs`.)

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{exo, succeeds};
use exo_cmd::prerequisites::QEMU;
use exo_cmd::workspace;

/// What is made, and what it says when it runs; nothing if it serves and does not end.
const KINDS: [(&str, Option<&str>); 10] = [
    ("app", Some("own-app: ")),
    ("scheduler", Some("own-scheduler: slices: [")),
    ("heap", Some("own-heap: 10000 words, 38890 letters")),
    ("frames", Some("own-frames: 262144 bytes in ")),
    ("pair", Some("consumer: the numbers add up to 2")),
    ("protected", Some("own-protected: 10 tickets of 100, 999990 are left")),
    ("revocation", Some("own-revocation: 16 frames were given, 0 had to be taken")),
    ("pager", Some("own-pager: sum 1835008: ")),
    ("service", None),
    ("stack", None),
];

/// Those of them that run as processes of the host, too, and end. (`app`, and one that serves, are in
/// `seeing.rs`.)
const HOSTED: [&str; 3] = ["heap", "frames", "pair"];

/// A package of `kind` that was just made.
fn fresh(kind: &str, name: &str) -> PathBuf {
    let folder = workspace::target_dir().join("workbench").join(name);
    let _ = fs::remove_dir_all(&folder);
    succeeds(&exo(&["new", kind, name, "--path", folder.to_str().unwrap()]).output().unwrap());
    folder
}

fn passes_its_tests(folder: &Path) {
    let mut command = workspace::cargo();
    command.arg("test").arg("--manifest-path").arg(folder.join("Cargo.toml"));
    let said = succeeds(&command.output().unwrap());
    let is_app = folder.ends_with("own-app");
    assert_eq!(said.contains("test result: ok. 0 passed"), is_app, "{said}");
}

/// Each has figures, and of those that the library has, too, each has a ratio.
fn is_measured(kind: &str, path: &str) {
    let mut arguments = vec!["measure", "--app", path, "--samples", "20"];
    let is_in_stock = !["app", "service", "pair", "protected", "revocation"].contains(&kind);
    if is_in_stock {
        arguments.extend(["--against", "stock"]);
    }
    let said = succeeds(&exo(&arguments).output().unwrap());
    let rows =
        |first: &str| said.lines().filter(|line| line.starts_with(first)).collect::<Vec<_>>();
    let figures = match kind {
        "app" => ("take a page frame", 1),
        "service" => ("answer 64 bytes", 1),
        "pair" => ("hand over a number", 1),
        "scheduler" => ("policy: ", 3),
        "protected" => ("take a ticket", 1),
        "revocation" => ("16 frames", 1),
        "heap" => ("heap: ", 2),
        "pager" => ("pager: ", 3),
        "stack" => ("udp: ", 3),
        _ => ("frames: ", 4),
    };
    let rows = rows(figures.0);
    assert_eq!(rows.len(), figures.1, "{said}");
    // None of it is done in less: what says so was left out by the compiler.
    let least = match kind {
        "app" => 200,
        "service" => 20,
        _ => 5,
    };
    let columns = if is_in_stock { 9 } else { 4 };
    for row in rows {
        let numbers = row
            .split_whitespace()
            .rev()
            .map_while(|word| word.replace(',', "").parse::<f64>().ok());
        let numbers: Vec<_> = numbers.collect();
        assert!(numbers.len() >= columns, "{said}");
        let median = numbers[columns - 1];
        assert!(median >= f64::from(least), "{median} instructions: {said}");
    }
}

#[test]
fn every_kind_is_clean_conforms_and_runs() {
    for (kind, says) in KINDS {
        let folder = fresh(kind, &format!("own-{kind}"));
        let path = folder.to_str().unwrap();
        succeeds(&exo(&["lint", "--app", path]).output().unwrap());
        passes_its_tests(&folder);
        if QEMU.find().is_none() {
            continue;
        }
        is_measured(kind, path);
        if HOSTED.contains(&kind) {
            let said = succeeds(&exo(&["run", "--hosted", "--app", path]).output().unwrap());
            assert!(said.contains(says.unwrap_or_default()), "{said}");
        }
        let Some(says) = says else { continue };
        let said = succeeds(&exo(&["run", "--app", path, "--accel", "tcg"]).output().unwrap());
        assert!(said.contains(says), "{said}");
        assert!(said.contains(&format!("root: own-{kind} ended: exit code 0")), "{said}");
    }
}

#[test]
fn a_program_of_the_tree_is_not_replaced() {
    let folder = fresh("app", "two-programs");
    let package = folder.join("Cargo.toml");
    let text = fs::read_to_string(&package).unwrap();
    fs::write(&package, text + "\n[[bin]]\nname = \"echo\"\npath = \"src/main.rs\"\n").unwrap();
    let output = exo(&["build", "--app", folder.to_str().unwrap()]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("\"echo\", too"), "{errors}");
}
