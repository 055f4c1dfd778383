//! Instructions that ring 3 must not execute: each by a child that should die of
//! it. Expected exceptions are the architecture's: 13 general protection, 6 invalid
//! opcode for what is switched off (SDM vol. 2, each instruction's page).

use core::arch::asm;

use selftest::child::exit;

use crate::attack::{Attack, Attacker, Attempt};

/// For instructions of a feature that is off, processors differ in what they look at first:
/// that the instruction is privileged, or that the feature is off.
const REFUSED: &[u32] = &[6, 13];
/// QEMU 7.2 reads the frame of a far return with ring 0's rights, and meets SMAP;
/// a processor sees that the segment is ring 0's.
const FAR_RETURN: &[u32] = &[13, 14];
/// In QEMU the kernel hides the descriptors from ring 3's code on from ring 3.
const TASK: &[u32] = &[13, 14];
/// QEMU does not know this instruction.
const DEBUG: &[u32] = &[1, 6];

/// Declares a victim for each line: name, exceptions, instructions.
macro_rules! attacks {
    ($($name:literal $vectors:expr => $($code:literal),+;)*) => {
        pub(crate) const ATTACKS: &[Attack] = &[
            $(Attack {
                name: $name,
                run: |attacker: &mut Attacker| -> Attempt {
                    extern "C" fn victim(_: u64) -> ! {
                        // SAFETY: meant to end the environment, which has nothing
                        // that could be damaged.
                        unsafe { asm!($($code),+, out("rax") _, out("rcx") _, out("rdx") _) };
                        exit(0x600d)
                    }
                    attacker.victim(victim, 0, $vectors)
                },
            }),*
        ];
    };
}

attacks! {
    "turn interrupts off" &[13] => "cli";
    "turn interrupts on" &[13] => "sti";
    "halt the processor" &[13] => "hlt";
    "read the page-table register" &[13] => "mov rax, cr3";
    "load the page-table register" &[13] => "mov cr3, rax";
    "turn write protection off" &[13] => "xor eax, eax", "mov cr0, rax";
    "turn SMEP and SMAP off" &[13] => "xor eax, eax", "mov cr4, rax";
    "set the task-switched flag" &[13] => "clts";
    "load the machine status word" &[13] => "lmsw ax";
    "write a debug register" &[13] => "mov dr7, rax";
    "write a model-specific register" &[13] => "mov ecx, 0xc0000082", "wrmsr";
    "read a model-specific register" &[13] => "mov ecx, 0xc0000080", "rdmsr";
    "read a performance counter" &[13] => "xor ecx, ecx", "rdpmc";
    "read a port" &[13] => "in al, 0x60";
    "write the power-off port" &[13] => "mov dx, 0xf4", "xor eax, eax", "out dx, al";
    "read a string of ports" &[13] => "mov dx, 0x60", "mov rdi, rsp", "insb";
    "load the segment table" &[13] => "lgdt [rsp]";
    "load the interrupt table" &[13] => "lidt [rsp]";
    "load the local segment table" &[13] => "lldt ax";
    "load the task register" &[13] => "ltr ax";
    "store the segment table's address" &[13] => "sgdt [rsp - 16]";
    "store the interrupt table's address" &[13] => "sidt [rsp - 16]";
    "store the local segment selector" &[13] => "sldt ax";
    "store the task register" &[13] => "str ax";
    "store the machine status word" &[13] => "smsw ax";
    "forget a translation" &[13] => "invlpg [rsp]";
    "throw the caches away" &[13] => "invd";
    "write the caches back" &[13] => "wbinvd";
    "exchange the gs base" &[13] => "swapgs";
    "return from a system call" &[13] => "mov rcx, 0xffffffff80200000", "sysretq";
    "enter by the other fast call" REFUSED => "sysenter";
    "leave by the other fast call" REFUSED => "sysexit";
    "return into ring 0" FAR_RETURN => "push 0x10", "push rsp", "pushfq", "push 0x08", "lea rax, [rip]", "push rax", "iretq";
    "return far into ring 0" FAR_RETURN => "push 0x08", "lea rax, [rip]", "push rax", "retfq";
    "load the kernel's stack segment" &[13] => "mov eax, 0x10", "mov ss, ax";
    "load the task's segment as data" TASK => "mov eax, 0x30", "mov ds, ax";
    "raise the I/O level and read a port" &[13] => "pushfq", "or dword ptr [rsp], 0x3000", "popfq", "in al, 0x60";
    "set the gs base" &[6] => "wrgsbase rax";
    "set the fs base" &[6] => "wrfsbase rax";
    "set protection keys" &[6] => "xor eax, eax", "xor ecx, ecx", "xor edx, edx", "wrpkru";
    "choose extended state" REFUSED => "xor ecx, ecx", "mov eax, 7", "xor edx, edx", "xsetbv";
    "use vector registers that are not saved" &[6] => "vaddps ymm0, ymm0, ymm0";
    "call a hypervisor" REFUSED => "vmcall";
    "start a virtual machine" REFUSED => "vmrun rax";
    "monitor memory" REFUSED => "mov rax, rsp", "xor ecx, ecx", "xor edx, edx", "monitor";
    "raise a double fault" &[13] => "int 8";
    "raise a non-maskable interrupt" &[13] => "int 2";
    "raise a machine check" &[13] => "int 18";
    "raise a page fault" &[13] => "int 14";
    "raise the timer interrupt" &[13] => "int 32";
    "raise the network interrupt" &[13] => "int 33";
    "call the kernel by interrupt 0x80" &[13] => "int 0x80";
    "break" &[3, 13] => "int3";
    "raise a debug exception" DEBUG => ".byte 0xf1";
    "execute what is no instruction" &[6] => "ud2";
    "divide by zero" &[0] => "xor ecx, ecx", "xor edx, edx", "mov eax, 1", "div ecx";
    "call with single-step on" &[1] => "mov eax, 0", "pushfq", "or dword ptr [rsp], 0x100", "popfq", "syscall", "nop", "nop";
    "call with single-step on, behind a stack switch" &[1] => "mov ecx, ss", "mov eax, 0", "pushfq", "or dword ptr [rsp], 0x100", "popfq", "mov ss, ecx", "syscall", "nop", "nop";
    "leave an unmasked x87 exception to others" &[16] => "fninit", "push 0x300", "fldcw [rsp]", "fld1", "fldz", "fdivp", "fwait";
}
