//! Boot manifests as people write them: TOML in, [`Manifest`] out.
//!
//! ```toml
//! gateway = "10.0.2.2"      # these two if an application has an address
//! prefix_len = 24
//!
//! [[app]]
//! name = "kvstore"          # image = "kvstore" unless said otherwise
//! address = "10.0.2.15"     # with the grant "net", and only then
//! images = ["worker"]       # optional: programs that it may make children of
//! frames = 8192             # of 4 KiB
//! slots = 24                # of a processor's 64 time slots
//! disk = "log:16M"          # optional: an extent of the disk, if there is one
//! core = 0                  # of this processor; of each, if left out
//! grants = ["console", "net"] # and "machine"; "keys": takes part in protection keys
//! forward = ["udp:11211", "tcp:11211"] # reached at this port of the host; "udp:7:7007" at another
//! elevate = "never"         # or "serve": in ring 0, "deep": with direct calls; "never" if left out
//! args = []                 # optional
//! on_exit = "power-off"     # or "ignore", the default
//!
//! [[share]]                 # optional: pages that applications have together
//! name = "queue"
//! pages = 4
//! apps = ["kvstore", "echo"]
//! ```
//!
//! An unknown field is an error, as is everything that [`Manifest::check`] refuses; errors show
//! the line.

mod choice;
mod disk;
mod forward;
mod place;

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;

pub(crate) use choice::{Choice, Chosen, package};
use disk::FileDisk;
pub use disk::sectors;
use forward::FileForward;
pub use root::manifest::{
    App, DiskShare, Elevate, Forward, Grants, Manifest, ManifestError, OnExit, Part, Share,
    Transport, VERSION,
};

/// Reads the manifest file at `path`; boot time is now.
pub fn read(path: &Path) -> Result<Manifest> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the manifest {}", path.display()))?;
    parse(&text).with_context(|| format!("{}", path.display()))
}

/// Reads a manifest from its text; boot time is now.
pub fn parse(text: &str) -> Result<Manifest> {
    let file: File = toml::from_str(text).map_err(|error| with_advice(error, text))?;
    let networked = file.app.iter().find(|app| app.address.is_some());
    let network = match (file.gateway, file.prefix_len, networked) {
        (Some(gateway), Some(prefix_len), _) => (gateway, prefix_len),
        (gateway, prefix_len, None) => {
            (gateway.unwrap_or(Ipv4Addr::UNSPECIFIED), prefix_len.unwrap_or(0))
        }
        (gateway, _, Some(app)) => {
            let problem = format!(
                "manifest: {}: is missing, but application \"{}\" has an address",
                if gateway.is_none() { "gateway" } else { "prefix_len" },
                app.name.escape_default()
            );
            bail!(place::beside(&problem, &Part::App(app.name.clone()), "address", text))
        }
    };
    let manifest = Manifest {
        version: VERSION,
        boot_unix_seconds: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        gateway: network.0.octets(),
        prefix_len: network.1,
        apps: file.app.into_iter().map(FileApp::into_app).collect(),
        shares: file.share.into_iter().map(FileShare::into_share).collect(),
    };
    manifest.check().map_err(|error| anyhow!(place::explain(&error, text)))?;
    Ok(manifest)
}

/// The error, and what to write if a table is one of which there may be several.
fn with_advice(error: toml::de::Error, text: &str) -> anyhow::Error {
    let file: toml::Table = toml::from_str(text).unwrap_or_default();
    let alone = |name: &&str| file.get(*name).is_some_and(toml::Value::is_table);
    match ["app", "share"].into_iter().find(alone) {
        Some(name) => anyhow!(
            "{}\nthere may be several: write [[{name}]], not [{name}]",
            error.to_string().trim_end()
        ),
        None => error.into(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    gateway: Option<Ipv4Addr>,
    prefix_len: Option<u8>,
    #[serde(default)]
    app: Vec<FileApp>,
    #[serde(default)]
    share: Vec<FileShare>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileShare {
    name: String,
    pages: u32,
    apps: Vec<String>,
}

impl FileShare {
    fn into_share(self) -> Share {
        Share { name: self.name, pages: self.pages, apps: self.apps }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileApp {
    name: String,
    image: Option<String>,
    #[serde(default)]
    images: Vec<String>,
    frames: u32,
    slots: u8,
    core: Option<u8>,
    address: Option<Ipv4Addr>,
    disk: Option<FileDisk>,
    #[serde(default)]
    forward: Vec<FileForward>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    grants: Vec<Grant>,
    #[serde(default)]
    elevate: FileElevate,
    #[serde(default)]
    on_exit: FileOnExit,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Grant {
    Console,
    Net,
    Machine,
    Keys,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FileElevate {
    #[default]
    Never,
    Serve,
    Deep,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FileOnExit {
    #[default]
    Ignore,
    PowerOff,
}

impl FileApp {
    fn into_app(self) -> App {
        let granted = |grant| self.grants.contains(&grant);
        App {
            image: self.image.unwrap_or_else(|| self.name.clone()),
            images: self.images,
            frames: self.frames,
            slots: self.slots,
            core: self.core,
            address: self.address.map(|address| address.octets()),
            disk: self.disk.map(|FileDisk(share)| share),
            forward: self.forward.into_iter().map(|FileForward(forward)| forward).collect(),
            args: self.args,
            grants: Grants {
                console: granted(Grant::Console),
                net: granted(Grant::Net),
                machine: granted(Grant::Machine),
                keys: granted(Grant::Keys),
            },
            elevate: match self.elevate {
                FileElevate::Never => Elevate::Never,
                FileElevate::Serve => Elevate::Serve,
                FileElevate::Deep => Elevate::Deep,
            },
            on_exit: match self.on_exit {
                FileOnExit::Ignore => OnExit::Ignore,
                FileOnExit::PowerOff => OnExit::PowerOff,
            },
            name: self.name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn every_manifest_of_the_tree_is_good() {
        let files = std::fs::read_dir(workspace::root().join("boot/manifests")).unwrap();
        let paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        assert!(paths.contains(&workspace::manifest("default")));
        for path in paths {
            let manifest = read(&path).unwrap();
            assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest), "{}", path.display());
        }
    }

    #[test]
    fn default_is_store_and_echo() {
        let manifest = read(&workspace::manifest("default")).unwrap();
        let [store, echo] = &manifest.apps[..] else { panic!("{:?}", manifest.apps) };
        let grants = Grants { console: true, net: true, machine: false, keys: false };
        assert_eq!((store.image.as_str(), store.address), ("kvstore", Some([10, 0, 2, 15])));
        let share = DiskShare { name: "store".into(), sectors: 160 << 11 };
        assert_eq!((&store.disk, &echo.disk), (&Some(share), &None));
        assert_eq!((store.frames, store.slots, store.grants), (8192, 24, grants));
        assert_eq!(store.on_exit, OnExit::PowerOff);
        assert_eq!((echo.image.as_str(), echo.address), ("echo", Some([10, 0, 2, 16])));
        assert_eq!((echo.frames, echo.slots, echo.grants), (2048, 8, grants));
        assert_eq!(echo.on_exit, OnExit::Ignore);
    }

    #[test]
    fn a_network_is_only_needed_with_an_address() {
        let alone = "[[app]]\nname = \"a\"\nframes = 1\nslots = 1\n";
        parse(alone).unwrap();
        let connected = format!("{alone}grants = [\"net\"]\naddress = \"10.0.2.15\"\n");
        for (head, expected) in [
            ("", "gateway: is missing, but application \"a\" has an address"),
            ("gateway = \"10.0.2.2\"\n", "prefix_len: is missing"),
            ("prefix_len = 24\n", "gateway: is missing"),
            ("gateway = \"10.0.2.2\"\nprefix_len = 31\n", "prefix_len: must be 1 to 30 bits"),
        ] {
            let error = format!("{:#}", parse(&format!("{head}{connected}")).unwrap_err());
            assert!(error.contains(expected), "{error:?} should say {expected:?}");
        }
        parse(&format!("gateway = \"10.0.2.2\"\nprefix_len = 24\n{connected}")).unwrap();
    }

    #[test]
    fn one_pair_of_brackets_too_few_is_said() {
        let error = parse("[app]\nname = \"a\"\nframes = 1\nslots = 1\n").unwrap_err();
        let error = format!("{error:#}");
        assert!(
            error.contains("line 1, column") && error.ends_with("write [[app]], not [app]"),
            "{error}"
        );
    }

    #[test]
    fn errors_name_what_is_wrong() {
        let app = "name = \"a\"\nframes = 1\nslots = 1\n";
        for (text, expected) in [
            (format!("{app}grants = [\"gpu\"]"), "`gpu`"),
            (format!("{app}colour = 1"), "`colour`"),
            (format!("{app}on_exit = \"explode\""), "`explode`"),
            (format!("{app}elevate = \"always\""), "`always`"),
            (format!("{app}address = \"10.0.2\""), "address"),
            (app.replace("frames = 1", "frames = -1"), "frames"),
            (app.replace("slots = 1", ""), "`slots`"),
            (app.replace("slots = 1", "slots = 0"), "application \"a\": slots"),
            (format!("{app}forward = [\"udp:7\"]"), "application \"a\": forward: needs an address"),
            (format!("{app}forward = [\"sctp:7\"]"), "is to be \"udp:PORT\" or \"tcp:PORT\""),
            (format!("{app}forward = [7]"), "forward"),
            (format!("{app}disk = \"log:some\""), "is no size"),
            (format!("{app}disk = \"log:100\""), "not a multiple of 512"),
            (format!("{app}disk = \":1M\""), "disk: must have a name"),
            (format!("{app}grants = [\"net\"]"), "application \"a\": address: is missing"),
        ] {
            let text = format!("gateway = \"10.0.2.2\"\nprefix_len = 24\n[[app]]\n{text}");
            let error = format!("{:#}", parse(&text).unwrap_err());
            assert!(error.contains(expected), "{error:?} should say {expected:?}");
        }
    }
}
