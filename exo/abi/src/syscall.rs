//! The system-call table: the one place where a call is described.
//!
//! Calling convention: `syscall` with the number in `rax` and arguments in
//! `rdi rsi rdx r10 r8 r9`. On return `rax` is zero or an [`crate::Error`] code and
//! `rdx` the value; with an error that is zero, unless the call says what it is. `rbx
//! rbp rsp r12-r15` are preserved; `rcx r11` are the processor's; every other general
//! and vector register comes back zero.
//!
//! Every call is bounded. A call that returns [`crate::Error::Again`] has done part of
//! its work and goes on when called again with the same arguments.

/// Invokes `$callback!` with the whole table, one entry per call:
/// doc comments, number, `name(argument: type, …) -> type of the value`, and `, leaves` if the
/// call may go on elsewhere than in its caller: then it is not for a batch.
///
/// The kernel's dispatcher and the library's stubs are both made from it.
#[macro_export]
macro_rules! syscall_table {
    ($callback:ident) => {
        $callback! {
            /// Does nothing: the cost of crossing.
            0 null() -> ();
            /// Ends the caller with `code`. Does not return.
            1 exit(code: u64) -> (), leaves;
            /// Gives up the rest of the slice.
            2 slice_yield() -> (), leaves;
            /// Sleeps until the caller's event count differs from `seen` or the
            /// time-stamp counter passes `deadline` (zero: none). Returns the
            /// event count. While the caller sleeps the kernel looks for packets by
            /// itself and delivers them; each run of them is an event.
            3 wait(seen: EventCount, deadline: u64) -> EventCount, leaves;
            /// Prints at most 1024 bytes, all or none. Returns how many were printed:
            /// they go out in time. [`Error::Again`] while what was printed before has
            /// left no room for them: the port is slow, or no reader takes what comes out of
            /// it. Needs [`Rights::PRINT`].
            4 console_write(console: Handle, text: UserPtr, length: u64) -> u64;
            /// Makes a capability with fewer rights, and for frames, slots, sectors and keys
            /// over the sub-range of `count` starting at `first`, for an elevation
            /// with the [`Allowance`] of these words (both zero for
            /// other kinds). Returns its handle. Needs [`Rights::GRANT`].
            /// As with every capability made from another: [`Error::WrongState`] while
            /// `source` or one that it comes from is being revoked, [`Error::TooMuch`]
            /// if it is the 64th that were derived one from another.
            5 cap_derive(source: Handle, rights: Rights, first: u64, count: u64) -> Handle;
            /// Derives a copy of `cap` into the table of `env`. Returns its
            /// handle there. Needs [`Rights::GRANT`] and, on `env`,
            /// [`Rights::ENDOW`].
            6 cap_grant(cap: Handle, env: Handle) -> Handle;
            /// Removes everything derived from `cap`, in whatever table, leaving
            /// `cap` itself. Bounded: [`Error::Again`]; from the first call on until it is
            /// done nothing more can be derived from any of them. Of a disk extent:
            /// [`Error::InUse`] while the device has requests of what was removed.
            7 cap_revoke(cap: Handle) -> ();
            /// Removes `cap`, live or stale; what was derived from it stays and becomes
            /// derived from its parent. Bounded: [`Error::Again`].
            8 cap_drop(cap: Handle) -> ();
            /// Donates `frame`, the caller's own memory, for 64 more capability
            /// slots.
            9 cap_grow(frame: Pfn) -> ();
            /// Takes `count` named free frames for `env`. Their contents are
            /// zero. Needs [`Rights::TAKE`] over them, and [`Rights::MEMORY`]
            /// on `env`. At most 64 at a time.
            10 frames_take(frames: Handle, env: Handle, first: Pfn, count: Pages) -> ();
            /// Gives back frames of plain memory or admitted code that belong to the caller, are
            /// not mapped and not in use. All or none. At most 64 at a time.
            11 frames_free(first: Pfn, count: Pages) -> ();
            /// Makes `frame`, plain memory of `env`, the page table of `level`
            /// that covers `at` in its address space. Needs [`Rights::MEMORY`].
            12 table_install(env: Handle, at: VirtAddr, level: Level, frame: Pfn) -> ();
            /// Takes the empty page table of `level` that covers `at` out again;
            /// its frame becomes plain memory. Needs [`Rights::MEMORY`].
            13 table_remove(env: Handle, at: VirtAddr, level: Level) -> ();
            /// Maps `count` frames belonging to `owner`, starting with `first`,
            /// at `at` in the address space of `space`. Frames that the kernel publishes may
            /// be mapped read-only, with any `owner`; so may the owner's own page tables.
            /// Needs [`Rights::MEMORY`] on both. All or none; at most 64 at a time, or
            /// `LARGE_PAGES`: plain memory as one page of 2 MiB. Then `first` and `at` are
            /// multiples of that.
            14 map(space: Handle, owner: Handle, first: Pfn, at: VirtAddr, count: Pages, protection: Protection) -> ();
            /// Unmaps `count` pages at `at`. Pages not mapped are skipped. At
            /// most 64 at a time, or `LARGE_PAGES`: the page of 2 MiB at `at`,
            /// [`Error::Vacant`] if there is none. Needs [`Rights::MEMORY`]. In an environment that
            /// takes part in protection keys, pages behind one and code stay
            /// ([`Error::NoRight`]) if their frame belongs neither to it nor to the caller.
            15 unmap(space: Handle, at: VirtAddr, count: Pages) -> ();
            /// Makes an environment from four frames of the caller's plain
            /// memory: its kernel object, page-table root, first 64 capability
            /// slots and U-area. The frames belong to the new environment from
            /// then on. Its table holds a capability for itself at slot 0.
            /// Returns a handle with every right.
            16 env_create(object: Pfn, root_table: Pfn, cap_table: Pfn, u_area: Pfn) -> Handle;
            /// Starts a new environment at `entry` with stack pointer `stack`
            /// and `argument` in `rdi`. Needs [`Rights::CONTROL`].
            17 env_start(env: Handle, entry: UserPtr, stack: UserPtr, argument: u64) -> ();
            /// Ends `env` if it still runs, and gives back everything it holds.
            /// Bounded: [`Error::Again`]. [`Error::InUse`] while others still map
            /// its frames or the device still sends from them. If it is behind a gate, it goes on
            /// in slices of the caller's until it is not, 64 of them at most, before it ends.
            /// [`Error::WrongState`] for the caller itself, any environment it descends from,
            /// and the first environment. Needs [`Rights::CONTROL`].
            18 env_destroy(env: Handle) -> ();
            /// Writes the [`EnvStatus`] of `env` to `status`. Needs
            /// [`Rights::INSPECT`].
            19 env_status(env: Handle, status: UserPtr) -> ();
            /// Gives `count` slots from `first` on to `env`. Needs
            /// [`Rights::ASSIGN`] over them, and [`Rights::CONTROL`] on `env`.
            /// In place of slots, `slots` may name the environment that owns
            /// them: the caller itself, or one it has [`Rights::CONTROL`] on.
            /// Slots of all processors are numbered through ([`SlotVector`]).
            20 slots_assign(slots: Handle, first: u32, count: u32, env: Handle) -> ();
            /// Makes a network binding: its rings and buffers are the [`RingOrder::frames`]
            /// frames from `first`, plain memory of the caller, and `object` is its kernel
            /// object. Returns its handle. Needs [`Rights::BIND`].
            21 net_bind(net: Handle, first: Pfn, order: RingOrder, object: Pfn) -> Handle;
            /// Dissolves the binding with its filters; its frames become plain
            /// memory again. Bounded: [`Error::Again`]; [`Error::InUse`] while
            /// the device still sends from its buffers. Needs
            /// [`Rights::FILTER`].
            22 net_unbind(binding: Handle) -> ();
            /// Installs the encoded filter at `filter` for `binding`, in the frames `object`
            /// and `code`: the kernel makes it machine code. It must pin all that a key of the
            /// binding's scope pins, before any shift ([`Error::NoRight`]), and sorts packets
            /// of that scope: of two filters that match one, that with more pinned bits gets it,
            /// or else the older. [`Error::FilterConflict`] if the same one is there already,
            /// [`Error::TooMuch`] if it would make packets try too many ways. Only the
            /// binding's owner may. Needs [`Rights::FILTER`].
            23 filter_install(binding: Handle, filter: UserPtr, length: u64, object: Pfn, code: Pfn) -> ();
            /// Removes the filter in frame `object`, which becomes plain memory
            /// again. Needs [`Rights::FILTER`].
            24 filter_remove(binding: Handle, object: Pfn) -> ();
            /// Moves a batch both ways: checks and sends what the transmit ring
            /// holds, and delivers what has arrived, to every owner, both as far as one
            /// call may work; and takes back transmit buffers the device is done with. Returns
            /// [`SyncCounts`].
            /// Needs [`Rights::SYNC`].
            25 net_sync(binding: Handle) -> SyncCounts;
            /// Powers the machine off with `code` (0: success; 0 to 126). Needs
            /// [`Rights::POWER`].
            26 machine_exit(machine: Handle, code: u64) -> (), leaves;
            /// Makes from `net` a network capability for some of its packets: those that have
            /// one of the keys at `keys`, one after the other (at most 2). A key pins bits of
            /// the first 64 bytes: 64 bytes of mask, and 64 of what they are. Each must be within a key of
            /// `net`'s scope ([`Error::NoRight`]) and share no packet with another of the
            /// list ([`Error::BadFilter`]) or of a scope made from `net` before: then it is
            /// [`Error::FilterConflict`], with the frame of that scope. From now on the
            /// holder of `net` does not receive these packets. The scope lies in the frames
            /// `object` and `code`. Returns a handle. [`Error::Again`] in a batch, behind
            /// calls that did much. Needs [`Rights::GRANT`] and [`Rights::BIND`].
            27 net_scope(net: Handle, keys: UserPtr, length: u64, object: Pfn, code: Pfn) -> Handle;
            /// Takes the scope in the caller's frame `object` away, with the scopes made from
            /// it and the filters of bindings made by them all, of any owner; such
            /// bindings receive and send nothing more. Its packets are the parent's again, and
            /// its frames plain memory. Bounded: [`Error::Again`].
            28 net_unscope(object: Pfn) -> ();
            /// Gives the rest of the slice to `env`, if it is ready.
            29 slice_donate(env: Handle) -> (), leaves;
            /// Makes `address` entry point `index` (below 16) of the caller, entered
            /// with stack pointer `stack`, and returns a capability for it. Address
            /// zero: there is no such entry any more. Either way capabilities for an entry
            /// that was there before are for nothing from now on. One activity at a time is
            /// entered; what the environment did otherwise goes on when that is over.
            30 entry_create(index: u32, address: UserPtr, stack: UserPtr) -> Handle;
            /// Derives from the entry or doorbell `source` one that shows `badge`,
            /// which must not be zero, to the environment it calls or rings. A badge is given
            /// once. Needs [`Rights::GRANT`].
            31 cap_badge(source: Handle, badge: u64) -> Handle;
            /// Protected control transfer: continues at the entry point, in its
            /// environment and in this slice. `rbx rbp r12-r15` pass untouched both
            /// ways and are the message. The other side finds the caller's badge in
            /// `rax` and its [`EnvId`] in `rdx`. If `grant` is not [`Handle::NONE`] it
            /// gets a copy of that capability too, which needs [`Rights::GRANT`], and
            /// finds its handle in `rsi`; [`Error::NoRight`] if it has not said that
            /// such are welcome ([`UArea::grants`]). Returns when it replies, with the
            /// handle of what it granted in `rsi`; [`Error::PeerGone`] if it ends
            /// instead, [`Error::Busy`] if it serves another. Needs [`Rights::CALL`].
            32 transfer_call(entry: Handle, grant: Handle) -> (), leaves;
            /// The same one way: the caller goes on when it is its turn again, and
            /// gets no reply. Needs [`Rights::CALL`].
            33 transfer_send(entry: Handle, grant: Handle) -> (), leaves;
            /// Ends the activity that a transfer began, and replies with the message
            /// registers and `grant`, as in `transfer_call`, if there is a caller. Does
            /// not return, except with [`Error::PeerGone`] when the caller has ended
            /// meanwhile; called again it ends the activity all the same; and when
            /// `grant` is refused. [`Error::WrongState`] outside of one.
            34 transfer_reply(grant: Handle) -> (), leaves;
            /// Makes a doorbell of the caller: its holders can wake the caller and put its
            /// badge into the caller's [`EventRing`]. Returns its handle.
            35 doorbell_create() -> Handle;
            /// Rings. Needs [`Rights::CALL`].
            36 doorbell_ring(doorbell: Handle) -> ();
            /// Makes up to 32 calls in one crossing: `count` times nine words at `calls`
            /// (number, six arguments, then the kernel writes error code and value),
            /// all in one page. Calls that would not return to the caller are
            /// [`Error::BadArgument`]. All together do no more work than one call may:
            /// when that is done, the rest is not made. Returns how many were made, at
            /// least one if there is any.
            37 batch(calls: UserPtr, count: u32) -> u32, leaves;
            /// Sleeps until the encoded filter at `predicate` matches the bytes at
            /// `memory`, or the time-stamp counter passes `deadline` (zero: none), or
            /// the bytes can no longer be read. The filter may look at no more than
            /// 256 bytes; it is tried when it is the turn of the caller's slots.
            /// Events do not end the sleep: look at [`UArea::events`] for them.
            /// Returns the event count.
            38 wait_until(predicate: UserPtr, length: u64, memory: UserPtr, deadline: u64) -> EventCount, leaves;
            /// Asks `env` for `frames` frames and `slots` slots, until `deadline`: says so in
            /// [`UArea::revocation`], with an event and, if wanted, an upcall. A new request
            /// replaces an old one; one for nothing ends it. Needs [`Rights::CONTROL`].
            39 revoke_request(env: Handle, frames: Pages, slots: u32, deadline: u64) -> ();
            /// Takes `frame`, plain memory of `env`, breaks every mapping of it, and says so in
            /// the repossession vector: it is free then. A frame that is being taken from
            /// `env` already is taken first. Bounded: [`Error::Again`].
            /// [`Error::NotOwned`] if it is anything else, [`Error::InUse`] if a device or
            /// kernel object uses it. Needs [`Rights::CONTROL`].
            40 revoke_enforce(env: Handle, frame: Pfn) -> ();
            /// Makes a binding to the disk extent `disk`: `ring`, plain memory of the caller, is
            /// its [`DiskRing`], and `object` its kernel object. Requests may do what `disk` has
            /// rights for ([`Rights::READ`], [`Rights::WRITE`]). Returns its handle, which is for
            /// the caller alone: it cannot be granted.
            41 disk_bind(disk: Handle, ring: Pfn, object: Pfn) -> Handle;
            /// Dissolves the caller's disk binding in frame `object`, whether or not there still is
            /// a capability for it; its frames become plain memory again. [`Error::InUse`] while
            /// the device has requests of it.
            42 disk_unbind(object: Pfn) -> ();
            /// Moves requests both ways: takes those of the ring, as far as the device and one call
            /// have room, checks each and hands it to the device; and tells every owner, by an
            /// event, what the device is done with. The kernel also looks for that when it is idle
            /// and at the ends of slices. Returns how many requests were taken. Needs
            /// [`Rights::SYNC`].
            43 disk_sync(binding: Handle) -> u32;
            /// Goes on in ring 0, in the caller's address space, until `lower`, an exception,
            /// or the end of the stretch that the capability allows; called again there, a new
            /// stretch begins. At the end of a stretch, and when the capability is gone, the
            /// kernel takes ring 0 back with the next interrupt of its timer, a slice later at most.
            /// Returns when the stretch ends, by the time-stamp counter. With
            /// [`Rights::CALL`], [`ElevationArea::call`] leads into the kernel meanwhile.
            /// [`Error::OutOfRange`] on a processor that the capability is not for, and if all
            /// its time is used up; [`Error::WrongState`] for an environment that takes part in
            /// protection keys. Needs [`Rights::CONTROL`].
            44 elevate(elevation: Handle) -> u64, leaves;
            /// Goes on in ring 3. [`Error::WrongState`] if that is where the caller is.
            45 lower() -> (), leaves;
            /// What `net_sync` does, and then what `wait` does, in one crossing: for a server that
            /// has answered. [`Error::Again`] with the [`SyncCounts`], and no sleep, while the
            /// device has no room for all that the transmit ring holds. Returns the event count.
            /// Needs [`Rights::SYNC`].
            46 net_wait(binding: Handle, seen: EventCount, deadline: u64) -> EventCount, leaves;
            /// From now on `env`, which is new and maps nothing, takes part in protection keys: it
            /// may have pages behind one, and no code but what `code_admit` has admitted. It runs
            /// with the key register [`CLOSED`](exo_abi::CLOSED); while the register says anything
            /// else it gets no upcall: an exception then ends it. [`Error::NoDevice`] where the
            /// processors have no keys. Needs [`Rights::CONTROL`].
            47 env_guard(env: Handle) -> ();
            /// Admits `frame`, plain memory of `env` that nothing refers to, as machine code: it
            /// can be mapped, but by no environment be written, until it is given back.
            /// [`Error::NoRight`] if it holds `wrpkru`, at any byte, otherwise than in a
            /// [`gate`](exo_abi::gate) that closes every key, or opens one that `keys` is for,
            /// with [`Rights::CALL`]; [`Handle::NONE`] is for none. Needs [`Rights::MEMORY`].
            48 code_admit(env: Handle, frame: Pfn, keys: Handle) -> ();
            /// As `map`, for one frame, and with the page behind `key` (1 to 15): its
            /// bytes are reached only behind a gate of that, and by no call of `space` to the
            /// kernel. For environments that take part (`env_guard`). A page that can be
            /// executed cannot lie behind a key.
            49 map_keyed(space: Handle, owner: Handle, frame: Pfn, at: VirtAddr, protection: Protection, key: u32) -> ();
        }
    };
}

/// Most calls in one `batch`.
pub const BATCH_MAX: u32 = 32;
/// Words of one call in a `batch`.
pub const BATCH_WORDS: usize = 9;

/// One line of the table, for people and for tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Number in `rax`.
    pub number: u64,
    /// Bare name; the library's stub is `sys_` + this.
    pub name: &'static str,
    /// Argument names and types, in register order.
    pub arguments: &'static [(&'static str, &'static str)],
    /// Type of the value; `()` if there is none.
    pub returns: &'static str,
    /// Whether the call may go on elsewhere than in its caller.
    pub leaves: bool,
    /// What the call does.
    pub doc: &'static str,
}

macro_rules! entries {
    ($($(#[doc = $doc:literal])* $number:literal $name:ident($($arg:ident: $ty:ident),*)
        -> $returns:ty $(, $leaves:ident)?;)*) => {
        /// The table as data.
        pub const SYSCALLS: &[Entry] = &[$(Entry {
            number: $number,
            name: stringify!($name),
            arguments: &[$((stringify!($arg), stringify!($ty))),*],
            returns: stringify!($returns),
            leaves: !matches!(stringify!($($leaves)?).as_bytes(), b""),
            doc: concat!($($doc, "\n"),*),
        }),*];
    };
}
syscall_table!(entries);

/// The number of the call `name`.
///
/// # Panics
/// If there is no such call: when compiling, in a constant.
pub const fn call_number(name: &str) -> u64 {
    let mut index = 0;
    while !same(SYSCALLS[index].name.as_bytes(), name.as_bytes()) {
        index += 1;
    }
    SYSCALLS[index].number
}

const fn same(one: &[u8], other: &[u8]) -> bool {
    let mut index = 0;
    while index < one.len() && index < other.len() && one[index] == other[index] {
        index += 1;
    }
    index == one.len() && index == other.len()
}

#[cfg(test)]
mod tests {
    use super::{SYSCALLS, call_number};

    #[test]
    fn numbers_are_dense_and_arguments_fit_registers() {
        for (index, entry) in SYSCALLS.iter().enumerate() {
            assert_eq!(entry.number, index as u64, "{}", entry.name);
            assert!(entry.arguments.len() <= 6, "{}", entry.name);
            assert!(!entry.doc.is_empty(), "{}", entry.name);
            assert_eq!(call_number(entry.name), entry.number, "{}", entry.name);
        }
    }

    #[test]
    #[should_panic = "out of bounds"]
    fn what_is_no_call_has_no_number() {
        call_number("nul");
    }
}
