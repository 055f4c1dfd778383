//! Debian's kernel for virtual machines, and its modules.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use object::Endianness;
use object::read::elf::ElfFile64;
use object::read::{Object, ObjectSection};

use super::packages::{Packages, Set};

/// How file names of kernels begin.
const KERNEL: &str = "vmlinuz-";

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub struct Kernel {
    image: PathBuf,
    release: String,
    packages: Option<Packages>,
}

/// A module, as (name, contents), the file uncompressed.
pub(super) type Module = (String, Vec<u8>);

impl Kernel {
    /// The kernel that the package `linux-image-cloud-amd64` stands for: the one kept, or
    /// the current one. To fetch the current one, remove `target/linux/kernel`.
    ///
    /// **Blocking** while it is fetched.
    ///
    /// # Errors
    /// It is not kept and cannot be fetched.
    pub fn of_distribution() -> Result<Self> {
        let packages = Packages::require(&Set {
            name: "kernel",
            roots: &["linux-image-cloud-amd64"],
            follow: &["linux-image-"],
            megabytes: 27,
        })?;
        let image = last_kernel(&packages.root().join("boot"))?;
        let name = image.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let release = name.trim_start_matches(KERNEL).to_owned();
        Ok(Self { image, release, packages: Some(packages) })
    }

    /// Any kernel, without modules.
    #[must_use]
    pub fn from_file(image: &Path) -> Self {
        let name = image.file_name().unwrap_or_default().to_string_lossy();
        let release = name.trim_start_matches(KERNEL).to_owned();
        Self { image: image.to_owned(), release, packages: None }
    }

    /// The file to boot.
    #[must_use]
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// The release, as `uname -r` prints it.
    #[must_use]
    pub fn release(&self) -> &str {
        &self.release
    }

    /// The version of the package that holds it, if it is one.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.packages.as_ref()?.version(&format!("linux-image-{}", self.release))
    }

    /// What it takes to build modules for this very kernel: its headers, kbuild, and what
    /// kbuild's own programs need to run, below `usr`. The compiler is the host's.
    ///
    /// Debian's files name each other by absolute paths (`/usr/src/…`), and here they lie
    /// in [`Packages::root`]: the build has to say so.
    ///
    /// **Blocking** while they are fetched.
    ///
    /// # Errors
    /// They cannot be fetched. The archive holds those of its current kernel only, which
    /// may be newer than the one kept.
    pub fn headers(&self) -> Result<Packages> {
        let root = format!("linux-headers-{}", self.release);
        let set = Set {
            name: &format!("headers-{}", self.release),
            roots: &[&root],
            follow: &["linux-headers-", "linux-kbuild-", "linux-compiler-", "lib", "zlib"],
            megabytes: 15,
        };
        Packages::require(&set).with_context(|| {
            format!(
                "no headers for the kernel {}; if the archive has gone on to a newer kernel, \
                 remove {} to fetch that",
                self.release,
                super::packages::directory().join("kernel").display()
            )
        })
    }

    /// The modules `names` and those they depend on, in an order in which they can be
    /// inserted.
    pub(super) fn modules(&self, names: &[String]) -> Result<Vec<Module>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let Some(packages) = &self.packages else {
            bail!("{} comes without modules, and {} are needed", self.release, names.join(", "));
        };
        let directory = packages.root().join("lib/modules").join(&self.release);
        let usr = packages.root().join("usr/lib/modules").join(&self.release);
        let files = index(if directory.is_dir() { &directory } else { &usr })?;
        let mut ordered = Vec::new();
        for name in names {
            insert(&mut ordered, &files, &canonical(name), 0)?;
        }
        Ok(ordered)
    }
}

/// Puts a module behind those it depends on.
fn insert(
    ordered: &mut Vec<Module>,
    files: &BTreeMap<String, PathBuf>,
    name: &str,
    depth: u32,
) -> Result<()> {
    if ordered.iter().any(|(known, _)| known == name) {
        return Ok(());
    }
    ensure!(depth < 32, "modules depend on each other in a circle at {name}");
    let Some(file) = files.get(name) else { bail!("the kernel has no module {name}") };
    let contents = read_module(file)?;
    let dependencies = dependencies(&contents).with_context(|| format!("{}", file.display()))?;
    for dependency in dependencies {
        insert(ordered, files, &dependency, depth + 1)?;
    }
    ordered.push((name.to_owned(), contents));
    Ok(())
}

/// The module files below a directory by name.
fn index(directory: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        let entries = fs::read_dir(&directory);
        for entry in entries.with_context(|| format!("{}", directory.display()))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            } else if let Some((name, _)) = name.split_once(".ko") {
                files.insert(canonical(name), entry.path());
            }
        }
    }
    Ok(files)
}

/// Newer distributions compress modules.
fn read_module(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_some_and(|extension| extension == "xz") {
        let output = Command::new("xz").arg("-dc").arg(file).output();
        let output = output.context("cannot start xz, which this kernel's modules need")?;
        ensure!(output.status.success(), "xz cannot unpack {}", file.display());
        return Ok(output.stdout);
    }
    fs::read(file).with_context(|| format!("{}", file.display()))
}

/// The modules that a module says it depends on, in its section `.modinfo`.
fn dependencies(module: &[u8]) -> Result<Vec<String>> {
    let elf = ElfFile64::<Endianness>::parse(module).context("not an ELF file")?;
    let section = elf.section_by_name(".modinfo").context("it has no section .modinfo")?;
    let mut fields = section.data()?.split(|&byte| byte == 0);
    let Some(list) = fields.find_map(|field| field.strip_prefix(b"depends=")) else {
        return Ok(Vec::new());
    };
    let names = std::str::from_utf8(list)?.split(',').filter(|name| !name.is_empty());
    Ok(names.map(canonical).collect())
}

/// Names of modules and of their files differ in this.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// The last kernel of a directory, by name.
fn last_kernel(directory: &Path) -> Result<PathBuf> {
    let mut found = None;
    for file in fs::read_dir(directory).with_context(|| format!("{}", directory.display()))? {
        let file = file?;
        if file.file_name().to_str().is_some_and(|name| name.starts_with(KERNEL)) {
            found = found.max(Some(file.path()));
        }
    }
    found.with_context(|| format!("no {KERNEL}* in {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_last_kernel() {
        let directory = tempfile::tempdir().unwrap();
        assert!(last_kernel(directory.path()).is_err());
        for name in ["vmlinuz-6.1.0-56", "vmlinuz-6.1.0-55", "zImage", "config-7"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        let last = directory.path().join("vmlinuz-6.1.0-56");
        assert_eq!(last_kernel(directory.path()).unwrap(), last);
    }

    #[test]
    fn indexes_modules_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("kernel/drivers");
        fs::create_dir_all(&deep).unwrap();
        for name in ["virtio_ring.ko", "virtio-rng.ko.xz", "modules.order"] {
            fs::write(deep.join(name), "").unwrap();
        }
        let names: Vec<_> = index(directory.path()).unwrap().into_keys().collect();
        assert_eq!(names, ["virtio_ring", "virtio_rng"]);
    }

    #[test]
    fn a_kernel_without_modules_says_so() {
        let kernel = Kernel::from_file(Path::new("/boot/vmlinuz-6.1.0-56-cloud-amd64"));
        assert_eq!(kernel.release(), "6.1.0-56-cloud-amd64");
        assert!(kernel.modules(&[]).unwrap().is_empty());
        let error = kernel.modules(&["virtio_net".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("virtio_net"), "{error}");
    }
}
