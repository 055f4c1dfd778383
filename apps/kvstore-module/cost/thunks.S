/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What Linux's thunks are without mitigations: the plain instruction, one jump away. */
	.globl __x86_return_thunk
__x86_return_thunk:
	ret
	.irp reg, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
	.globl __x86_indirect_thunk_\reg
__x86_indirect_thunk_\reg:
	jmp *%\reg
	.endr
	.section .note.GNU-stack,"",@progbits
