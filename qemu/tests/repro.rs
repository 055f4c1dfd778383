//! `cargo exo repro`, as one calls it; and docs/artifact.md, which says what to call.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn exo(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exo"));
    command.args(arguments).env("RUST_BACKTRACE", "0").output().unwrap()
}

fn stdout(arguments: &[&str]) -> String {
    let output = exo(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The experiments by name, with their minutes.
fn list() -> Vec<(String, u64)> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("list.json");
    let text = stdout(&["repro", "list", "--json", path.to_str().unwrap()]);
    let list: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let entry = |entry: &Value| {
        (entry["name"].as_str().unwrap().to_owned(), entry["minutes"].as_u64().unwrap())
    };
    let list: Vec<_> = list.as_array().unwrap().iter().map(entry).collect();
    for (name, _) in &list {
        assert!(text.lines().any(|line| line.trim_start().starts_with(name)), "{name}: {text}");
    }
    list
}

/// The rows of the claims' table: number, command, minutes.
fn claims() -> Vec<(String, Vec<String>, u64)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/artifact.md");
    let text = std::fs::read_to_string(path).unwrap();
    let row = |line: &str| {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [number, claim, command, minutes, expected] = cells[..] else { panic!("{line}") };
        assert!(!claim.is_empty() && expected.bytes().any(|byte| byte.is_ascii_digit()), "{line}");
        let command = command.trim_matches('`').strip_prefix("cargo exo ").unwrap();
        let words = command.split(' ').map(ToOwned::to_owned).collect();
        (number.to_owned(), words, minutes.parse().unwrap())
    };
    text.lines().filter(|line| line.starts_with("| C")).map(row).collect()
}

#[test]
fn the_list_is_what_one_gets_without_a_name() {
    assert_eq!(stdout(&["repro"]), stdout(&["repro", "list"]));
    assert!(list().len() >= 10);
}

#[test]
fn every_experiment_tells_what_is_published() {
    for (name, _) in list() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.json");
        let text = stdout(&["repro", &name, "--published", "--json", path.to_str().unwrap()]);
        for part in [&format!("{name}: "), "published: ", "What differs: ", "Left out: "] {
            assert!(text.contains(part), "{name}, {part}: {text}");
        }
        let json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!((&json["name"], &json["measured"]), (&name.into(), &Value::Null));
        assert!(!json["published"].as_array().unwrap().is_empty());
    }
}

#[test]
fn an_unknown_experiment_is_refused_with_the_known_ones() {
    let output = exo(&["repro", "unbuckle-9.9"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("unbuckle-4.2") && text.contains("aegis"), "{text}");
}

#[test]
fn the_artifact_claims_all_that_can_be_repeated_and_nothing_else() {
    let (list, claims) = (list(), claims());
    let mut claimed = BTreeSet::new();
    for (index, (number, command, minutes)) in claims.iter().enumerate() {
        assert_eq!(*number, format!("C{}", index + 1));
        let words: Vec<_> = command.iter().map(String::as_str).collect();
        stdout(&[&words[..], &["--help"]].concat());
        if let ["repro", name] = words[..] {
            let (_, listed) = list.iter().find(|(other, _)| other == name).expect(name);
            assert_eq!(listed, minutes, "{name}");
            stdout(&["repro", name, "--published"]);
            claimed.insert(name);
        }
    }
    let all: BTreeSet<_> = list.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(claimed, all);
}
