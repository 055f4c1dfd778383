//! Counts one source file, token by token.

use std::collections::BTreeSet;
use std::ops::{AddAssign, Range};

use proc_macro2::{Delimiter, Group, Literal, Span, TokenStream, TokenTree};
use quote::ToTokens;
use serde::Serialize;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::cfg::Config;

/// What is in a source file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Lines that carry code.
    pub lines: usize,
    /// Uses of `unsafe`.
    pub unsafety: Unsafe,
    /// Files named in `include!` and its relatives, relative to this one.
    pub(super) includes: Vec<String>,
}

/// Uses of the keyword `unsafe`, by what it stands before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unsafe {
    /// `unsafe { … }`
    pub blocks: usize,
    /// `unsafe fn name`, but not the type of such a function
    pub functions: usize,
    /// `unsafe impl`
    pub impls: usize,
    /// `unsafe trait`
    pub traits: usize,
    /// `unsafe extern "C" { … }`
    pub externs: usize,
    /// `#[unsafe(…)]`
    pub attributes: usize,
}

impl AddAssign for Unsafe {
    fn add_assign(&mut self, other: Self) {
        self.blocks += other.blocks;
        self.functions += other.functions;
        self.impls += other.impls;
        self.traits += other.traits;
        self.externs += other.externs;
        self.attributes += other.attributes;
    }
}

/// Counts the guest's code in `source`, which has been parsed as `file`.
pub(super) fn count(source: &str, file: &syn::File, config: &Config) -> syn::Result<Count> {
    if file.attrs.iter().any(|attribute| config.excludes(attribute.meta.to_token_stream())) {
        return Ok(Count::default());
    }
    let mut counter = Counter {
        source: source.lines().collect(),
        excluded: excluded(file, config),
        lines: BTreeSet::new(),
        found: Count::default(),
    };
    counter.tokens(source.parse()?, false);
    Ok(Count { lines: counter.lines.len(), ..counter.found })
}

/// The byte ranges of `file` that are not compiled for the guest.
pub(super) fn excluded(file: &syn::File, config: &Config) -> Vec<Range<usize>> {
    let mut exclusions = Exclusions { config, ranges: Vec::new() };
    exclusions.visit_file(file);
    exclusions.ranges
}

/// Counts the code lines of an assembly file.
pub(super) fn assembly_lines(text: &str) -> usize {
    without_block_comments(text).lines().filter(|line| is_assembly(line)).count()
}

/// Counts the code lines of a linker script.
pub(super) fn script_lines(text: &str) -> usize {
    without_block_comments(text).lines().filter(|line| !line.trim().is_empty()).count()
}

/// The byte ranges of what is not compiled for the guest.
struct Exclusions<'a> {
    config: &'a Config,
    ranges: Vec<Range<usize>>,
}

impl Exclusions<'_> {
    /// Notes the node if it is excluded; true if it has to be looked into.
    fn keeps(&mut self, node: &(impl ToTokens + Spanned)) -> bool {
        let tokens = node.to_token_stream();
        let excluded = self.config.excludes_item(tokens.clone());
        if excluded {
            let mut spans = tokens.into_iter().map(|token| token.span().byte_range());
            let first = spans.next().unwrap_or_default();
            let last = spans.last().unwrap_or(first.clone());
            self.ranges.push(first.start..last.end);
        }
        !excluded
    }
}

/// Every kind of node that may carry a `cfg`.
macro_rules! visit_unless_excluded {
    ($($method:ident($node:ty)),* $(,)?) => {
        impl<'ast> Visit<'ast> for Exclusions<'_> {
            $(fn $method(&mut self, node: &'ast $node) {
                if self.keeps(node) {
                    visit::$method(self, node);
                }
            })*
        }
    };
}

visit_unless_excluded! {
    visit_item(syn::Item),
    visit_impl_item(syn::ImplItem),
    visit_trait_item(syn::TraitItem),
    visit_foreign_item(syn::ForeignItem),
    visit_field(syn::Field),
    visit_field_value(syn::FieldValue),
    visit_variant(syn::Variant),
    visit_arm(syn::Arm),
    visit_stmt(syn::Stmt),
}

struct Counter<'a> {
    source: Vec<&'a str>,
    excluded: Vec<Range<usize>>,
    lines: BTreeSet<usize>,
    found: Count,
}

impl Counter<'_> {
    fn tokens(&mut self, stream: TokenStream, in_assembly: bool) {
        let tokens: Vec<_> = stream.into_iter().collect();
        let mut rest = &tokens[..];
        while let Some((token, after)) = rest.split_first() {
            rest = after;
            if self.is_excluded(token.span()) {
                // The comma behind a field is not part of the field.
                if let [TokenTree::Punct(comma), after @ ..] = rest
                    && comma.as_char() == ','
                {
                    rest = after;
                }
                continue;
            }
            if let Some(after) = documentation(token, rest) {
                rest = after;
                continue;
            }
            match token {
                TokenTree::Ident(name) => {
                    self.lines.insert(name.span().start().line);
                    let name = name.to_string();
                    if name == "unsafe" {
                        self.unsafety(rest);
                    } else if let [TokenTree::Punct(bang), TokenTree::Group(arguments), after @ ..] =
                        rest
                        && bang.as_char() == '!'
                    {
                        self.macro_call(&name, arguments, in_assembly);
                        rest = after;
                    }
                }
                TokenTree::Group(group) => self.group(group, in_assembly),
                TokenTree::Literal(literal) => self.literal(literal, in_assembly),
                TokenTree::Punct(punct) => {
                    self.lines.insert(punct.span().start().line);
                }
            }
        }
    }

    fn group(&mut self, group: &Group, in_assembly: bool) {
        if group.delimiter() != Delimiter::None {
            self.lines.insert(group.span_open().start().line);
            self.lines.insert(group.span_close().start().line);
        }
        self.tokens(group.stream(), in_assembly);
    }

    fn macro_call(&mut self, name: &str, arguments: &Group, in_assembly: bool) {
        if matches!(name, "include" | "include_str" | "include_bytes") {
            let file = syn::parse2::<syn::LitStr>(arguments.stream());
            self.found.includes.extend(file.map(|file| file.value()));
        }
        let assembles = matches!(name, "asm" | "naked_asm" | "global_asm");
        self.group(arguments, in_assembly || assembles);
    }

    /// A string may span lines; the blank ones in it are no code.
    fn literal(&mut self, literal: &Literal, in_assembly: bool) {
        let (first, last) = (literal.span().start().line, literal.span().end().line);
        for number in first..=last {
            let line = self.source.get(number - 1).copied().unwrap_or_default();
            let inside = number != first && number != last;
            let code = match in_assembly && inside {
                true => is_assembly(line),
                false => !line.trim().is_empty(),
            };
            if code {
                self.lines.insert(number);
            }
        }
    }

    /// Looks at what follows the keyword.
    fn unsafety(&mut self, rest: &[TokenTree]) {
        let kinds = &mut self.found.unsafety;
        let word = |index: usize| match rest.get(index) {
            Some(TokenTree::Ident(word)) => word.to_string(),
            _ => String::new(),
        };
        let skip = match (word(0).as_str(), rest.get(1)) {
            ("extern", Some(TokenTree::Literal(_))) => 2,
            ("extern", _) => 1,
            _ => 0,
        };
        match (word(skip).as_str(), rest.get(skip)) {
            ("fn", _) if !word(skip + 1).is_empty() => kinds.functions += 1,
            ("impl", _) => kinds.impls += 1,
            ("trait", _) => kinds.traits += 1,
            (_, Some(TokenTree::Group(group))) => match group.delimiter() {
                Delimiter::Brace if skip > 0 => kinds.externs += 1,
                Delimiter::Brace => kinds.blocks += 1,
                _ => kinds.attributes += 1,
            },
            _ => {}
        }
    }

    fn is_excluded(&self, span: Span) -> bool {
        let start = span.byte_range().start;
        self.excluded.iter().any(|range| range.contains(&start))
    }
}

/// What follows, if `token` and the next ones are a comment that documents: to the
/// lexer, `/// text` is `#[doc = "text"]`.
fn documentation<'a>(token: &TokenTree, rest: &'a [TokenTree]) -> Option<&'a [TokenTree]> {
    let is = |token: &TokenTree, c| matches!(token, TokenTree::Punct(it) if it.as_char() == c);
    let rest = match rest {
        _ if !is(token, '#') => return None,
        [bang, after @ ..] if is(bang, '!') => after,
        _ => rest,
    };
    let (TokenTree::Group(group), after) = rest.split_first()? else { return None };
    let first = group.stream().into_iter().next();
    let documents = matches!(first, Some(TokenTree::Ident(name)) if name == "doc");
    documents.then_some(after)
}

/// Whether a line of assembly is neither blank nor a comment.
fn is_assembly(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !["//", "#", ";"].iter().any(|comment| line.starts_with(comment))
}

/// `text` without `/* … */`, but with its line breaks.
fn without_block_comments(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((code, comment)) = rest.split_once("/*") {
        let (comment, after) = comment.split_once("*/").unwrap_or((comment, ""));
        kept.push_str(code);
        kept.extend(comment.chars().filter(|&c| c == '\n'));
        rest = after;
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count_text(source: &str) -> Count {
        count(source, &syn::parse_file(source).unwrap(), &Config::default()).unwrap()
    }

    #[test]
    fn counts_lines_that_carry_code() {
        let source = r#"
//! Essay.
#![no_std]                              // 1

/* a comment
   of two lines */
use core::fmt; // with a remark         // 2

/// Documented.
#[doc = "twice"]
#[inline]                               // 3
fn f(                                   // 4
    a: u8, /* here */                   // 5

) -> u8 {                               // 6
    //! no
    // no
    let url = "http://x"; /* no */      // 7
    a                                   // 8
}                                       // 9

macro_rules! m {                        // 10
    ($(/* no */ $x:ident)*) => {        // 11
        /// no
        fn g() {}                       // 12
    };                                  // 13
}                                       // 14
"#;
        assert_eq!(count_text(source).lines, 14);
    }

    #[test]
    fn leaves_out_what_the_guest_does_not_have() {
        let source = r#"
#[cfg(test)]
mod tests {
    fn f() {}
}
#[cfg(not(exo_guest))]
fn main() {
}
#[cfg(test)] mod more;
#[test]
fn alone() {}
struct S {                              // 1
    #[cfg(test)]
    a: u8,
    b: u8,                              // 2
}                                       // 3
impl S {                                // 4
    #[inline]
    #[cfg(all(test, unix))]
    fn f() { unsafe { } }
}                                       // 5
fn g(x: u8) {                           // 6
    #[cfg(test)]
    g(1);
    match x {                           // 7
        #[cfg(test)]
        0 => unsafe { g(0) },
        _ => {}                         // 8
    }                                   // 9
}                                       // 10
#[cfg(exo_guest)]                       // 11
fn h() {}                               // 12
"#;
        // `#[inline]` before an excluded function goes with it.
        assert_eq!(count_text(source).lines, 12);
        assert_eq!(count_text(source).unsafety, Unsafe::default());
        assert_eq!(count_text("#![cfg(test)]\nfn f() {}\n"), Count::default());
    }

    #[test]
    fn counts_assembly_in_strings() {
        let source = r##"
global_asm!(                            // 1
    r#"
    .globl start                       

    // no
    # no
start:
    jmp start                          
    "#,                                
    options(raw)                        // 7
);                                      // 8
const TEXT: &str = "a

    // of a string
";
"##;
        // 2 r#", 3 .globl, 4 start:, 5 jmp, 6 "#; the string: 9, 10, 11.
        assert_eq!(count_text(source).lines, 11);
    }

    #[test]
    fn tells_kinds_of_unsafe_apart() {
        let source = r#"
unsafe fn a() { unsafe { b() } }
pub(crate) unsafe extern "C" fn b() {}
unsafe impl Send for X {}
unsafe trait T {}
unsafe extern "C" { fn c(); }
#[unsafe(no_mangle)]
fn d(f: unsafe fn(u8), g: unsafe extern "C" fn()) { let x = "unsafe { }"; }
macro_rules! m { () => { unsafe { a() } } }
// unsafe { }
"#;
        let expected =
            Unsafe { blocks: 2, functions: 2, impls: 1, traits: 1, externs: 1, attributes: 1 };
        assert_eq!(count_text(source).unsafety, expected);
    }

    #[test]
    fn notes_included_files() {
        let source =
            r#"global_asm!(include_str!("entry.S")); const B: &[u8] = include_bytes!("b");"#;
        assert_eq!(count_text(source).includes, ["entry.S", "b"]);
    }

    #[test]
    fn counts_scripts_and_assembly_files() {
        let script = "/* one\n two */\nENTRY(start)\n\nSECTIONS { /* x */\n}\n";
        assert_eq!(script_lines(script), 3);
        assert_eq!(assembly_lines("# no\n\n  nop // yes\n/* no */\n// no\nhlt\n"), 2);
    }
}
