//! The text protocol: requests as bytes, answers as meaning.

use super::{ClientError, Result};

/// What a store returns for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// The number the client stored beside it.
    pub flags: u32,
    /// Changes whenever the item does; only if asked for.
    pub cas: Option<u64>,
}

/// The storage commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Store unconditionally.
    Set,
    /// Store if the key is new.
    Add,
    /// Store if the key exists.
    Replace,
    /// Add to the end of an existing value; flags and time to live stay.
    Append,
    /// Add to the front of an existing value; flags and time to live stay.
    Prepend,
    /// Store if the item still has this CAS id.
    Cas(u64),
}

/// How a storage command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is stored.
    Stored,
    /// The command's condition was not met.
    NotStored,
    /// `cas`: another client has stored since.
    Exists,
    /// `cas`: there is no such key.
    NotFound,
}

impl Stored {
    pub(super) fn read(answer: &[u8]) -> Result<Self> {
        Ok(match line(answer)? {
            "STORED" => Self::Stored,
            "NOT_STORED" => Self::NotStored,
            "EXISTS" => Self::Exists,
            "NOT_FOUND" => Self::NotFound,
            _ => return Err(ClientError::malformed(answer)),
        })
    }
}

/// `key`, if it is one.
pub(super) fn key(key: &[u8]) -> Result<&[u8]> {
    let good = (1..=250).contains(&key.len())
        && !key.iter().any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control());
    if good { Ok(key) } else { Err(ClientError::Key) }
}

/// `COMMAND KEY REST`.
pub(super) fn command(command: &str, name: &[u8], rest: &str) -> Result<Vec<u8>> {
    Ok([command.as_bytes(), b" ", key(name)?, rest.as_bytes(), b"\r\n"].concat())
}

/// A storage request.
pub(super) fn storage(
    how: Storage,
    key: &[u8],
    value: &[u8],
    flags: u32,
    ttl: i32,
) -> Result<Vec<u8>> {
    let (name, cas) = match how {
        Storage::Set => ("set", String::new()),
        Storage::Add => ("add", String::new()),
        Storage::Replace => ("replace", String::new()),
        Storage::Append => ("append", String::new()),
        Storage::Prepend => ("prepend", String::new()),
        Storage::Cas(id) => ("cas", format!(" {id}")),
    };
    let mut request = command(name, key, &format!(" {flags} {ttl} {}{cas}", value.len()))?;
    request.extend(value);
    request.extend(b"\r\n");
    Ok(request)
}

/// The answer, unless it is an error line.
pub(super) fn no_error(answer: Vec<u8>) -> Result<Vec<u8>> {
    let is_error = [&b"ERROR\r\n"[..], b"CLIENT_ERROR ", b"SERVER_ERROR "]
        .iter()
        .any(|start| answer.starts_with(start));
    if !is_error {
        return Ok(answer);
    }
    let line = answer.split(|&byte| byte == b'\r').next().unwrap_or_default();
    Err(ClientError::Refused(String::from_utf8_lossy(line).into_owned()))
}

/// The answer's only line.
pub(super) fn line(answer: &[u8]) -> Result<&str> {
    let line = std::str::from_utf8(answer).ok().and_then(|text| text.strip_suffix("\r\n"));
    line.filter(|line| !line.contains('\n')).ok_or_else(|| ClientError::malformed(answer))
}

/// True for `yes`, false for `NOT_FOUND`.
pub(super) fn found(answer: &[u8], yes: &str) -> Result<bool> {
    match line(answer)? {
        "NOT_FOUND" => Ok(false),
        line if line == yes => Ok(true),
        _ => Err(ClientError::malformed(answer)),
    }
}

/// The number `incr` and `decr` answer with.
pub(super) fn number(answer: &[u8]) -> Result<Option<u64>> {
    match line(answer)? {
        "NOT_FOUND" => Ok(None),
        // `decr` pads with blanks in the store, and some servers send them.
        line => line.trim_end().parse().map(Some).map_err(|_| ClientError::malformed(answer)),
    }
}

/// `VALUE` blocks up to `END`.
pub(super) fn values(answer: &[u8]) -> Result<Vec<Item>> {
    read_values(answer).ok_or_else(|| ClientError::malformed(answer))
}

fn read_values(answer: &[u8]) -> Option<Vec<Item>> {
    let mut items = Vec::new();
    let mut rest = answer;
    while rest != b"END\r\n" {
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let mut words = rest.get(..end)?.split(|&byte| byte == b' ');
        let mut word = || words.next().and_then(|word| std::str::from_utf8(word).ok());
        if word()? != "VALUE" {
            return None;
        }
        let key = words.next()?.to_vec();
        let mut word = || words.next().and_then(|word| std::str::from_utf8(word).ok());
        let flags = word()?.parse().ok()?;
        let len: usize = word()?.parse().ok()?;
        let cas = word().map(str::parse).transpose().ok()?;
        let (value, after) = rest.get(end + 2..)?.split_at_checked(len)?;
        rest = after.strip_prefix(b"\r\n")?;
        items.push(Item { key, value: value.to_vec(), flags, cas });
    }
    Some(items)
}

/// `STAT` lines up to `END`.
pub(super) fn stats(answer: &[u8]) -> Result<Vec<(String, String)>> {
    let text = String::from_utf8_lossy(answer);
    let lines = text.strip_suffix("END\r\n").map(str::lines);
    let pairs = lines.and_then(|lines| {
        lines
            .map(|line| {
                let line = line.strip_prefix("STAT ")?;
                let (name, value) = line.split_once(' ').unwrap_or((line, ""));
                Some((name.to_owned(), value.to_owned()))
            })
            .collect()
    });
    pairs.ok_or_else(|| ClientError::malformed(answer))
}
