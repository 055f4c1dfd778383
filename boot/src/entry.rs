//! The PVH entry: 32-bit protected mode, no paging, to 64-bit Rust in the high
//! half.
//!
//! The loader starts the processor as Xen's PVH describes: flat 32-bit segments,
//! paging off, interrupts off, `ebx` holding the physical address of the start
//! information. This code builds temporary tables of 2 MiB pages that map the
//! first 4 GiB at zero and at `DIRECT_MAP`, and the first 1 GiB at
//! `KERNEL_BASE`; turns on long mode (SDM vol. 3, 10.8.5); and calls
//! `kernel_main(start_info)` on the boot stack. The kernel builds its final
//! tables, with protection, at once, and never returns here.

/// Puts the entry into the program that invokes it: the kernel, which must
/// define `extern "C" fn kernel_main(start_info: u64) -> !`, and for other processors
/// `extern "C" fn other_main() -> !` and `OTHER_STACK`, the stack pointer of the one
/// that is being started. Those begin at `other_entry`, wherever that is copied.
#[macro_export]
macro_rules! pvh_entry {
    () => {
        core::arch::global_asm!(
            r#"
    .pushsection .note.pvh, "a", @note
    .align 4
    .long 4, 4, 18              # name size, descriptor size, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .align 4
    .long pvh_entry
    .popsection

    # From 32-bit code, by way of boot_tables, to 64-bit code at \high. Keeps ebx.
    .macro to_long high
    mov eax, offset boot_tables + {to_low}
    mov cr3, eax
    mov eax, cr4
    or eax, 0x620               # PAE; SSE, which compiled Rust uses at once
    mov cr4, eax
    mov ecx, 0xc0000080         # EFER
    rdmsr
    or eax, 0x100               # LME
    wrmsr
    mov eax, cr0
    or eax, 0x80000000          # PG
    mov cr0, eax
    .byte 0xea                  # far jump
    .long 1f
    .word 8
    .code64
1:  xor eax, eax
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov fs, eax
    mov gs, eax
    movabs rax, offset \high
    jmp rax
    .endm

    .pushsection .boot.text, "ax"
    .code32
    .global pvh_entry
pvh_entry:
    cli
    cld
    mov esp, offset boot_stack_top + {to_low}
    # Four page directories of 2 MiB pages: 4 GiB from address 0.
    mov edi, offset boot_directories + {to_low}
    mov eax, 0x83               # present, writable, 2 MiB
    mov ecx, 2048
1:  mov [edi], eax
    mov dword ptr [edi + 4], 0
    add eax, 0x200000
    add edi, 8
    dec ecx
    jnz 1b
    # Low page-directory-pointer table: the four directories.
    mov edi, offset boot_pointers_low + {to_low}
    mov eax, offset boot_directories + {to_low} + 3    # present, writable
    mov ecx, 4
2:  mov [edi], eax
    add eax, 4096
    add edi, 8
    dec ecx
    jnz 2b
    # High one: entry 510 is KERNEL_BASE.
    mov eax, offset boot_directories + {to_low} + 3
    mov [boot_pointers_high + {to_low} + 510 * 8], eax
    # Root: identity, direct map, kernel.
    mov eax, offset boot_pointers_low + {to_low} + 3
    mov [boot_tables + {to_low}], eax
    mov [boot_tables + {to_low} + 256 * 8], eax
    mov eax, offset boot_pointers_high + {to_low} + 3
    mov [boot_tables + {to_low} + 511 * 8], eax

    lgdt [boot_gdt_pointer]
    to_long boot_high

    .align 8
boot_gdt:
    .quad 0
    .quad 0x00209a0000000000    # 64-bit code
    .quad 0x00cf9a000000ffff    # 32-bit code
    .quad 0x00cf92000000ffff    # data
boot_gdt_pointer:
    .word 31
    .long boot_gdt

    .code32
other_protected:
    mov eax, 0x18
    mov ds, eax
    mov ss, eax
    to_long other_high
    .popsection

    # Copied to a page below 1 MiB, where other processors start in real mode.
    .pushsection .text.other_entry, "ax"
    .code16
    .global other_entry
    .global other_entry_end
other_entry:
    cli
    .byte 0x2e, 0x66, 0x0f, 0x01, 0x16      # lgdt cs:[...], with a 32-bit base
    .word other_gdt_pointer - other_entry
    mov eax, cr0
    or al, 1
    mov cr0, eax
    .byte 0x66, 0xea                        # far jump, with a 32-bit offset
    .long other_protected
    .word 0x10
    .balign 4
other_gdt_pointer:
    .word 31
    .long boot_gdt
other_entry_end:
    .code64
    .popsection

    .pushsection .text.boot_high, "ax"
other_high:
    mov rsp, [rip + OTHER_STACK]
    xor ebp, ebp
    call other_main
    ud2
boot_high:
    mov edi, ebx
    lea rsp, [rip + boot_stack_top]
    xor ebp, ebp
    call kernel_main
    ud2
    .popsection

    .pushsection .bss.boot, "aw", @nobits
    .align 4096
boot_tables: .skip 4096
boot_pointers_low: .skip 4096
boot_pointers_high: .skip 4096
boot_directories: .skip 4 * 4096
    .global boot_stack_guard
boot_stack_guard: .skip 4096
    .global boot_stack_top
boot_stack: .skip 32768
boot_stack_top:
    .popsection
    .purgem to_long
    "#,
            // Adding this, modulo 2^64, turns an address of the image into a physical one.
            to_low = const $crate::layout::KERNEL_BASE.wrapping_neg(),
        );
    };
}
