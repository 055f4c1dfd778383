//! eBPF programs in rbpf, a virtual machine in user space with an interpreter and a
//! compiler for x86-64.

mod memory;
mod program;

use anyhow::{Context, Result, anyhow};
use rbpf::EbpfVmMbuff;

use self::memory::Executable;
use super::list::List;
use super::{Bytes, Contender, Task};
use crate::predicates::What;

/// A program that is ready to run. Dropped in the order of the fields.
struct Loaded {
    machine: EbpfVmMbuff<'static>,
    executable: Option<Executable>,
    bytes: u64,
}

impl Loaded {
    /// `program` must live as long as the process: its maker leaks it.
    fn new(program: &'static [u8], compile: bool) -> Result<Self> {
        let wrong = |error| anyhow!("rbpf: {error:?}");
        let mut machine = EbpfVmMbuff::new(Some(program)).map_err(wrong)?;
        let mut executable = None;
        if compile {
            let mut memory = Executable::new(program.len() / 8)?;
            // SAFETY: `machine` is dropped before `executable`, and nothing else uses it.
            let writable = unsafe { memory.bytes() };
            machine.set_jit_exec_memory(writable).map_err(wrong)?;
            machine.jit_compile().map_err(wrong)?;
            executable = Some(memory);
        }
        Ok(Self { machine, executable, bytes: program.len() as u64 })
    }

    /// What the program answers; nothing if it went astray.
    #[inline]
    fn run(&self, frame: &mut [u8], context: &mut [u8]) -> Option<u32> {
        let answer = if self.executable.is_some() {
            // SAFETY: the programs of this module ask for the length before they load,
            // store nothing, and have no loop.
            unsafe { shorter(&self.machine).execute_program_jit(frame, context) }
        } else {
            self.machine.execute_program(frame, context)
        };
        answer.ok().map(|answer| answer as u32).filter(|&answer| answer != program::NO)
    }
}

/// The interface asks for a context that lives as long as the machine.
#[inline]
fn shorter<'a, 'b>(machine: &'b EbpfVmMbuff<'a>) -> &'b EbpfVmMbuff<'b> {
    machine
}

/// What programs are given: the addresses of the frame and of its end.
#[inline]
fn context(frame: &[u8]) -> [u8; 16] {
    let range = frame.as_ptr_range();
    let mut context = [0; 16];
    let (start, end) = context.split_at_mut(8);
    start.copy_from_slice(&(range.start as u64).to_ne_bytes());
    end.copy_from_slice(&(range.end as u64).to_ne_bytes());
    context
}

/// One program after the other.
pub(super) struct Each<const COMPILED: bool> {
    known: Vec<&'static [u8]>,
    installed: List<Loaded>,
}

impl<const COMPILED: bool> Each<COMPILED> {
    pub(super) fn new(task: Task<'_>) -> Result<Self> {
        let leaked = |it| Ok(&*program::of(it)?.leak());
        let known: Vec<&'static [u8]> =
            task.predicates.iter().map(leaked).collect::<Result<_>>()?;
        let installed = List::with_capacity(known.len());
        let mut each = Self { known, installed };
        (0..task.installed).try_for_each(|tag| each.insert(tag))?;
        Ok(each)
    }
}

impl<const COMPILED: bool> Contender for Each<COMPILED> {
    #[inline(never)]
    fn classify(&self, frame: &mut [u8]) -> Option<u32> {
        let mut context = context(frame);
        self.installed.find(|it| it.run(frame, &mut context).is_some())
    }

    fn insert(&mut self, tag: u32) -> Result<()> {
        let program = self.known.get(tag as usize).context("no such filter")?;
        self.installed.push(tag, Loaded::new(program, COMPILED)?);
        Ok(())
    }

    fn remove(&mut self, tag: u32) -> Result<()> {
        self.installed.remove(tag)
    }

    fn bytes(&self) -> Bytes {
        let mut bytes = Bytes { code: 0, data: self.installed.bytes() };
        for loaded in self.installed.filters() {
            bytes.data += loaded.bytes;
            bytes.code += loaded.executable.as_ref().map_or(0, Executable::len);
        }
        bytes
    }
}

/// One program for UDP ports.
pub(super) struct Tree {
    known: Vec<u16>,
    /// Ascending, with one more than the tag.
    installed: Vec<(u16, u32)>,
    program: Loaded,
}

impl Tree {
    pub(super) fn new(task: Task<'_>) -> Result<Self> {
        let known: Option<Vec<_>> = task
            .predicates
            .iter()
            .map(|predicate| match predicate.what {
                What::Ports { ports: (port, _), .. } => Some(port),
                _ => None,
            })
            .collect();
        let known = known.context("not a port")?;
        let mut installed: Vec<_> = known.iter().copied().zip(1..=task.installed).collect();
        installed.sort_unstable();
        let program = Self::load(&installed)?;
        Ok(Self { known, installed, program })
    }

    fn load(installed: &[(u16, u32)]) -> Result<Loaded> {
        Loaded::new(program::tree(installed)?.leak(), true)
    }
}

impl Contender for Tree {
    #[inline(never)]
    fn classify(&self, frame: &mut [u8]) -> Option<u32> {
        let mut context = context(frame);
        Some(self.program.run(frame, &mut context)? - 1)
    }

    fn insert(&mut self, tag: u32) -> Result<()> {
        let port = *self.known.get(tag as usize).context("no such filter")?;
        let at = self.installed.partition_point(|&(other, _)| other < port);
        self.installed.insert(at, (port, tag + 1));
        self.program = Self::load(&self.installed)?;
        Ok(())
    }

    fn remove(&mut self, tag: u32) -> Result<()> {
        self.installed.retain(|&(_, number)| number != tag + 1);
        self.program = Self::load(&self.installed)?;
        Ok(())
    }

    fn bytes(&self) -> Bytes {
        let code = self.program.executable.as_ref().map_or(0, Executable::len);
        Bytes { code, data: self.program.bytes + 8 * self.installed.len() as u64 }
    }

    fn is_remade(&self) -> bool {
        true
    }
}
