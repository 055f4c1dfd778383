//! Debian's package manager, used without installing anything and without root.
//!
//! apt keeps what it knows of the archive, and what it has fetched, in directories of the
//! system. Both can be named anew on its command line. So this has a directory of its own,
//! in which the lists are renewed; the system's sources, keys and proxy settings are used
//! as they are, and apt checks signatures and sums as always.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::guest::run;
use crate::output::note;

/// How long lists count as new.
const FRESH: Duration = Duration::from_secs(3600);

/// apt, with a directory of its own.
pub(super) struct Apt {
    directory: PathBuf,
}

impl Apt {
    /// apt in `directory`, with lists not older than an hour as far as they can be fetched.
    ///
    /// **Blocking** while they are fetched, with apt's progress on standard error.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub(super) fn with_fresh_lists(directory: PathBuf) -> Result<Self> {
        let apt = Self { directory };
        for part in ["state/lists/partial", "cache/archives/partial"] {
            let part = apt.directory.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
        }
        let stamp = apt.directory.join("renewed");
        let age = fs::metadata(&stamp).and_then(|file| file.modified()).ok();
        if age.and_then(|time| time.elapsed().ok()).is_none_or(|age| age > FRESH) {
            // An empty list of installed packages: what the host has says nothing here.
            fs::write(apt.status(), "").context("cannot write apt's status")?;
            note!("linux: asking apt for its lists of packages, about 15 MB");
            let mut update = apt.command("apt-get");
            update.args(["-q", "--error-on=any", "update"]).stdout(std::io::stderr());
            // One source of several that cannot be reached need not matter. If all cannot,
            // apt knows none of what is asked for next, and says so.
            match run(update, "apt-get update") {
                Ok(()) => fs::write(&stamp, "").context("cannot note when lists were renewed")?,
                Err(error) => note!("linux: {error}; going on with the lists there are"),
            }
        }
        Ok(apt)
    }

    /// `roots`, and of what they depend on, directly or not, the packages whose names begin
    /// with one of `follow`. A package is looked into only if it is taken itself.
    pub(super) fn closure(&self, roots: &[String], follow: &[&str]) -> Result<Vec<String>> {
        let mut command = self.command("apt-cache");
        command.args(["depends", "--recurse", "--important"]).args(roots);
        let output = command.output().context("cannot start apt-cache")?;
        ensure!(
            output.status.success(),
            "apt does not know {}: {}",
            roots.join(", "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        let graph = dependencies(&String::from_utf8_lossy(&output.stdout));
        for root in roots {
            ensure!(graph.contains_key(root), "apt does not know the package {root}");
        }
        Ok(reachable(&graph, roots, follow))
    }

    /// Fetches the current versions of `packages` into `directory`, and returns the files.
    pub(super) fn download(&self, packages: &[String], directory: &Path) -> Result<Vec<PathBuf>> {
        let mut download = self.command("apt-get");
        download.args(["-q", "download"]).args(packages).current_dir(directory);
        download.stdout(std::io::stderr());
        run(download, "apt-get download")?;
        let mut files = Vec::new();
        for file in fs::read_dir(directory)? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                files.push(path);
            }
        }
        files.sort();
        ensure!(
            files.len() == packages.len(),
            "apt-get brought {} packages instead of {}",
            files.len(),
            packages.len()
        );
        Ok(files)
    }

    fn status(&self) -> PathBuf {
        self.directory.join("state/status")
    }

    fn command(&self, program: &str) -> Command {
        let set = |name: &str, path: PathBuf| format!("{name}={}", path.display());
        let mut command = Command::new(program);
        command.env("LC_ALL", "C").stdin(std::process::Stdio::null());
        // Root's apt would fetch as a user of its own, which may not write here.
        for option in [
            "APT::Sandbox::User=root".to_owned(),
            set("Dir::State", self.directory.join("state")),
            set("Dir::State::status", self.status()),
            set("Dir::Cache", self.directory.join("cache")),
        ] {
            command.args(["-o", &option]);
        }
        command
    }
}

/// Unpacks a package's files into `root`; none of its scripts is run.
pub(super) fn unpack(package: &Path, root: &Path) -> Result<()> {
    let mut unpack = Command::new("dpkg");
    unpack.arg("-x").args([package, root]);
    run(unpack, &format!("unpacking {}", package.display()))
}

/// Name and version of a package, from its file's: `NAME_VERSION_ARCHITECTURE.deb`, in
/// which a colon is written `%3a`.
pub(super) fn name_and_version(package: &Path) -> Result<(String, String)> {
    let name = package.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    let mut parts = name.split('_');
    match (parts.next(), parts.next()) {
        (Some(name), Some(version)) if !name.is_empty() => {
            Ok((name.to_owned(), version.replace("%3a", ":")))
        }
        _ => bail!("{} is not called as packages are", package.display()),
    }
}

type Graph = BTreeMap<String, Vec<String>>;

/// What `apt-cache depends --recurse` prints: packages at the beginning of a line, below
/// each its dependencies. Of alternatives the first is taken, and packages that provide
/// another are not.
fn dependencies(text: &str) -> Graph {
    let mut graph = Graph::new();
    let mut package = None;
    let mut alternative = false;
    for line in text.lines() {
        if !line.starts_with([' ', '<']) {
            package = Some(line.trim().to_owned());
            graph.entry(line.trim().to_owned()).or_default();
            alternative = false;
            continue;
        }
        let (Some(package), Some((kind, name))) = (&package, line.split_once("Depends: ")) else {
            continue;
        };
        if !alternative && !name.starts_with('<') {
            graph.entry(package.clone()).or_default().push(name.trim().to_owned());
        }
        alternative = kind.contains('|');
    }
    graph
}

fn reachable(graph: &Graph, roots: &[String], follow: &[&str]) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut open = roots.to_vec();
    while let Some(package) = open.pop() {
        if taken.insert(package.clone()) {
            let next = graph.get(&package).into_iter().flatten();
            open.extend(next.filter(|name| follow.iter().any(|f| name.starts_with(f))).cloned());
        }
    }
    taken.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
memcached
  PreDepends: init-system-helpers
  Depends: lsb-base
    sysvinit-utils
  Depends: <perl:any>
    perl
 |Depends: libevent
  Depends: libevil
  Depends: libc6
libevent
  Depends: libc6
libc6
  Depends: libgcc
libgcc
  Depends: libc6
lsb-base
  Depends: libhidden
<perl:any>
";

    #[test]
    fn takes_what_is_depended_on_and_asked_for() {
        let graph = dependencies(TEXT);
        let roots = ["memcached".to_owned()];
        assert_eq!(reachable(&graph, &roots, &[]), ["memcached"]);
        let libraries = reachable(&graph, &roots, &["lib"]);
        // Not the second alternative, nor what a package depends on that is not taken.
        assert_eq!(libraries, ["libc6", "libevent", "libgcc", "memcached"]);
        assert!(!graph.contains_key("<perl:any>"), "{graph:?}");
    }

    #[test]
    fn reads_versions() {
        let read = |name: &str| name_and_version(Path::new(name)).ok();
        let version = |name: &str, version: &str| Some((name.to_owned(), version.to_owned()));
        assert_eq!(read("/x/libc6_2.36-9_amd64.deb"), version("libc6", "2.36-9"));
        assert_eq!(read("a_1%3a2.0+b1_all.deb"), version("a", "1:2.0+b1"));
        assert_eq!(read("a.deb"), None);
        assert_eq!(read("_1_all.deb"), None);
    }
}
