//! Which environment created which.
//!
//! What an environment creates is made of frames it was given, so it must not outlive its
//! creator: destroying a creator gives back everything that came of it. Members of a family
//! may map each other's frames, so all of them are *silenced* (stopped, and their page tables
//! emptied) before the frames of any are freed. Destruction flattens the family as it goes,
//! like revocation does the derivation tree: it can stop after any step, and needs no
//! recursion however deep the family is.

use exo_abi::{EnvState, Pfn};

use crate::list::{self, Links};
use crate::object;
use crate::state::State;
use crate::state::env::Env;

/// A member's place among its creator's children, or among the silenced of them.
const IN_FAMILY: Links<Env> = |env| (&env.previous, &env.next);

/// Makes `env` the first child of `creator`.
pub(super) fn adopt(kernel: &State, creator: &Env, env: &Env) {
    list::push(&kernel.frames, &creator.children, Pfn(env.id().0), IN_FAMILY);
    env.creator.set(creator.id());
}

/// Takes `env` out of its creator's lists.
pub(super) fn leave(kernel: &State, env: &Env) {
    let Some(creator) = kernel.env(env.creator.get()) else { return };
    let is_silenced = creator.silenced.get() == Pfn(env.id().0);
    // Which of the two matters only for the first of a list.
    let head = if is_silenced { &creator.silenced } else { &creator.children };
    list::remove(&kernel.frames, head, env, IN_FAMILY);
}

/// Puts the child `env`, which has no family of its own, among the silenced.
pub(super) fn silence(kernel: &State, creator: &Env, env: &Env) {
    leave(kernel, env);
    list::push(&kernel.frames, &creator.silenced, Pfn(env.id().0), IN_FAMILY);
}

/// What to do next about the children of an environment.
pub(super) enum Next {
    /// Nothing: none is left.
    Done,
    /// A member of a child's family was moved up; ask again.
    Again,
    /// This child is to be stopped, or has no family of its own.
    Child(&'static Env),
}

/// The first child, once its own family has moved up. Constant time.
pub(super) fn next_child(kernel: &State, env: &Env) -> Next {
    let frames = &kernel.frames;
    let Some(child) = object::get::<Env>(frames, env.children.get()) else { return Next::Done };
    if child.state() != EnvState::Dying {
        // Stopped first: one that runs could have children as fast as they move up.
        return Next::Child(child);
    }
    if let Some(grandchild) = object::get::<Env>(frames, child.children.get()) {
        leave(kernel, grandchild);
        adopt(kernel, env, grandchild);
    } else if let Some(grandchild) = object::get::<Env>(frames, child.silenced.get()) {
        silence_below(kernel, env, grandchild);
    } else {
        return Next::Child(child);
    }
    Next::Again
}

fn silence_below(kernel: &State, env: &Env, grandchild: &Env) {
    silence(kernel, env, grandchild);
    grandchild.creator.set(env.id());
}

/// The first of the silenced. They have no family.
pub(super) fn next_silenced(kernel: &State, env: &Env) -> Next {
    object::get::<Env>(&kernel.frames, env.silenced.get()).map_or(Next::Done, Next::Child)
}
