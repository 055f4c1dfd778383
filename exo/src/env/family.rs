//! Who created whom.
//!
//! What an environment creates is made of frames it was given, so it must not
//! outlive its creator: whoever takes a creator apart gets back everything that
//! came of it. Members of a family may map each other's frames, so all of them
//! are *silenced* (stopped, and their page tables emptied) before the frames of
//! any are freed. Destruction flattens the family as it goes, like revocation
//! does the derivation tree: it can stop after any step, and needs no recursion
//! however deep the family is.

use core::cell::Cell;

use exo_abi::{EnvState, Pfn};

use crate::object;
use crate::state::State;
use crate::state::env::Env;

/// Makes `env` the first child of `creator`.
pub(super) fn adopt(kernel: &State, creator: &Env, env: &Env) {
    push(kernel, &creator.children, env);
    env.creator.set(creator.id());
}

fn push(kernel: &State, list: &Cell<Pfn>, env: &Env) {
    let place = Pfn(env.id().0);
    let first = list.get();
    env.previous.set(Pfn(0));
    env.next.set(first);
    if let Some(first) = object::get::<Env>(&kernel.frames, first) {
        first.previous.set(place);
    }
    list.set(place);
}

/// Takes `env` out of its creator's lists.
pub(super) fn leave(kernel: &State, env: &Env) {
    let frames = &kernel.frames;
    if let Some(before) = object::get::<Env>(frames, env.previous.get()) {
        before.next.set(env.next.get());
    } else if let Some(creator) = kernel.env(env.creator.get()) {
        for list in [&creator.children, &creator.silenced] {
            if list.get() == Pfn(env.id().0) {
                list.set(env.next.get());
            }
        }
    }
    if let Some(after) = object::get::<Env>(frames, env.next.get()) {
        after.previous.set(env.previous.get());
    }
}

/// Puts the child `env`, which has no family of its own, among the silenced.
pub(super) fn silence(kernel: &State, creator: &Env, env: &Env) {
    leave(kernel, env);
    push(kernel, &creator.silenced, env);
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
