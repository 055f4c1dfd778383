//! `VALUE<!--SET.FIGURE-->`: a figure in a document, and its name.
//!
//! The value is what stands right before the comment, as far as it consists of letters, digits,
//! `.`, `,`, `%` and `-`. Browsers do not show the comment.

/// A figure in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marker<'a> {
    pub(super) value: &'a str,
    pub(super) name: &'a str,
    /// Where the value begins, in bytes.
    pub(super) at: usize,
}

const BEGIN: &str = "<!--";
const END: &str = "-->";

/// All figures in a text. Other comments are none: a name has a dot and no blank.
pub(super) fn markers(text: &str) -> impl Iterator<Item = Marker<'_>> {
    text.match_indices(BEGIN).filter_map(move |(end, _)| {
        let (name, _) = text.get(end + BEGIN.len()..)?.split_once(END)?;
        if !name.contains('.') || name.contains(char::is_whitespace) {
            return None;
        }
        let before = text.get(..end)?;
        let value =
            before.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || ".,%-".contains(c));
        Some(Marker { value: before.get(value.len()..)?, name, at: value.len() })
    })
}

/// The text with the values that `figure` gives by name; a name that has none keeps its own.
pub(super) fn rewrite<'f>(text: &str, figure: impl Fn(&str) -> Option<&'f str>) -> String {
    let (mut out, mut done) = (String::new(), 0);
    for Marker { value, name, at } in markers(text) {
        out.push_str(&text[done..at]);
        out.push_str(figure(name).unwrap_or(value));
        done = at + value.len();
    }
    out + &text[done..]
}

/// The text without the figures that have a name.
#[cfg(test)]
pub(super) fn without(text: &str) -> String {
    rewrite(text, |_| Some(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "| GET | **1,980<!--get.1-->** | (met<!--p.a/b.met-->) 5<!-- a note. --> |";

    #[test]
    fn values_stand_before_their_names() {
        let found: Vec<_> = markers(TEXT).map(|marker| (marker.value, marker.name)).collect();
        assert_eq!(found, [("1,980", "get.1"), ("met", "p.a/b.met")]);
    }

    #[test]
    fn a_new_value_takes_the_place_of_the_old() {
        let new = rewrite(TEXT, |name| (name == "get.1").then_some("2,001"));
        assert_eq!(new, TEXT.replace("1,980", "2,001"));
        assert_eq!(rewrite(TEXT, |_| None), TEXT);
        assert_eq!(rewrite("9<!--a.b", |_| Some("8")), "9<!--a.b", "no end, no name");
    }
}
