//! An application of a manifest as a process of this host: the library's second platform
//! (`libos::hosted`).

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::manifest::{App, Manifest, Transport};
use crate::{guest, workspace};

/// Flags of everything that runs as a process of the host.
const RUSTFLAGS: &str = "--cfg exo_hosted";

/// Builds the one application of `manifest`, a program of this tree or of the package in the folder
/// `outside`. Returns the command that runs it.
///
/// # Errors
/// There are several applications, or what the manifest gives them cannot be had here.
pub(crate) fn command(manifest: &Manifest, outside: Option<&Path>) -> Result<Command> {
    let [app] = manifest.apps.as_slice() else {
        bail!(
            "a process of the host is one application, and the manifest has {}: a kernel is what \
             lets several meet",
            manifest.apps.len()
        );
    };
    ensure!(
        manifest.shares.is_empty(),
        "`[[share]]` is nothing that a process of the host could have: capabilities are the kernel's"
    );
    ensure!(app.disk.is_none(), "`disk` is nothing that a process of the host could have");
    build(app, outside)?;
    let program = target_dir().join("release").join(&app.image);
    ensure!(program.is_file(), "cargo built \"{}\", but not to {}", app.image, program.display());
    let mut command = Command::new(program);
    command.args(arguments(manifest, app));
    Ok(command)
}

/// What the process is told: see `libos::hosted::Grant`.
fn arguments(manifest: &Manifest, app: &App) -> Vec<String> {
    let mut arguments = vec![
        format!("--name={}", app.name),
        format!("--frames={}", app.frames),
        format!("--gateway={}", Ipv4Addr::from(manifest.gateway)),
        format!("--prefix={}", manifest.prefix_len),
    ];
    arguments.extend(app.address.map(|address| format!("--address={}", Ipv4Addr::from(address))));
    let udp = app.forward.iter().filter(|forward| forward.transport == Transport::Udp);
    arguments.extend(udp.map(|forward| format!("--udp={}:{}", forward.guest, forward.host)));
    arguments.push("--".to_owned());
    arguments.extend(app.args.iter().cloned());
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

    #[test]
    fn the_process_is_told_what_the_manifest_says() {
        let manifest = manifest::parse(OWN).unwrap();
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
        assert_eq!(arguments(&manifest, &manifest.apps[0]), expected);
    }

    #[test]
    fn what_a_process_cannot_have_is_said() {
        let several = std::fs::read_to_string(workspace::manifest("default")).unwrap();
        let error = command(&manifest::parse(&several).unwrap(), None).unwrap_err().to_string();
        assert!(error.contains("the manifest has 2"), "{error}");
        let disk = OWN.replace("args = [\"a=b\"]", "disk = \"log:16M\"");
        let error = command(&manifest::parse(&disk).unwrap(), None).unwrap_err().to_string();
        assert!(error.contains("`disk`"), "{error}");
    }
}
