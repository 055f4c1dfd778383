//! The texts of errors, as they are printed.

use dpf_text::parse;

fn error(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

/// Text, and what is printed. The first line of each is the text.
const GOLDEN: &str = include_str!("errors.txt");

/// `UPDATE=1 cargo test -p dpf-text --test errors` writes the file anew.
#[test]
fn texts_are_as_agreed() {
    let mut printed = String::new();
    for block in GOLDEN.split("\n\n").filter(|block| !block.trim().is_empty()) {
        let text = block.lines().next().unwrap_or_default();
        printed += &format!("{text}\n{}\n\n", error(text.trim_matches('"')));
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/errors.txt"), &printed)
            .expect("the source tree can be written to");
    }
    assert_eq!(printed, GOLDEN);
}

#[test]
fn columns_are_characters_of_the_line() {
    let error = parse("ip\n\tand é").expect_err("unknown character");
    assert_eq!(error.line_and_column(), (2, 6));
    assert_eq!(error.to_string(), "column 6: `é` is not understood here\n  |  and é\n  |      ^");
}
