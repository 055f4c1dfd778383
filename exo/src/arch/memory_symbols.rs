//! The C memory functions that compiled Rust calls, for ring 0.
//!
//! Sixteen bytes at a time in vector registers: `rep movsb` is slow under
//! software emulation and counts an instruction per byte there.

use core::arch::x86_64::{_mm_loadu_si128, _mm_set1_epi8, _mm_storeu_si128};

/// # Safety
/// As C's `memcpy`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(target: *mut u8, source: *const u8, bytes: usize) -> *mut u8 {
    // SAFETY: both ranges are `bytes` long by contract, and every access below
    // stays inside: whole blocks while they fit, then one last block that ends
    // with the range (overlapping the previous one), or single bytes.
    unsafe {
        let block = |at| {
            let block = _mm_loadu_si128(source.add(at).cast());
            _mm_storeu_si128(target.add(at).cast(), block);
        };
        let blocks = |at| {
            block(at);
            block(at + 16);
            block(at + 32);
            block(at + 48);
        };
        let mut done = 0;
        if bytes > 64 {
            let last = bytes - 64;
            if bytes > 128 {
                blocks(0);
                done = 64;
                while done + 64 < last {
                    blocks(done);
                    done += 64;
                }
            }
            blocks(done);
            blocks(last);
        } else if bytes > 32 {
            block(0);
            block(16);
            block(bytes - 32);
            block(bytes - 16);
        } else if bytes >= 16 {
            block(0);
            block(bytes - 16);
        } else if bytes >= 8 {
            let first = source.cast::<u64>().read_unaligned();
            let last = source.add(bytes - 8).cast::<u64>().read_unaligned();
            target.cast::<u64>().write_unaligned(first);
            target.add(bytes - 8).cast::<u64>().write_unaligned(last);
        } else {
            while done < bytes {
                target.add(done).write_volatile(source.add(done).read_volatile());
                done += 1;
            }
        }
    }
    target
}

/// # Safety
/// As C's `memmove`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(target: *mut u8, source: *const u8, bytes: usize) -> *mut u8 {
    // SAFETY: the ranges are `bytes` long by contract. Going byte by byte from
    // the side that is overwritten last makes overlap harmless. Volatile keeps
    // the compiler from turning the loop into a call of this very function.
    unsafe {
        let forwards = target.addr().wrapping_sub(source.addr()) >= bytes;
        for step in 0..bytes {
            let at = if forwards { step } else { bytes - 1 - step };
            target.add(at).write_volatile(source.add(at).read_volatile());
        }
    }
    target
}

/// # Safety
/// As C's `memset`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(target: *mut u8, value: i32, bytes: usize) -> *mut u8 {
    // SAFETY: the range is `bytes` long by contract; accesses stay inside, as in
    // `memcpy`.
    unsafe {
        if bytes >= 16 {
            let block = _mm_set1_epi8(value as i8);
            let put = |at| _mm_storeu_si128(target.add(at).cast(), block);
            let last = bytes - 16;
            let mut done = 0;
            // Most are whole pages.
            while bytes - done >= 128 {
                put(done);
                put(done + 16);
                put(done + 32);
                put(done + 48);
                put(done + 64);
                put(done + 80);
                put(done + 96);
                put(done + 112);
                done += 128;
            }
            while done < last {
                put(done);
                done += 16;
            }
            put(last);
        } else {
            for offset in 0..bytes {
                target.add(offset).write_volatile(value as u8);
            }
        }
    }
    target
}

/// # Safety
/// As C's `memcmp`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, bytes: usize) -> i32 {
    for offset in 0..bytes {
        // SAFETY: both ranges are `bytes` long by contract.
        let (a, b) =
            unsafe { (left.add(offset).read_volatile(), right.add(offset).read_volatile()) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

/// # Safety
/// As C's `bcmp`.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, bytes: usize) -> i32 {
    // SAFETY: the same contract.
    unsafe { memcmp(left, right, bytes) }
}

/// Named by compiled `core`; never called, because panics abort.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As above.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() {}
