//! A protected service: a function of one application that another calls, whose memory the caller can
//! neither read nor write. It runs in the caller's own slice.
//!
//! Both run this program; `as` in the manifest says which of them it is.
#![cfg_attr(exo_guest, no_std, no_main)]

#[cfg(any(exo_guest, test))]
mod tickets;

libos::app!(guest::main);

#[cfg(exo_guest)]
mod guest {
    use libos::abi::Error;
    use libos::condition;
    use libos::entry_point;
    use libos::runtime::Environment;
    use libos::sched::Park;
    use libos::share::Share;
    use libos::transfer::{self, Message, Remote};
    use libos::{measure, println};

    use crate::tickets::Tickets;

    static TICKETS: Tickets = Tickets::new(1_000_000);
    /// The word of the share that says that the service is there.
    const OPEN: usize = 0;

    entry_point!(take_entry => take);

    /// `badge` and `caller` come from the kernel and cannot be forged; the message is the caller's.
    extern "C" fn take(_badge: u64, _caller: u64, message: &mut Message) {
        (message[0], message[1]) = TICKETS.take(message[0]);
    }

    pub(crate) fn main(mut environment: Environment) -> u64 {
        let Some(share) = environment.share("tickets") else { return 1 };
        let done = match environment.argument("as") {
            Some("server") => serve(&mut environment, &share),
            _ => call(&share),
        };
        done.map_or_else(
            |error| {
                println!("{error}");
                1
            },
            |()| 0,
        )
    }

    fn serve(environment: &mut Environment, share: &Share) -> Result<(), Error> {
        let stack = environment.memory.map_region(2).map_err(|_| Error::NotFree)?;
        let top = stack.as_mut_ptr_range().end.expose_provenance() as u64;
        // SAFETY: the region is used by nothing else, and is never unmapped.
        let entry = unsafe { transfer::offer(0, take_entry, top)? };
        share.offer(entry)?;
        condition::put(&share.words()[OPEN], 1);
        // Calls are served while it sleeps.
        loop {
            let seen = environment.park.seen();
            environment.park.park(seen, None);
        }
    }

    fn call(share: &Share) -> Result<(), Error> {
        condition::wait_until(&share.words()[OPEN], 1.., None)?;
        let take: Remote<u64, (u64, u64)> = share.remote(1).ok_or(Error::Vacant)?;
        let (taken, left) = take.call(100)?;
        println!("{taken} tickets of 100, {left} are left");
        let mut answer = Ok((0, 0));
        measure::repeat("take a ticket", || answer = take.call(1));
        answer.map(drop)
    }
}
