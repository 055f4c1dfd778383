//! What the process is told when it starts, as arguments: what the start block is in the machine.

use std::borrow::ToOwned;
use std::path::PathBuf;
use std::string::{String, ToString};
use std::vec::Vec;

use super::share::SharePlace;

/// What the application was given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// Its name in the manifest.
    pub name: &'static str,
    /// Page frames that it may take.
    pub frames: u32,
    /// Its IPv4 address, if the manifest gives one.
    pub address: Option<[u8; 4]>,
    /// IPv4 address of the gateway.
    pub gateway: [u8; 4],
    /// Length of the network prefix in bits.
    pub prefix_len: u8,
    /// What it shares with others.
    pub shares: Vec<SharePlace>,
    /// The file that has its extent of the disk.
    pub disk: Option<PathBuf>,
    /// Ports of the host that lead to it.
    pub forwards: Vec<Forward>,
    /// The manifest's arguments.
    pub arguments: Vec<&'static str>,
}

/// A UDP port of the host's loopback interface that leads to the application.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Forward {
    /// The application's port.
    pub own: u16,
    /// The host's.
    pub host: u16,
}

impl Grant {
    /// Reads `--name=N --frames=N --address=A --gateway=A --prefix=N --disk=FILE --udp=OWN:HOST …
    /// --share=NAME:SIDE:SIDES:FILE …`, and behind `--` the manifest's arguments.
    ///
    /// # Errors
    /// What is wrong.
    pub fn of_arguments(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut grant = Self {
            name: "",
            frames: 0,
            address: None,
            gateway: [0; 4],
            prefix_len: 0,
            shares: Vec::new(),
            disk: None,
            forwards: Vec::new(),
            arguments: Vec::new(),
        };
        let mut arguments = arguments.into_iter();
        for argument in arguments.by_ref().take_while(|argument| argument != "--") {
            let wrong = || std::format!("the argument {argument} means nothing");
            let (key, value) = argument.split_once('=').ok_or_else(wrong)?;
            match key {
                // Once for the process's whole life.
                "--name" => grant.name = value.to_owned().leak(),
                "--frames" => grant.frames = value.parse().map_err(|_| wrong())?,
                "--address" => grant.address = Some(address(value).ok_or_else(wrong)?),
                "--gateway" => grant.gateway = address(value).ok_or_else(wrong)?,
                "--prefix" => grant.prefix_len = value.parse().map_err(|_| wrong())?,
                "--share" => grant.shares.push(SharePlace::read(value).ok_or_else(wrong)?),
                "--disk" => grant.disk = Some(value.into()),
                "--udp" => grant.forwards.push(forward(value).ok_or_else(wrong)?),
                _ => return Err(wrong()),
            }
        }
        if grant.name.is_empty() {
            return Err("the argument --name is missing".to_string());
        }
        grant.arguments = arguments.map(|argument| &*argument.leak()).collect();
        Ok(grant)
    }

    /// The value of the argument `key=value`, if there is one.
    pub fn argument(&self, key: &str) -> Option<&'static str> {
        let mut pairs = self.arguments.iter().filter_map(|argument| argument.split_once('='));
        pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
    }
}

fn address(text: &str) -> Option<[u8; 4]> {
    text.parse::<std::net::Ipv4Addr>().ok().map(|address| address.octets())
}

fn forward(text: &str) -> Option<Forward> {
    let (own, host) = text.split_once(':')?;
    Some(Forward { own: own.parse().ok()?, host: host.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Grant, String> {
        Grant::of_arguments(line.split(' ').map(ToOwned::to_owned))
    }

    #[test]
    fn arguments_say_what_was_given() {
        let line = "--name=mine --frames=1024 --address=10.0.2.15 --gateway=10.0.2.2 --prefix=24 \
                    --udp=9999:8888 --share=ring:1:2:/a:b --disk=/c -- port=7 port=8 --name=other";
        let grant = read(line).unwrap();
        assert_eq!((grant.name, grant.frames, grant.prefix_len), ("mine", 1024, 24));
        assert_eq!((grant.address, grant.gateway), (Some([10, 0, 2, 15]), [10, 0, 2, 2]));
        assert_eq!(grant.forwards, [Forward { own: 9999, host: 8888 }]);
        let share = SharePlace { name: "ring", side: 1, sides: 2, file: "/a:b".into() };
        assert_eq!((grant.shares.clone(), grant.disk.clone()), ([share].into(), Some("/c".into())));
        // As in the machine, the first counts; what is behind `--` is the application's.
        assert_eq!((grant.argument("port"), grant.argument("none")), (Some("7"), None));
        assert_eq!(grant.argument("--name"), Some("other"));
    }

    #[test]
    fn nonsense_is_refused() {
        for line in ["", "--frames=3", "--name=a --frames=x", "--name=a --udp=7", "--name=a b=c"] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
