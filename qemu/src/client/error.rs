//! Why a client has no result.

use std::fmt;
use std::io;
use std::net::SocketAddr;

/// Why a client has no result.
#[derive(Debug)]
pub enum ClientError {
    /// No answer came.
    NoAnswer {
        /// The address that was asked.
        server: SocketAddr,
    },
    /// Some datagrams of the answer did not come.
    InPart {
        /// The address that was asked.
        server: SocketAddr,
        /// Datagrams that came.
        came: usize,
        /// Datagrams that the answer has.
        total: usize,
    },
    /// The store answered with an error line, which this is.
    Refused(String),
    /// The answer is not what the protocol allows; its beginning.
    Malformed(String),
    /// The request does not fit into one datagram; its length in bytes.
    TooLong(usize),
    /// A key is empty, longer than 250 bytes, or has blanks or control characters.
    Key,
    /// The host's network failed.
    Io(io::Error),
}

impl ClientError {
    /// Whether nothing, or not all, came in time: asking again may help.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::NoAnswer { .. } | Self::InPart { .. })
    }

    pub(super) fn malformed(answer: &[u8]) -> Self {
        let start = answer.get(..80).unwrap_or(answer);
        Self::Malformed(start.escape_ascii().to_string())
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer { server } => {
                write!(f, "no answer from {server}; is `cargo exo run` running?")
            }
            Self::InPart { server, came, total } => write!(
                f,
                "the answer from {server} came in part: {came} of its {total} datagrams in time"
            ),
            Self::Refused(line) => write!(f, "the store refused: {line}"),
            Self::Malformed(start) => write!(f, "the answer makes no sense: \"{start}\""),
            Self::TooLong(len) => write!(
                f,
                "a request of {len} bytes does not fit into one datagram ({} bytes)",
                super::MAX_REQUEST
            ),
            Self::Key => write!(f, "a key is 1 to 250 bytes without blanks or control characters"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ClientError {}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
