//! Enumerations with variants that travel as numbers.

/// Defines an enumeration that is `repr` of a number, and the function that reads it back:
/// `numbered! { read_by; /// Docs. pub enum Name: u8 { /// Docs. Variant = 0, } }`.
#[macro_export]
macro_rules! numbered {
    ($from:ident; $(#[$doc:meta])* pub enum $name:ident: $number:ident {
        $($(#[$about:meta])* $variant:ident = $value:literal,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr($number)]
        pub enum $name {
            $($(#[$about])* $variant = $value,)*
        }

        impl $name {
            /// The one with this number, if there is one.
            #[inline]
            pub const fn $from(number: $number) -> Option<Self> {
                match number {
                    $($value => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}
