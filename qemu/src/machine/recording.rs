//! A run of a machine that can be had again, instruction by instruction.
//!
//! QEMU writes down what came to the machine from outside (packets, what was read from the disk, the
//! clock) and after how many instructions. With the same kernel, bundle and disk that makes
//! the same run, so a recording is a folder that has all of them, and the programs with their symbols;
//! nothing of the tree is needed but sources to look at.
//!
//! | file | what it is |
//! |---|---|
//! | `kernel`, `bundle` | what was booted |
//! | `programs/` | the applications' programs, with symbols |
//! | `events` | what came from outside: QEMU's |
//! | `snapshot` | the machine before its first instruction, for a debugger that goes back: QEMU's |
//! | `disk` | the disk as it was before |
//! | `recording.json` | what kind of machine it was |
//!
//! One processor. On the packet path it adds QEMU's `filter-replay`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::config::Config;
use super::emulator::Emulator;
use super::exit::GuestExit;
use crate::{guest, workspace};

/// Of the folder's layout, and of how the machine is made.
const VERSION: u32 = 1;

/// A folder with a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    folder: PathBuf,
    /// Whether it is made, or was.
    is_new: bool,
}

/// What kind of machine it was.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct About {
    version: u32,
    /// The QEMU that wrote the events; another one may not read them.
    emulator: String,
    /// MiB of memory.
    memory: u32,
    /// The program of each application by the application's name, root's included.
    programs: BTreeMap<String, String>,
    /// How it ended. Not there while it runs.
    #[serde(default)]
    pub(crate) end: Option<String>,
}

impl Recording {
    /// A new one of the machine that is to be booted with `config`, whose programs are built.
    ///
    /// # Errors
    /// The folder has something in it, or cannot be written.
    pub(crate) fn create(folder: &Path, config: &Config) -> Result<Self> {
        let used = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
        ensure!(!used, "{} is not empty: name a new folder for the recording", folder.display());
        let recording = Self { folder: folder.to_owned(), is_new: true };
        recording
            .fill(config)
            .with_context(|| format!("cannot make a recording in {}", folder.display()))?;
        Ok(recording)
    }

    fn fill(&self, config: &Config) -> Result<()> {
        fs::create_dir_all(self.folder.join("programs"))?;
        let programs = guest::images_by_name(&config.manifest);
        for image in programs.values() {
            fs::copy(workspace::guest_elf(image), self.program(image))?;
        }
        fs::copy(workspace::guest_elf(guest::KERNEL), self.kernel())?;
        guest::write_bundle(&self.bundle(), &guest::bundle(&config.manifest)?)?;
        if let Some(disk) = &config.disk {
            copy_sparsely(&disk.path, &self.disk())?;
        } else {
            fs::write(self.snapshot(), empty_snapshots())?;
        }
        let about = About {
            version: VERSION,
            emulator: Emulator::find()?.banner().to_owned(),
            memory: config.memory,
            programs,
            end: None,
        };
        self.tell(&about)
    }

    fn tell(&self, about: &About) -> Result<()> {
        let file = self.about();
        let written = fs::write(&file, serde_json::to_string_pretty(about)?);
        written.with_context(|| format!("cannot write {}", file.display()))
    }

    fn read(&self) -> Result<About> {
        let text = fs::read_to_string(self.about());
        let text = text.with_context(|| {
            format!(
                "{} has no recording, as `cargo exo run --record FOLDER` makes",
                self.folder.display()
            )
        })?;
        let about: About = serde_json::from_str(&text)
            .with_context(|| format!("{} cannot be read", self.about().display()))?;
        ensure!(
            about.version == VERSION,
            "{} is a recording of version {}, and this command reads {VERSION}",
            self.folder.display(),
            about.version
        );
        Ok(about)
    }

    /// Makes it whole: its machine has ended, by itself as `exit` says or from outside.
    pub(crate) fn finish(&self, exit: Option<GuestExit>) -> Result<()> {
        let end =
            exit.map_or_else(|| "it was ended from outside".to_owned(), |exit| exit.to_string());
        self.tell(&About { end: Some(end), ..self.read()? })
    }

    /// The one in `folder`, and a machine like the one that it is of.
    ///
    /// # Errors
    /// It is none, is not whole, or is one of another QEMU.
    pub(crate) fn open(folder: &Path) -> Result<(Self, Config, About)> {
        let recording = Self { folder: folder.to_owned(), is_new: false };
        let about = recording.read()?;
        let emulator = Emulator::find()?;
        ensure!(
            about.emulator == emulator.banner(),
            "{} was recorded by \"{}\", and this is \"{}\": EXO_QEMU can name the other",
            folder.display(),
            about.emulator,
            emulator.banner()
        );
        ensure!(
            about.end.is_some(),
            "the recording in {} has no end: its machine still runs, or was killed",
            folder.display()
        );
        let mut config = Config::bare();
        config.memory = about.memory;
        config.shared_memory = true;
        config.recording = Some(recording.clone());
        Ok((recording, config, about))
    }

    /// The kernel that was booted.
    pub(crate) fn kernel(&self) -> PathBuf {
        self.folder.join("kernel")
    }

    /// The bundle that was booted.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.folder.join("bundle")
    }

    /// The program of each application, by the application's name.
    pub(crate) fn programs(&self, about: &About) -> BTreeMap<String, PathBuf> {
        let program = |(name, image): (&String, &String)| (name.clone(), self.program(image));
        about.programs.iter().map(program).collect()
    }

    fn program(&self, image: &str) -> PathBuf {
        self.folder.join("programs").join(image)
    }

    fn about(&self) -> PathBuf {
        self.folder.join("recording.json")
    }

    fn events(&self) -> PathBuf {
        self.folder.join("events")
    }

    fn snapshot(&self) -> PathBuf {
        self.folder.join("snapshot")
    }

    fn disk(&self) -> PathBuf {
        self.folder.join("disk")
    }

    /// Whether it is being made.
    pub(crate) fn is_new(&self) -> bool {
        self.is_new
    }

    /// The disk that QEMU is to read: `own`, the machine's, while recording. None if it has none.
    pub(super) fn image(&self, own: Option<&Path>) -> Option<PathBuf> {
        if self.is_new {
            own.map(Path::to_owned)
        } else {
            Some(self.disk()).filter(|disk| disk.exists())
        }
    }

    /// Whether a debugger can go back. QEMU makes no snapshot of a raw disk.
    pub(super) fn goes_back(&self) -> bool {
        self.snapshot().exists()
    }

    /// QEMU's argument for `-icount`.
    pub(super) fn icount(&self) -> std::ffi::OsString {
        let mode = if self.is_new { "record" } else { "replay" };
        let mut text = std::ffi::OsString::from(format!("shift=0,rr={mode},rrfile="));
        text.push(super::option_value(&self.events()));
        if self.goes_back() {
            text.push(",rrsnapshot=start");
        }
        text
    }

    /// QEMU's argument for `-drive` of the file that has the snapshot.
    pub(super) fn snapshot_drive(&self) -> std::ffi::OsString {
        let mut text = std::ffi::OsString::from("if=none,id=snapshot,format=qcow2,file=");
        text.push(super::option_value(&self.snapshot()));
        text
    }
}

/// Copies a disk; what is all zero takes no room.
fn copy_sparsely(from: &Path, to: &Path) -> Result<()> {
    let mut source = File::open(from)?;
    let mut copy = File::create(to)?;
    copy.set_len(source.metadata()?.len())?;
    let mut piece = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let length = std::io::Read::read(&mut source, &mut piece)?;
        if length == 0 {
            return Ok(());
        }
        if piece[..length].iter().any(|&byte| byte != 0) {
            std::io::Seek::seek(&mut copy, std::io::SeekFrom::Start(at))?;
            copy.write_all(&piece[..length])?;
        }
        at += length as u64;
    }
}

/// An empty disk of 1 MiB in QEMU's own format, into which it writes snapshots
/// (QEMU's docs/interop/qcow2.rst, version 2): header, table of the blocks of reference counts, one
/// such block, and a table of clusters of which there are none.
fn empty_snapshots() -> Vec<u8> {
    const BITS: u32 = 16;
    const CLUSTER: u64 = 1 << BITS;
    let mut bytes = Vec::new();
    bytes.extend(b"QFI\xfb");
    bytes.extend(2_u32.to_be_bytes());
    // Nothing behind it.
    bytes.extend([0; 12]);
    bytes.extend(BITS.to_be_bytes());
    bytes.extend((1_u64 << 20).to_be_bytes());
    // Not encrypted; one entry in the table of clusters, which is the last of four.
    bytes.extend(0_u32.to_be_bytes());
    bytes.extend(1_u32.to_be_bytes());
    bytes.extend((3 * CLUSTER).to_be_bytes());
    bytes.extend(CLUSTER.to_be_bytes());
    bytes.extend(1_u32.to_be_bytes());
    // No snapshots so far.
    bytes.extend([0; 12]);
    bytes.resize(4 * CLUSTER as usize, 0);
    let mut write = |at: u64, value: &[u8]| {
        bytes[at as usize..at as usize + value.len()].copy_from_slice(value);
    };
    write(CLUSTER, &(2 * CLUSTER).to_be_bytes());
    for cluster in 0..4 {
        write(2 * CLUSTER + 2 * cluster, &1_u16.to_be_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_recording_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let error = Recording::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("has no recording"), "{error}");
        fs::write(dir.path().join("mine"), "").unwrap();
        let error = Recording::create(dir.path(), &Config::bare()).unwrap_err().to_string();
        assert!(error.contains("is not empty"), "{error}");
    }

    #[test]
    fn a_disk_is_copied_without_its_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let mut bytes = vec![0; 5 << 20];
        bytes[(3 << 20) + 17] = 9;
        fs::write(&from, &bytes).unwrap();
        copy_sparsely(&from, &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), bytes);
    }
}
