//! What the machine's network is connected to, as it is asked for.

use std::str::FromStr;

use anyhow::{Result, bail, ensure};

use crate::machine::{self, Config, HostPorts, Network};

/// A back end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Net {
    /// QEMU's own, which always works.
    User,
    /// The program `passt`.
    Passt,
    /// A TAP device of this name.
    Tap(String),
}

impl FromStr for Net {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text.split_once(':').map_or((text, None), |(kind, name)| (kind, Some(name))) {
            ("user", None) => Self::User,
            ("passt", None) => Self::Passt,
            ("tap", name) => Self::Tap(name.unwrap_or(machine::USUAL_TAP).to_owned()),
            _ => bail!("one of user, passt, tap and tap:NAME"),
        })
    }
}

impl Net {
    /// Connects the machine of `config` to it. `options` name ports of this host, if any does.
    ///
    /// # Errors
    /// If a TAP device cannot be used, or there is no use for a port of the host.
    pub(super) fn connect(&self, config: &mut Config, options: &[&str]) -> Result<()> {
        config.network = match self {
            Self::User => Network::User(HostPorts::Stated),
            Self::Passt => Network::Passt(HostPorts::Stated),
            Self::Tap(device) => {
                ensure!(
                    options.is_empty(),
                    "{}: with --net tap no port of this host is forwarded; the applications are \
                     reached at their own addresses",
                    options.join(", ")
                );
                machine::ensure_tap(device)?;
                Network::Tap(device.clone())
            }
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_asked_for() {
        let tap = |name: &str| Net::Tap(name.to_owned());
        for (text, net) in [
            ("user", Net::User),
            ("passt", Net::Passt),
            ("tap", tap("exo0")),
            ("tap:mine", tap("mine")),
        ] {
            assert_eq!(text.parse::<Net>().unwrap(), net);
        }
        for text in ["", "user:1", "passt:x", "bridge"] {
            assert!(text.parse::<Net>().is_err(), "{text}");
        }
    }

    #[test]
    fn ports_of_the_host_are_of_no_use_to_a_tap_device() {
        let mut config = Config::named("default").unwrap();
        let error = Net::Tap("exo-absent".into()).connect(&mut config, &["--port"]).unwrap_err();
        assert!(error.to_string().starts_with("--port: with --net tap"), "{error}");
        let error = Net::Tap("exo-absent".into()).connect(&mut config, &[]).unwrap_err();
        assert!(error.to_string().contains("sudo ip tuntap add exo-absent"), "{error}");
    }
}
