//! The documentation as a book: the pages of the tree, in the order of `docs/SUMMARY.md`, for mdBook.
//!
//! The pages stay what they are, with links that lead somewhere in the tree. mdBook wants all
//! it reads below one folder, so they are copied to one, and with them the files that they link to.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The order of the pages.
const SUMMARY: &str = "docs/SUMMARY.md";
/// What mdBook is told.
const SETTINGS: &str = "[book]\ntitle = \"Exo\"\nlanguage = \"en\"\n\n[output.html]\n\
                        smart-punctuation = false\n";

/// Writes what mdBook reads for the tree at `root` to the folder `book`, which is emptied.
pub(crate) fn write(root: &Path, book: &Path) -> Result<()> {
    let summary = read(root, Path::new(SUMMARY))?;
    let pages = pages(&summary);
    if book.exists() {
        fs::remove_dir_all(book).with_context(|| format!("cannot empty {}", book.display()))?;
    }
    let put = |path: &Path, text: &[u8]| -> Result<()> {
        let path = book.join("src").join(path);
        fs::create_dir_all(path.parent().context("no folder")?)?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    // Which begins where the tree begins, not in docs/.
    let order = with_links(&summary, |link| Some(shown(&resolved(Path::new(SUMMARY), link)?)));
    put(Path::new("SUMMARY.md"), order.as_bytes())?;
    fs::write(book.join("book.toml"), SETTINGS)?;
    let mut files = BTreeSet::new();
    for page in &pages {
        let text = read(root, page)?;
        let linked = with_links(&text, |link| {
            let path = resolved(page, link)?;
            let readme = path.join("README.md");
            if pages.contains(&path) {
                return Some(link.to_owned());
            }
            if pages.contains(&readme) {
                return Some(format!("{}/README.md", link.trim_end_matches('/')));
            }
            // A folder cannot be shown, a file can.
            root.join(&path).is_file().then(|| {
                files.insert(path);
                link.to_owned()
            })
        });
        put(page, linked.as_bytes())?;
    }
    for file in files {
        put(&file, &fs::read(root.join(&file))?)?;
    }
    Ok(())
}

fn read(root: &Path, page: &Path) -> Result<String> {
    fs::read_to_string(root.join(page)).with_context(|| format!("cannot read {}", page.display()))
}

/// The pages that the summary names, as paths in the tree.
fn pages(summary: &str) -> BTreeSet<PathBuf> {
    links(summary).into_iter().filter_map(|link| resolved(Path::new(SUMMARY), link)).collect()
}

/// Where in the tree a link of a page leads; nowhere if it leads out of it, or to the page itself.
fn resolved(page: &Path, link: &str) -> Option<PathBuf> {
    let (path, _) = link.split_once('#').unwrap_or((link, ""));
    if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
        return None;
    }
    let mut whole = PathBuf::new();
    for part in page.parent()?.join(path).components() {
        match part {
            Component::ParentDir => _ = whole.pop(),
            Component::Normal(name) => whole.push(name),
            _ => {}
        }
    }
    Some(whole)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Parts of a page: text between links, and what is between the brackets of a link's target.
fn parts(text: &str) -> Vec<(&str, Option<&str>)> {
    let (mut parts, mut rest, mut fenced) = (Vec::new(), text, false);
    let mut start = 0;
    while let Some(at) = rest.get(start..).and_then(|rest| rest.find("](")).map(|at| start + at) {
        // No link in a block of code.
        let before = &rest[..at];
        let fences = before.matches("\n```").count();
        let end = rest[at + 2..].find([')', '\n']).map_or(rest.len(), |end| at + 2 + end);
        let is_link = rest[end..].starts_with(')') && (fences % 2 == 0) != fenced;
        if is_link {
            fenced ^= fences % 2 == 1;
            parts.push((&rest[..at + 2], Some(&rest[at + 2..end])));
            rest = &rest[end..];
            start = 0;
        } else {
            start = at + 2;
        }
    }
    parts.push((rest, None));
    parts
}

/// The targets of a page's links.
fn links(text: &str) -> Vec<&str> {
    parts(text).into_iter().filter_map(|(_, link)| link).collect()
}

/// The page with other targets. A link within the tree that gets none becomes its own text.
fn with_links(text: &str, mut target: impl FnMut(&str) -> Option<String>) -> String {
    let mut page = String::new();
    for (before, link) in parts(text) {
        page += before;
        let Some(link) = link else { continue };
        let is_elsewhere = link.starts_with('#') || link.contains("://");
        let found = if is_elsewhere { Some(link.to_owned()) } else { target(link) };
        // A link to nothing leads to the page's own top.
        page += &found.unwrap_or_else(|| "#".to_owned());
    }
    page
}

/// The names by which a page's headings are linked to.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
    headings
        .map(|line| line.trim_start_matches('#').trim().to_lowercase())
        .map(|title| title.chars().filter(kept).collect::<String>().replace(' ', "-"))
        .collect()
}

/// Fails if a link of the book leads nowhere, or a page of the tree is not in it.
pub(crate) fn check(root: &Path) -> Result<()> {
    let pages = pages(&read(root, Path::new(SUMMARY))?);
    let mut all = vec![PathBuf::from("docs")];
    while let Some(path) = all.pop() {
        if root.join(&path).is_dir() {
            for entry in fs::read_dir(root.join(&path))? {
                all.push(path.join(entry?.file_name()));
            }
        } else if path.extension().is_some_and(|it| it == "md") {
            let is_order = path == Path::new(SUMMARY) || path == Path::new("docs/README.md");
            ensure!(is_order || pages.contains(&path), "{SUMMARY} lacks {}", path.display());
        }
    }
    for page in &pages {
        let text = read(root, page)?;
        for link in links(&text) {
            let target = resolved(page, link);
            if target.is_none() && !link.starts_with('#') {
                continue;
            }
            let target = target.unwrap_or_else(|| page.clone());
            let there = root.join(&target);
            ensure!(there.exists(), "{}: ({link}) leads nowhere", page.display());
            if let (Some((_, name)), true) = (link.split_once('#'), there.is_file()) {
                let names = anchors(&fs::read_to_string(there)?);
                ensure!(names.contains(name), "{}: ({link}) has no such heading", page.display());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn every_page_is_in_the_book_and_every_link_leads_somewhere() {
        check(workspace::root()).unwrap();
    }

    /// Each block of code of that page is in one of the files that `cargo exo new` writes, or in the file it
    /// names.
    #[test]
    fn worked_examples_are_what_is_built() {
        let root = workspace::root();
        let text = read(root, Path::new("docs/libos/worked.md")).unwrap();
        let mut sources = fs::read_to_string(root.join("apps/libostest/src/children.rs")).unwrap();
        let templates = root.join("qemu/src/scaffold/templates");
        for kind in fs::read_dir(templates).unwrap().map(|kind| kind.unwrap().path()) {
            for file in fs::read_dir(kind).into_iter().flatten().map(|file| file.unwrap().path()) {
                sources += &fs::read_to_string(file).unwrap();
            }
        }
        let blocks: Vec<_> = text.split("```rust\n").skip(1).collect();
        assert!(blocks.len() >= 8, "{}", blocks.len());
        for block in blocks {
            let code = block.split("```").next().unwrap();
            assert!(sources.contains(code), "nothing that is built has\n{code}");
        }
    }

    #[test]
    fn links_are_those_outside_of_code() {
        let text = "[a](b.md) x](\n```\n[c](d.md)\n```\n[e](f.md#g), [h](https://i)";
        assert_eq!(links(text), ["b.md", "f.md#g", "https://i"]);
        let page = with_links(text, |link| (link == "b.md").then(|| "z".to_owned()));
        assert!(page.starts_with("[a](z) x]("), "{page}");
        assert!(page.contains("[c](d.md)") && page.ends_with("[e](#), [h](https://i)"), "{page}");
        assert_eq!(resolved(Path::new("docs/a/b.md"), "../../c.md#d"), Some("c.md".into()));
        assert_eq!(
            anchors("# A packet's way\ntext\n## `b` c"),
            ["a-packets-way".to_owned(), "b-c".to_owned()].into()
        );
    }

    #[test]
    fn what_is_written_has_all_pages_and_the_files_they_show() {
        let folder = tempfile::tempdir().unwrap();
        let book = folder.path().join("book");
        write(workspace::root(), &book).unwrap();
        let summary = fs::read_to_string(book.join("src/SUMMARY.md")).unwrap();
        assert!(summary.contains("(README.md)") && summary.contains("(docs/libos/net.md)"));
        for page in links(&summary) {
            assert!(book.join("src").join(page).is_file(), "{page}");
        }
        let readme = fs::read_to_string(book.join("src/README.md")).unwrap();
        assert!(readme.contains("(docs/abi/README.md)"), "a folder's page");
    }
}
