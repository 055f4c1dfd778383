//! What it costs to classify one packet, and to install and remove a filter:
//!
//! ```text
//! cargo run --release -p dpf-run --example cost
//! ```
//!
//! Instructions are counted by letting the processor stop after each (the trap flag), so
//! they are exact. Those of compiled filters are counted in their code alone, those of the
//! interpreter from its check of the length on. Times are those of this machine, the
//! least of several rounds.
use std::arch::asm;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use dpf::packet::udp_to;
use dpf::{Filter, MAX_FRAME, Tag, compile, witness};
use dpf_run::{Arena, Runnable};

static STEPS: AtomicU64 = AtomicU64::new(0);
/// Of these, how many in compiled filters, which are from the first to before the second.
static COMPILED: AtomicU64 = AtomicU64::new(0);
static CODE: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// After each instruction.
extern "C" fn stepped(_: i32, _: *const libc::siginfo_t, context: *const libc::ucontext_t) {
    // SAFETY: the kernel passes a context that is valid during the handler.
    let next = unsafe { (*context).uc_mcontext.gregs[libc::REG_RIP as usize] as u64 };
    let [start, end] = CODE.each_ref().map(|bound| bound.load(Ordering::Relaxed));
    STEPS.fetch_add(1, Ordering::Relaxed);
    // As many are next in the code as are executed there.
    COMPILED.fetch_add(u64::from((start..end).contains(&next)), Ordering::Relaxed);
}

/// What `run` executes: all instructions, and those of compiled filters.
fn count(run: &dyn Fn()) -> (u64, u64) {
    let (all, compiled) = with_overhead(run);
    (all - with_overhead(&|| {}).0, compiled)
}

/// With the instructions to start and stop.
#[inline(never)]
fn with_overhead(run: &dyn Fn()) -> (u64, u64) {
    STEPS.store(0, Ordering::Relaxed);
    COMPILED.store(0, Ordering::Relaxed);
    // SAFETY: sets and clears a flag in a register that is saved around signal handlers;
    // the stack is as before.
    unsafe { asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") };
    run();
    // SAFETY: as above.
    unsafe { asm!("pushfq", "and qword ptr [rsp], -0x101", "popfq") };
    (STEPS.load(Ordering::Relaxed), COMPILED.load(Ordering::Relaxed))
}

fn install_handler() {
    // SAFETY: all zero is a valid action; the handler only uses atomics and its arguments.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_flags = libc::SA_SIGINFO;
        action.sa_sigaction = stepped as *const () as libc::sighandler_t;
        assert_eq!(libc::sigaction(libc::SIGTRAP, &raw const action, std::ptr::null_mut()), 0);
    }
}

/// Nanoseconds that each of `rounds` takes, at best.
fn time(rounds: u32, mut run: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..7 {
        let start = Instant::now();
        (0..rounds).for_each(|_| run());
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(rounds));
    }
    best
}

/// Filter number `i` of many for UDP ports of one address, then of the next.
fn port(i: u32) -> Filter {
    let [a, b] = ((i / 50_000) as u16).to_be_bytes();
    udp_to([10, a, b, 15], 1000 + (i % 50_000) as u16)
}

fn frame(filter: &Filter) -> Vec<u8> {
    let mut frame = [0; MAX_FRAME];
    let length = witness(filter, filter, &mut frame).expect("no filter is empty");
    frame[..length.max(106)].to_vec()
}

fn main() {
    install_handler();
    println!("UDP ports of one host. Instructions of the classification itself, per frame:\n");
    println!(
        "| filters | code: hit | other port | no IPv4 | interpreter: hit | other port | no IPv4 |"
    );
    println!("|---|---|---|---|---|---|---|");
    let counts = [1, 4, 5, 10, 100, 1000, 10_000];
    let mut times = Vec::new();
    for filters in counts {
        let mut arena = Arena::new(filters as usize + 1);
        for i in 0..filters {
            arena.install(&port(i), Tag(i)).expect("all differ");
        }
        let middle = filters / 2;
        let (hit, other) = (frame(&port(middle)), frame(&port(60_001)));
        let none = vec![0; 106];
        let frames = [(&hit, Some(Tag(middle))), (&other, None), (&none, None)];
        let bounds = arena.code();
        CODE[0].store(bounds.start, Ordering::Relaxed);
        CODE[1].store(bounds.end, Ordering::Relaxed);
        let row = [true, false].map(|compiled| {
            frames.map(|(frame, expected)| {
                let classify = if compiled { Arena::classify } else { interpreted };
                let classify = |frame: &[u8]| classify(&arena, frame);
                assert_eq!(classify(frame), expected);
                let (all, in_code) = count(&|| {
                    black_box(classify(black_box(frame)));
                });
                // What a frame costs that is too short for any filter is what surrounds
                // the interpreter.
                let (around, _) = count(&|| {
                    black_box(classify(black_box(&frame[..13])));
                });
                if compiled { in_code } else { all - around }
            })
        });
        let row: Vec<_> = row.as_flattened().iter().map(u64::to_string).collect();
        println!("| {filters} | {} |", row.join(" | "));

        let compiled = time(100_000, || {
            black_box(arena.classify(black_box(&hit)));
        });
        let interpreted = time(100_000, || {
            black_box(arena.classify_interpreted(black_box(&hit)));
        });
        let extra = port(filters);
        let mut install = f64::INFINITY;
        let mut remove = f64::INFINITY;
        for _ in 0..200 {
            let start = Instant::now();
            let id = arena.install(&extra, Tag(filters)).expect("room for one");
            install = install.min(start.elapsed().as_nanos() as f64);
            let start = Instant::now();
            arena.remove(id).expect("installed");
            remove = remove.min(start.elapsed().as_nanos() as f64);
        }
        let (inserted, removed) = operations(&mut arena, &extra);
        times.push((filters, compiled, interpreted, install, remove, inserted, removed));
    }
    println!("\nNanoseconds, and what one more filter costs:\n");
    println!(
        "| filters | code: hit | interpreter: hit | install | remove | install, instructions | remove |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (filters, compiled, interpreted, install, remove, inserted, removed) in times {
        println!(
            "| {filters} | {compiled:.1} | {interpreted:.1} | {install:.0} | {remove:.0} | {inserted} | {removed} |"
        );
    }
    let filter = port(0);
    let (hit, predicate) = (frame(&filter), Runnable::new(&compile(&filter)));
    let call = || {
        black_box(predicate.matches(black_box(&hit)));
    };
    let matches = || {
        black_box(filter.matches(black_box(&hit)));
    };
    println!(
        "\nOne filter alone, with the call: {} instructions as code, {} interpreted",
        total(&call),
        total(&matches)
    );
}

#[inline(never)]
fn interpreted(arena: &Arena, frame: &[u8]) -> Option<Tag> {
    arena.classify_interpreted(frame)
}

/// All instructions.
fn total(run: &dyn Fn()) -> u64 {
    count(run).0
}

/// Instructions to install and to remove a filter, the arena's housekeeping included.
fn operations(arena: &mut Arena, filter: &Filter) -> (u64, u64) {
    let arena = std::cell::RefCell::new(arena);
    let id = std::cell::Cell::new(None);
    let install = || id.set(arena.borrow_mut().install(filter, Tag(0)).ok());
    let installed = total(&install);
    let remove = || {
        let id = id.take().expect("installed");
        arena.borrow_mut().remove(id).expect("installed");
    };
    (installed, total(&remove))
}
