//! Reaching for memory of others: each by a child that should die of a
//! page fault (14), or, for an address that is none, of a protection fault (13).

use exo_abi::boot::STACK_TOP;
use exo_abi::{Protection, VirtAddr};
use selftest::child::{SHARED, exit};

use crate::attack::{Attack, Attacker, Attempt, PATIENCE, Verdict};

/// Where the kernel lies (`exo_boot::layout`).
const KERNEL_TEXT: u64 = 0xffff_ffff_8020_0000;
const KERNEL_DATA: u64 = 0xffff_ffff_8030_0000;
const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
const LOCAL_APIC: u64 = DIRECT_MAP + 0xfee0_0000;
const IMAGE: u64 = 0x40_0000;

const PAGE_FAULT: &[u32] = &[14];
const PROTECTION: &[u32] = &[13];
/// What a processor makes of an address that is none depends on the instruction.
const NO_ADDRESS: &[u32] = &[12, 13];
/// A jump out of the address space: refused at the jump, or when fetching there.
const NO_CODE: &[u32] = &[13, 14];

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "read the kernel's code", run: |a| a.victim(reads, KERNEL_TEXT, PAGE_FAULT) },
    Attack { name: "read the kernel's data", run: |a| a.victim(reads, KERNEL_DATA, PAGE_FAULT) },
    Attack { name: "write the kernel's code", run: |a| a.victim(writes, KERNEL_TEXT, PAGE_FAULT) },
    Attack { name: "write the kernel's data", run: |a| a.victim(writes, KERNEL_DATA, PAGE_FAULT) },
    Attack { name: "jump into the kernel", run: |a| a.victim(jumps, KERNEL_TEXT, PAGE_FAULT) },
    Attack { name: "read the direct map", run: |a| a.victim(reads, DIRECT_MAP, PAGE_FAULT) },
    Attack { name: "write the direct map", run: |a| a.victim(writes, DIRECT_MAP, PAGE_FAULT) },
    Attack { name: "read a neighbour's frame by its direct address", run: neighbour_directly },
    Attack {
        name: "write the interrupt controller",
        run: |a| a.victim(writes, LOCAL_APIC, PAGE_FAULT),
    },
    Attack { name: "read address 0", run: |a| a.victim(reads, 0, PAGE_FAULT) },
    Attack {
        name: "read what is not mapped",
        run: |a| a.victim(reads, 0x6000_0000_0000, PAGE_FAULT),
    },
    Attack { name: "read an address that is none", run: |a| a.victim(reads, 1 << 47, PROTECTION) },
    Attack {
        name: "push to an address that is none",
        run: |a| a.victim(pushes, (1 << 47) + 64, NO_ADDRESS),
    },
    Attack {
        name: "push into the kernel",
        run: |a| a.victim(pushes, KERNEL_DATA + 64, PAGE_FAULT),
    },
    Attack { name: "jump to an address that is none", run: |a| a.victim(jumps, 1 << 47, NO_CODE) },
    Attack {
        name: "jump to the end of user space",
        run: |a| a.victim(jumps, (1 << 47) - 2, NO_CODE),
    },
    Attack { name: "have a far call push into the kernel", run: far_call },
    Attack { name: "have a far return pop from the kernel", run: far_return },
    Attack { name: "have an interrupt return pop from the kernel", run: interrupt_return },
    Attack { name: "write its own code", run: |a| a.victim(writes, IMAGE, PAGE_FAULT) },
    Attack { name: "execute its own stack", run: |a| a.victim(jumps, STACK_TOP - 64, PAGE_FAULT) },
    Attack { name: "write the page of system information", run: system_information },
    Attack { name: "write the frame table", run: frame_table },
    Attack { name: "write its own page table", run: page_table },
];

extern "C" fn reads(at: u64) -> ! {
    // SAFETY: meant to fault.
    exit(unsafe { core::ptr::with_exposed_provenance::<u64>(at as usize).read_volatile() })
}

extern "C" fn writes(at: u64) -> ! {
    // SAFETY: meant to fault.
    unsafe { core::ptr::with_exposed_provenance_mut::<u64>(at as usize).write_volatile(at) };
    exit(at)
}

extern "C" fn jumps(to: u64) -> ! {
    // SAFETY: meant to fault.
    unsafe { core::arch::asm!("jmp {}", in(reg) to, options(noreturn)) }
}

extern "C" fn pushes(stack: u64) -> ! {
    // SAFETY: meant to fault.
    unsafe { core::arch::asm!("mov rsp, {}", "push rax", "ud2", in(reg) stack, options(noreturn)) }
}

/// Calls far, in 64-bit code, to the next instruction.
extern "C" fn calls_far(stack: u64) -> ! {
    // SAFETY: meant to fault; else the child goes on on its own stack.
    unsafe {
        core::arch::asm!(
            "sub rsp, 16",
            "lea rcx, [rip + 2f]",
            "mov [rsp], rcx",
            "mov [rsp + 8], cs",
            "mov rax, rsp",
            "mov rsp, rdi",
            ".byte 0x48, 0xff, 0x18", // call far qword ptr [rax]
            "2:",
            "mov rsp, rax",
            in("rdi") stack, out("rax") _, out("rcx") _,
        );
    }
    exit(0x600d)
}

extern "C" fn returns_far(stack: u64) -> ! {
    // SAFETY: meant to fault.
    unsafe {
        core::arch::asm!("mov rsp, rdi", ".byte 0x48, 0xcb", in("rdi") stack, options(noreturn))
    }
}

extern "C" fn returns_from_interrupt(stack: u64) -> ! {
    // SAFETY: meant to fault.
    unsafe { core::arch::asm!("mov rsp, rdi", "iretq", in("rdi") stack, options(noreturn)) }
}

/// A number that is no selector, and what is left of it in an error code.
const NO_SELECTOR: u64 = 0xbeef;
const IN_CODE: u64 = NO_SELECTOR & !3;

/// Runs `code` in a child on a stack that is a frame of the attacker's own by its address
/// in the kernel. Whether the processor read or wrote there with more rights than ring
/// 3's is then seen.
fn on_kernel_stack(attacker: &Attacker, code: selftest::child::Code) -> Attempt {
    let window = attacker.window()?;
    let page = attacker.frames.page(window)?;
    selftest::frames::write(window, 64, exo_abi::boot::STACK_TOP);
    selftest::frames::write(window, 72, NO_SELECTOR);
    let status = attacker.maker.try_out(code, DIRECT_MAP + page.address() + 64, PATIENCE)?;
    let written = selftest::frames::read(window, 56) != 0;
    attacker.frames.drop_page(window, page)?;
    if written {
        return Ok(Verdict::breach("nothing: it was written"));
    }
    if let Some(status) = status
        && status.code == IN_CODE
    {
        return Ok(Verdict::breach("what is written there"));
    }
    Ok(Verdict::died(status, NO_CODE))
}

fn far_call(attacker: &mut Attacker) -> Attempt {
    on_kernel_stack(attacker, calls_far)
}

fn far_return(attacker: &mut Attacker) -> Attempt {
    on_kernel_stack(attacker, returns_far)
}

fn interrupt_return(attacker: &mut Attacker) -> Attempt {
    on_kernel_stack(attacker, returns_from_interrupt)
}

fn neighbour_directly(attacker: &mut Attacker) -> Attempt {
    let id = attacker.id();
    let neighbour = attacker.foreign().find(|pfn| {
        attacker.frames.look(*pfn).is_some_and(|(kind, owner)| {
            kind == exo_abi::FrameKind::Memory && owner.0 != 0 && owner != id
        })
    });
    let neighbour = neighbour.ok_or(exo_abi::Error::Vacant)?;
    attacker.victim(reads, DIRECT_MAP + neighbour.address(), PAGE_FAULT)
}

fn shown(attacker: &Attacker, frame: exo_abi::Pfn) -> Attempt {
    let show = |child: &selftest::child::Child<'_>| {
        child.share_at(frame, SHARED, Protection::Read)?;
        Ok(SHARED.get())
    };
    attacker.prepared_victim(show, writes, PAGE_FAULT)
}

fn system_information(attacker: &mut Attacker) -> Attempt {
    let at = VirtAddr::new(exo_abi::boot::U_AREA + exo_abi::FRAME_BYTES);
    let at = at.ok_or(exo_abi::Error::BadAddress)?;
    let page = attacker.maker.tables.page(at)?.ok_or(exo_abi::Error::Vacant)?;
    shown(attacker, page.frame)
}

fn frame_table(attacker: &mut Attacker) -> Attempt {
    let table = &attacker.environment.system.frame_table;
    shown(attacker, exo_abi::Pfn(table.load(core::sync::atomic::Ordering::Relaxed)))
}

fn page_table(attacker: &mut Attacker) -> Attempt {
    let show = |child: &selftest::child::Child<'_>| {
        // The child's own root table, readable for the child.
        let root = child.parts.plus(1);
        let space = (child.env, child.env);
        attacker.frames.map(space, root, SHARED, 1, Protection::Read)?;
        Ok(SHARED.get())
    };
    attacker.prepared_victim(show, writes, PAGE_FAULT)
}
