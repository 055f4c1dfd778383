//! Where in a manifest's text a rule is broken.
//!
//! [`Manifest::check`](super::Manifest::check) knows applications and fields and no text, because
//! root applies it to bytes. Here its error finds its line again.

use std::fmt::{Display, Write};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{ManifestError, Part};

/// `error` with the line of `text` that it is about, as errors of TOML have it: number, line, and
/// marks below the key. The error alone if it is about no line.
pub(super) fn explain(error: &ManifestError, text: &str) -> String {
    beside(error, &error.part, error.field, text)
}

/// The same for any problem of that part's field.
pub(super) fn beside(problem: &impl Display, part: &Part, field: &str, text: &str) -> String {
    let place = place(part, field, text);
    place.map_or_else(|| problem.to_string(), |place| shown(problem, text, place))
}

/// The key of that name; if it is missing, the head of the part. What is wrong with all
/// applications together is shown at the last.
fn place(part: &Part, field: &str, text: &str) -> Option<Range<usize>> {
    let file = DeTable::parse(text).ok()?.into_inner();
    let (parts, name) = match part {
        Part::Machine => return key(&file, field).or_else(|| last_of(&file, field)),
        Part::App(name) => ("app", name),
        Part::Share(name) => ("share", name),
    };
    let (_, all) = file.iter().find(|(key, _)| key.get_ref() == parts)?;
    let part = all.get_ref().as_array()?.iter().rev().find(|part| named(part, name))?;
    key(part.get_ref().as_table()?, field).or_else(|| Some(part.span()))
}

/// The key of the last application that has it.
fn last_of(file: &DeTable<'_>, name: &str) -> Option<Range<usize>> {
    let (_, all) = file.iter().find(|(key, _)| key.get_ref() == "app")?;
    let apps = all.get_ref().as_array()?.iter().rev();
    { apps }.find_map(|app| key(app.get_ref().as_table()?, name))
}

fn named(part: &Spanned<DeValue<'_>>, name: &str) -> bool {
    let table = part.get_ref().as_table();
    let value = table.and_then(|table| table.iter().find(|(key, _)| key.get_ref() == "name"));
    value.is_some_and(|(_, value)| value.get_ref().as_str() == Some(name))
}

fn key(table: &DeTable<'_>, name: &str) -> Option<Range<usize>> {
    table.iter().find(|(key, _)| key.get_ref() == name).map(|(key, _)| key.span())
}

fn shown(error: &impl Display, text: &str, place: Range<usize>) -> String {
    let before = &text[..place.start];
    let number = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = text[start..].lines().next().unwrap_or_default();
    let column = before[start..].chars().count();
    let length = text[place.start..place.end.min(start + line.len())].chars().count().max(1);
    let (gutter, marks) = (" ".repeat(number.to_string().len()), "^".repeat(length));
    let mut shown = String::new();
    let _ = write!(
        shown,
        "{error}, at line {number}, column {}\n{gutter} |\n{number} | {line}\n{gutter} | {}{marks}",
        column + 1,
        " ".repeat(column)
    );
    shown
}

#[cfg(test)]
mod tests {
    use crate::manifest;

    const HEAD: &str = "gateway = \"10.0.2.2\"\nprefix_len = 24\n\n";

    #[track_caller]
    fn error(text: &str) -> String {
        format!("{:#}", manifest::parse(text).unwrap_err())
    }

    #[test]
    fn a_broken_rule_is_shown_where_it_is() {
        let first = "[[app]]\nname = \"a\"\nframes = 1\nslots = 1\n\n";
        let second = "[[app]]\nname = \"b\"\nframes = 1\n  slots = 0\n";
        let text = error(&format!("{HEAD}{first}{second}"));
        let marked = "application \"b\": slots: must be at least 1, at line 12, column 3\n   |\n\
                      12 |   slots = 0\n   |   ^^^^^";
        assert!(text.ends_with(marked), "{text}");
    }

    #[test]
    fn what_all_have_together_is_shown_at_the_last() {
        let app = |name| format!("[[app]]\nname = \"{name}\"\nframes = 1\nslots = 33\n");
        let text = error(&(app("a") + &app("b")));
        assert!(text.contains("than a processor's 64, at line 8, column 1"), "{text}");
    }

    #[test]
    fn a_missing_gateway_is_shown_at_the_address_that_needs_it() {
        let text = error(
            "[[app]]\nname = \"a\"\nframes = 1\nslots = 1\ngrants = [\"net\"]\naddress = \"10.0.2.15\"\n",
        );
        assert!(text.contains("\"a\" has an address, at line 6, column 1"), "{text}");
    }

    #[test]
    fn the_second_of_two_that_clash_is_shown() {
        let app = "[[app]]\nname = \"a\"\nframes = 1\nslots = 1\n";
        let text = error(&format!("{app}{app}"));
        assert!(text.contains("is used twice, at line 6, column 1\n"), "{text}");
    }

    #[test]
    fn what_is_missing_is_missed_in_its_table() {
        let text = error(&format!(
            "{HEAD}[[app]]\nname = \"a\"\nframes = 1\nslots = 1\ngrants = [\"net\"]\n"
        ));
        assert!(text.contains("address: is missing, but net is granted, at line 4"), "{text}");
        assert!(text.contains("\n4 | [[app]]\n"), "{text}");
    }

    #[test]
    fn a_share_is_shown() {
        let text = error(
            "[[app]]\nname = \"a\"\nframes = 1\nslots = 1\n\n[[share]]\nname = \"s\"\npages = 1\n\
             apps = [\"a\", \"b\"]\n",
        );
        let marked =
            "share \"s\": apps: names an application that there is not, at line 9, column 1";
        assert!(text.contains(marked), "{text}");
    }

    #[test]
    fn a_key_at_the_top_is_shown() {
        let text = error(
            "gateway = \"10.0.2.2\"\nprefix_len = 31\n[[app]]\nname = \"a\"\nframes = 1\n\
             slots = 1\ngrants = [\"net\"]\naddress = \"10.0.2.15\"\n",
        );
        assert!(text.contains("prefix_len: must be 1 to 30 bits, at line 2, column 1"), "{text}");
    }
}
