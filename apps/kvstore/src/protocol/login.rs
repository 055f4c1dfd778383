//! The line that announces a user and a password: a `set`, of which only the length counts.

use super::input::Input;
use crate::number;

/// Reads such a line, whose end is there. Returns the bytes that follow, their end not counted;
/// `None` for any other line.
pub(crate) fn login(input: &mut Input<'_>) -> Option<usize> {
    let command = input.token();
    let [_key, _flags, _exptime, len] = [(); 4].map(|()| input.token());
    input.end_line();
    let len = u32::try_from(number::unsigned(len?)?).ok()?;
    (command == Some(b"set")).then_some(len as usize)
}
