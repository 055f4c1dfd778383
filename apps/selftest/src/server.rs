//! Children that serve protected calls and have a doorbell.
//!
//! A server starts with the maker's spare slot, names its entry point, and goes to
//! sleep. Then the slot is taken back: what it does from then on it does in its
//! callers' time, unless a test lends it the slot again.

use exo_abi::boot::{SELF, U_AREA};
use exo_abi::{EnvState, Error, EventCount, Handle, Pfn, Rights, UArea, UserPtr, VirtAddr, Word};
use libos::sys;

use crate::child::{Child, Code, Maker, SHARED, exit};
use crate::frames::{read, write};

/// Where in the page a server shares with its maker things lie, in bytes.
pub mod place {
    /// The server's handle for its maker.
    pub const MAKER: usize = 0;
    /// The maker's handles: for the entry, the entry with a badge, and the doorbell.
    pub const ENTRY: usize = 8;
    /// See [`ENTRY`].
    pub const MARKED: usize = 16;
    /// See [`ENTRY`].
    pub const BELL: usize = 24;
    /// Not zero when the server is set up: one, or an error's code and one.
    pub const READY: usize = 32;
    /// How often its main activity went to sleep.
    pub const SLEEPS: usize = 40;
    /// The server's own handle for its doorbell.
    pub const OWN_BELL: usize = 48;
    /// From here on for the test.
    pub const FREE: usize = 64;
}

/// The badge of the entry with one.
pub const BADGE: u64 = 0x0bad_9e00_0000_0123;

/// End of the stack that services run on: the lower half of a child's.
const SERVICE_STACK: u64 = exo_abi::boot::STACK_TOP - 0x2000;

/// A server.
pub struct Server<'a> {
    maker: &'a Maker,
    /// The environment.
    pub child: Child<'a>,
    /// The page shared with it, where the maker sees it.
    pub page: VirtAddr,
    /// The page's frame.
    pub frame: Pfn,
    /// Capabilities for its entry, without and with badge, and for its doorbell.
    pub entry: Handle,
    /// See [`Server::entry`].
    pub marked: Handle,
    /// See [`Server::entry`].
    pub bell: Handle,
}

/// The U-area, of whichever environment this runs in.
pub fn area() -> &'static UArea {
    // SAFETY: mapped here for good in the program and its children; only its atomics
    // are used.
    unsafe { &*core::ptr::with_exposed_provenance::<UArea>(U_AREA as usize) }
}

/// What has happened so far to the environment this runs in.
pub fn events() -> EventCount {
    EventCount(area().events.load(core::sync::atomic::Ordering::Acquire))
}

/// The handle in word `offset` of the shared page, seen at `page`.
pub fn handle(page: VirtAddr, offset: usize) -> Handle {
    let [low, high] = [read(page, offset) as u32, (read(page, offset) >> 32) as u32];
    Handle::new(low, high)
}

fn set_up(service: u64) -> Result<(), Error> {
    let maker = handle(SHARED, place::MAKER);
    let entry = sys::entry_create(0, UserPtr(service), UserPtr(SERVICE_STACK))?;
    let entry = Handle::from_word(entry)?;
    let marked = Handle::from_word(sys::cap_badge(entry, BADGE)?)?;
    let bell = Handle::from_word(sys::doorbell_create()?)?;
    write(SHARED, place::OWN_BELL, bell.into_word());
    let badged = Handle::from_word(sys::cap_badge(bell, BADGE)?)?;
    for (capability, place) in
        [(entry, place::ENTRY), (marked, place::MARKED), (badged, place::BELL)]
    {
        write(SHARED, place, sys::cap_grant(capability, maker)?);
    }
    Ok(())
}

/// What a server does when it is not called.
extern "C" fn serves(service: u64) -> ! {
    match set_up(service) {
        Ok(()) => write(SHARED, place::READY, 1),
        Err(error) => {
            write(SHARED, place::READY, error.code() + 1);
            exit(1);
        }
    }
    loop {
        let seen = events();
        write(SHARED, place::SLEEPS, read(SHARED, place::SLEEPS) + 1);
        let _ = sys::wait(seen, 0);
    }
}

impl<'a> Server<'a> {
    /// A server with the entry point `service`, asleep and without time.
    ///
    /// # Errors
    /// The kernel's refusal, or what was refused to the server.
    pub fn new(
        maker: &'a Maker,
        page: VirtAddr,
        service: unsafe extern "C" fn(),
    ) -> Result<Self, Error> {
        let frame = maker.frames.page(page)?;
        let child = maker.child()?;
        child.share(frame)?;
        let known = sys::cap_derive(SELF, Rights::ENDOW.with(Rights::GRANT), 0, 0)?;
        let known = Handle::from_word(known)?;
        write(page, place::MAKER, sys::cap_grant(known, child.env)?);
        sys::cap_drop(known)?;
        let code: Code = serves;
        child.start(code, service as *const () as u64)?;
        let ready = Some(EnvState::Ready);
        while EnvState::from_u32(child.status()?.state) == ready {
            sys::slice_yield()?;
        }
        if read(page, place::READY) != 1 {
            let code = read(page, place::READY).saturating_sub(1);
            return Err(Error::from_code(code).unwrap_or(Error::WrongState));
        }
        let [entry, marked, bell] =
            [place::ENTRY, place::MARKED, place::BELL].map(|place| handle(page, place));
        let server = Self { maker, child, page, frame, entry, marked, bell };
        server.take_time()?;
        Ok(server)
    }

    /// Lends it the maker's spare slot.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn give_time(&self) -> Result<(), Error> {
        let keeper = self.maker.keeper().ok_or(Error::WrongState)?;
        sys::slots_assign(keeper, self.maker.slot(), 1, self.child.env).map(drop)
    }

    /// Takes the slot back.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn take_time(&self) -> Result<(), Error> {
        let keeper = self.maker.keeper().ok_or(Error::WrongState)?;
        sys::slots_assign(self.child.env, self.maker.slot(), 1, keeper).map(drop)
    }

    /// Takes it apart, with what the maker holds of it.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn destroy(self) -> Result<(), Error> {
        self.child.destroy()?;
        for capability in [self.entry, self.marked, self.bell] {
            sys::cap_drop(capability)?;
        }
        self.maker.frames.drop_page(self.page, self.frame)
    }
}
