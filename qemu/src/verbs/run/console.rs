//! What machines print, passed on until they end.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::machine::{GuestExit, Machine};
use crate::output::{note, say};
use crate::signals::Signals;
use crate::symbols::Symboliser;

/// How often to look for signals.
const GLANCE: Duration = Duration::from_millis(100);

/// A machine's console, as far as it was printed.
pub(in crate::verbs) struct Console<'m> {
    pub(super) machine: &'m Machine,
    symboliser: Symboliser,
    next: usize,
    /// What stands before its lines: the number of the machine, if there are several.
    number: Option<usize>,
    exit: Option<GuestExit>,
}

impl<'m> Console<'m> {
    pub(in crate::verbs) fn new(machine: &'m Machine, number: Option<usize>) -> Self {
        Self { machine, symboliser: Symboliser::default(), next: 0, number, exit: None }
    }

    /// Lines that were printed.
    pub(in crate::verbs) fn shown(&self) -> usize {
        self.next
    }

    /// Prints what has come.
    pub(in crate::verbs) fn pass_on(&mut self) -> Result<()> {
        let before = self.number.map_or(String::new(), |number| format!("{number}| "));
        while let Some(line) = self.machine.console().line(self.next) {
            self.next += 1;
            say!("{before}{line}")?;
            for frame in self.symboliser.explain(&line) {
                say!("{before}{frame}")?;
            }
        }
        Ok(())
    }

    /// Notes the machine's end, if that has come and everything was printed.
    fn look_for_end(&mut self) -> Result<()> {
        let console = self.machine.console();
        if self.exit.is_none() && console.ended() && console.line(self.next).is_none() {
            let exit = self.machine.exit_status(Duration::from_secs(10))?;
            match self.number {
                None => note!("{exit}"),
                Some(number) => note!("machine {number}: {exit}; the others go on"),
            }
            self.exit = Some(exit);
        }
        Ok(())
    }
}

/// Prints the consoles until all machines have ended or are to end. The exit code is that of
/// the first that was not content.
pub(super) fn pass_on_all(consoles: &mut [Console<'_>], signals: &Signals) -> Result<ExitCode> {
    loop {
        for console in consoles.iter_mut() {
            console.pass_on()?;
            console.look_for_end()?;
        }
        signals.check()?;
        let Some(console) = consoles.iter().find(|console| console.exit.is_none()) else { break };
        let _ = console.machine.console().wait_for(console.next, Instant::now() + GLANCE);
    }
    let codes = consoles.iter().filter_map(|console| console.exit).map(GuestExit::code);
    Ok(ExitCode::from(codes.into_iter().find(|code| *code != 0).unwrap_or(0)))
}
