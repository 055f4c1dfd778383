//! Whether an attribute takes code out of the guest.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::punctuated::Punctuated;
use syn::{Expr, ExprLit, Lit, Meta, MetaNameValue, Token};

/// How a crate is compiled for the guest: with which of its features.
#[derive(Clone, Debug, Default)]
pub(super) struct Config {
    /// Names of the features that are on.
    pub(super) features: BTreeSet<String>,
}

impl Config {
    /// Whether code with this attribute, given as the tokens between `#[` and `]`, is
    /// certainly not compiled for the guest.
    pub(super) fn excludes(&self, attribute: TokenStream) -> bool {
        match syn::parse2::<Meta>(attribute) {
            Ok(Meta::Path(path)) => path.is_ident("test") || path.is_ident("bench"),
            Ok(Meta::List(list)) if list.path.is_ident("cfg") => list
                .parse_args::<Meta>()
                .is_ok_and(|condition| self.holds(&condition) == Some(false)),
            _ => false,
        }
    }

    /// Whether an item that consists of these tokens is certainly not compiled for the
    /// guest, because of one of the attributes in front of it.
    pub(super) fn excludes_item(&self, item: TokenStream) -> bool {
        let mut tokens = item.into_iter();
        while let Some(TokenTree::Punct(hash)) = tokens.next()
            && hash.as_char() == '#'
        {
            match tokens.next() {
                Some(TokenTree::Group(group)) if self.excludes(group.stream()) => return true,
                Some(TokenTree::Group(_)) => {}
                _ => return false,
            }
        }
        false
    }

    /// Whether the feature is on that `pair` (`feature = "…"`) asks for.
    fn has(&self, pair: &MetaNameValue) -> bool {
        matches!(&pair.value, Expr::Lit(ExprLit { lit: Lit::Str(name), .. })
            if self.features.contains(&name.value()))
    }

    /// The value of a condition in the guest; none if it depends on names not known here.
    fn holds(&self, condition: &Meta) -> Option<bool> {
        match condition {
            Meta::Path(path) if path.is_ident("test") || path.is_ident("exo_check") => Some(false),
            Meta::Path(path) if path.is_ident("exo_guest") => Some(true),
            // That own crates have none is checked by `crates::features`.
            Meta::NameValue(pair) if pair.path.is_ident("feature") => Some(self.has(pair)),
            Meta::List(list) => {
                let inner = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
                let inner: Vec<_> = inner.ok()?.iter().map(|it| self.holds(it)).collect();
                let (yes, no) = (inner.contains(&Some(true)), inner.contains(&Some(false)));
                let unknown = inner.contains(&None);
                match list.path.get_ident()?.to_string().as_str() {
                    "not" => inner.first()?.map(|value| !value),
                    "all" if no => Some(false),
                    "any" if yes => Some(true),
                    "all" | "any" if unknown => None,
                    "all" => Some(true),
                    "any" => Some(false),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decides_three_ways() {
        let excluded = |text: &str| Config::default().excludes(text.parse().unwrap());
        for text in [
            "test",
            "cfg(test)",
            "cfg(not(exo_guest))",
            "cfg(all(test, feature = \"x\"))",
            "cfg(any(test, not(exo_guest)))",
            "cfg(any(test, exo_check))",
            "cfg(not(any(not(test), unix)))",
            "cfg(feature = \"x\")",
            "cfg(any(test, feature = \"x\"))",
            "cfg(any())",
        ] {
            assert!(excluded(text), "{text}");
        }
        for text in [
            "inline",
            "cfg(exo_guest)",
            "cfg(not(test))",
            "cfg(unix)",
            "cfg(any(test, target_os = \"x\"))",
            "cfg(not(feature = \"x\"))",
            "cfg(not(all(test, unix)))",
            "cfg(all())",
            "cfg_attr(test, derive(Debug))",
        ] {
            assert!(!excluded(text), "{text}");
        }
        let x = Config { features: BTreeSet::from(["x".to_owned()]) };
        assert!(x.excludes("cfg(not(feature = \"x\"))".parse().unwrap()));
        assert!(!x.excludes("cfg(feature = \"x\")".parse().unwrap()));
    }
}
