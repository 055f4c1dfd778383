//! Memory that several processes share, in place of what root maps for several applications.
//!
//! `cargo exo run --hosted` starts a process for each application of the manifest, and gives those of
//! a share one file: all map it. A doorbell is a Unix socket beside that file; what is rung at it wakes
//! the process from `park`, as an event does in the machine.
//!
//! There are no capabilities: entry points cannot be offered ([`NotHosted`]).

use core::sync::atomic::AtomicU64;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::string::String;

use exo_abi::{Error, FRAME_BYTES};
use memmap2::MmapRaw;

use super::park;

/// What a process cannot have: the kernel's, or a capability.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotHosted(pub &'static str);

/// A share of this application.
#[derive(Clone, Debug)]
pub struct Share {
    grant: SharePlace,
    words: &'static [AtomicU64],
}

/// Where it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SharePlace {
    /// Its name in the manifest.
    pub name: &'static str,
    /// The file that has its memory.
    pub file: PathBuf,
    /// Which of those that share it this application is.
    pub side: usize,
    /// How many share it.
    pub sides: usize,
}

impl SharePlace {
    /// Reads `NAME:SIDE:SIDES:FILE`.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, ':');
        let name = String::from(parts.next()?).leak();
        let (side, sides) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        (side < sides).then_some(Self { name, side, sides, file: parts.next()?.into() })
    }

    fn bell(&self, side: usize) -> PathBuf {
        let mut path = self.file.clone().into_os_string();
        path.push(std::format!(".bell{side}"));
        path.into()
    }
}

impl Share {
    /// Maps it.
    pub(super) fn open(grant: &SharePlace) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(&grant.file)?;
        let map = MmapRaw::map_raw(&file)?;
        let count =
            map.len() / FRAME_BYTES as usize * FRAME_BYTES as usize / size_of::<AtomicU64>();
        let first = map.as_mut_ptr().cast::<AtomicU64>();
        // For the process's whole life.
        core::mem::forget(map);
        // SAFETY: so many bytes were mapped there, page aligned, and are never unmapped; the command
        // that made the file does not cut it. All of it is used as atomics, here and by the others.
        let words = unsafe { core::slice::from_raw_parts(first, count) };
        Ok(Self { grant: grant.clone(), words })
    }

    /// Its name in the manifest.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.grant.name
    }

    /// The memory, zeroed at first: as much as the machine's applications have of it.
    #[must_use]
    pub fn words(&self) -> &'static [AtomicU64] {
        self.words.get(crate::start::SHARE_HEADER..).unwrap_or_default()
    }

    /// Which of the manifest's `apps` this application is, counted from zero.
    #[must_use]
    pub fn side(&self) -> usize {
        self.grant.side
    }

    /// How many applications share it.
    #[must_use]
    pub fn sides(&self) -> usize {
        self.grant.sides
    }

    /// Lets all others ring.
    ///
    /// # Errors
    /// [`Error::NotFree`] if the host has no socket or thread for it.
    pub fn open_bell(&self) -> Result<(), Error> {
        let bell = listen(&self.grant.bell(self.side())).map_err(|_| Error::NotFree)?;
        let spawned = std::thread::Builder::new().name(String::from("bell")).spawn(move || {
            let mut nothing = [0];
            while bell.recv(&mut nothing).is_ok() {
                park::notify();
            }
        });
        spawned.map(drop).map_err(|_| Error::NotFree)
    }

    /// Rings at `side`. False if it has not opened a bell.
    ///
    /// # Errors
    /// None here; in the machine the kernel's refusal.
    pub fn ring(&self, side: usize) -> Result<bool, Error> {
        let Ok(socket) = UnixDatagram::unbound() else { return Err(Error::NotFree) };
        Ok(socket.send_to(&[1], self.grant.bell(side)).is_ok())
    }

    /// Entry points are capabilities, which a process has none of.
    ///
    /// # Errors
    /// Always [`NotHosted`].
    pub fn offer(&self, _: exo_abi::Handle) -> Result<(), NotHosted> {
        Err(NotHosted("an entry point"))
    }
}

fn listen(path: &Path) -> io::Result<UnixDatagram> {
    let _ = std::fs::remove_file(path);
    UnixDatagram::bind(path)
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::hosted::HostPark;
    use crate::sched::Park;

    #[test]
    fn two_sides_have_one_memory_and_wake_each_other() {
        let folder = std::env::temp_dir().join(std::format!("exo-share-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("ring");
        std::fs::File::create(&file).unwrap().set_len(4096).unwrap();
        let side = |side| {
            let place = SharePlace::read(&std::format!("ring:{side}:2:{}", file.display()));
            Share::open(&place.unwrap()).unwrap()
        };
        let (one, other) = (side(0), side(1));
        one.words()[3].store(7, Relaxed);
        assert_eq!((other.words()[3].load(Relaxed), other.side(), other.sides()), (7, 1, 2));
        assert_eq!(one.ring(1), Ok(false), "there is no bell");
        other.open_bell().unwrap();
        let mut park = HostPark;
        let seen = park.seen();
        assert_eq!(one.ring(1), Ok(true));
        park.park(seen, None);
        assert!(other.offer(exo_abi::Handle::NONE).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(SharePlace::read("ring:2:2:x").is_none() && SharePlace::read("ring").is_none());
    }
}
