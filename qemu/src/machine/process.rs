//! The QEMU process: started, watched, and always ended.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, thread};

use anyhow::{Context, Result};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{
    Pid, Signal, getpid, getppid, kill_process, set_parent_process_death_signal,
};

use super::console::Console;

/// How often to look whether the process has ended.
const GLANCE: Duration = Duration::from_millis(10);
/// How long a QEMU that was asked to end may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A child process whose output is read by threads.
pub(super) struct Process {
    child: Mutex<Child>,
    complaints: Mutex<Option<JoinHandle<String>>>,
    said: OnceLock<String>,
    serial: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts `command` with its standard output as a console and no input.
    ///
    /// It has a process group of its own, so that Ctrl-C reaches this process only,
    /// which then ends the other in order. It inherits `files`, under the same numbers.
    pub(super) fn spawn(mut command: Command, files: Vec<OwnedFd>) -> Result<(Self, Console)> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0);
        let mut child =
            spawn_bound(command, files).with_context(|| format!("cannot start {program}"))?;
        let console = Console::default();
        let serial = child.stdout.take().map(|serial| {
            let console = console.clone();
            thread::spawn(move || console.read_from(serial))
        });
        let complaints = child.stderr.take().map(|mut stderr| {
            thread::spawn(move || {
                let mut bytes = Vec::new();
                // What arrived before an error is all there is to show.
                let _ = stderr.read_to_end(&mut bytes);
                String::from_utf8_lossy(&bytes).into_owned()
            })
        });
        let process = Self {
            child: Mutex::new(child),
            complaints: Mutex::new(complaints),
            said: OnceLock::new(),
            serial,
        };
        Ok((process, console))
    }

    /// **Blocking** until it ends, at most for `timeout` (then nothing).
    pub(super) fn wait(&self, timeout: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child().try_wait()? {
                return Ok(Some(status));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            thread::sleep(left.min(GLANCE));
        }
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.child().id()
    }

    /// What it wrote to standard error; nothing while it runs.
    pub(super) fn complaints(&self) -> &str {
        let ended = matches!(self.wait(Duration::ZERO), Ok(Some(_)));
        let mut reader = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if ended && let Some(reader) = reader.take() {
            let _ = self.said.set(reader.join().unwrap_or_default());
        }
        self.said.get().map_or("", String::as_str)
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// If it does not.
    pub(super) fn terminate(&self) -> Result<()> {
        let process = Pid::from_raw(self.id().cast_signed()).context("no process")?;
        // One that has ended meanwhile is no matter.
        let _ = kill_process(process, Signal::TERM);
        self.wait(PATIENCE)?.with_context(|| format!("QEMU did not end in {PATIENCE:?}"))?;
        Ok(())
    }

    /// Ends it, and returns when it has ended.
    pub(super) fn kill(&mut self) {
        let mut child = self.child();
        // Both fail only if it has ended and been waited for already.
        let _ = child.kill();
        let _ = child.wait();
        drop(child);
        if let Some(serial) = self.serial.take() {
            let _ = serial.join();
        }
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Order = (Command, Sender<io::Result<Child>>);

/// Starts a process that inherits `files`, and ends when this one does, even if this one
/// is killed.
///
/// Linux ties the parent-death signal to the thread that forked, and a test's
/// thread may end before the machine does. So one thread that never ends forks
/// them all.
pub(super) fn spawn_bound(mut command: Command, files: Vec<OwnedFd>) -> io::Result<Child> {
    static SPAWNER: OnceLock<Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in inbox {
                // The thread that ordered has gone if this fails; then the child goes, too.
                if let Err(unwanted) = reply.send(command.spawn())
                    && let Ok(mut child) = unwanted.0
                {
                    let _ = child.kill();
                }
            }
        });
        orders
    });

    let parent = getpid();
    // SAFETY: between fork and exec in a program with threads, only calls that take no
    // lock and allocate nothing are sound. These are bare system calls; the closure owns a
    // copied integer and open files, and its error values are plain codes.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            for file in &files {
                fcntl_setfd(file, FdFlags::empty())?;
            }
            // The parent may have died before it could be told.
            if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
        });
    }
    let gone = |_| io::Error::other("the thread that starts processes has ended");
    let (reply, answer) = channel();
    spawner.send((command, reply)).map_err(|_| gone(()))?;
    answer.recv().map_err(|_| gone(()))?
}
