//! A panic of the store stops the machine.
//!
//! Nothing the store is sent makes it panic; if it does, its memory cannot be trusted and
//! its lock is held. C gets the place; the message would need more of `core` to be written
//! out than everything else here.

use core::panic::PanicInfo;

unsafe extern "C" {
    /// Prints the place, `len` bytes of file name and a line, and stops the machine.
    fn exo_store_panic(file: *const u8, len: usize, line: u32);
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let (file, line) = info.location().map_or(("?", 0), |at| (at.file(), at.line()));
    // SAFETY: the pointer and the length are those of a string.
    unsafe { exo_store_panic(file.as_ptr(), file.len(), line) };
    // It does not come back, but Linux's `objtool` has to see an end of this function.
    loop {}
}
