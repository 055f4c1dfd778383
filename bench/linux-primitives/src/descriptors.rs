//! A descriptor passed to another process by a socket, and closed there.
//!
//! Both ends are in this process, so that no time goes by between them: what is counted
//! is the passing, and no switch.

use std::{io, mem, ptr};

use ruler::Counter;

use crate::check;

/// Room for the header of one descriptor, aligned as it must be.
type Control = [u64; 4];
/// Bytes of it that are used.
// SAFETY: computes a number.
const SPACE: usize = unsafe { libc::CMSG_SPACE(size_of::<libc::c_int>() as u32) } as usize;
const _: () = assert!(SPACE <= size_of::<Control>());

pub(crate) fn measure(counter: &Counter) -> io::Result<()> {
    let mut ends = [0; 2];
    // SAFETY: writes two descriptors to `ends`.
    check(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_DGRAM, 0, ends.as_mut_ptr()) })?;
    pass(ends)?;
    counter.measure("pass-close", || pass(ends))?;
    for end in ends {
        // SAFETY: ours, and not used again.
        check(unsafe { libc::close(end) })?;
    }
    Ok(())
}

/// Sends a descriptor through the one end, with a byte, which there must be; receives a
/// new one for the same file at the other, and closes that.
#[inline(always)]
fn pass([here, there]: [libc::c_int; 2]) -> io::Result<()> {
    let mut byte = 0_u8;
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut control: Control = [0; 4];
    // SAFETY: all zeros are an empty message.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = SPACE;
    let length = size_of::<libc::c_int>() as u32;
    // SAFETY: `control` has room for a header and a descriptor behind it, and is aligned.
    let data = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(length) as usize;
        libc::CMSG_DATA(header).cast::<libc::c_int>()
    };
    // SAFETY: as above; it need not be aligned for a descriptor.
    unsafe { ptr::write_unaligned(data, here) };
    // SAFETY: everything that the message names lives through both calls.
    let (sent, received) = unsafe {
        (libc::sendmsg(here, &raw const message, 0), libc::recvmsg(there, &raw mut message, 0))
    };
    if (sent, received) != (1, 1) || message.msg_controllen < SPACE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above: the kernel has put the new descriptor where the old one was.
    check(unsafe { libc::close(ptr::read_unaligned(data)) })?;
    Ok(())
}
