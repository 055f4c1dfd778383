//! Two applications that meet: a producer hands numbers to a consumer through pages they share.
//!
//! Both run this program; `as` in the manifest says which of them it is. The consumer sleeps until
//! memory says that there is something; with the argument `wake=bell` until the producer rings.
#![cfg_attr(exo_guest, no_std, no_main)]

#[cfg(any(exo_guest, exo_hosted, test))]
mod ring;

libos::app!(guest::main);

#[cfg(any(exo_guest, exo_hosted))]
mod guest {
    use libos::abi::Error;
    use libos::runtime::Environment;
    use libos::sched::Park;
    use libos::share::Share;
    use libos::{condition, measure, println};

    use crate::ring::Ring;

    /// Says that nothing more comes.
    const END: u64 = u64::MAX;

    pub(crate) fn main(mut environment: Environment) -> u64 {
        let Some(share) = environment.share("ring") else { return 1 };
        let ring = Ring::new(share.words());
        let done = match environment.argument("as") {
            Some("producer") => produce(&environment, &share, &ring),
            _ => consume(&mut environment, &share, &ring),
        };
        done.map_or_else(
            |error| {
                println!("{error}");
                1
            },
            |()| 0,
        )
    }

    fn produce(environment: &Environment, share: &Share, ring: &Ring<'_>) -> Result<(), Error> {
        let by_bell = environment.argument("wake") == Some("bell");
        let hand_over = |value| {
            ring.push(value);
            if by_bell {
                share.ring(1)?;
            }
            // Until all of it was taken out.
            condition::wait_until(ring.taken(), ring.count().., None)
        };
        // The consumer may not have begun.
        hand_over(1)?;
        let mut refused = Ok(1);
        measure::repeat("hand over a number", || refused = hand_over(1));
        refused?;
        hand_over(END).map(drop)
    }

    fn consume(environment: &mut Environment, share: &Share, ring: &Ring<'_>) -> Result<(), Error> {
        let by_bell = environment.argument("wake") == Some("bell");
        if by_bell {
            share.open_bell()?;
        }
        let mut sum = 0;
        loop {
            let seen = environment.park.seen();
            match ring.first() {
                Some(END) => break,
                Some(value) => {
                    sum += value;
                    ring.remove();
                }
                None if by_bell => environment.park.park(seen, None),
                None => drop(condition::wait_until(ring.given(), ring.next().., None)?),
            }
        }
        println!("the numbers add up to {sum}");
        // The producer, and with it the machine, ends when all was taken.
        ring.remove();
        Ok(())
    }
}
