//! Redis as packaged, as the service of a guest, with its log on a disk.
//!
//! The disk is the machine's virtio block device, with ext4 as `mke2fs` makes it. Redis answers a
//! SET when its log is synchronised (`appendfsync always`): it writes what a turn of its event loop
//! has changed, calls `fdatasync`, and sends the answers. It makes no snapshots. It listens at
//! memcached's port, so that all else of the machine is as it is for the others.

use anyhow::Result;

use super::guest::Guest;
use super::packages::{Packages, Set};

/// Its command line: one process, on memcached's port of any address.
const COMMAND: &str = "redis-server --port 11211 --bind 0.0.0.0 --protected-mode no \
                           --dir /disk --appendonly yes --appendfsync always --save '' \
                           --loglevel warning";
/// How the file system of a guest's disk is made and mounted. By its path: the shell would take its
/// own command of that name, which knows no ext4.
const MAKE: &str = "/sbin/mke2fs -q -F -t ext4 /dev/vda";
const MOUNT: &str = "mkdir -p /disk && mount -t ext4 -o noatime /dev/vda /disk";

/// Redis and what it needs.
#[derive(Clone, Copy, Debug)]
pub struct Redis;

impl Redis {
    /// Its packages, and the libraries they need.
    ///
    /// **Blocking** while they are fetched.
    ///
    /// # Errors
    /// They are not kept and cannot be fetched.
    pub fn packages() -> Result<Packages> {
        Packages::require(&Set {
            name: "redis",
            roots: &["redis-server", "redis-tools", "e2fsprogs"],
            follow: &["lib", "zlib"],
            megabytes: 15,
        })
    }

    /// Its version, command line and file system.
    ///
    /// # Errors
    /// As for [`Redis::packages`].
    pub fn facts() -> Result<Vec<String>> {
        let packages = Self::packages()?;
        let version = packages.version("redis-server").unwrap_or("unknown");
        Ok(vec![format!("Redis {version}: {COMMAND}"), format!("{MAKE}; {MOUNT}")])
    }

    /// Lets `guest` run it, on a machine that has a disk with nothing on it.
    ///
    /// # Errors
    /// As for [`Redis::packages`].
    pub fn add_to(self, guest: &mut Guest) -> Result<()> {
        let packages = Self::packages()?;
        guest.program(&packages, "usr/bin/redis-server")?;
        disk(guest, &packages)?;
        guest.service("redis", COMMAND);
        // It opens its port once it has read what there is.
        guest.command(
            "for i in 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0; do \
             netstat -ltn | grep -q :11211 && break; sleep 0.2; done",
        );
        Ok(())
    }
}

/// Makes a file system on the guest's disk, and mounts it as `/disk`.
pub(super) fn disk(guest: &mut Guest, packages: &Packages) -> Result<()> {
    // Debian's kernel has ext4 built in; its checksums in hardware are a module.
    for module in ["virtio_mmio", "virtio_blk", "crc32c_intel"] {
        guest.module(module);
    }
    guest.program(packages, "sbin/mke2fs")?;
    guest.file("etc/mke2fs.conf", &packages.file("etc/mke2fs.conf")?);
    guest.command("for i in 1 2 3 4 5 6 7 8 9 0; do [ -e /dev/vda ] && break; sleep 0.2; done");
    guest.command(MAKE);
    guest.command(MOUNT);
    Ok(())
}
