//! The boot manifest: which applications the machine starts, and what each of
//! them is given.
//!
//! It travels in the boot bundle, encoded with postcard, from the `exo` command
//! to the root environment; the kernel carries it but cannot read it, because
//! which application gets what is policy. The version is the first field and is read before
//! anything else, so that either side can tell that the other is older or newer.
//!
//! [`Manifest::check`] holds the rules that need no machine. Both sides apply it:
//! the command to give a person a good message, root because the bundle is input.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

/// The version of the encoding this module reads and writes.
pub const VERSION: u32 = 7;
/// Longest name of an application or image in bytes, as in the boot bundle.
pub const NAME_LEN: usize = 16;
/// Slots of a processor's slice vector that the applications divide among them.
pub const SLOTS: u32 = 64;
/// Most applications of a [`Share`].
pub const SIDES: usize = 8;
/// Most images of which an application may make children.
pub const IMAGES: usize = 16;
/// Most pages of a [`Share`].
pub const SHARE_PAGES: u32 = 1024;

/// Everything root needs to know to start the machine's applications.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`VERSION`].
    pub version: u32,
    /// Wall-clock time at boot, in seconds since 1970-01-01 UTC.
    pub boot_unix_seconds: u64,
    /// The network's router. Means nothing if no application has an address.
    pub gateway: [u8; 4],
    /// Length of the network's prefix in bits, 1 to 30, if an application has an address.
    pub prefix_len: u8,
    /// The applications, in the order in which they are started.
    pub apps: Vec<App>,
    /// What some of them share.
    pub shares: Vec<Share>,
}

/// Memory that several applications have, and with it the right to put capabilities into each
/// other's tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// What the applications know it by.
    pub name: String,
    /// How many pages, 1 to [`SHARE_PAGES`].
    pub pages: u32,
    /// Which applications, by name: 2 to [`SIDES`], none of them twice.
    pub apps: Vec<String>,
}

/// One application: an environment that runs an image with limited resources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// What the environment is called, on the console and in reports.
    pub name: String,
    /// The image of the boot bundle it runs.
    pub image: String,
    /// Images of which it may make children.
    pub images: Vec<String>,
    /// How many 4 KiB page frames it may take.
    pub frames: u32,
    /// How many of a processor's [`SLOTS`] time slots it gets.
    pub slots: u8,
    /// The processor these slots are of; if none is named, it gets as many of each.
    pub core: Option<u8>,
    /// Its IPv4 address; with [`Grants::net`], and only then.
    pub address: Option<[u8; 4]>,
    /// The extent of the disk that it gets.
    pub disk: Option<DiskShare>,
    /// Ports of its address that the machine's host forwards to. Root does nothing with them:
    /// the `exo` command tells QEMU.
    pub forward: Vec<Forward>,
    /// Arguments, for the application to interpret.
    pub args: Vec<String>,
    /// What it may use beyond frames and time.
    pub grants: Grants,
    /// Whether it may run in ring 0.
    pub elevate: Elevate,
    /// What root does when it ends.
    pub on_exit: OnExit,
}

/// An extent of the disk, by name, if the machine has a disk: it is made if there is none of that
/// name, and made longer if it has fewer sectors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskShare {
    /// Its name on the disk.
    pub name: String,
    /// How many sectors of 512 bytes it is to have at least; zero: whatever it has, and if it is made, the
    /// longest run of free ones.
    pub sectors: u32,
}

/// What a port is a port of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transport {
    /// The User Datagram Protocol.
    Udp,
    /// The Transmission Control Protocol.
    Tcp,
}

/// A port of an application that is reached through a port of the host's loopback
/// interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// Of what both are ports.
    pub transport: Transport,
    /// The port at the application's address.
    pub guest: u16,
    /// The port on the host.
    pub host: u16,
}

/// Resources an application either gets or does not get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    /// Write to the console.
    pub console: bool,
    /// Claim packets for its address and send from it.
    pub net: bool,
    /// End the machine: for tests and measurements.
    pub machine: bool,
    /// Take part in protection keys, if processors have them: its code is admitted.
    pub keys: bool,
}

/// What an application may do in ring 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Elevate {
    /// Nothing.
    #[default]
    Never,
    /// Run its own code there, in stretches of [`STRETCH_MICROSECONDS`] at most.
    Serve,
    /// And call the kernel's functions directly.
    Deep,
}

/// The longest stretch in ring 0 that root grants.
pub const STRETCH_MICROSECONDS: u32 = 250_000;

/// What root does when an application ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnExit {
    /// Report it and carry on.
    #[default]
    Ignore,
    /// End the machine with the application's exit code.
    PowerOff,
}

/// What a manifest consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The machine as a whole.
    Machine,
    /// An application, by name.
    App(String),
    /// A share, by name.
    Share(String),
}

/// A rule that a manifest breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// The part at fault.
    pub part: Part,
    /// The field at fault.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("manifest: ")?;
        match &self.part {
            Part::Machine => {}
            Part::App(name) => write!(f, "application \"{}\": ", name.escape_default())?,
            Part::Share(name) => write!(f, "share \"{}\": ", name.escape_default())?,
        }
        write!(f, "{}: {}", self.field, self.problem)
    }
}

impl core::error::Error for ManifestError {}

impl Manifest {
    /// The bytes that go into a boot bundle.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Fails only for sequences of unknown length and full buffers; there are neither.
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// Reads a manifest back and checks it.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let (version, _) = postcard::take_from_bytes::<u32>(bytes)
            .map_err(|_| ManifestError::machine("encoding", "is too short"))?;
        if version != VERSION {
            return Err(ManifestError::machine("version", "is not one this program reads"));
        }
        match postcard::take_from_bytes::<Self>(bytes) {
            Ok((manifest, [])) => manifest.check().map(|()| manifest),
            Ok(_) => Err(ManifestError::machine("encoding", "is followed by other bytes")),
            Err(_) => Err(ManifestError::machine("encoding", "is damaged")),
        }
    }

    /// The application of that name.
    #[must_use]
    pub fn app(&self, name: &str) -> Option<&App> {
        self.apps.iter().find(|app| app.name == name)
    }

    /// Applies every rule that can be judged without a machine.
    pub fn check(&self) -> Result<(), ManifestError> {
        if self.version != VERSION {
            return Err(ManifestError::machine("version", "is not one this program reads"));
        }
        let networked = self.apps.iter().any(|app| app.address.is_some());
        if networked && !(1..=30).contains(&self.prefix_len) {
            return Err(ManifestError::machine("prefix_len", "must be 1 to 30 bits"));
        }
        if self.apps.is_empty() {
            return Err(ManifestError::machine("apps", "there is none"));
        }
        for (index, app) in self.apps.iter().enumerate() {
            let earlier = self.apps.get(..index).unwrap_or_default();
            self.check_app(app, earlier)
                .map_err(|(field, problem)| ManifestError::app(&app.name, field, problem))?;
        }
        let slots: u32 = self.apps.iter().map(|app| u32::from(app.slots)).sum();
        if slots > SLOTS {
            return Err(ManifestError::machine("slots", "add up to more than a processor's 64"));
        }
        for (index, share) in self.shares.iter().enumerate() {
            let earlier = self.shares.get(..index).unwrap_or_default();
            self.check_share(share, earlier).map_err(|(field, problem)| ManifestError {
                part: Part::Share(share.name.clone()),
                field,
                problem,
            })?;
        }
        Ok(())
    }

    fn check_share(
        &self,
        share: &Share,
        earlier: &[Share],
    ) -> Result<(), (&'static str, &'static str)> {
        if !is_name(&share.name) {
            return Err(("name", NO_NAME));
        }
        if earlier.iter().any(|other| other.name == share.name) {
            return Err(("name", "is used twice"));
        }
        if !(1..=SHARE_PAGES).contains(&share.pages) {
            return Err(("pages", "must be 1 to 1024"));
        }
        if !(2..=SIDES).contains(&share.apps.len()) {
            return Err(("apps", "must be 2 to 8 applications"));
        }
        for (index, name) in share.apps.iter().enumerate() {
            if self.app(name).is_none() {
                return Err(("apps", "names an application that there is not"));
            }
            if share.apps.iter().take(index).any(|other| other == name) {
                return Err(("apps", "names an application twice"));
            }
        }
        Ok(())
    }

    fn check_app(&self, app: &App, earlier: &[App]) -> Result<(), (&'static str, &'static str)> {
        if !is_name(&app.name) {
            return Err(("name", NO_NAME));
        }
        // A console line starts with the speaker's name; these two are taken.
        if ["exo", "root"].contains(&app.name.as_str()) {
            return Err(("name", "belongs to the kernel or the root environment"));
        }
        if earlier.iter().any(|other| other.name == app.name) {
            return Err(("name", "is used twice"));
        }
        if !is_name(&app.image) {
            return Err(("image", NO_NAME));
        }
        if app.images.iter().any(|image| !is_name(image)) {
            return Err(("images", "must be names of 1 to 16 printable ASCII characters"));
        }
        if app.images.len() > IMAGES {
            return Err(("images", "must be at most 16"));
        }
        if app.frames == 0 {
            return Err(("frames", "must be at least 1"));
        }
        if app.slots == 0 {
            return Err(("slots", "must be at least 1"));
        }
        if let Some(disk) = &app.disk {
            if !is_name(&disk.name) {
                return Err(("disk", "must have a name of 1 to 16 printable ASCII characters"));
            }
            let named = |other: &App| other.disk.as_ref().is_some_and(|it| it.name == disk.name);
            if earlier.iter().any(named) {
                return Err(("disk", "is used twice"));
            }
        }
        if app.forward.iter().any(|forward| forward.guest == 0 || forward.host == 0) {
            return Err(("forward", "has port 0; ports are 1 to 65535"));
        }
        if !app.forward.is_empty() && app.address.is_none() {
            return Err(("forward", "needs an address to lead to, and the grant net"));
        }
        match app.address {
            None if app.grants.net => Err(("address", "is missing, but net is granted")),
            Some(_) if !app.grants.net => Err(("address", "is given, but net is not granted")),
            None => Ok(()),
            Some(address) => {
                self.check_address(address).map_err(|problem| ("address", problem))?;
                match earlier.iter().any(|other| other.address == app.address) {
                    true => Err(("address", "is used twice")),
                    false => Ok(()),
                }
            }
        }
    }

    fn check_address(&self, address: [u8; 4]) -> Result<(), &'static str> {
        let (address, gateway) = (u32::from_be_bytes(address), u32::from_be_bytes(self.gateway));
        let host = u32::MAX.checked_shr(u32::from(self.prefix_len)).unwrap_or(0);
        if (address ^ gateway) & !host != 0 {
            return Err("is not in the gateway's network");
        }
        if address & host == 0 || address & host == host {
            return Err("is the network's own or its broadcast address");
        }
        if address == gateway { Err("is the gateway's") } else { Ok(()) }
    }
}

const NO_NAME: &str = "must be 1 to 16 printable ASCII characters without blanks";

fn is_name(name: &str) -> bool {
    (1..=NAME_LEN).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

impl ManifestError {
    fn machine(field: &'static str, problem: &'static str) -> Self {
        Self { part: Part::Machine, field, problem }
    }

    fn app(name: &str, field: &'static str, problem: &'static str) -> Self {
        Self { part: Part::App(name.into()), field, problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    fn sample() -> Manifest {
        let app = |name: &str, last: u8| App {
            name: name.into(),
            image: "kvstore".into(),
            images: vec!["worker".into()],
            frames: 8192,
            slots: 24,
            core: None,
            address: Some([10, 0, 2, last]),
            disk: Some(DiskShare { name: name.into(), sectors: 64 }),
            forward: vec![Forward { transport: Transport::Udp, guest: 11211, host: 11211 }],
            args: vec!["--verbose".into()],
            grants: Grants { console: true, net: true, machine: false, keys: false },
            elevate: Elevate::Serve,
            on_exit: OnExit::PowerOff,
        };
        Manifest {
            version: VERSION,
            boot_unix_seconds: 1_700_000_000,
            gateway: [10, 0, 2, 2],
            prefix_len: 24,
            apps: vec![app("one", 15), app("two", 16)],
            shares: vec![Share {
                name: "queue".into(),
                pages: 4,
                apps: vec!["one".into(), "two".into()],
            }],
        }
    }

    #[test]
    fn decodes_what_it_encodes() {
        assert_eq!(Manifest::decode(&sample().encode()), Ok(sample()));
    }

    #[test]
    fn refuses_damage() {
        let bytes = sample().encode();
        for len in 0..bytes.len() {
            assert!(Manifest::decode(&bytes[..len]).is_err(), "{len} bytes");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(Manifest::decode(&longer).is_err());
        let mut newer = bytes;
        newer[0] = VERSION as u8 + 1;
        let error = Manifest::decode(&newer).expect_err("a newer version");
        assert_eq!(error.field, "version");
    }

    #[test]
    fn names_the_application_and_the_field() {
        let broken = |change: fn(&mut App)| {
            let mut manifest = sample();
            change(&mut manifest.apps[1]);
            manifest.check().expect_err("manifest was accepted").to_string()
        };
        for (error, expected) in [
            (broken(|app| app.frames = 0), "application \"two\": frames: must be at least 1"),
            (broken(|app| app.slots = 0), "application \"two\": slots: must be at least 1"),
            (broken(|app| app.slots = 41), "slots: add up to more"),
            (broken(|app| app.name = "one".into()), "application \"one\": name: is used twice"),
            (broken(|app| app.name = "root".into()), "name: belongs to"),
            (broken(|app| app.name = "a b".into()), "name: must be"),
            (broken(|app| app.image = "seventeen-letters".into()), "image: must be"),
            (
                broken(|app| {
                    app.address = None;
                    app.forward.clear();
                }),
                "address: is missing",
            ),
            (broken(|app| app.address = None), "forward: needs an address"),
            (broken(|app| app.forward[0].host = 0), "forward: has port 0"),
            (broken(|app| app.grants.net = false), "address: is given"),
            (broken(|app| app.disk.as_mut().unwrap().name = "one".into()), "disk: is used twice"),
            (broken(|app| app.disk.as_mut().unwrap().name.clear()), "disk: must have a name"),
            (broken(|app| app.address = Some([10, 0, 2, 15])), "address: is used twice"),
            (broken(|app| app.address = Some([10, 0, 3, 15])), "address: is not in"),
            (broken(|app| app.address = Some([10, 0, 2, 255])), "address: is the network's"),
            (broken(|app| app.address = Some([10, 0, 2, 2])), "address: is the gateway's"),
        ] {
            assert!(error.contains(expected), "{error:?} should say {expected:?}");
        }
    }

    #[test]
    fn names_the_share_and_the_field() {
        let broken = |change: fn(&mut Share)| {
            let mut manifest = sample();
            change(&mut manifest.shares[0]);
            manifest.check().expect_err("manifest was accepted").to_string()
        };
        for (error, expected) in [
            (broken(|share| share.pages = 0), "share \"queue\": pages: must be 1 to 1024"),
            (broken(|share| share.pages = 1025), "pages: must be 1 to 1024"),
            (broken(|share| share.name.clear()), "share \"\": name: must be"),
            (broken(|share| share.apps.truncate(1)), "apps: must be 2 to 8"),
            (broken(|share| share.apps[1] = "three".into()), "apps: names an application that"),
            (broken(|share| share.apps[1] = "one".into()), "apps: names an application twice"),
        ] {
            assert!(error.contains(expected), "{error:?} should say {expected:?}");
        }
        let mut manifest = sample();
        manifest.shares.push(manifest.shares[0].clone());
        assert_eq!(manifest.check().expect_err("two of one name").problem, "is used twice");
    }

    #[test]
    fn refuses_a_prefix_that_leaves_no_hosts() {
        for prefix_len in [0, 31, 32, 33, 255] {
            let manifest = Manifest { prefix_len, ..sample() };
            assert_eq!(manifest.check().expect_err("prefix").field, "prefix_len");
            let mut manifest = manifest;
            for app in &mut manifest.apps {
                (app.address, app.grants.net) = (None, false);
                app.forward.clear();
            }
            assert_eq!(manifest.check(), Ok(()));
        }
    }
}
