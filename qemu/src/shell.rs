//! Commands as one types them.

use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;

/// An argument as a shell reads it back: bare if nothing in it means anything to a shell, in
/// `'…'` if it is text, in `$'…'` (bash, ksh, zsh; POSIX 2024) if it is not.
pub(crate) fn quote(argument: &OsStr) -> String {
    let bytes = argument.as_bytes();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_=,.:/+@%".contains(byte);
    match argument.to_str() {
        Some(text) if !text.is_empty() && bytes.iter().all(plain) => text.to_owned(),
        Some(text) if !text.contains(char::is_control) => {
            format!("'{}'", text.replace('\'', r"'\''"))
        }
        _ => {
            let mut quoted = String::from("$'");
            for &byte in bytes {
                match byte {
                    b'\'' | b'\\' => quoted.extend(['\\', char::from(byte)]),
                    b' '..=b'~' => quoted.push(char::from(byte)),
                    // Three octal digits: a digit behind them is not taken for a fourth.
                    _ => _ = write!(quoted, "\\{byte:03o}"),
                }
            }
            quoted + "'"
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        let all: Vec<u8> = (1..=255).collect();
        for name in [&b"plain/x-1.bin"[..], b"", b"a b", b"a,b", b"it's \"$HOME\" `x`", b"~", &all]
        {
            let name = OsStr::from_bytes(name);
            let line = format!("printf %s {}", quote(name));
            let output = Command::new("bash").args(["-c", &line]).output().unwrap();
            assert_eq!(output.stdout, name.as_bytes(), "{line}");
        }
        assert_eq!(quote(OsStr::new("tcp:127.0.0.1:1234")), "tcp:127.0.0.1:1234");
        assert_eq!(quote(OsStr::from_bytes(b"\xff1'")), r"$'\3771\''");
    }
}
