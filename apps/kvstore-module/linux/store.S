/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The store: assembler text that rustc made and `cargo exo module` adapted and checked. */
	.include "store.asm"
