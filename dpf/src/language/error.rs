//! What errors say to people. The kernel passes on numbers of its own.

use crate::mirror::NoMirror;
use crate::trie::TrieError;

/// Has a field-less enum say these texts.
macro_rules! texts {
    ($name:ident: $($variant:ident => $text:literal,)*) => {
        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $text,)*
                })
            }
        }

        impl core::error::Error for $name {}
    };
}

/// Defines one; the text of a variant is also its documentation.
macro_rules! errors {
    ($(#[$about:meta])* pub enum $name:ident { $($variant:ident = $number:literal: $text:literal,)* }) => {
        $(#[$about])*
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $(#[doc = $text] $variant = $number,)*
        }

        $crate::language::error::texts!($name: $($variant => $text,)*);
    };
}

pub(crate) use {errors, texts};

texts! { TrieError:
    Duplicate => "a filter that takes the same frames is already installed",
    NotInstalled => "the filter is not installed with this block",
    TooManyForks => "frames would have to try more tests at one place than they may",
}

texts! { NoMirror:
    Ethertype => "key does not pin the ethertype to IPv4 or ARP",
    Format => "key pins ports but admits IPv4 options or fragments, or ARP other than IPv4 over Ethernet",
    Protocol => "key pins what is behind the IPv4 header, but not the protocol",
    Address => "key does not pin the local protocol address",
    NotASource => "local address is this-network, loopback, multicast or reserved",
    Station => "key listens for another Ethernet address than the station's",
}
