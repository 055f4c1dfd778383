//! An executable specification of capabilities, frames, address spaces,
//! environments, bindings and extents, and the proof that the kernel does the same.
//!
//! The specification ([`world`] and the files named after what they are about)
//! is written from the system-call table's documentation, over maps and sets that
//! grow as they like, with a derivation tree that is nothing but parents, and
//! without any count: what the kernel keeps in its frame table is computed here
//! from what refers to what. It is slow, short, and different enough from the
//! kernel not to share its mistakes.
//!
//! | file | what it holds |
//! |---|---|
//! | [`world`], [`request`], [`step`] | state, calls, and one step |
//! | [`authority`], [`memory`], [`life`], [`network`], [`extents`] | what each call does, and why it may refuse |
//! | [`view`] | what can be seen of a state |
//! | [`machine`], [`snapshot`], [`pair`], [`texts`] | the kernel beside it |
//! | [`scenes`], [`exhaustive`] | every short sequence |
//! | [`random`] | long sequences |
//!
//! What both do is compared after every call: the answer, the frame table's owner,
//! kind, mappings and pins of every frame handed out, every live handle with its
//! rights and what it is for, the owners of slots, the mapped pages, and that frames
//! taken are zero and handles of what is gone are refused.
//!
//! Not here: packets, requests to the disk, running and sleeping; what happens between the steps
//! of a call that answers `again` (it is called until it is done); and what the
//! documents do not say: which of a family goes first when one member cannot go, an
//! environment that destroys its own creator
//! ([`World::is_foreseen`](world::World::is_foreseen)), and how much is unmapped by
//! an `unmap` that runs out of user space and is refused.

mod authority;
mod exhaustive;
mod extents;
mod life;
mod machine;
mod memory;
mod network;
mod pair;
mod random;
mod request;
mod scenes;
mod snapshot;
mod step;
mod texts;
mod view;
mod world;
