//! Capabilities that come with protected calls and go with their replies.

use core::sync::atomic::Ordering::{Acquire, Relaxed};

use exo_abi::{Error, Handle, Rights, Word};
use libos::transfer::{Message, Remote};
use libos::{entry_point, sys};
use selftest::check::{Outcome, holds, refused, same};
use selftest::server::{Server, area};

use crate::bench::{Bench, Check};

pub(crate) const CHECKS: &[Check] = &[
    ("a capability comes with a call, and one goes with the reply", there_and_back),
    ("a capability that is not welcome, or not to be given, is refused", refusals),
];

entry_point!(
    /// Rings the doorbell that comes with the call and gives it back. If none comes:
    /// welcomes them from now on, or does not, as the message says.
    service => granting serve
);

extern "C" fn serve(_: u64, _: u64, message: &mut Message, grant: Handle) -> Handle {
    if grant == Handle::NONE {
        area().grants.store(message[0], Relaxed);
    } else {
        message[0] = sys::doorbell_ring(grant).err().map_or(0, Error::code);
    }
    grant
}

/// A server that welcomes capabilities, if `welcome` is not zero.
fn server<'a>(bench: &'a Bench, welcome: u64) -> Result<Server<'a>, Error> {
    let server = Server::new(&bench.maker, bench.window(), service)?;
    Remote::<u64, u64>::new(server.entry).call(welcome)?;
    Ok(server)
}

fn there_and_back(bench: &mut Bench) -> Outcome {
    let server = server(bench, 1)?;
    let remote = Remote::<u64, u64>::new(server.entry);
    let bell = Handle::from_word(sys::doorbell_create()?)?;
    let rung = || area().ring.produced.load(Acquire);
    let before = rung();
    // The caller does not accept what the reply would bring: it comes without.
    same("answer", remote.exchange(9, bell)?, (0, Handle::NONE))?;
    area().grants.store(1, Relaxed);
    let (answer, back) = remote.exchange(9, bell)?;
    area().grants.store(0, Relaxed);
    same("answer", answer, 0)?;
    holds("the same capability came back", back != bell && back != Handle::NONE)?;
    sys::doorbell_ring(back)?;
    same("times rung", rung() - before, 3)?;
    area().ring.consumed.store(rung(), Relaxed);
    // It hangs by what it was derived from, through the server's.
    sys::cap_revoke(bell)?;
    refused(sys::doorbell_ring(back), Error::BadHandle)?;
    sys::cap_drop(bell)?;
    Ok(server.destroy()?)
}

fn refusals(bench: &mut Bench) -> Outcome {
    let server = server(bench, 0)?;
    let remote = Remote::<u64, u64>::new(server.entry);
    let give = |grant: Handle| remote.exchange(1, grant).map(|(answer, _)| answer);
    let bell = Handle::from_word(sys::doorbell_create()?)?;
    refused(give(bell), Error::NoRight)?;
    remote.call(1)?;
    let mute = Handle::from_word(sys::cap_derive(bell, Rights::CALL, 0, 0)?)?;
    refused(give(mute), Error::NoRight)?;
    sys::cap_drop(mute)?;
    refused(give(mute), Error::BadHandle)?;
    refused(give(Handle::new(4095, 1)), Error::BadHandle)?;
    refused(sys::transfer_send(server.entry, mute), Error::BadHandle)?;
    // None of that kept it from serving.
    same("answer", remote.exchange(1, bell)?, (0, Handle::NONE))?;
    area().ring.consumed.store(area().ring.produced.load(Acquire), Relaxed);
    sys::cap_drop(bell)?;
    Ok(server.destroy()?)
}
