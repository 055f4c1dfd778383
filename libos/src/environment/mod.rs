//! Environments that an application makes: children from an image, with heap, console and arguments.
//!
//! ```ignore
//! let program = Program { image: "worker", name: "worker 1", frames: 256, slots: 4, arguments: &["part=1"] };
//! let mut child = environment.spawn(&program)?;
//! let ended = child.wait(&mut environment.park)?;
//! ```
//!
//! The manifest says whose images an application may use (`images = ["worker"]`): root maps those of the boot
//! bundle for it, read-only. A child has a part of its maker's frames, some of its maker's slots, and, if the
//! maker has it, the console; it ends with its maker.
//!
//! [`Builder`] makes the address space, for root, too; [`space`] maps with page tables on demand.

mod builder;
pub mod space;
mod spawn;
mod status;

pub use builder::{Builder, PARTS, STACK_PAGES};
pub use spawn::{Child, Program, SpawnError};
pub use status::status;
