//! Counts instructions, with callgrind.
//!
//! valgrind translates a program and executes the translation; its tool callgrind adds
//! up the instructions of the original, generated code included. The count repeats
//! exactly and needs no rights. Single steps count the same, but a thousand times slower.
//!
//! The program that measures starts itself once more under valgrind. There, each piece of
//! work that is [`counted`] makes callgrind write a file with a name in it and a sum, which
//! the first process reads.

use std::arch::asm;
use std::collections::HashMap;
use std::ffi::CString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Numbers of requests, from callgrind.h.
mod request {
    const TOOL: u64 = (b'C' as u64) << 24 | (b'T' as u64) << 16;
    pub(super) const ZERO: u64 = TOOL + 1;
    pub(super) const DUMP: u64 = TOOL + 3;
}

/// Asks valgrind for something; without valgrind, nothing happens.
#[inline(always)]
fn ask(request: u64, argument: u64) {
    let block = [request, argument, 0, 0, 0, 0];
    // SAFETY: the four rotations come to 128 bits, which changes nothing. valgrind takes
    // the whole for a request and reads the block.
    unsafe {
        asm!("rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
             in("rax") block.as_ptr(), inout("rdx") 0_u64 => _, out("rdi") _);
    }
}

/// Does `work`; what it executes is counted as `name`.
#[inline(always)]
pub fn counted<T>(name: &str, work: impl FnOnce() -> T) -> T {
    let name = CString::new(name).unwrap_or_default();
    ask(request::ZERO, 0);
    let done = work();
    ask(request::DUMP, name.as_ptr() as u64);
    done
}

/// Counts by name, marks included.
#[derive(Clone, Debug, Default)]
pub struct Counts(HashMap<String, u64>);

/// Kills the process if it has not been waited for.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended is no matter.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Counts {
    /// Runs `command` under callgrind, its standard output going nowhere.
    ///
    /// # Errors
    /// If there is no valgrind, or `command` fails.
    pub fn of(command: &Command) -> Result<Self> {
        let place = tempfile::Builder::new().prefix("bench-dpf-").tempdir()?;
        let mut valgrind = Command::new("valgrind");
        valgrind
            .args(["--quiet", "--tool=callgrind", "--smc-check=all", "--compress-strings=yes"])
            .arg(format!("--callgrind-out-file={}/out", place.path().display()))
            .arg(command.get_program())
            .args(command.get_args())
            .stdout(Stdio::null());
        // SAFETY: `prctl` is a system call, and may be made between fork and exec.
        unsafe {
            valgrind.pre_exec(|| {
                // It must not go on alone if this process is killed.
                match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let child = valgrind.spawn().context("cannot start valgrind")?;
        let mut running = Running(child);
        let status = running.0.wait()?;
        ensure!(status.success(), "valgrind: {status}");
        Self::read(place.path())
    }

    fn read(place: &Path) -> Result<Self> {
        let mut counts = HashMap::new();
        for entry in std::fs::read_dir(place)? {
            let text = std::fs::read_to_string(entry?.path())?;
            let named = text.lines().find_map(|line| {
                line.strip_prefix("desc: Trigger: Client Request: ").map(str::to_owned)
            });
            let sum = text.lines().find_map(|line| line.strip_prefix("summary: "));
            let sum = sum.and_then(|sum| sum.trim().parse().ok());
            if let (Some(name), Some(sum)) = (named, sum) {
                counts.insert(name, sum);
            }
        }
        Ok(Self(counts))
    }

    /// What was counted as `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    /// What was counted as `name` beyond what was counted as `nothing`.
    #[must_use]
    pub fn beyond(&self, name: &str, nothing: &str) -> Option<u64> {
        Some(self.get(name)?.saturating_sub(self.get(nothing)?))
    }

    /// Fails unless the loop that [`count_known_loop`] ran was counted exactly.
    pub fn check_known_loop(&self) -> Result<()> {
        let counted = self.beyond(KNOWN[1].1, KNOWN[0].1);
        ensure!(counted == Some(2000), "counted {counted:?} instructions of 2000");
        Ok(())
    }
}

/// Rounds of the loop, and what it is counted as.
const KNOWN: [(u32, &str); 2] = [(1, "known loop, 1"), (1001, "known loop, 1001")];

/// Runs a loop whose length is known, so that the counts can be checked.
pub fn count_known_loop() {
    KNOWN.into_iter().for_each(count_loop);
}

/// Its own function, so that all around the loop is the same code.
#[inline(never)]
fn count_loop((rounds, name): (u32, &str)) {
    counted(name, || known_loop(rounds));
}

/// 2 * `rounds` instructions, and always the same number besides. At least one round.
#[inline(never)]
fn known_loop(rounds: u32) {
    // SAFETY: changes one register and flags.
    unsafe {
        asm!("2:", "dec {n:e}", "jnz 2b", n = inout(reg) rounds => _, options(nomem, nostack));
    }
}
