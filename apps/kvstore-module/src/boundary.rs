//! What C calls: pointers become slices here, and nowhere else.
//!
//! The functions take no lock and keep no state of their own. The caller holds the lock of
//! a store while it is in [`exo_store_answer`].

use core::{ptr, slice};

use kvstore::{Config, Service, Time};

use crate::route::first_key;

/// A store. C has a pointer to it and looks no further.
pub struct Store {
    service: Service<'static>,
}

/// Makes an empty store in the `len` bytes from `memory`, of which it uses all and no more.
/// `seed` are the two words of the index's secret, `pid` is what `stats` shows as `pid`.
/// Null if the memory is too small (three pages of 64 KiB are enough), larger than 32 GiB,
/// or not aligned to 8 bytes.
///
/// # Safety
/// The bytes must exist, and nothing else may use them for as long as the store is used;
/// `seed` must point to two words.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exo_store_new(
    memory: *mut u8,
    len: usize,
    seed: *const [u64; 2],
    pid: u32,
) -> *mut Store {
    let store = memory.cast::<Store>();
    if memory.is_null() || !store.is_aligned() || len < size_of::<Store>() {
        return ptr::null_mut();
    }
    // SAFETY: the caller says so of `seed`, and gives all `len` bytes of `memory` to the
    // store. Those behind the first `size_of::<Store>()` become the slice, the first ones
    // are written below: the two do not overlap. Bytes from a foreign allocator have some
    // value, whatever it is.
    let (seed, rest) = unsafe {
        let rest = memory.add(size_of::<Store>());
        (*seed, slice::from_raw_parts_mut(rest, len - size_of::<Store>()))
    };
    let Ok(service) = Service::new(rest, &Config { seed, pid, ..Config::default() }) else {
        return ptr::null_mut();
    };
    // SAFETY: aligned and large enough, as checked above; the caller gave it away.
    unsafe { store.write(Store { service }) };
    store
}

/// Answers the UDP payload of `len` bytes at `request`: writes a UDP payload to the `room`
/// bytes at `reply` and returns its length, at most `room`. 0 if nothing is to be sent.
/// `unix` and `uptime` are the seconds of [`Time`].
///
/// # Safety
/// `store` must come from [`exo_store_new`], and no other call may use it at the same
/// time. Request and reply must exist, and overlap neither each other nor the store.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exo_store_answer(
    store: *mut Store,
    request: *const u8,
    len: usize,
    reply: *mut u8,
    room: usize,
    unix: u64,
    uptime: u32,
) -> usize {
    // SAFETY: the caller says that all three exist, that they are distinct, and that
    // it alone uses them now. What `reply` holds before does not matter: the service only
    // writes to it.
    let (store, request, reply) = unsafe {
        let request = slice::from_raw_parts(request, len);
        (&mut *store, request, slice::from_raw_parts_mut(reply, room))
    };
    store.service.answer(request, Time { unix, uptime }, reply).unwrap_or(0)
}

/// The first key that the UDP payload of `len` bytes at `request` names: where it is, and
/// at `key_len` how many bytes it has. Null if there is none.
///
/// # Safety
/// The request must exist, and `key_len` point to a word.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn exo_store_first_key(
    request: *const u8,
    len: usize,
    key_len: *mut usize,
) -> *const u8 {
    // SAFETY: the caller says that the request exists.
    let request = unsafe { slice::from_raw_parts(request, len) };
    let key = first_key(request).unwrap_or_default();
    // SAFETY: the caller says that there is a word.
    unsafe { key_len.write(key.len()) };
    if key.is_empty() { ptr::null() } else { key.as_ptr() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As C would call it.
    fn answer(store: *mut Store, text: &[u8], room: usize) -> Vec<u8> {
        let request = [&[1, 2, 0, 0, 0, 1, 0, 0], text].concat();
        let mut reply = vec![0xee; 1472];
        // SAFETY: the store was made by the test, which has one thread; the buffers are
        // its own.
        let len = unsafe {
            let (from, to) = (request.as_ptr(), reply.as_mut_ptr());
            exo_store_answer(store, from, request.len(), to, room, 1_700_000_000, 1)
        };
        assert!(len <= room);
        assert!(reply[len..].iter().all(|&byte| byte == 0xee), "written behind the reply");
        reply.truncate(len);
        reply
    }

    fn new(memory: &mut [u64], skip: usize, len: usize) -> *mut Store {
        assert!(skip + len <= memory.len() * 8);
        // SAFETY: within the slice, which the test keeps for as long as the store.
        unsafe { exo_store_new(memory.as_mut_ptr().cast::<u8>().add(skip), len, &[1, 2], 42) }
    }

    #[test]
    fn a_store_lives_in_the_memory_it_is_given() {
        let mut memory = vec![0; 1 << 17];
        let store = new(&mut memory, 0, 1 << 20);
        assert!(!store.is_null());
        assert_eq!(&answer(store, b"set k 5 0 3\r\nabc\r\n", 1472)[8..], b"STORED\r\n");
        let found = b"VALUE k 5 3\r\nabc\r\nEND\r\n";
        assert_eq!(&answer(store, b"get k\r\n", 1472)[8..], found);
        assert!(answer(store, b"get k\r\n", 8).is_empty());
        assert!(answer(store, b"", 1472).is_empty());
        let stats = String::from_utf8(answer(store, b"stats\r\n", 1472)[8..].to_vec()).unwrap();
        assert!(stats.contains("STAT pid 42\r\n"), "{stats}");
        let limit = (1 << 20) - size_of::<Store>();
        assert!(stats.contains(&format!("STAT limit_maxbytes {limit}\r\n")), "{stats}");
    }

    #[test]
    fn memory_that_will_not_do_is_refused() {
        let mut memory = vec![0; 1 << 17];
        assert!(new(&mut memory, 0, 0).is_null());
        assert!(new(&mut memory, 0, size_of::<Store>()).is_null());
        assert!(new(&mut memory, 1, 1 << 19).is_null());
        assert!(!new(&mut memory, 0, 3 << 16).is_null());
        // SAFETY: null is refused before it is used.
        assert!(unsafe { exo_store_new(ptr::null_mut(), 1 << 20, &[1, 2], 0) }.is_null());
    }

    #[test]
    fn c_finds_the_key_inside_the_request() {
        let request = b"\0\x01\0\0\0\x01\0\0set name 0 0 1\r\nx\r\n";
        let mut len = 7;
        // SAFETY: both are the test's own.
        let key = unsafe { exo_store_first_key(request.as_ptr(), request.len(), &mut len) };
        assert_eq!((key, len), (request[12..].as_ptr(), 4));
        // SAFETY: as above; the length is less than there is.
        let key = unsafe { exo_store_first_key(request.as_ptr(), 8, &mut len) };
        assert!(key.is_null() && len == 0);
    }
}
