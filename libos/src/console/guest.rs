//! The console of the running environment.

use core::fmt;

use exo_abi::{Error, Handle, UserPtr};

use super::{LineWriter, Sink};
use crate::runtime::Local;
use crate::sys;

/// How often to give way until there is room for a line: longer than a port that
/// is read needs. A console that is not read keeps no application from working.
const PATIENCE: u32 = 1000;

struct Console(Option<Handle>);

impl Sink for Console {
    fn put(&mut self, text: &[u8]) {
        let Some(console) = self.0 else { return };
        let mut rest = text;
        let mut patience = PATIENCE;
        while !rest.is_empty() {
            let at = UserPtr(rest.as_ptr().expose_provenance() as u64);
            match sys::console_write(console, at, rest.len() as u64) {
                Ok(printed) if printed > 0 => rest = rest.get(printed as usize..).unwrap_or(&[]),
                Err(Error::Again) if patience > 0 => {
                    patience -= 1;
                    let _ = sys::slice_yield();
                }
                _ => return,
            }
        }
    }
}

static NAME: Local<&'static str> = Local::new("?");
static CONSOLE: Local<Option<Handle>> = Local::new(None);

/// Sets the name that stands before each line, and the capability to print by.
/// Without one, lines go nowhere.
pub fn init(name: &'static str, console: Option<Handle>) {
    NAME.with(|known| *known = name);
    CONSOLE.with(|known| *known = console);
}

/// The name that stands before each line.
pub fn name() -> &'static str {
    NAME.try_with(|name| *name).unwrap_or("?")
}

/// Prints one line. [`println!`](crate::println) calls it.
///
/// The line is put together on the stack, so that a panic inside of a `Display`
/// that is being printed can print itself, and so that each thread has its own.
pub fn print(text: fmt::Arguments<'_>) {
    let console = CONSOLE.try_with(|console| *console).flatten();
    LineWriter::new(Console(console)).line(name(), text);
}
