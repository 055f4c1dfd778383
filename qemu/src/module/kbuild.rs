//! The kernel's own build system, over headers that are unpacked and not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::NAME;
use crate::guest::run;
use crate::linux::{Kernel, Packages};
use crate::output::note;
use crate::prerequisites::{LIBELF, MAKE, Program};
use crate::workspace;

/// Builds the module of the C files in `apps/kvstore-module/linux` and of `store`, an
/// assembler text, below `directory`; where it is.
pub(super) fn build(kernel: &Kernel, store: &str, directory: &Path) -> Result<PathBuf> {
    let headers = kernel.headers()?;
    let tree = Tree::of(&headers, kernel.release())?;
    for program in [MAKE, LIBELF, tree.compiler] {
        program.require()?;
    }
    // A directory for each kernel: what was built for another one is not reused.
    let build = directory.join(kernel.release());
    fs::create_dir_all(&build).with_context(|| format!("cannot make {}", build.display()))?;
    let sources = workspace::root().join("apps/kvstore-module/linux");
    for file in fs::read_dir(&sources).with_context(|| format!("{}", sources.display()))? {
        let file = file?;
        update(&build.join(file.file_name()), &fs::read(file.path())?)?;
    }
    renew_store(&build, store)?;

    note!("module: building it for Linux {}", kernel.release());
    if let Err(error) = make(&tree, &build) {
        // Else the next call would find it made, and say nothing of warnings.
        let _ = fs::remove_dir_all(&build);
        return Err(error);
    }
    let module = directory.join(NAME).with_extension("ko");
    let mut strip = Command::new("objcopy");
    strip.arg("--strip-debug").arg(build.join(NAME).with_extension("ko")).arg(&module);
    run(strip, "objcopy")?;
    Ok(module)
}

/// Runs make. Warnings are errors: `objtool` has no other way to say that the kernel could
/// not unwind a stack or make a jump safe.
fn make(tree: &Tree, build: &Path) -> Result<()> {
    let mut make = Command::new(MAKE.name);
    make.arg("-C").arg(&tree.objects).arg("-f").arg(&tree.makefile);
    make.arg(format!("CC={}", tree.compiler.name)).arg(format!("M={}", build.display()));
    make.args(["KCFLAGS=-Werror", "modules"]);
    // What a make around this one says to its own children is not for this one.
    make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env("LC_ALL", "C");
    let output = make.stdin(Stdio::null()).output().context("cannot start make")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let place = build.display().to_string();
    let warned = errors.lines().any(|line| line.starts_with(&place) && line.contains("warning"));
    ensure!(
        output.status.success() && !warned,
        "the kernel's build system does not take the module:\n{}{errors}",
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(())
}

/// Where a kernel's headers are, once unpacked.
#[derive(Debug)]
struct Tree {
    /// The directory for this kernel.
    objects: PathBuf,
    /// The make file for all kernels of its version. That of `objects` includes it by the
    /// absolute path that it has where it is installed.
    makefile: PathBuf,
    /// What the kernel was compiled with.
    compiler: Program,
}

impl Tree {
    fn of(headers: &Packages, release: &str) -> Result<Self> {
        let sources = headers.root().join("usr/src");
        let objects = sources.join(format!("linux-headers-{release}"));
        let stub = headers.file(&format!("usr/src/linux-headers-{release}/Makefile"))?;
        let stub = fs::read_to_string(&stub).with_context(|| format!("{}", stub.display()))?;
        let Some(common) = common_directory(&stub) else {
            bail!("no `include /usr/src/…/Makefile` in the headers of {release}");
        };
        let makefile = headers.file(&format!("usr/src/{common}/Makefile"))?;
        let config = fs::read_to_string(objects.join(".config")).unwrap_or_default();
        let compiler = match gcc_version(&config) {
            Some(12) => Program { name: "gcc-12", package: "gcc-12", elsewhere: &[] },
            Some(13) => Program { name: "gcc-13", package: "gcc-13", elsewhere: &[] },
            Some(14) => Program { name: "gcc-14", package: "gcc-14", elsewhere: &[] },
            _ => Program { name: "gcc", package: "gcc", elsewhere: &[] },
        };
        Ok(Self { objects, makefile, compiler })
    }
}

/// The directory below `/usr/src` whose make file that of the headers includes.
fn common_directory(makefile: &str) -> Option<&str> {
    makefile
        .lines()
        .find_map(|line| line.strip_prefix("include /usr/src/")?.strip_suffix("/Makefile"))
}

/// The major version of the compiler that a kernel's configuration tells of.
fn gcc_version(config: &str) -> Option<u32> {
    let number = config.lines().find_map(|line| line.strip_prefix("CONFIG_GCC_VERSION="))?;
    Some(number.trim().parse::<u32>().ok()? / 10_000)
}

/// Writes the store's assembler text. The assembler includes it, which the kernel's build system
/// does not see: what it has made of another text has to go.
fn renew_store(build: &Path, store: &str) -> Result<()> {
    let (text, object) = (build.join("store.asm"), build.join("store.o"));
    if update(&text, store.as_bytes())? && object.exists() {
        fs::remove_file(&object).with_context(|| format!("cannot remove {}", object.display()))?;
    }
    Ok(())
}

/// Writes a file if its contents change, so that make sees what did; whether they do.
fn update(path: &Path, contents: &[u8]) -> Result<bool> {
    if fs::read(path).is_ok_and(|old| old == contents) {
        return Ok(false);
    }
    fs::write(path, contents).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another store is another module, although make does not know what the assembler reads.
    #[test]
    fn what_was_made_of_another_store_goes() {
        let dir = tempfile::tempdir().unwrap();
        let object = dir.path().join("store.o");
        renew_store(dir.path(), "nop").unwrap();
        fs::write(&object, "made").unwrap();
        renew_store(dir.path(), "nop").unwrap();
        assert!(object.exists());
        renew_store(dir.path(), "ret").unwrap();
        assert!(!object.exists());
    }

    #[test]
    fn reads_what_debian_says_of_its_kernel() {
        let stub = "include /usr/src/linux-headers-6.1.0-56-common/Makefile\n";
        assert_eq!(common_directory(stub), Some("linux-headers-6.1.0-56-common"));
        assert_eq!(common_directory("all:\n"), None);
        assert_eq!(gcc_version("A=1\nCONFIG_GCC_VERSION=120200\n"), Some(12));
        assert_eq!(gcc_version("CONFIG_GCC_VERSION=lots\n"), None);
    }

    #[test]
    fn an_unchanged_file_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("f");
        update(&file, b"one").unwrap();
        let old = fs::metadata(&file).unwrap().modified().unwrap();
        update(&file, b"one").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), old);
        update(&file, b"two").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
    }
}
