//! The gate's page: the code by which visitors enter a domain and leave it.
//!
//! It is made when the domain is, since the key stands in it. The kernel admits it for the holder of the key
//! ([`exo_abi::gate`]), and what follows upon the opening is the domain's own, with any registers:
//!
//! ```text
//!   open the key; eax, ecx, edx are the gate's
//!   cld                       the caller's direction flag is anything
//!   rsp = top of the domain's stack, the caller's rsp kept there
//!   call serve(rdi, rsi, r10, r11, r8, r9)
//!   rsp = the caller's
//!   rdi, rsi = what serve returned; every other register that serve need not keep = 0
//!   close all keys
//!   ret                       to where the caller's stack says, which is now its own affair
//! ```
//!
//! So what a visitor gets to see of the domain is the answer. Its own callee-saved registers it finds
//! as they were: `serve` keeps them.

use exo_abi::{CLOSED, FRAME_BYTES, gate, opened};

/// The most bytes there are.
pub const MOST: usize = 256;

/// Code under construction.
struct Code {
    bytes: [u8; MOST],
    len: usize,
}

impl Code {
    fn put(&mut self, bytes: &[u8]) {
        if let Some(place) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        self.len += bytes.len();
    }

    /// Changes the key register, with the three registers that this takes.
    fn change(&mut self, rights: u32) {
        self.put(&[0x31, 0xc9, 0x31, 0xd2, 0xb8]); // xor ecx, ecx; xor edx, edx; mov eax, ..
        self.put(&rights.to_le_bytes());
        // Put together here and now: code in which it stood as a constant would not be admitted.
        let inverted = gate(rights).map(|byte| !byte);
        let ones = core::hint::black_box(0xff);
        self.put(&inverted.map(|byte| byte ^ ones));
    }
}

/// The page's code: a gate to `serve` that opens `key`, for a stack that ends at `stack_top`, a multiple
/// of sixteen. The entry is its first byte.
///
/// # Panics
/// If it is longer than [`MOST`].
#[must_use]
pub fn code(key: u32, stack_top: u64, serve: u64) -> [u8; MOST] {
    let mut code = Code { bytes: [0xcc; MOST], len: 0 };
    code.change(opened(key));
    code.put(&[0xfc]); // cld
    code.put(&[0x48, 0x89, 0xe2]); // mov rdx, rsp
    code.put(&[0x48, 0xbc]); // mov rsp, ..
    code.put(&stack_top.to_le_bytes());
    code.put(&[0x52, 0x52]); // push rdx, twice: a call finds the stack aligned
    code.put(&[0x4c, 0x89, 0xd2]); // mov rdx, r10
    code.put(&[0x4c, 0x89, 0xd9]); // mov rcx, r11
    code.put(&[0x49, 0xbb]); // mov r11, ..
    code.put(&serve.to_le_bytes());
    code.put(&[0x41, 0xff, 0xd3]); // call r11
    code.put(&[0x5c]); // pop rsp
    code.put(&[0x48, 0x89, 0xc7]); // mov rdi, rax
    code.put(&[0x48, 0x89, 0xd6]); // mov rsi, rdx
    for register in 0..4 {
        code.put(&[0x45, 0x31, 0xc0 + 9 * register]); // xor r8d, r8d and so on, to r11d
    }
    for register in 0..8 {
        code.put(&[0x0f, 0x57, 0xc0 + 9 * register]); // xorps xmm0, xmm0 and so on
    }
    for register in 0..8 {
        code.put(&[0x45, 0x0f, 0x57, 0xc0 + 9 * register]);
    }
    code.change(CLOSED);
    code.put(&[0xc3]); // ret
    assert!(code.len <= MOST && MOST < FRAME_BYTES as usize, "a longer gate");
    code.bytes
}

#[cfg(test)]
mod tests {
    use super::{MOST, code};
    use exo_abi::{CLOSED, KEYS, gate, opened};

    #[test]
    fn it_opens_one_key_and_closes_all() {
        for key in 1..KEYS {
            let code = code(key, 0x50_0020_8000, 0x0812_3450);
            let places: Vec<usize> =
                (0..MOST - 2).filter(|at| code[*at..].starts_with(&[0x0f, 0x01, 0xef])).collect();
            assert_eq!(places.len(), 2, "wrpkru stands in it twice");
            assert!(code[places[0]..].starts_with(&gate(opened(key))));
            assert!(code[places[1]..].starts_with(&gate(CLOSED)));
            // What follows upon the closing is the way back, and no other way leads on.
            assert_eq!(code[places[1] + gate(CLOSED).len()..][..2], [0xc3, 0xcc]);
        }
    }

    /// Read by eye once, in a disassembler.
    #[test]
    fn the_code_is_the_one_that_was_read() {
        let code = code(1, 0x1122_3344_5566_7788, 0x99aa_bbcc_ddee_ff00);
        let text: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
        let body = text.trim_end_matches("cc");
        let wanted = "31c931d2b850555555" // xor ecx, ecx; xor edx, edx; mov eax, opened(1)
            .to_owned()
            + "0f01ef3d5055555574020f0b"
            + "fc4889e248bc88776655443322115252"
            + "4c89d24c89d949bb00ffeeddccbbaa9941ffd3"
            + "5c4889c74889d6"
            + "4531c04531c94531d24531db"
            + "0f57c00f57c90f57d20f57db0f57e40f57ed0f57f60f57ff"
            + "450f57c0450f57c9450f57d2450f57db450f57e4450f57ed450f57f6450f57ff"
            + "31c931d2b8545555550f01ef3d5455555574020f0bc3";
        assert_eq!(body, wanted);
    }
}
