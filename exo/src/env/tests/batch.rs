//! Several calls in one: every call answers for itself, and none pulls the page with
//! the answers away.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use exo_abi::{BATCH_MAX, BATCH_WORDS, Error, FRAME_BYTES, FrameKind, Pfn, SYSCALLS, call_number};

use crate::calls::Reply;
use crate::env::Env;
use crate::kernel::Kernel;
use crate::memory;
use crate::testing::{ALL_FRAMES, OWN, call, child, machine, reply, tables};

const AT: u64 = 0x80_0000;
const FRAME: u64 = 710;

/// A machine with a writable page of root's at `AT`.
fn desk() -> (&'static Kernel, &'static Env) {
    let (kernel, root) = machine();
    tables(kernel, root, OWN, AT, 700);
    call(kernel, root, "frames_take", &[ALL_FRAMES, OWN, FRAME, 2]).expect("free");
    call(kernel, root, "map", &[OWN, OWN, FRAME, AT, 1, 1]).expect("mappable");
    (kernel, root)
}

fn word(index: usize) -> &'static AtomicU64 {
    // SAFETY: inside a frame of simulated memory, aligned, shared for ever.
    unsafe { &*memory::frame(Pfn(FRAME as u32)).cast::<AtomicU64>().add(index) }
}

fn put(place: usize, name: &str, arguments: &[u64]) {
    word(place * BATCH_WORDS).store(call_number(name), Relaxed);
    for (index, argument) in arguments.iter().enumerate() {
        word(place * BATCH_WORDS + 1 + index).store(*argument, Relaxed);
    }
}

fn answer(place: usize) -> (u64, u64) {
    let at = place * BATCH_WORDS;
    (word(at + 7).load(Relaxed), word(at + 8).load(Relaxed))
}

#[test]
fn each_call_has_its_own_answer() {
    let (kernel, root) = desk();
    put(0, "null", &[]);
    put(1, "cap_derive", &[OWN, 0, 0, 0]);
    put(2, "cap_drop", &[0]);
    put(3, "map", &[OWN, OWN, FRAME + 1, AT + 0x1000, 1, 1]);
    word(4 * BATCH_WORDS).store(u64::MAX, Relaxed);
    word(5 * BATCH_WORDS).store(64, Relaxed);
    assert_eq!(call(kernel, root, "batch", &[AT, 6]), Ok(6));
    assert_eq!(answer(0), (0, 0));
    assert_eq!(answer(1).0, 0);
    assert_ne!(answer(1).1, 0, "a handle");
    assert_eq!(answer(2), (Error::BadHandle.code(), 0));
    assert_eq!(answer(3), (0, 0));
    assert_eq!(answer(4), (Error::NoSuchCall.code(), 0));
    assert_eq!(answer(5), (Error::NoSuchCall.code(), 0));
}

#[test]
fn the_calls_lie_in_one_writable_page() {
    let (kernel, root) = desk();
    call(kernel, root, "map", &[OWN, OWN, FRAME + 1, AT + 0x1000, 1, 0]).expect("mappable");
    let batch = |at: u64, count: u64| call(kernel, root, "batch", &[at, count]);
    let most = u64::from(BATCH_MAX);
    let length = most * BATCH_WORDS as u64 * 8;
    assert_eq!(batch(AT, most + 1), Err(Error::TooMuch));
    assert_eq!(batch(AT, 1 << 32), Err(Error::BadArgument), "no u32");
    for offset in [1, 4, 7] {
        assert_eq!(batch(AT + offset, 1), Err(Error::BadPointer), "not aligned");
    }
    let last = AT + FRAME_BYTES - length;
    assert_eq!(batch(last + 8, most), Err(Error::BadPointer), "over the end of the page");
    assert!(batch(last, most).is_ok());
    let elsewhere =
        [AT + 0x1000, AT + 0x2000, 0, 0xffff_8000_0000_0000, 0xffff_ffff_8020_0000, 1 << 47];
    for at in elsewhere.into_iter().chain([u64::MAX - 7]) {
        assert_eq!(batch(at, 1), Err(Error::BadPointer), "{at:#x}");
    }
}

/// However many there are, together they do no more than an entry may; what is not made is
/// not touched, and the next batch goes on with it.
#[test]
fn a_batch_stops_when_the_work_of_an_entry_is_done() {
    let (kernel, root) = desk();
    let most = BATCH_MAX as usize;
    let free = |from: usize| {
        (from..most).for_each(|place| {
            let first = 1000 + 32 * place as u64;
            put(place - from, "frames_take", &[ALL_FRAMES, OWN, first, 32]);
            word((place - from) * BATCH_WORDS + 7).store(7, Relaxed);
        });
        call(kernel, root, "batch", &[AT, (most - from) as u64]).expect("a batch") as usize
    };
    let (mut done, mut batches) = (0, 0);
    while done < most {
        let made = free(done);
        assert!(made > 0 && made <= 4, "{made} calls in an entry");
        (0..made).for_each(|place| assert_eq!(answer(place), (0, 0)));
        if done + made < most {
            assert_eq!(answer(made).0, 7, "the next one is not made");
            let next = Pfn(1000 + 32 * (done + made) as u32);
            assert_eq!(kernel.frames.kind(next), Some(FrameKind::Free));
        }
        done += made;
        batches += 1;
    }
    assert!(batches > most / 4, "{batches}");
}

/// Whatever would not come back must not even begin.
#[test]
fn calls_that_leave_are_refused_in_it() {
    let mut leaving = Vec::new();
    for entry in SYSCALLS {
        let (kernel, root) = desk();
        if !matches!(reply(kernel, root, entry.name, &[0; 6]), Reply::Done(_)) {
            leaving.push(entry.name);
        }
    }
    assert_eq!(leaving, ["exit", "slice_yield", "wait"], "with all arguments zero");
    let more = ["slice_donate", "transfer_call", "transfer_send", "transfer_reply", "batch"];
    let rest = ["machine_exit", "wait_until", "elevate", "lower", "net_wait"];
    for name in leaving.into_iter().chain(more).chain(rest) {
        let (kernel, root) = desk();
        put(0, name, &[OWN]);
        assert_eq!(call(kernel, root, "batch", &[AT, 1]), Ok(1), "{name}");
        assert_eq!(answer(0), (Error::BadArgument.code(), 0), "{name}");
        assert_eq!(root.state(), exo_abi::EnvState::New, "{name}");
    }
}

#[test]
fn the_answers_go_where_the_calls_were() {
    let (kernel, root) = desk();
    put(0, "unmap", &[OWN, AT, 1]);
    put(1, "frames_free", &[FRAME, 1]);
    put(2, "cap_grow", &[FRAME]);
    put(3, "env_create", &[FRAME, FRAME + 1, FRAME + 2, FRAME + 3]);
    put(4, "frames_free", &[FRAME + 1, 1]);
    assert_eq!(call(kernel, root, "batch", &[AT, 5]), Ok(5));
    let in_use = (Error::InUse.code(), 0);
    let answers: Vec<_> = (0..5).map(answer).collect();
    assert_eq!(answers, [(0, 0), in_use, in_use, in_use, (0, 0)]);
    assert_eq!(kernel.frames.kind(Pfn(FRAME as u32)), Some(FrameKind::Memory));
    assert!(!kernel.frames.is_pinned(Pfn(FRAME as u32)), "let go");
    assert_eq!(call(kernel, root, "frames_free", &[FRAME, 1]), Ok(0));
}

/// A frame on its way out stays mapped for a few steps. The last of them could be in
/// the batch, and the next call make a kernel object of it.
#[test]
fn the_calls_cannot_lie_in_a_frame_that_is_being_taken() {
    let (kernel, root) = machine();
    let (_, handle) = child(kernel, root, 600);
    tables(kernel, root, OWN, AT, 2042);
    call(kernel, root, "frames_take", &[ALL_FRAMES, handle, FRAME, 1]).expect("free");
    call(kernel, root, "map", &[OWN, handle, FRAME, AT, 1, 1]).expect("mappable");
    for number in 1..40 {
        tables(kernel, root, OWN, u64::from(number) << 39, 1000 + 3 * number);
    }
    assert_eq!(call(kernel, root, "revoke_enforce", &[handle, FRAME]), Err(Error::Again));
    assert_eq!(kernel.frames.kind(Pfn(FRAME as u32)), Some(FrameKind::Revoked));
    assert_eq!(call(kernel, root, "batch", &[AT, 1]), Err(Error::BadPointer));
}
