//! `forward = ["udp:PORT", "tcp:PORT"]`: a port of an application that the host reaches.

use root::manifest::{Forward, Transport};
use serde::Deserialize;

/// A [`Forward`] in a manifest: `udp:PORT` or `udp:PORT:HOSTPORT`, or the same with `tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct FileForward(pub(super) Forward);

impl TryFrom<String> for FileForward {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (protocol, ports) = text.split_once(':').unwrap_or(("", &text));
        let transport = match protocol {
            "udp" => Some(Transport::Udp),
            "tcp" => Some(Transport::Tcp),
            _ => None,
        };
        let (guest, host) = ports.split_once(':').unwrap_or((ports, ports));
        let port = |text: &str| text.parse::<u16>().ok().filter(|&port| port > 0);
        match (transport, port(guest), port(host)) {
            (Some(transport), Some(guest), Some(host)) => {
                Ok(Self(Forward { transport, guest, host }))
            }
            _ => Err(format!(
                "\"{text}\": is to be \"udp:PORT\" or \"tcp:PORT\", or \"udp:PORT:HOSTPORT\" if the \
                 host's port is another; ports are 1 to 65535"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_port_is_the_same_unless_said_otherwise() {
        for (ports, guest, host) in
            [("9999", 9999, 9999), ("7:7007", 7, 7007), ("65535:1", 65535, 1)]
        {
            for (protocol, transport) in [("udp", Transport::Udp), ("tcp", Transport::Tcp)] {
                let text = format!("{protocol}:{ports}");
                let forward = FileForward::try_from(text.clone());
                assert_eq!(forward, Ok(FileForward(Forward { transport, guest, host })), "{text}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_shown_with_what_is_right() {
        for text in ["", "9999", "udp", "udp:", "udp:0", "udp:65536", "udp:7:0", "udp:7:", "UDP:7"]
        {
            let error = FileForward::try_from(text.to_owned()).unwrap_err();
            assert!(error.contains("is to be \"udp:PORT\""), "{text:?}: {error}");
        }
        for text in ["udp:1:2:3", "udp: 7", "sctp:7", "udp:-7", "udp:7:x"] {
            assert!(FileForward::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
