//! `forward = ["udp:PORT"]`: a port of an application that the host reaches.

use root::manifest::Forward;
use serde::Deserialize;

/// A [`Forward`] in a manifest: `udp:PORT` or `udp:PORT:HOSTPORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct FileForward(pub(super) Forward);

impl TryFrom<String> for FileForward {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (protocol, ports) = text.split_once(':').unwrap_or(("", &text));
        if protocol == "tcp" {
            return Err(format!("\"{text}\": TCP is not forwarded yet, only UDP: \"udp:{ports}\""));
        }
        let (guest, host) = ports.split_once(':').unwrap_or((ports, ports));
        let port = |text: &str| text.parse::<u16>().ok().filter(|&port| port > 0);
        match (protocol, port(guest), port(host)) {
            ("udp", Some(guest), Some(host)) => Ok(Self(Forward { guest, host })),
            _ => Err(format!(
                "\"{text}\": is to be \"udp:PORT\", or \"udp:PORT:HOSTPORT\" if the host's port is \
                 another; ports are 1 to 65535"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_port_is_the_same_unless_said_otherwise() {
        for (text, guest, host) in
            [("udp:9999", 9999, 9999), ("udp:7:7007", 7, 7007), ("udp:65535:1", 65535, 1)]
        {
            let forward = FileForward::try_from(text.to_owned());
            assert_eq!(forward, Ok(FileForward(Forward { guest, host })), "{text}");
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
        let error = FileForward::try_from("tcp:80:8080".to_owned()).unwrap_err();
        assert!(error.contains("TCP is not forwarded yet") && error.contains("\"udp:80:8080\""));
    }
}
