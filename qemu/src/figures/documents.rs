//! The documents, and what their figures are held to.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Stated;
use super::markers::{markers, rewrite};
use crate::workspace;

/// Every document of the tree that states figures: those of the root but the changelog, and the
/// book.
fn documents() -> Result<Vec<PathBuf>> {
    let root = workspace::root();
    let mut found: Vec<_> = ["README.md", "ARCHITECTURE.md", "SPEC.md", "CAVEATS.md"]
        .map(|name| root.join(name))
        .into();
    let mut left = vec![root.join("docs")];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Writes the figures into the documents. Returns those that changed.
///
/// # Errors
/// A document names a figure that no command states; nothing is written then.
pub(crate) fn update(stated: &Stated) -> Result<Vec<PathBuf>> {
    let mut changed = Vec::new();
    for path in documents()? {
        let text = read(&path)?;
        if let Some(marker) = markers(&text).find(|marker| stated.get(marker.name).is_none()) {
            bail!("{}: no command states \"{}\"", path.display(), marker.name);
        }
        let new = rewrite(&text, |name| stated.get(name));
        if new != text {
            changed.push((path, new));
        }
    }
    for (path, new) in &changed {
        fs::write(path, new).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(changed.into_iter().map(|(path, _)| path).collect())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::super::markers::without;
    use super::*;

    #[test]
    fn documents_state_what_was_measured() {
        let stated = Stated::read().unwrap();
        let mut found = 0;
        for path in documents().unwrap() {
            for marker in markers(&read(&path).unwrap()) {
                let (name, path) = (marker.name, path.display());
                let figure = stated.get(name);
                assert!(figure.is_some(), "{path}: no command states \"{name}\"");
                assert_eq!(
                    Some(marker.value),
                    figure,
                    "{path}: {name}; run `cargo exo figures --documents`"
                );
                found += 1;
            }
        }
        assert!(found > 100, "only {found} figures");
    }

    /// A paragraph or table in which something measured has neither a name nor a day.
    fn unaccounted(text: &str) -> Vec<String> {
        let is_dated = |block: &str| block.to_lowercase().contains("taken in ");
        // A paragraph is one line, as it is meant; a table has its rows.
        let blocks: Vec<_> = text
            .split("\n\n")
            .map(|block| match block.starts_with('|') {
                true => block.to_owned(),
                false => block.split_whitespace().collect::<Vec<_>>().join(" "),
            })
            .collect();
        let mut found = Vec::new();
        for (index, block) in blocks.iter().enumerate() {
            // A table is dated by what stands right before or behind it.
            let near = index.saturating_sub(1)..(index + 2).min(blocks.len());
            let dated = match block.starts_with('|') {
                true => blocks[near].iter().any(|block| is_dated(block)),
                false => is_dated(block),
            };
            if !dated {
                found.extend(
                    block.lines().filter(|line| is_measured(&without(line))).map(Into::into),
                );
            }
        }
        found
    }

    /// Whether a line states a number of instructions, or is a row of a table with a cell that
    /// is nothing but a number; limits and goals aside.
    fn is_measured(line: &str) -> bool {
        let number = |word: &str| {
            let word = word.trim_matches(['*', '(', ')', ';', ':']);
            word.contains(|c: char| c.is_ascii_digit())
                && word.chars().all(|c| c.is_ascii_digit() || ",.".contains(c))
        };
        if line.starts_with('|') {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            // A constant of the source is none.
            let constant = |name: &str| {
                name.starts_with('`') && !name.contains(|c: char| c.is_ascii_lowercase())
            };
            return !cells.next().is_some_and(constant) && cells.any(number);
        }
        let words: Vec<_> = line.split_whitespace().collect();
        let limits = ["most", "least", "under", "below", "than", "every", "up"];
        words.iter().enumerate().any(|(index, word)| {
            let before = index.checked_sub(1).and_then(|before| words.get(before));
            let limit = before.is_some_and(|before| limits.contains(before));
            let next = words.get(index + 1).copied().unwrap_or_default();
            number(word) && !limit && next.starts_with("instructions")
        })
    }

    #[test]
    fn a_figure_without_a_name_is_found() {
        assert_eq!(unaccounted("It takes\n12\ninstructions.").len(), 1);
        assert_eq!(unaccounted("| what | it |\n|---|---|\n| a | **1,980** |").len(), 1);
        for good in [
            "It takes 12<!--get.1--> instructions, at most 2,500 instructions.",
            "| a | 1,980<!--get.1--> | at most 5 |",
            "It took 12\ninstructions (taken in\nNovember 2026).",
            "| `MAX_ATOMS` | 12 |",
            "Taken apart, taken in November 2026:\n\n| a | 12 |",
        ] {
            assert_eq!(unaccounted(good), [""; 0], "{good}");
        }
    }

    /// Every figure is printed by a command, or says when it was taken.
    #[test]
    fn every_figure_has_a_name_or_a_day() {
        for path in documents().unwrap() {
            // Numbers of system calls and errors are no figures.
            if path.parent().is_some_and(|parent| parent.ends_with("docs/abi")) {
                continue;
            }
            let found = unaccounted(&read(&path).unwrap());
            assert!(found.is_empty(), "{}:\n{}", path.display(), found.join("\n"));
        }
    }
}
