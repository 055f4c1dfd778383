//! Expressions.

use dpf::Filter;
use dpf_text::{explain, parse};

/// An expression, as far as the bytes are text.
///
/// # Panics
/// If something does not hold.
pub fn text(bytes: &[u8]) {
    let valid = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    match parse(valid) {
        Ok(filter) => explanation(&filter),
        Err(error) => {
            let (line, column) = error.line_and_column();
            assert!(line >= 1 && column >= 1 && error.to_string().contains('^'), "{error}");
            assert!(valid.get(error.place()).is_some(), "{error}");
        }
    }
}

/// A filter can be explained; and if it has no ranges over odd fields, and no shifts but
/// that of the IPv4 header, the explanation means the filter.
pub(crate) fn explanation(filter: &Filter) {
    let text = explain(filter).to_string();
    // The language of expressions cannot say these.
    let unsaid = ["base", ":3]", ":5]", ":6]", ":7]"].into_iter().any(|odd| text.contains(odd));
    match parse(&text) {
        Ok(again) => assert_eq!(again, *filter, "{text}"),
        // Windows are fewer than the fields they are explained by.
        Err(error) => assert!(unsaid || error.to_string().contains("more than 12"), "{error}"),
    }
}
