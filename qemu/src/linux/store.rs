//! Our store as a Linux process: `apps/kvstore-linux`, on this host or in a guest.

use std::process::Command;

use anyhow::{Context, Result, bail};
use kvstore::durable::promise::Promise;

use super::guest::Guest;
use super::programs::build;
use crate::manifest::Manifest;

/// The package and its program.
const PROGRAM: &str = "kvstore-linux";
/// Page frames of a MiB.
const FRAMES_PER_MIB: u32 = 256;

/// How the store is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Store {
    /// Threads that serve.
    pub threads: u16,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Secret of its index; none for a random one.
    pub seed: Option<u64>,
    /// Most clients connected over TCP; none for the store's own choice.
    pub connections: Option<u32>,
    /// KiB a second for a source of datagrams; none for the store's own choice.
    pub udp_kib: Option<u32>,
    /// What its answers promise, if it has a disk; none for the store's own choice.
    pub promise: Option<Promise>,
    /// Whether it stores nothing, and sends back what it gets.
    pub echo: bool,
}

impl Store {
    /// A store with the program's own choices otherwise.
    #[must_use]
    pub const fn new(threads: u16, memory_mib: u32) -> Self {
        Self {
            threads,
            memory_mib,
            seed: None,
            connections: None,
            udp_kib: None,
            promise: None,
            echo: false,
        }
    }

    /// The store that a manifest describes as an application: with its arguments, and where
    /// `memory-mib` is none of them with as much memory as the application may take frames.
    ///
    /// # Errors
    /// There is no store, or an argument is none of the store's.
    pub fn of_manifest(manifest: &Manifest, threads: u16) -> Result<Self> {
        let app = manifest.apps.iter().find(|app| app.image == "kvstore");
        let app = app.context("the manifest has no application \"kvstore\"")?;
        let memory_mib = (app.frames / FRAMES_PER_MIB).max(1);
        let mut store = Self::new(threads, memory_mib);
        for argument in &app.args {
            let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
            let invalid = || format!("manifest: argument {name} of {}: not a number", app.name);
            match name {
                "memory-mib" => store.memory_mib = value.parse().with_context(invalid)?,
                "seed" => store.seed = Some(value.parse().with_context(invalid)?),
                "connections" => store.connections = Some(value.parse().with_context(invalid)?),
                "udp-kib" => store.udp_kib = Some(value.parse().with_context(invalid)?),
                "durable" => {
                    let promise = Promise::parse(value).with_context(|| {
                        format!("manifest: {}: durable is always, group:MS or async:MS", app.name)
                    })?;
                    store.promise = Some(promise);
                }
                "auth" => {
                    bail!("manifest: a process has its users in a file: kvstore-linux -Y FILE")
                }
                _ => bail!("manifest: {} knows no argument \"{argument}\"", app.name),
            }
        }
        Ok(store)
    }

    /// A command that serves on `port` of the host's loopback interface; 0 for any that is
    /// free. Its first line says which.
    ///
    /// **Blocking** while it is built.
    ///
    /// # Errors
    /// It cannot be built.
    pub fn on_this_host(&self, port: u16) -> Result<Command> {
        let mut command = Command::new(build(PROGRAM)?);
        command.args(self.arguments()).arg(format!("--port={port}"));
        Ok(command)
    }

    /// Its command line in a guest: at memcached's port of any address.
    #[must_use]
    pub fn command(&self) -> String {
        format!("{PROGRAM} --listen=0.0.0.0 {}", self.arguments().join(" "))
    }

    /// Lets `guest` run it.
    ///
    /// **Blocking** while it is built.
    ///
    /// # Errors
    /// It cannot be built.
    pub fn add_to(&self, guest: &mut Guest) -> Result<()> {
        guest.file(&format!("usr/bin/{PROGRAM}"), &build(PROGRAM)?);
        guest.service(PROGRAM, &self.command());
        Ok(())
    }

    fn arguments(&self) -> Vec<String> {
        let Self { threads, memory_mib, seed, connections, udp_kib, promise, echo } = self;
        let mut arguments =
            vec![format!("--threads={threads}"), format!("--memory-mib={memory_mib}")];
        arguments.extend(seed.map(|seed| format!("--seed={seed}")));
        arguments.extend(connections.map(|limit| format!("--connections={limit}")));
        arguments.extend(udp_kib.map(|kib| format!("--udp-kib={kib}")));
        arguments.extend(promise.map(|promise| format!("--promise={promise}")));
        arguments.extend(echo.then(|| "--echo".to_owned()));
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{manifest, workspace};

    #[test]
    fn takes_what_the_manifest_gives_the_application() {
        let mut manifest = manifest::read(&workspace::manifest("default")).unwrap();
        let store = Store::of_manifest(&manifest, 2).unwrap();
        assert_eq!(store, Store::new(2, 32));

        let app = manifest.apps.iter_mut().find(|app| app.image == "kvstore").unwrap();
        app.args = ["memory-mib=8", "seed=7", "connections=9", "udp-kib=5"].map(Into::into).into();
        let store = Store::of_manifest(&manifest, 1).unwrap();
        let (seed, connections, udp_kib) = (Some(7), Some(9), Some(5));
        assert_eq!(store, Store { seed, connections, udp_kib, ..Store::new(1, 8) });
        let command = "kvstore-linux --listen=0.0.0.0 --threads=1 --memory-mib=8 --seed=7 \
                       --connections=9 --udp-kib=5";
        assert_eq!(store.command(), command);

        for wrong in ["seed=x", "memory-mib", "colour=red", "auth=ann:secret"] {
            manifest.apps.iter_mut().for_each(|app| app.args = vec![wrong.into()]);
            assert!(Store::of_manifest(&manifest, 1).is_err(), "{wrong}");
        }
        manifest.apps.clear();
        assert!(Store::of_manifest(&manifest, 1).is_err());
    }
}
