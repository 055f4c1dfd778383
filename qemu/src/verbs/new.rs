//! `cargo exo new`: a package to begin with.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::output::say;
use crate::scaffold::{self, Kind};
use crate::{shell, workspace};

/// Make an application or an abstraction of one's own, ready to be built, run and tested
///
/// Everything is in one folder, its boot manifest included: remove that, and nothing is left.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to make
    #[arg(value_enum)]
    kind: Kind,
    /// What to call it, also as a package: small letters, digits, - and _, at most 16, a letter first;
    /// no package of this tree may be called so, nor be replaced by one outside of it
    name: String,
    /// The folder to make it in; outside of this tree, as a workspace of its own
    /// [default: apps/NAME]
    #[arg(long, value_name = "FOLDER")]
    path: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let Args { kind, name, path } = args;
    let folder = path.clone().unwrap_or_else(|| workspace::root().join("apps").join(name));
    let outside = !is_in_apps(&folder)?;
    scaffold::make(*kind, name, &folder, outside)?;
    let shown = shell::quote(folder.as_os_str());
    let what = kind.about();
    let what = what
        .split_at_checked(1)
        .map_or_else(String::new, |(first, rest)| first.to_lowercase() + rest);
    say!("{shown}: {what}, and how to boot it ({name}.toml)")?;
    let (to_run, to_lint, to_test) = if outside {
        let app = format!("--app {shown}");
        (app.clone(), app, format!("--manifest-path {shown}/Cargo.toml"))
    } else {
        (name.clone(), format!("--package {name}"), format!("--package {name}"))
    };
    say!("  cargo exo run {to_run}")?;
    if kind.is_tested() {
        say!("  cargo test {to_test}")?;
    }
    say!(
        "  cargo exo measure {to_run}{}",
        if kind.is_in_stock() { " --against stock" } else { "" }
    )?;
    say!("  cargo exo lint {to_lint}")?;
    Ok(ExitCode::SUCCESS)
}

/// Whether a package there is a member of this workspace.
fn is_in_apps(folder: &Path) -> Result<bool> {
    let folder = std::path::absolute(folder).context("no such folder")?;
    Ok(folder.parent() == Some(&workspace::root().join("apps")))
}
