//! Capabilities that come with protected calls and replies.

use std::sync::atomic::Ordering::Relaxed;

use exo_abi::{EnvState, Error, Handle, Rights, Word};

use super::transfers::{Line, line};
use crate::calls::Reply;
use crate::capability::CapRef;
use crate::env::Env;
use crate::testing::{call, reply};

/// A doorbell of environment `number`: something to give away.
fn doorbell(line: &Line, number: usize) -> u64 {
    call(line.kernel, line.envs[number], "doorbell_create", &[]).expect("room")
}

fn welcomes(env: &Env) {
    env.area().expect("a U-area").grants.store(1, Relaxed);
}

/// What the other side finds in `rsi`.
fn crossed(reply: Reply) -> Result<u64, Error> {
    match reply {
        Reply::Switch(_, switch) => Ok(switch.grant),
        Reply::Done(Err(error)) => Err(error),
        _ => panic!("neither a switch nor a refusal"),
    }
}

fn calls(line: &Line, grant: u64) -> Result<u64, Error> {
    crossed(reply(line.kernel, line.envs[0], "transfer_call", &[line.next[0], grant]))
}

fn replies(line: &Line, grant: u64) -> Result<u64, Error> {
    crossed(reply(line.kernel, line.envs[1], "transfer_reply", &[grant]))
}

fn holds(line: &Line, number: usize, handle: u64) -> bool {
    let handle = Handle::from_word(handle).expect("any word");
    let frames = &line.kernel.frames;
    line.envs[number].lookup(frames, handle, Rights::CALL).is_ok()
}

#[test]
fn a_capability_goes_with_the_call_and_another_comes_back() {
    let line = line(2);
    line.envs.iter().for_each(|env| welcomes(env));
    let bell = doorbell(&line, 0);
    let theirs = calls(&line, bell).expect("welcome");
    assert!(holds(&line, 1, theirs));
    let answer = doorbell(&line, 1);
    let ours = replies(&line, answer).expect("welcome");
    assert!(holds(&line, 0, ours));
    // It is derived from what was given, and goes with it.
    call(line.kernel, line.envs[0], "cap_revoke", &[bell]).expect("live");
    assert!(holds(&line, 0, bell) && !holds(&line, 1, theirs));
    // One without has none.
    assert_eq!(calls(&line, 0), Ok(0));
    assert_eq!(replies(&line, 0), Ok(0));
}

#[test]
fn what_is_not_welcome_or_not_ones_to_give_changes_nothing() {
    let line = line(2);
    let [caller, server] = [line.envs[0], line.envs[1]];
    let bell = doorbell(&line, 0);
    let weak = call(line.kernel, caller, "cap_derive", &[bell, Rights::CALL.into_word(), 0, 0])
        .expect("room");
    let free = server.capabilities.free.get();
    let same = || {
        assert_eq!((line.state(0), line.state(1)), (EnvState::Ready, EnvState::Ready));
        assert!(!server.transfer.serving());
        assert_eq!(server.capabilities.free.get(), free);
    };
    assert_eq!(calls(&line, bell), Err(Error::NoRight), "not welcome");
    same();
    welcomes(server);
    assert_eq!(calls(&line, weak), Err(Error::NoRight), "may not be given away");
    same();
    assert_eq!(calls(&line, bell + (1 << 32)), Err(Error::BadHandle), "stale");
    assert_eq!(calls(&line, 63), Err(Error::BadHandle), "names nothing");
    same();
    server.capabilities.free.set(CapRef::NONE);
    assert_eq!(calls(&line, bell), Err(Error::TableFull));
    server.capabilities.free.set(free);
    same();
    // Nor does a reply that carries what the caller does not want: it can be tried again.
    calls(&line, 0).expect("it is free");
    let answer = doorbell(&line, 1);
    assert_eq!(replies(&line, answer), Err(Error::NoRight));
    assert!(server.transfer.serving());
    assert_eq!(replies(&line, 0), Ok(0));
}

#[test]
fn a_message_without_a_reply_can_carry_one_too() {
    let line = line(2);
    welcomes(line.envs[1]);
    let bell = doorbell(&line, 0);
    let sent = reply(line.kernel, line.envs[0], "transfer_send", &[line.next[0], bell]);
    assert!(holds(&line, 1, crossed(sent).expect("welcome")));
    // No caller waits: what the end of the activity would give goes nowhere.
    let answer = doorbell(&line, 1);
    let ended = reply(line.kernel, line.envs[1], "transfer_reply", &[answer]);
    assert!(matches!(ended, Reply::Over));
}
