//! memcached as packaged, as the service of a guest, tuned as Unbuckle's was.
//!
//! Huxtable's dissertation (Unbuckle, Cambridge 2014, A.3.3 and listing A.2) prepares a
//! machine for memcached. Of that, here:
//!
//! | there | here |
//! |---|---|
//! | stop services that are not needed | none is started |
//! | no swapping | the guest has nothing to swap to |
//! | hyperthreads off | QEMU makes none |
//! | memcached's threads pinned, all else elsewhere | [`Memcached::add_to`] pins its workers, from the last processor down, so that interrupts and all else keep the first unless there are as many workers as processors |
//! | NIC without adaptive interrupt coalescing | the virtio NIC has none |
//! | 128 large pages | left out: memcached does not use them unless asked, and there it was not |
//! | (nothing) | sockets hold more unread ([`RECEIVE_BUFFER`](super::RECEIVE_BUFFER)) |
//! | `-t 1 -U 11211 -m 65536` | the same but for the memory |
//! | 1.4.17, which has no thread for it | `-o no_lru_maintainer`: the thread that since 1.5 moves items between lists wakes up to a thousand times a second, or once, as a boot happens to go; per request it took 450 to 2,400 instructions |

use anyhow::Result;

use super::guest::Guest;
use super::packages::{Packages, Set};

/// How memcached is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memcached {
    /// Worker threads (`-t`).
    pub threads: u32,
    /// Memory for items in MiB (`-m`).
    pub memory_mib: u32,
    /// Whether it also serves TCP.
    pub tcp: bool,
}

impl Memcached {
    /// The package and the libraries it needs.
    ///
    /// **Blocking** while they are fetched.
    ///
    /// # Errors
    /// They are not kept and cannot be fetched.
    pub fn packages() -> Result<Packages> {
        Packages::require(&Set {
            name: "memcached",
            roots: &["memcached"],
            follow: &["lib", "zlib"],
            megabytes: 7,
        })
    }

    /// Its command line: the usual port, of any address.
    #[must_use]
    pub fn command(&self) -> String {
        let Self { threads, memory_mib, tcp } = self;
        let port = if *tcp { 11211 } else { 0 };
        format!(
            "memcached -u root -l 0.0.0.0 -p {port} -U 11211 -t {threads} -m {memory_mib} -o no_lru_maintainer"
        )
    }

    /// Lets `guest` run it.
    ///
    /// # Errors
    /// As for [`Memcached::packages`].
    pub fn add_to(&self, guest: &mut Guest) -> Result<()> {
        guest.program(&Self::packages()?, "usr/bin/memcached")?;
        guest.service("memcached", &self.command());
        guest.command(&pin(self.threads));
        Ok(())
    }
}

/// Waits for the workers, and gives each a processor of its own, in turn if there are not
/// enough.
fn pin(threads: u32) -> String {
    format!(
        "\
workers() {{
    grep -l mc-worker /proc/$(pidof memcached)/task/*/comm 2>/dev/null
}}
for i in 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0; do
    [ $(workers | wc -l) = {threads} ] && break
    sleep 0.2
done
processor=$(nproc)
for file in $(workers); do
    processor=$(( processor > 0 ? processor - 1 : $(nproc) - 1 ))
    task=${{file%/comm}}
    taskset -p $(( 1 << processor )) ${{task##*/}} >/dev/null || exit 1
done"
    )
}
