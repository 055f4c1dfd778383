//! Comments, documents and messages say which environment, owner, caller, kernel, core, device
//! or packet does something: no sentence leaves that open.
//!
//! Read are comments and string literals of Rust, comments of TOML, and documents. What stands
//! between backticks, in a block of code or in a quotation is not prose of ours, and neither is
//! an identifier.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};

/// Words that leave the subject open.
const WORDS: [&str; 11] = [
    "who",
    "whom",
    "whoever",
    "whomever",
    "somebody",
    "someone",
    "nobody",
    "anybody",
    "anyone",
    "everybody",
    "everyone",
];

/// It is said of things as well, but is not wanted in the parts of the tree that do without.
const WHOSE: &str = "whose";

/// Those that do not, yet.
const WITH_WHOSE: [&str; 8] = [
    "apps/kvstore",
    "apps/kvstore-linux",
    "apps/kvstore-module",
    "apps/kvstore-xdp",
    "bench",
    "libos",
    "qemu/src",
    "qemu/tests",
];

/// Not read: what is not ours, what is made by a build, this file, the history.
const SKIPPED: [&str; 4] = [".git", "target", "CHANGELOG.md", "qemu/tests/prose.rs"];

#[test]
fn sentences_name_their_subject() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("below the tree");
    let mut files = Vec::new();
    list(root, root, &mut files);
    assert!(files.len() > 300, "only {} files were found", files.len());
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("readable, in UTF-8");
        let name = file.strip_prefix(root).expect("below the tree");
        let whose = !WITH_WHOSE.iter().any(|part| name.starts_with(part));
        if vague(&text, whose).next().is_none() {
            continue;
        }
        let extension = file.extension().and_then(|extension| extension.to_str());
        let prose = match extension {
            Some("rs") => of_rust(&text),
            Some("md") => of_document(&text),
            _ => of_toml(&text),
        };
        let name = name.display();
        found.extend(vague(&prose, whose).map(|(line, word)| format!("{name}:{line}: {word}")));
    }
    assert!(found.is_empty(), "name the environment, owner, caller … here:\n{}", found.join("\n"));
}

#[test]
fn prose_is_told_from_code() {
    let lines = |prose: String| vague(&prose, true).map(|(line, _)| line).collect::<Vec<_>>();
    let rust = "//! Who.\nlet nobody = \"to nobody's\"; // whom\nlet a = who(b'w', 'x'); /* Whose */\n\
                /// For `someone`.\nfn whose() {}\nlet s = r#\"anyone\"#;\n#[doc = \"everyone\"]\n";
    assert_eq!(lines(of_rust(rust)), [1, 2, 2, 3, 6, 7]);
    let document = "Somebody\n`who`\n> whom\n\n```\nwhose\n```\nwho's\nwholly\n";
    assert_eq!(lines(of_document(document)), [1, 8]);
    assert_eq!(lines(of_toml("who = 1 # for whom\n# nobody\n")), [1, 2]);
}

/// Files below `folder` that are read.
fn list(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("readable").path();
        let name = path.strip_prefix(root).expect("below the tree");
        if SKIPPED.iter().any(|skipped| name == Path::new(skipped)) {
            continue;
        }
        let kind = path.symlink_metadata().expect("there").file_type();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if kind.is_dir() {
            list(root, &path, files);
        } else if kind.is_file() && matches!(extension, Some("rs" | "md" | "toml")) {
            files.push(path);
        }
    }
}

/// The lines with a word that names nothing, and the word.
fn vague(prose: &str, whose: bool) -> impl Iterator<Item = (usize, String)> {
    (1..).zip(prose.lines()).flat_map(move |(number, line)| {
        line.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'))
            .map(str::to_lowercase)
            .filter(|word| WORDS.contains(&word.as_str()) || whose && word == WHOSE)
            .map(move |word| (number, word))
            .collect::<Vec<_>>()
    })
}

/// Comments and string literals; everything else is blank, lines stay where they are.
fn of_rust(source: &str) -> String {
    let mut code = Vec::new();
    identifiers(source.parse().expect("tokens of Rust"), source, &mut code);
    without_backticks(&blanked(source, &code))
}

/// Where the identifiers of `tokens` are in `source`, which they were made from.
fn identifiers(tokens: TokenStream, source: &str, places: &mut Vec<Range<usize>>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => identifiers(group.stream(), source, places),
            // A documentation comment has one as well, which spans the whole comment.
            TokenTree::Ident(name) => {
                let place = name.span().byte_range();
                if name == source[place.clone()] {
                    places.push(place);
                }
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

fn of_document(text: &str) -> String {
    let mut fenced = false;
    let lines = text.lines().map(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        if fence || fenced || line.trim_start().starts_with('>') { "" } else { line }
    });
    without_backticks(&lines.collect::<Vec<_>>().join("\n"))
}

fn of_toml(text: &str) -> String {
    let lines = text.lines().map(|line| line.split_once('#').map_or("", |(_, comment)| comment));
    without_backticks(&lines.collect::<Vec<_>>().join("\n"))
}

/// Blanks what stands between two backticks of a line.
fn without_backticks(prose: &str) -> String {
    let lines = prose.lines().map(|line| line.split('`').step_by(2).collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n")
}

fn blanked(source: &str, places: &[Range<usize>]) -> String {
    let mut bytes = source.as_bytes().to_vec();
    places.iter().for_each(|place| bytes[place.clone()].fill(b' '));
    String::from_utf8(bytes).expect("identifiers were cut whole")
}
