//! Segments, task state and interrupt descriptors.
//!
//! Long mode needs little of them: one code and one data segment per ring, and
//! a task state that names the stacks interrupts use. Every vector has an
//! interrupt stack, because compiled Rust keeps data below the stack pointer
//! (the red zone) and an interrupt in ring 0 would overwrite it.

use core::arch::asm;
use core::cell::UnsafeCell;

use super::vectors::stub_addresses;
use crate::cores::MAX_CORES;

/// Kernel code segment.
pub const KERNEL_CODE: u16 = 0x08;
/// Kernel data segment.
pub const KERNEL_DATA: u16 = 0x10;
/// `sysret` base: ring 3's data segment is this + 8, its code segment this + 16.
pub const SYSRET_BASE: u16 = 0x18 | 3;
const TASK_STATE: u16 = 0x30;

const STACK_BYTES: usize = 16 * 1024;

/// One interrupt stack.
#[repr(C, align(16))]
struct Stack(UnsafeCell<[u8; STACK_BYTES]>);

// SAFETY: only its processor and assembly use a stack's bytes, never Rust through
// this object.
unsafe impl Sync for Stack {}

/// Stacks for exceptions, for faults that can hit anywhere (NMI, double fault,
/// machine check), and for interrupts.
static STACKS: [[Stack; 3]; MAX_CORES] =
    [const { [const { Stack(UnsafeCell::new([0; STACK_BYTES])) }; 3] }; MAX_CORES];

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

struct Tables {
    segments: UnsafeCell<[u64; 8]>,
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
        segments: UnsafeCell::new([
            0,
            0x00af_9a00_0000_ffff, // ring 0 code, 64-bit
            0x00cf_9200_0000_ffff, // ring 0 data
            0,                     // where sysret to 32-bit code would point
            0x00cf_f200_0000_ffff, // ring 3 data
            0x00af_fa00_0000_ffff, // ring 3 code, 64-bit
            0,
            0,
        ]),
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

/// Fills the tables of processor `core` and makes them this one's.
///
/// # Safety
/// Once on each processor with its own number, on the first one before any other is
/// started, with interrupts off.
pub unsafe fn load(core: usize) {
    let tables = &TABLES[core];
    // SAFETY: the only call for these tables, so nothing else refers to them; every
    // selector loaded names a descriptor written just before. Reloading `cs`
    // by a far return goes on at the next instruction.
    unsafe {
        let task = &mut *tables.task.get();
        for (slot, stack) in STACKS[core].iter().enumerate() {
            task.interrupt_stacks[slot] = stack.0.get() as u64 + STACK_BYTES as u64;
        }
        let base = tables.task.get() as u64;
        let segments = &mut *tables.segments.get();
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
            base: tables.segments.get() as u64,
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
