//! The byte operations the compiler calls by name: `memcpy`, `memmove`,
//! `memset`, `memcmp`, `bcmp`, `strlen`.
//!
//! There is no C library below an application, so the library OS supplies
//! them. They are assembly for two reasons. A loop in Rust that copies bytes is
//! recognised by the optimiser and turned into a call to the very symbol it
//! defines. And their cost is part of every figure: `rep movsb` executes as one
//! instruction per byte under emulation and counts as such, so everything moves
//! in 16-byte pieces, short lengths as two pieces that overlap in the middle,
//! without a loop. SSE2 is part of x86-64; nothing above it is used, since not
//! every kernel version need save wider registers.
//!
//! | operation | instructions for 16 to 32, 33 to 64, 1024 bytes |
//! |---|---|
//! | `memcpy`, `memmove` | 10, 16, 203; for 65 to 128 bytes 26 |
//! | `memset` | 16, 18, 122 |
//! | `bcmp`, equal | 19, 28 or 37, 577 |
//!
//! The bodies are the same on the host, where they carry no C name and are
//! tested against the standard library.

use core::arch::naked_asm;

/// A C function of this module: exported under its C name in the guest.
macro_rules! c_function {
    ($(#[$attribute:meta])* $rust:ident as $c:literal ($($arg:ident: $ty:ty),*) -> $out:ty, $body:expr) => {
        $(#[$attribute])*
        ///
        /// # Safety
        /// That of the C function of the same name.
        #[cfg_attr(exo_guest, unsafe(export_name = $c))]
        #[unsafe(naked)]
        pub(super) unsafe extern "C" fn $rust($($arg: $ty),*) -> $out {
            naked_asm!($body)
        }
    };
}

/// Copies `rdx` bytes from `rsi` to `rdi`, which may overlap. Lengths up to 128
/// load everything before they store anything. Above, the end that the loop
/// would overwrite first is loaded beforehand.
macro_rules! copy {
    () => {
        "
        mov rax, rdi
        cmp rdx, 16
        jb 4f
        cmp rdx, 32
        ja 2f
        movups xmm0, [rsi]
        movups xmm1, [rsi + rdx - 16]
        movups [rdi], xmm0
        movups [rdi + rdx - 16], xmm1
        ret
    2:  cmp rdx, 64
        ja 3f
        movups xmm0, [rsi]
        movups xmm1, [rsi + 16]
        movups xmm2, [rsi + rdx - 32]
        movups xmm3, [rsi + rdx - 16]
        movups [rdi], xmm0
        movups [rdi + 16], xmm1
        movups [rdi + rdx - 32], xmm2
        movups [rdi + rdx - 16], xmm3
        ret
    3:  cmp rdx, 128
        ja 2f
        movups xmm0, [rsi]
        movups xmm1, [rsi + 16]
        movups xmm2, [rsi + 32]
        movups xmm3, [rsi + 48]
        movups xmm4, [rsi + rdx - 64]
        movups xmm5, [rsi + rdx - 48]
        movups xmm6, [rsi + rdx - 32]
        movups xmm7, [rsi + rdx - 16]
        movups [rdi], xmm0
        movups [rdi + 16], xmm1
        movups [rdi + 32], xmm2
        movups [rdi + 48], xmm3
        movups [rdi + rdx - 64], xmm4
        movups [rdi + rdx - 48], xmm5
        movups [rdi + rdx - 32], xmm6
        movups [rdi + rdx - 16], xmm7
        ret
    2:  mov rcx, rdi
        sub rcx, rsi
        cmp rcx, rdx
        jb 7f
        movups xmm4, [rsi + rdx - 64]
        movups xmm5, [rsi + rdx - 48]
        movups xmm6, [rsi + rdx - 32]
        movups xmm7, [rsi + rdx - 16]
        lea r8, [rdi + rdx - 64]
    5:  movups xmm0, [rsi]
        movups xmm1, [rsi + 16]
        movups xmm2, [rsi + 32]
        movups xmm3, [rsi + 48]
        movups [rdi], xmm0
        movups [rdi + 16], xmm1
        movups [rdi + 32], xmm2
        movups [rdi + 48], xmm3
        add rsi, 64
        add rdi, 64
        cmp rdi, r8
        jb 5b
        movups [r8], xmm4
        movups [r8 + 16], xmm5
        movups [r8 + 32], xmm6
        movups [r8 + 48], xmm7
        ret
    7:  movups xmm4, [rsi]
        movups xmm5, [rsi + 16]
        movups xmm6, [rsi + 32]
        movups xmm7, [rsi + 48]
    8:  movups xmm0, [rsi + rdx - 64]
        movups xmm1, [rsi + rdx - 48]
        movups xmm2, [rsi + rdx - 32]
        movups xmm3, [rsi + rdx - 16]
        movups [rdi + rdx - 64], xmm0
        movups [rdi + rdx - 48], xmm1
        movups [rdi + rdx - 32], xmm2
        movups [rdi + rdx - 16], xmm3
        sub rdx, 64
        cmp rdx, 64
        ja 8b
        movups [rdi], xmm4
        movups [rdi + 16], xmm5
        movups [rdi + 32], xmm6
        movups [rdi + 48], xmm7
        ret
    4:  cmp edx, 8
        jb 5f
        mov rcx, [rsi]
        mov r8, [rsi + rdx - 8]
        mov [rdi], rcx
        mov [rdi + rdx - 8], r8
        ret
    5:  cmp edx, 4
        jb 6f
        mov ecx, [rsi]
        mov r8d, [rsi + rdx - 4]
        mov [rdi], ecx
        mov [rdi + rdx - 4], r8d
        ret
    6:  test edx, edx
        jz 9f
        mov r9, rdx
        shr r9, 1
        movzx ecx, byte ptr [rsi]
        movzx r8d, byte ptr [rsi + rdx - 1]
        movzx r10d, byte ptr [rsi + r9]
        mov [rdi], cl
        mov [rdi + r9], r10b
        mov [rdi + rdx - 1], r8b
    9:  ret
        "
    };
}

c_function! {
    /// Copies `count` bytes between ranges that do not overlap.
    copy as "memcpy" (to: *mut u8, from: *const u8, count: usize) -> *mut u8, copy!()
}

c_function! {
    /// Copies `count` bytes between ranges that may overlap.
    copy_overlapping as "memmove" (to: *mut u8, from: *const u8, count: usize) -> *mut u8, copy!()
}

c_function! {
    /// Sets `count` bytes to the low byte of `value`.
    fill as "memset" (to: *mut u8, value: i32, count: usize) -> *mut u8,
    "
        mov rax, rdi
        movzx esi, sil
        movabs rcx, 0x0101010101010101
        imul rcx, rsi
        cmp rdx, 16
        jb 4f
        movq xmm0, rcx
        punpcklqdq xmm0, xmm0
        lea r8, [rdi + rdx - 16]
        cmp rdx, 64
        ja 3f
        movups [rdi], xmm0
        movups [r8], xmm0
        cmp rdx, 32
        jbe 2f
        movups [rdi + 16], xmm0
        movups [r8 - 16], xmm0
    2:  ret
    3:  sub r8, 48
    5:  movups [rdi], xmm0
        movups [rdi + 16], xmm0
        movups [rdi + 32], xmm0
        movups [rdi + 48], xmm0
        add rdi, 64
        cmp rdi, r8
        jb 5b
        movups [r8], xmm0
        movups [r8 + 16], xmm0
        movups [r8 + 32], xmm0
        movups [r8 + 48], xmm0
        ret
    4:  cmp edx, 8
        jb 5f
        mov [rdi], rcx
        mov [rdi + rdx - 8], rcx
        ret
    5:  cmp edx, 4
        jb 6f
        mov [rdi], ecx
        mov [rdi + rdx - 4], ecx
        ret
    6:  test edx, edx
        jz 7f
        mov [rdi], cl
        mov [rdi + rdx - 1], cl
        shr rdx, 1
        mov [rdi + rdx], cl
    7:  ret
    "
}

c_function! {
    /// Compares bytes as unsigned numbers: negative, zero or positive.
    compare as "memcmp" (a: *const u8, b: *const u8, count: usize) -> i32,
    "
        xor ecx, ecx
        cmp rdx, 16
        jb 4f
        lea r8, [rdx - 16]
    2:  movups xmm0, [rdi + rcx]
        movups xmm1, [rsi + rcx]
        pcmpeqb xmm0, xmm1
        pmovmskb eax, xmm0
        xor eax, 0xffff
        jnz 3f
        add rcx, 16
        cmp rcx, r8
        jbe 2b
        cmp rcx, rdx
        mov rcx, r8
        jb 2b
        ret
    3:  bsf eax, eax
        add rcx, rax
    6:  movzx eax, byte ptr [rdi + rcx]
        movzx edx, byte ptr [rsi + rcx]
        sub eax, edx
        ret
    4:  cmp edx, 8
        jb 5f
        mov rax, [rdi]
        mov r8, [rsi]
        cmp rax, r8
        jne 7f
        mov rax, [rdi + rdx - 8]
        mov r8, [rsi + rdx - 8]
        cmp rax, r8
        jne 7f
        xor eax, eax
        ret
    7:  bswap rax
        bswap r8
        cmp rax, r8
        sbb eax, eax
        or eax, 1
        ret
    5:  xor eax, eax
        cmp rcx, rdx
        jae 9f
    8:  movzx eax, byte ptr [rdi + rcx]
        movzx r8d, byte ptr [rsi + rcx]
        sub eax, r8d
        jnz 9f
        inc rcx
        cmp rcx, rdx
        jb 8b
    9:  ret
    "
}

c_function! {
    /// Whether bytes differ: zero if they do not.
    differ as "bcmp" (a: *const u8, b: *const u8, count: usize) -> i32,
    "
        xor ecx, ecx
        cmp rdx, 16
        jb 4f
        sub rdx, 16
    2:  movups xmm0, [rdi + rcx]
        movups xmm1, [rsi + rcx]
        pcmpeqb xmm0, xmm1
        pmovmskb eax, xmm0
        sub eax, 0xffff
        jnz 3f
        add rcx, 16
        cmp rcx, rdx
        jb 2b
        movups xmm0, [rdi + rdx]
        movups xmm1, [rsi + rdx]
        pcmpeqb xmm0, xmm1
        pmovmskb eax, xmm0
        sub eax, 0xffff
    3:  ret
    4:  cmp edx, 8
        jb 5f
        mov rax, [rdi]
        mov rcx, [rdi + rdx - 8]
        xor rax, [rsi]
        xor rcx, [rsi + rdx - 8]
        or rax, rcx
        setnz al
        movzx eax, al
        ret
    5:  cmp edx, 4
        jb 6f
        mov eax, [rdi]
        mov ecx, [rdi + rdx - 4]
        xor eax, [rsi]
        xor ecx, [rsi + rdx - 4]
        or eax, ecx
        ret
    6:  xor eax, eax
        test edx, edx
        jz 7f
        mov al, [rdi]
        xor al, [rsi]
        mov cl, [rdi + rdx - 1]
        xor cl, [rsi + rdx - 1]
        or al, cl
        shr rdx, 1
        mov cl, [rdi + rdx]
        xor cl, [rsi + rdx]
        or al, cl
    7:  ret
    "
}

c_function! {
    /// Number of bytes before the first zero.
    length as "strlen" (text: *const u8) -> usize,
    "
        mov rax, rdi
    2:  cmp byte ptr [rax], 0
        je 3f
        inc rax
        jmp 2b
    3:  sub rax, rdi
        ret
    "
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{compare, copy, copy_overlapping, differ, fill, length};

    /// Every length that takes another way through the code, and its neighbours.
    fn lengths() -> impl Iterator<Item = usize> {
        (0..=200).chain([255, 256, 257, 1000, 1023, 1024, 1025, 4096])
    }

    fn pattern(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|i| (i * 7 + i / 251) as u8).collect()
    }

    #[test]
    fn copies_every_length_and_nothing_beside() {
        for n in lengths() {
            let from = pattern(n);
            let mut to = vec![0xa5; n + 32];
            // SAFETY: both ranges are `n` bytes of live vectors and apart.
            let back = unsafe { copy(to.as_mut_ptr().add(16), from.as_ptr(), n) };
            assert_eq!(back, to[16..].as_mut_ptr());
            assert_eq!(&to[16..16 + n], &from);
            assert!(to[..16].iter().chain(&to[16 + n..]).all(|&byte| byte == 0xa5), "{n}");
        }
    }

    #[test]
    fn copies_overlapping_ranges_both_ways() {
        for n in lengths() {
            for shift in [0, 1, 3, 8, 15, 16, 17, 63, 64, 65, 150] {
                let mut up = pattern(n + shift);
                let mut expected = up.clone();
                expected.copy_within(..n, shift);
                // SAFETY: both ranges lie in `up`.
                unsafe { copy_overlapping(up.as_mut_ptr().add(shift), up.as_ptr(), n) };
                assert_eq!(up, expected, "up {n} by {shift}");

                let mut down = pattern(n + shift);
                let mut expected = down.clone();
                expected.copy_within(shift.., 0);
                // SAFETY: both ranges lie in `down`.
                unsafe { copy_overlapping(down.as_mut_ptr(), down.as_ptr().add(shift), n) };
                assert_eq!(down, expected, "down {n} by {shift}");
            }
        }
    }

    #[test]
    fn fills_every_length_and_nothing_beside() {
        for n in lengths() {
            let mut to = vec![0xa5; n + 32];
            // SAFETY: the range is `n` bytes of a live vector.
            unsafe { fill(to.as_mut_ptr().add(16), 0x1ff5a, n) };
            assert!(to[16..16 + n].iter().all(|&byte| byte == 0x5a), "{n}");
            assert!(to[..16].iter().chain(&to[16 + n..]).all(|&byte| byte == 0xa5), "{n}");
        }
    }

    #[test]
    fn finds_a_difference_wherever_it_is() {
        for n in (0..=80).chain([127, 128, 129]) {
            let a = pattern(n);
            // SAFETY: `n` bytes of a live vector, twice.
            unsafe {
                assert_eq!(differ(a.as_ptr(), a.as_ptr(), n), 0);
                assert_eq!(compare(a.as_ptr(), a.as_ptr(), n), 0);
            }
            for at in 0..n {
                let mut b = a.clone();
                b[at] ^= 0x80;
                // SAFETY: `n` bytes of each of two live vectors.
                let (differs, order) = unsafe {
                    (differ(a.as_ptr(), b.as_ptr(), n), compare(a.as_ptr(), b.as_ptr(), n))
                };
                assert_ne!(differs, 0, "{n} {at}");
                assert_eq!(order.signum(), if a[at] < b[at] { -1 } else { 1 }, "{n} {at}");
            }
        }
    }

    #[test]
    fn measures_strings() {
        for text in ["\0", "a\0", "a string\0 and more\0"] {
            // SAFETY: the text has a zero byte.
            let n = unsafe { length(text.as_ptr()) };
            assert_eq!(Some(n), text.find('\0'));
        }
    }

    proptest! {
        #[test]
        fn compares_like_slices(a in prop::collection::vec(0u8..3, 0..70), b in prop::collection::vec(0u8..3, 0..70)) {
            let n = a.len().min(b.len());
            let expected = a[..n].cmp(&b[..n]) as i32;
            // SAFETY: `n` is within both.
            let (order, differs) = unsafe {
                (compare(a.as_ptr(), b.as_ptr(), n), differ(a.as_ptr(), b.as_ptr(), n))
            };
            prop_assert_eq!(order.signum(), expected);
            prop_assert_eq!(differs != 0, expected != 0);
        }
    }
}
