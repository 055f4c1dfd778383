//! How the errors of this crate are written down: number, name and text once.

/// Defines a field-less error enum; the text of a variant is also its documentation.
macro_rules! errors {
    ($(#[$about:meta])* pub enum $name:ident { $($variant:ident = $number:literal: $text:literal,)* }) => {
        $(#[$about])*
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $(#[doc = $text] $variant = $number,)*
        }

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

pub(crate) use errors;
