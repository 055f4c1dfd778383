//! Decimal numbers in text, as memcached reads and writes them.
//!
//! memcached reads numbers with the C library (`strtoul`, `strtol`, `strtoull`).
//! What that accepts beyond plain digits is part of the behaviour clients see and
//! is kept: a sign is allowed, `-` on an unsigned number negates modulo 2^64, and a
//! number that fits 64 bits is cut to the field's 32, except where the item would then end at
//! once instead of late ([`signed_whole`]).

/// An unsigned field of 64 bits: CAS ids, deltas. `None` if the token is not a
/// number, exceeds 64 bits, or is negative.
#[inline]
pub(crate) fn unsigned(token: &[u8]) -> Option<u64> {
    let (negative, digits) = sign(token);
    let (magnitude, used) = magnitude(digits)?;
    let value = if negative { magnitude.wrapping_neg() } else { magnitude };
    (used == digits.len() && !(negative && (value as i64) < 0)).then_some(value)
}

/// A signed field: expiry times, byte counts. Cut to 32 bits.
#[inline]
pub(crate) fn signed(token: &[u8]) -> Option<i32> {
    signed_wide(token).map(|value| value as i32)
}

/// A signed field that must fit 32 bits: the times of `touch`, `gat`, `flush_all`.
pub(crate) fn signed_whole(token: &[u8]) -> Option<i32> {
    i32::try_from(signed_wide(token)?).ok()
}

#[inline]
fn signed_wide(token: &[u8]) -> Option<i64> {
    let (negative, digits) = sign(token);
    let (magnitude, used) = magnitude(digits)?;
    let largest = i64::MAX as u64 + u64::from(negative);
    let value = if negative { magnitude.wrapping_neg() } else { magnitude };
    (used == digits.len() && magnitude <= largest).then_some(value as i64)
}

/// The number an item's value stands for, to `incr` and `decr`: blanks may stand
/// before it, and anything may follow after a blank.
pub(crate) fn in_value(value: &[u8]) -> Option<u64> {
    let (negative, digits) =
        sign(&value[value.iter().take_while(|byte| is_blank(**byte)).count()..]);
    let (magnitude, used) = magnitude(digits)?;
    let ends = digits.get(used).is_none_or(|&byte| is_blank(byte) || byte == 0);
    let value_ = if negative { magnitude.wrapping_neg() } else { magnitude };
    // memcached takes a value that large for a negative one if there is a '-' in it.
    let suspect = (value_ as i64) < 0 && value.contains(&b'-');
    (ends && !suspect).then_some(value_)
}

/// What C's `isspace` accepts.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | 0x09..=0x0d)
}

#[inline]
fn sign(token: &[u8]) -> (bool, &[u8]) {
    match token {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    }
}

/// The digits at the start of `text` as a number, and how many there are. `None`
/// if there are none or the number exceeds 64 bits.
#[inline]
fn magnitude(text: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    let mut used = 0;
    for &byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        // Nineteen digits always fit.
        value = if used < 19 {
            value * 10 + u64::from(digit)
        } else {
            value.checked_mul(10)?.checked_add(u64::from(digit))?
        };
        used += 1;
    }
    (used > 0).then_some((value, used))
}

/// Writes a number so that it ends before byte `end` of `text`, which must have ten
/// bytes before that. Returns where it starts.
#[inline]
pub(crate) fn write_before<const N: usize>(text: &mut [u8; N], end: usize, number: u32) -> usize {
    let (mut at, mut rest) = (end, number);
    loop {
        at -= 1;
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return at;
        }
    }
}

/// A number written out.
pub(crate) struct Decimal {
    text: [u8; 20],
    start: u8,
}

impl Decimal {
    #[inline]
    pub(crate) fn new(mut value: u64) -> Self {
        let mut text = [0; 20];
        let mut start = 20;
        for place in text.iter_mut().rev() {
            *place = b'0' + (value % 10) as u8;
            value /= 10;
            start -= 1;
            if value == 0 {
                break;
            }
        }
        Self { text, start }
    }

    #[inline]
    pub(crate) fn text(&self) -> &[u8] {
        self.text.get(usize::from(self.start)..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    #[test]
    fn numbers_are_read_as_the_c_library_reads_them() {
        for (token, u, s) in [
            ("0", Some(0), Some(0)),
            ("007", Some(7), Some(7)),
            ("+5", Some(5), Some(5)),
            ("-5", None, Some(-5)),
            ("-0", Some(0), Some(0)),
            ("", None, None),
            ("-", None, None),
            ("+-5", None, None),
            ("5a", None, None),
            ("a5", None, None),
            ("0x10", None, None),
            ("2147483648", Some(2_147_483_648), Some(i32::MIN)),
            ("4294967299", Some(4_294_967_299), Some(3)),
            ("9223372036854775807", Some(i64::MAX as u64), Some(-1)),
            ("9223372036854775808", Some(1 << 63), None),
            ("-9223372036854775808", None, Some(0)),
            ("18446744073709551615", Some(u64::MAX), None),
            ("-18446744073709551615", Some(1), None),
            ("18446744073709551616", None, None),
            ("00000000000000000000000018446744073709551615", Some(u64::MAX), None),
        ] {
            assert_eq!(unsigned(token.as_bytes()), u, "{token}");
            assert_eq!(signed(token.as_bytes()), s, "{token}");
            let whole = s.filter(|s| token.parse() == Ok(*s) || token.starts_with("-0"));
            assert_eq!(signed_whole(token.as_bytes()), whole, "{token}");
        }
    }

    #[test]
    fn a_value_may_have_blanks_around_its_number() {
        for (value, number) in [
            ("5", Some(5)),
            ("  5", Some(5)),
            ("\t5  ", Some(5)),
            ("5 apples", Some(5)),
            ("5apples", None),
            ("", None),
            ("   ", None),
            ("5\0x", Some(5)),
            ("-1", None),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
        ] {
            assert_eq!(in_value(value.as_bytes()), number, "{value:?}");
        }
    }

    #[test]
    fn writing_agrees_with_the_standard_library() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1 << shift) - 1, 10u64.pow(shift % 20)] {
                assert_eq!(Decimal::new(value).text(), format!("{value}").as_bytes());
            }
        }
        assert_eq!(Decimal::new(u64::MAX).text(), b"18446744073709551615");
        for number in [0, 7, 10, 65535, u32::MAX] {
            let mut text = [0; 12];
            let start = write_before(&mut text, 11, number);
            assert_eq!(&text[start..11], format!("{number}").as_bytes());
        }
    }
}
