//! fio as packaged, as the service of a guest: writes to its disk when it is told to.
//!
//! A connection to memcached's port is a conversation of lines: the name of an I/O engine and a
//! number. fio then writes so many blocks of 4 KiB at random places of the disk, one at a time, past
//! the page cache (`O_DIRECT`), each made durable with `fdatasync` before the next; the answer is
//! `done`.

use anyhow::Result;

use super::guest::Guest;
use super::packages::{Packages, Set};

/// What is run for a line.
const COMMAND: &str = "fio --name=w --filename=/dev/vda --direct=1 --rw=randwrite --bs=4k \
                       --iodepth=1 --fdatasync=1 --size=128m --randrepeat=1 --thread \
                       --ioengine=$engine --number_ios=$count";

/// fio and what it needs.
#[derive(Clone, Copy, Debug)]
pub struct Fio;

impl Fio {
    /// Its packages, and the libraries they need.
    ///
    /// **Blocking** while they are fetched.
    ///
    /// # Errors
    /// They are not kept and cannot be fetched.
    pub fn packages() -> Result<Packages> {
        Packages::require(&Set {
            name: "fio",
            roots: &["fio"],
            follow: &["lib", "zlib"],
            megabytes: 40,
        })
    }

    /// Its version and command line.
    ///
    /// # Errors
    /// As for [`Fio::packages`].
    pub fn facts() -> Result<Vec<String>> {
        let packages = Self::packages()?;
        Ok(vec![format!("fio {}: {COMMAND}", packages.version("fio").unwrap_or("unknown"))])
    }

    /// Lets `guest` run it, on a machine that has a disk.
    ///
    /// # Errors
    /// As for [`Fio::packages`].
    pub fn add_to(self, guest: &mut Guest) -> Result<()> {
        guest.module("virtio_mmio");
        guest.module("virtio_blk");
        guest.program(&Self::packages()?, "usr/bin/fio")?;
        guest.text(
            "serve.sh",
            &format!(
                "while read engine count; do\n\
                 if {COMMAND} >/tmp/out 2>&1; then echo done; else cat /tmp/out; fi\ndone\n"
            ),
        );
        guest.command("for i in 1 2 3 4 5 6 7 8 9 0; do [ -e /dev/vda ] && break; sleep 0.2; done");
        guest.service("fio", "nc -ll -p 11211 -e sh /serve.sh");
        guest.command(
            "for i in 1 2 3 4 5 6 7 8 9 0; do netstat -ltn | grep -q :11211 && break; sleep 0.2; done",
        );
        Ok(())
    }
}
