//! The applications of a manifest as processes of this host: the library's second platform
//! (`libos::hosted`).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use root::manifest::{Elevate, OnExit};
use tempfile::TempDir;

use crate::disk::Place;
use crate::manifest::{App, Manifest, Transport};
use crate::signals::Signals;
use crate::{guest, workspace};

/// How often to look whether a process has ended.
const GLANCE: Duration = Duration::from_millis(10);

/// Flags of everything that runs as a process of the host.
const RUSTFLAGS: &str = "--cfg exo_hosted";

/// The processes that the applications of a manifest become, and the files that these share.
pub(crate) struct Processes {
    commands: Vec<Command>,
    /// Index of those with whose end all end.
    decisive: Vec<usize>,
    files: TempDir,
}

impl Processes {
    /// Builds the applications of `manifest`, programs of this tree or of the package in the folder
    /// `outside`; `disk` is a file for the one that has an extent of the disk.
    ///
    /// # Errors
    /// What the manifest gives them cannot be had here.
    pub(crate) fn new(
        manifest: &Manifest,
        outside: Option<&Path>,
        disk: Option<&Place>,
    ) -> Result<Self> {
        let files = tempfile::Builder::new().prefix("exo-hosted-").tempdir()?;
        for share in &manifest.shares {
            let file = std::fs::File::create(files.path().join(&share.name))?;
            file.set_len(u64::from(share.pages) * exo_abi::FRAME_BYTES)?;
        }
        let wanted = manifest.apps.iter().filter(|app| app.disk.is_some()).count();
        ensure!(
            wanted <= 1 || disk.is_none(),
            "--disk: one file, and {wanted} applications want it"
        );
        if let Some(disk) = disk {
            ensure!(wanted == 1, "--disk: no application of this manifest has a `disk`");
            disk.provide_blank()?;
        }
        let mut built = BTreeSet::new();
        let mut commands = Vec::new();
        for app in &manifest.apps {
            ensure!(
                app.elevate == Elevate::Never,
                "\"{}\": `elevate` is nothing that a process of the host could have",
                app.name
            );
            if built.insert(&app.image) {
                build(app, outside)?;
            }
            let program = target_dir().join("release").join(&app.image);
            let there = program.is_file();
            ensure!(there, "cargo built \"{}\", but not to {}", app.image, program.display());
            let mut command = Command::new(program);
            command.args(arguments(manifest, app, files.path(), disk));
            commands.push(command);
        }
        let ends = |app: &App| app.on_exit == OnExit::PowerOff;
        let decisive = (0..).zip(&manifest.apps).filter(|(_, app)| ends(app));
        Ok(Self { commands, decisive: decisive.map(|(index, _)| index).collect(), files })
    }

    /// The commands, to be shown.
    pub(crate) fn commands(&self) -> &[Command] {
        &self.commands
    }

    /// The only one, if it shares nothing: this process can become it.
    pub(crate) fn alone(&mut self) -> Option<&mut Command> {
        let is_empty = std::fs::read_dir(self.files.path()).is_ok_and(|mut it| it.next().is_none());
        match self.commands.as_mut_slice() {
            [command] if is_empty => Some(command),
            _ => None,
        }
    }

    /// Starts all, and ends them when one has ended that the manifest ends the machine with, or when
    /// none is left. Returns that one's code, as the machine would.
    ///
    /// **Blocking** until then.
    pub(crate) fn run(mut self, signals: &Signals) -> Result<u8> {
        let mut children = Vec::new();
        let ended = (|| {
            for command in &mut self.commands {
                children.push(command.spawn().context("cannot start the application")?);
            }
            loop {
                let mut running = 0;
                for (index, child) in children.iter_mut().enumerate() {
                    let Some(status) = child.try_wait()? else {
                        running += 1;
                        continue;
                    };
                    if self.decisive.contains(&index) {
                        return Ok(status
                            .code()
                            .and_then(|code| code.try_into().ok())
                            .unwrap_or(126));
                    }
                }
                if running == 0 {
                    return Ok(0);
                }
                signals.check()?;
                std::thread::sleep(GLANCE);
            }
        })();
        for child in &mut children {
            let _ = child.kill();
            let _ = child.wait();
        }
        ended
    }
}

/// What the process is told: see `libos::hosted::Grant`. `files` is where shares are.
fn arguments(manifest: &Manifest, app: &App, files: &Path, disk: Option<&Place>) -> Vec<OsString> {
    let mut arguments = vec![
        format!("--name={}", app.name),
        format!("--frames={}", app.frames),
        format!("--gateway={}", Ipv4Addr::from(manifest.gateway)),
        format!("--prefix={}", manifest.prefix_len),
    ];
    arguments.extend(app.address.map(|address| format!("--address={}", Ipv4Addr::from(address))));
    let udp = app.forward.iter().filter(|forward| forward.transport == Transport::Udp);
    arguments.extend(udp.map(|forward| format!("--udp={}:{}", forward.guest, forward.host)));
    let mut arguments: Vec<OsString> = arguments.into_iter().map(OsString::from).collect();
    for share in &manifest.shares {
        let Some(side) = share.apps.iter().position(|name| *name == app.name) else { continue };
        let (name, sides) = (&share.name, share.apps.len());
        let mut argument = OsString::from(format!("--share={name}:{side}:{sides}:"));
        argument.push(files.join(name));
        arguments.push(argument);
    }
    if let Some(disk) = disk.filter(|_| app.disk.is_some()) {
        let mut argument = OsString::from("--disk=");
        argument.push(&disk.path);
        arguments.push(argument);
    }
    arguments.push("--".into());
    arguments.extend(app.args.iter().map(OsString::from));
    arguments
}

/// Builds the program of an application.
fn build(app: &App, outside: Option<&Path>) -> Result<()> {
    let mut command = workspace::cargo();
    command.args(["build", "--release", "--bin", &app.image, "--target-dir"]).arg(target_dir());
    command.env("RUSTFLAGS", RUSTFLAGS).env_remove("CARGO_ENCODED_RUSTFLAGS");
    match outside {
        Some(folder) => {
            command.args(guest::outside_arguments(folder)?);
        }
        None => {
            let programs = guest::programs(workspace::metadata()?);
            let known: BTreeSet<_> = programs.iter().map(|(_, program)| program.as_str()).collect();
            let package = programs.iter().find(|(_, program)| *program == app.image);
            let (package, _) = package.with_context(|| {
                format!("manifest: no program is called \"{}\"; there are {known:?}", app.image)
            })?;
            command.args(["--package", package]);
        }
    }
    guest::run(command, "building the application as a process of the host").context(
        "an application runs there if it asks for nothing but what `libos::hosted` has, in a module \
         for `cfg(any(exo_guest, exo_hosted))`: docs/libos/hosted.md",
    )
}

fn target_dir() -> std::path::PathBuf {
    workspace::target_dir().join("hosted")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;

    const OWN: &str = "gateway = \"10.0.2.2\"\nprefix_len = 24\n[[app]]\nname = \"mine\"\n\
        frames = 1024\nslots = 16\ngrants = [\"console\", \"net\"]\naddress = \"10.0.2.15\"\n\
        forward = [\"udp:9999:8888\", \"tcp:80\"]\nargs = [\"a=b\"]\n";

    fn told(manifest: &str, app: usize, disk: Option<&Place>) -> Vec<OsString> {
        let manifest = manifest::parse(manifest).unwrap();
        arguments(&manifest, &manifest.apps[app], Path::new("/files"), disk)
    }

    #[test]
    fn the_process_is_told_what_the_manifest_says() {
        let expected = [
            "--name=mine",
            "--frames=1024",
            "--gateway=10.0.2.2",
            "--prefix=24",
            "--address=10.0.2.15",
            "--udp=9999:8888",
            "--",
            "a=b",
        ];
        assert_eq!(told(OWN, 0, None), expected);
        let disk = OWN.replace("args = [\"a=b\"]", "disk = \"log:16M\"");
        let place = Place { path: "/a b".into(), sectors: None };
        assert!(told(&disk, 0, Some(&place)).contains(&"--disk=/a b".into()));
        assert_eq!(told(OWN, 0, Some(&place)), expected, "it has no extent");
    }

    #[test]
    fn each_side_of_a_share_is_told_where_it_is() {
        let pair = include_str!("scaffold/templates/pair.toml").replace("NAME", "mine");
        assert!(told(&pair, 0, None).contains(&"--share=ring:0:2:/files/ring".into()));
        assert!(told(&pair, 1, None).contains(&"--share=ring:1:2:/files/ring".into()));
    }

    #[test]
    fn what_a_process_cannot_have_is_said() {
        let elevated = OWN.replace("args = [\"a=b\"]", "elevate = \"serve\"");
        let manifest = manifest::parse(&elevated).unwrap();
        let error = Processes::new(&manifest, None, None).err().unwrap().to_string();
        assert!(error.contains("`elevate`"), "{error}");
        let place = Place { path: "/a".into(), sectors: None };
        let manifest = manifest::parse(OWN).unwrap();
        let error = Processes::new(&manifest, None, Some(&place)).err().unwrap().to_string();
        assert!(error.contains("no application of this manifest"), "{error}");
    }
}
