//! Segments, task state and interrupt descriptors.
//!
//! Long mode needs little of them: one code and one data segment per ring, and
//! a task state that names the stacks interrupts use. Every vector has an
//! interrupt stack, because compiled Rust keeps data below the stack pointer
//! (the red zone) and an interrupt in ring 0 would overwrite it.
//!
//! QEMU's emulation, at least up to version 7.2, lets far calls of ring 3 push, and its
//! far returns pop, with ring 0's rights: wherever in the kernel their stack pointer
//! points. What it looks at before it pushes is the code segment, with the rights of ring
//! 0 in ring 3, which SMAP keeps from pages of ring 3. So there the descriptor of ring 3's
//! code lies in such a page. Ring 0 sees it on its way back to ring 3 because it lifts
//! SMAP just for that (`open_segments!`). A processor is not to be deceived so, and need
//! not be: see [`is_emulated`].

use core::arch::asm;
use core::cell::UnsafeCell;

use crate::arch::cpu::{GS_BASE, write_msr};
use crate::arch::percpu;
use crate::arch::stack::Stack;
use crate::arch::vectors::stub_addresses;
use crate::cores::MAX_CORES;
use crate::state::context::{KERNEL_CODE, KERNEL_DATA};

/// `sysret` base: ring 3's data segment is this + 8, its code segment this + 16.
pub(super) const SYSRET_BASE: u16 = 0x18 | 3;
const TASK_STATE: u16 = 0x30;

const STACK_BYTES: usize = 16 * 1024;

/// Stacks for exceptions, for faults that can hit anywhere (NMI, double fault,
/// machine check), and for interrupts.
static STACKS: [[Stack<STACK_BYTES>; 3]; MAX_CORES] =
    [const { [const { Stack::new() }; 3] }; MAX_CORES];

/// The pages below the interrupt stacks.
pub(super) fn guards() -> impl Iterator<Item = u64> {
    STACKS.as_flattened().iter().map(Stack::guard)
}

/// Task-state segment (SDM vol. 3, 8.7).
#[repr(C, packed(4))]
struct TaskState {
    reserved0: u32,
    ring_stacks: [u64; 3],
    reserved1: u64,
    interrupt_stacks: [u64; 7],
    reserved2: u64,
    reserved3: u16,
    io_map: u16,
}

/// Interrupt gate (SDM vol. 3, 6.14.1).
#[derive(Clone, Copy)]
#[repr(C)]
struct Gate {
    offset_low: u16,
    selector: u16,
    stack: u8,
    kind: u8,
    offset_middle: u16,
    offset_high: u32,
    reserved: u32,
}

impl Gate {
    const ABSENT: Self = Self {
        offset_low: 0,
        selector: 0,
        stack: 0,
        kind: 0,
        offset_middle: 0,
        offset_high: 0,
        reserved: 0,
    };
}

/// Words of a page, and those before the segments: ring 3's code, the sixth of them, is
/// the first word of a page.
const PAGE_WORDS: usize = 512;
const BEFORE: usize = PAGE_WORDS - 5;

/// Two pages with the segment descriptors across their boundary.
#[repr(C, align(4096))]
struct Segments([u64; 2 * PAGE_WORDS]);

struct Tables {
    segments: UnsafeCell<Segments>,
    task: UnsafeCell<TaskState>,
}

struct Gates(UnsafeCell<[Gate; 256]>);

// SAFETY: written once by `load` before interrupts exist, by the processor they are
// for; afterwards only the processor reads them.
unsafe impl Sync for Tables {}
// SAFETY: written by the first processor, before any other is started.
unsafe impl Sync for Gates {}

static GATES: Gates = Gates(UnsafeCell::new([Gate::ABSENT; 256]));

static TABLES: [Tables; MAX_CORES] = [const {
    Tables {
        segments: UnsafeCell::new(Segments([0; _])),
        task: UnsafeCell::new(TaskState {
            reserved0: 0,
            ring_stacks: [0; 3],
            reserved1: 0,
            interrupt_stacks: [0; 7],
            reserved2: 0,
            reserved3: 0,
            io_map: size_of::<TaskState>() as u16,
        }),
    }
}; MAX_CORES];

/// The descriptors, the last two of them for the task state.
const SEGMENTS: [u64; 8] = [
    0,
    0x00af_9a00_0000_ffff, // ring 0 code, 64-bit
    0x00cf_9200_0000_ffff, // ring 0 data
    0,                     // where sysret to 32-bit code would point
    0x00cf_f200_0000_ffff, // ring 3 data
    0x00af_fa00_0000_ffff, // ring 3 code, 64-bit
    0,
    0,
];
const _: () = assert!(crate::state::context::USER_CODE as usize / 8 + BEFORE == PAGE_WORDS);

/// Whether this is QEMU's emulation, as it says by `cpuid` (leaf 0x4000_0000).
pub(super) fn is_emulated() -> bool {
    use core::arch::x86_64::__cpuid;
    const HYPERVISOR: u32 = 1 << 31;
    if __cpuid(1).ecx & HYPERVISOR == 0 {
        return false;
    }
    let said = __cpuid(0x4000_0000);
    [said.ebx, said.ecx, said.edx].map(u32::to_le_bytes).as_flattened() == b"TCGTCGTCGTCG"
}

/// The addresses of the pages in which the descriptors of ring 3's code lie. There is
/// nothing else in them but where the task states are.
pub(super) fn user_segment_pages() -> impl Iterator<Item = u64> {
    TABLES.iter().map(|tables| tables.segments.get() as u64 + 8 * PAGE_WORDS as u64)
}

#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: u64,
}

/// Which interrupt stack a vector uses, from 1.
fn stack_of(vector: usize) -> u8 {
    match vector {
        2 | 8 | 18 => 2,
        0..32 => 1,
        _ => 3,
    }
}

/// Fills the tables of processor `core` and makes them this one's, and its data what `gs`
/// addresses: an exception is the kernel's own where that is so.
///
/// # Safety
/// Once on each processor with its own number, on the first one before any other is
/// started, with interrupts off.
pub(super) unsafe fn load(core: usize) {
    let tables = &TABLES[core];
    // SAFETY: the only call for these tables, so nothing else refers to them; every
    // selector loaded names a descriptor written just before. Reloading `cs`
    // by a far return goes on at the next instruction.
    unsafe {
        let task = &mut *tables.task.get();
        for (slot, stack) in STACKS[core].iter().enumerate() {
            task.interrupt_stacks[slot] = stack.top();
        }
        let base = tables.task.get() as u64;
        let Segments(words) = &mut *tables.segments.get();
        let segments = &mut words[BEFORE..BEFORE + SEGMENTS.len()];
        segments.copy_from_slice(&SEGMENTS);
        segments[6] = (size_of::<TaskState>() as u64 - 1)
            | (base & 0xff_ffff) << 16
            | 0x89 << 40
            | (base >> 24 & 0xff) << 56;
        segments[7] = base >> 32;
        if core == 0 {
            fill_gates();
        }
        let segments = TablePointer {
            limit: (size_of::<[u64; 8]>() - 1) as u16,
            base: segments.as_ptr() as u64,
        };
        let gates = TablePointer {
            limit: (size_of::<[Gate; 256]>() - 1) as u16,
            base: GATES.0.get() as u64,
        };
        asm!(
            "lgdt [{segments}]",
            "lidt [{gates}]",
            "push {code}",
            "lea {scratch}, [rip + 2f]",
            "push {scratch}",
            "retfq",
            "2:",
            "mov ss, {data:x}",
            "xor {scratch:e}, {scratch:e}",
            "mov ds, {scratch:x}",
            "mov es, {scratch:x}",
            "mov fs, {scratch:x}",
            "mov gs, {scratch:x}",
            "lldt {scratch:x}",
            "ltr {task:x}",
            segments = in(reg) &raw const segments,
            gates = in(reg) &raw const gates,
            code = const KERNEL_CODE,
            data = in(reg) u64::from(KERNEL_DATA),
            task = in(reg) u64::from(TASK_STATE),
            scratch = out(reg) _,
        );
        write_msr(GS_BASE, percpu::prepare(core));
    }
}

fn fill_gates() {
    // SAFETY: called once, before interrupts exist and other processors run.
    let gates = unsafe { &mut *GATES.0.get() };
    for (vector, (gate, address)) in gates.iter_mut().zip(stub_addresses()).enumerate() {
        *gate = Gate {
            offset_low: address as u16,
            selector: KERNEL_CODE,
            stack: stack_of(vector),
            kind: 0x8e, // present, ring 0 only, interrupt gate
            offset_middle: (address >> 16) as u16,
            offset_high: (address >> 32) as u32,
            reserved: 0,
        };
    }
}
