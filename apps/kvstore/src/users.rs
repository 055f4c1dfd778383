//! Users that may be served, and their passwords: memcached's authentication file (`-Y`).
//!
//! Place on the packet path: step 5, before the first request of a connection. Over UDP nothing is
//! served where there are users: a datagram has no login to belong to.
//!
//! A client sends a `set` of any key first, whose value is a user and a password with a space between
//! them ([`Conversation`](crate::stream::Conversation)).

use subtle::{Choice, ConstantTimeEq};

/// Most bytes of a user or a password.
pub const MOST_NAME: usize = 255;

/// Users and their passwords.
#[derive(Clone, Copy, Debug)]
pub struct Users<'t> {
    text: &'t [u8],
    separator: u8,
}

/// An entry that is none: its number, from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub usize);

impl<'t> Users<'t> {
    /// The entries of `text`, each `user:password`. Between two of them stands a `separator`, and one
    /// may stand behind the last. A password may contain a colon, and neither a blank.
    ///
    /// # Errors
    /// If there is none, or the first that is something else: memcached takes what it can make of such
    /// an entry, and leaves out those beyond the eighth.
    pub fn new(text: &'t [u8], separator: u8) -> Result<Self, Malformed> {
        let text = text.strip_suffix(&[separator]).unwrap_or(text);
        let users = Self { text, separator };
        let wrong = users.entries().position(|entry| entry.is_none());
        wrong.map_or(Ok(users), |wrong| Err(Malformed(wrong + 1)))
    }

    /// Whether there is such a user with this password.
    ///
    /// **Cost** the same for all users and passwords, whatever they have in common with those of an
    /// entry: time does not tell how much of a guess is right.
    #[must_use]
    pub fn admit(&self, user: &[u8], password: &[u8]) -> bool {
        let (Some(user), Some(password)) = (Name::new(user), Name::new(password)) else {
            return false;
        };
        let matches =
            self.entries().flatten().map(|(own, secret)| own.same(&user) & secret.same(&password));
        matches.fold(Choice::from(0), |any, one| any | one).into()
    }

    /// Users and passwords; `None` for an entry that is malformed.
    fn entries(&self) -> impl Iterator<Item = Option<(Name, Name)>> {
        self.text.split(|&byte| byte == self.separator).map(|entry| {
            // Lines may end as they do elsewhere.
            let entry = entry.strip_suffix(b"\r").unwrap_or(entry);
            let colon = entry.iter().position(|&byte| byte == b':')?;
            let (user, password) = entry.split_at_checked(colon)?;
            Some((Name::new(user)?, Name::new(password.get(1..)?)?))
        })
    }
}

/// A user or password, in as many bytes as any other.
struct Name {
    len: u8,
    bytes: [u8; MOST_NAME],
}

impl Name {
    /// `None` for what is empty, too long or contains a blank: no client can send it.
    fn new(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; MOST_NAME];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        let is_sendable = !text.is_empty() && text.iter().all(|byte| !b" \r\n\0".contains(byte));
        is_sendable.then_some(Self { len: text.len() as u8, bytes })
    }

    fn same(&self, other: &Self) -> Choice {
        self.len.ct_eq(&other.len) & self.bytes.ct_eq(&other.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::String;
    use std::vec;

    use super::*;

    #[test]
    fn users_are_admitted_with_their_own_password() {
        for text in ["ann:secret\nbob:a:b\n", "ann:secret\r\nbob:a:b\r\n", "ann:secret\nbob:a:b"] {
            let users = Users::new(text.as_bytes(), b'\n').unwrap();
            assert!(users.admit(b"ann", b"secret") && users.admit(b"bob", b"a:b"), "{text:?}");
            for (user, password) in [
                ("ann", "a:b"),
                ("bob", "secret"),
                ("ann", "secre"),
                ("ann", "secrets"),
                ("an", "secret"),
                ("ann", ""),
                ("", ""),
                ("", "secret"),
                ("ann:secret", "secret"),
                ("ann", "secret\r"),
                ("bob:a", "b"),
            ] {
                assert!(!users.admit(user.as_bytes(), password.as_bytes()), "{user} {password}");
            }
        }
        let users = Users::new(b"ann:1,bob:2", b',').unwrap();
        assert!(users.admit(b"ann", b"1") && users.admit(b"bob", b"2"));
    }

    /// memcached read beyond its buffer for some of these, and cut or left out others.
    #[test]
    fn malformed_files_are_refused_at_the_entry_at_fault() {
        let long = |len: usize| "x".repeat(len);
        for (text, entry) in [
            (String::new(), 1),
            ("\n".into(), 1),
            (":".into(), 1),
            ("ann".into(), 1),
            ("ann:".into(), 1),
            (":secret".into(), 1),
            ("ann:secret\n\nbob:x\n".into(), 2),
            ("ann:secret\n\n".into(), 2),
            ("ann:se cret\n".into(), 1),
            ("ann:se\0cret\n".into(), 1),
            (format!("ann:secret\n{}:x\n", long(256)), 2),
            (format!("ann:{}\n", long(256)), 1),
            (long(1 << 20), 1),
        ] {
            assert_eq!(Users::new(text.as_bytes(), b'\n').unwrap_err(), Malformed(entry));
        }
        let (user, password) = (long(255), "y".repeat(255));
        let text = format!("{user}:{password}");
        assert!(
            Users::new(text.as_bytes(), b'\n').unwrap().admit(user.as_bytes(), password.as_bytes())
        );
    }

    #[test]
    fn there_may_be_any_number_of_users() {
        let text: vec::Vec<u8> =
            (0..1000).flat_map(|n| format!("user{n}:word{n}\n").into_bytes()).collect();
        let users = Users::new(&text, b'\n').unwrap();
        for n in 0..1000 {
            let (user, password) = (format!("user{n}"), format!("word{n}"));
            assert!(users.admit(user.as_bytes(), password.as_bytes()));
            assert!(!users.admit(user.as_bytes(), format!("word{}", n + 1).as_bytes()));
        }
    }
}
