//! Protected control transfer without a processor: which environment waits for which, and
//! which runs.

use exo_abi::{EnvId, EnvState, Error, Rights, UserPtr, Word};

use super::super::transfer::{self, End};
use crate::calls::{Leaving, Reply};
use crate::env::{self, Env};
use crate::kernel::Kernel;
use crate::schedule;
use crate::state::transfer::Place;
use crate::testing::{ALL_FRAMES, ALL_SLOTS, OWN, call, child, destroy, machine, reply, tables};

const ENTRY: u64 = 0x40_1000;
const STACK: u64 = 0x50_0000;

/// Environments 600, 616 and so on, all started; the first has slots 0 to 3, the
/// others none. Each has entry point 0, and the one before it a capability for that.
pub(super) struct Line {
    pub(super) kernel: &'static Kernel,
    root: &'static Env,
    pub(super) envs: Vec<&'static Env>,
    handles: Vec<u64>,
    /// What each calls the next one by.
    pub(super) next: Vec<u64>,
}

pub(super) fn line(length: u32) -> Line {
    let (kernel, root) = machine();
    let (envs, handles): (Vec<_>, Vec<_>) =
        (0..length).map(|number| child(kernel, root, 600 + 16 * number)).unzip();
    for handle in &handles {
        call(kernel, root, "env_start", &[*handle, ENTRY, STACK, 0]).expect("new");
    }
    call(kernel, root, "slots_assign", &[ALL_SLOTS, 0, 4, handles[0]]).expect("slots");
    let mut line = Line { kernel, root, envs, handles, next: Vec::new() };
    for number in 1..length as usize {
        let entry = line.entry(number, 0);
        let known = line.knows(number, number - 1);
        let next = call(kernel, line.envs[number], "cap_grant", &[entry, known]).expect("room");
        line.next.push(next);
    }
    line
}

impl Line {
    fn entry(&self, number: usize, index: u64) -> u64 {
        let arguments = [index, ENTRY, STACK];
        call(self.kernel, self.envs[number], "entry_create", &arguments).expect("an entry")
    }

    /// A handle of environment `holder` for environment `other`.
    fn knows(&self, holder: usize, other: usize) -> u64 {
        let handles = [self.handles[other], self.handles[holder]];
        call(self.kernel, self.root, "cap_grant", &handles).expect("room")
    }

    pub(super) fn state(&self, number: usize) -> EnvState {
        self.envs[number].state()
    }

    fn call(&self, number: usize) -> Result<transfer::Switch, Error> {
        self.cross(number, "transfer_call", Leaving::Waits)
    }

    fn cross(&self, number: usize, name: &str, how: Leaving) -> Result<transfer::Switch, Error> {
        match reply(self.kernel, self.envs[number], name, &[self.next[number]]) {
            Reply::Switch(leaving, switch) => {
                assert!(leaving == how);
                let place = Place { rip: 0x1000 + number as u64, rsp: 8, flags: 0x202 };
                transfer::leave_at(self.envs[number], place);
                Ok(switch)
            }
            Reply::Done(Err(error)) => Err(error),
            _ => panic!("neither a switch nor a refusal"),
        }
    }

    fn ends(&self, number: usize) -> Result<Option<transfer::Switch>, Error> {
        transfer::end(self.kernel, self.envs[number], |_| Ok(0)).map(|end| match end {
            End::Reply(switch) => Some(switch),
            End::Quiet => None,
        })
    }

    fn runs(&self) -> Option<EnvId> {
        schedule::next_ready(self.kernel).map(Env::id)
    }

    fn sleeps(&self, number: usize, deadline: u64) {
        let events = self.envs[number].events.get();
        let asleep = reply(self.kernel, self.envs[number], "wait", &[events, deadline]);
        assert!(matches!(asleep, Reply::Stop));
    }
}

#[test]
fn a_call_goes_there_and_back_and_runs_in_the_callers_slots() {
    let line = line(2);
    let switch = line.call(0).expect("it is free");
    assert_eq!((switch.to.id(), switch.place.rip, switch.place.rsp), (EnvId(616), ENTRY, STACK));
    assert_eq!((switch.code, switch.value), (0, 600), "no badge; the caller");
    assert_eq!((line.state(0), line.state(1)), (EnvState::Calling, EnvState::Ready));
    assert_eq!(line.runs(), Some(EnvId(616)), "it has no slot of its own");
    let back = line.ends(1).expect("it was called").expect("a caller waits");
    assert_eq!((back.to.id(), back.place.rip, back.code), (EnvId(600), 0x1000, 0));
    assert_eq!(line.runs(), Some(EnvId(600)));
    assert_eq!(line.ends(1).err(), Some(Error::WrongState), "only once");
}

#[test]
fn one_that_serves_calls_or_is_oneself_is_busy() {
    let line = line(3);
    line.call(1).expect("it is free");
    assert_eq!(line.call(0).err(), Some(Error::Busy), "it waits for a call of its own");
    line.ends(2).expect("it was called");
    line.call(0).expect("it is free");
    let own = line.entry(2, 3);
    let itself = reply(line.kernel, line.envs[2], "transfer_call", &[own]);
    assert!(matches!(itself, Reply::Done(Err(Error::Busy))));
    // The third calls back into the second, which serves the first.
    let entry = line.entry(1, 1);
    let known = line.knows(1, 2);
    let back = call(line.kernel, line.envs[1], "cap_grant", &[entry, known]).expect("room");
    for name in ["transfer_call", "transfer_send"] {
        let busy = reply(line.kernel, line.envs[2], name, &[back]);
        assert!(matches!(busy, Reply::Done(Err(Error::Busy))), "{name}");
    }
    assert_eq!(line.state(2), EnvState::Ready, "a refusal changes nothing");
}

#[test]
fn only_environments_that_live_are_entered() {
    let line = line(2);
    line.envs[1].set_state(EnvState::New);
    assert_eq!(line.call(0).err(), Some(Error::WrongState));
    for state in [EnvState::Exited, EnvState::Faulted, EnvState::Dying] {
        line.envs[1].set_state(state);
        assert_eq!(line.call(0).err(), Some(Error::WrongState), "{state:?}");
    }
    line.envs[1].set_state(EnvState::Ready);
    call(line.kernel, line.envs[1], "entry_create", &[0, 0, 0]).expect("taken away");
    assert_eq!(line.call(0).err(), Some(Error::BadHandle));
    assert_eq!(destroy(line.kernel, line.root, line.handles[1]), Ok(()));
    assert_eq!(line.call(0).err(), Some(Error::BadHandle), "stale");
    // The same frames hold another environment, with the same entry.
    let (again, handle) = child(line.kernel, line.root, 616);
    call(line.kernel, line.root, "env_start", &[handle, ENTRY, STACK, 0]).expect("new");
    call(line.kernel, again, "entry_create", &[0, ENTRY, STACK]).expect("an entry");
    assert_eq!(line.call(0).err(), Some(Error::BadHandle), "still");
}

/// An entry that is named again is another one, whatever its number, and so for all that
/// were made from its capability.
#[test]
fn an_entry_does_not_come_back_to_life() {
    let line = line(2);
    let callee = line.envs[1];
    let create = |address: u64| call(line.kernel, callee, "entry_create", &[1, address, STACK]);
    let first = create(ENTRY).expect("an entry");
    let badged = call(line.kernel, callee, "cap_badge", &[first, 7]).expect("room");
    let enter = |handle| {
        let reply = crate::testing::reply(line.kernel, callee, "transfer_call", &[handle, 0]);
        let crate::calls::Reply::Done(Err(error)) = reply else { panic!("it is entered") };
        error
    };
    assert_eq!([enter(first), enter(badged)], [Error::Busy; 2], "by itself");
    create(0).expect("taken away");
    assert_eq!([enter(first), enter(badged)], [Error::BadHandle; 2], "there is none");
    let second = create(ENTRY).expect("an entry");
    assert_eq!([enter(first), enter(badged)], [Error::BadHandle; 2], "there is another");
    assert_eq!(enter(second), Error::Busy);
    let third = create(ENTRY + 0x1000).expect("an entry");
    assert_eq!([enter(second), enter(third)], [Error::BadHandle, Error::Busy], "moved");
    assert_eq!(call(line.kernel, callee, "cap_derive", &[first, 0, 0, 0]), Err(Error::BadHandle));
    assert_eq!(call(line.kernel, callee, "cap_drop", &[first]), Ok(0), "a stale one");
}

#[test]
fn a_chain_ends_at_eight() {
    let line = line(9);
    for number in 0..7 {
        line.call(number).expect("not too long yet");
        assert_eq!(line.runs(), Some(line.envs[number + 1].id()), "the last of {}", number + 2);
    }
    // The ninth sleeps for a condition, and is not to lose it over a refusal.
    let (space, at) = (line.handles[8], 0x80_0000);
    tables(line.kernel, line.root, space, at, 1500);
    call(line.kernel, line.root, "frames_take", &[ALL_FRAMES, space, 1504, 1]).expect("free");
    call(line.kernel, line.root, "map", &[space, space, 1504, at, 1, 1]).expect("mappable");
    let filter = dpf::packet::udp_to([10, 0, 2, 15], 7);
    env::predicate::set(line.kernel, line.envs[8], filter, UserPtr(at)).expect("readable");
    schedule::set_state(line.kernel, line.envs[8], EnvState::Waiting);
    assert_eq!(line.call(7).err(), Some(Error::TooMuch));
    assert!(line.envs[8].predicate.is_set(), "it still waits for its condition");
    assert_eq!(line.state(7), EnvState::Ready);
    for number in (1..8).rev() {
        let back = line.ends(number).expect("it was called").expect("a caller waits");
        assert_eq!(back.to.id(), line.envs[number - 1].id());
    }
}

#[test]
fn whoever_waits_for_one_that_ends_is_told() {
    let line = line(3);
    line.call(0).expect("it is free");
    line.call(1).expect("it is free");
    let gone = exo_abi::EnvStatus { state: EnvState::Faulted as u32, ..exo_abi::EnvStatus::NEW };
    env::end(line.kernel, line.envs[1], gone);
    assert_eq!(line.state(0), EnvState::Ready);
    let context = line.envs[0].context().get();
    assert_eq!((context.rax, context.rip), (Error::PeerGone.code(), 0x1000));
    assert_eq!(line.runs(), Some(EnvId(600)));
    assert_eq!(line.call(0).err(), Some(Error::WrongState), "not busy: it will not be free");
    assert_eq!(line.ends(2).err(), Some(Error::PeerGone), "its caller was in the middle");
    assert_eq!(line.ends(2).map(|back| back.is_some()), Ok(false), "and once more: over");
    assert_eq!(line.ends(2).err(), Some(Error::WrongState));
}

#[test]
fn a_caller_may_be_destroyed_in_the_middle() {
    let line = line(2);
    line.call(0).expect("it is free");
    assert_eq!(destroy(line.kernel, line.root, line.handles[0]), Ok(()));
    assert_eq!(line.runs(), None, "its slots went with it");
    // Another takes its place, and is not taken for it.
    let (stranger, _) = child(line.kernel, line.root, 600);
    assert_eq!(line.ends(1).err(), Some(Error::PeerGone));
    assert_eq!(line.ends(1).map(|back| back.is_some()), Ok(false));
    assert_eq!(stranger.state(), EnvState::New);
}

#[test]
fn a_sent_transfer_has_nobody_waiting() {
    let line = line(2);
    let switch = line.cross(0, "transfer_send", Leaving::Ready).expect("it is free");
    assert_eq!((switch.to.id(), switch.value), (EnvId(616), 600));
    assert_eq!(line.state(0), EnvState::Ready);
    assert_eq!(line.call(0).err(), Some(Error::Busy));
    assert_eq!(line.ends(1).map(|back| back.is_some()), Ok(false));
}

#[test]
fn who_slept_sleeps_on_unless_something_happened() {
    let line = line(2);
    for happens in [false, true] {
        line.sleeps(1, 0);
        let before = line.envs[1].context().get();
        line.call(0).expect("it is free");
        assert_eq!(line.state(1), EnvState::Ready);
        if happens {
            env::notify(line.kernel, line.envs[1]);
        }
        line.ends(1).expect("it was called");
        let state = if happens { EnvState::Ready } else { EnvState::Waiting };
        assert_eq!(line.state(1), state);
        let after = line.envs[1].context().get();
        assert_eq!((after.rip, after.rsp), (before.rip, before.rsp));
        env::notify(line.kernel, line.envs[1]);
    }
}

#[test]
fn an_activity_may_sleep_and_is_what_wakes() {
    let line = line(2);
    line.sleeps(1, 0);
    line.call(0).expect("it is free");
    line.sleeps(1, 0);
    assert_eq!((line.state(1), line.runs()), (EnvState::Waiting, None));
    assert_eq!(line.call(0).err(), Some(Error::Busy));
    env::notify(line.kernel, line.envs[1]);
    assert_eq!(line.runs(), Some(EnvId(616)));
    assert_eq!(line.envs[1].context().get().rdx, line.envs[1].events.get());
    line.ends(1).expect("it was called");
    assert_eq!(line.state(1), EnvState::Ready, "its other sleep is forgotten");
}

/// Deadlines are looked for by slot; the slots of a caller are its callee's meanwhile.
#[test]
fn a_deadline_of_one_without_slots_is_seen_through_its_caller() {
    let line = line(3);
    line.call(0).expect("it is free");
    line.call(1).expect("it is free");
    line.sleeps(2, 100);
    assert_eq!(schedule::wake_expired(line.kernel, 50), Some(100));
    assert_eq!(line.state(2), EnvState::Waiting);
    assert_eq!(schedule::wake_expired(line.kernel, 200), None);
    assert_eq!(line.runs(), Some(line.envs[2].id()));
    // Nor is it forgotten while the caller has no slot.
    line.sleeps(2, 300);
    let keeper = child(line.kernel, line.root, 900).1;
    call(line.kernel, line.root, "slots_assign", &[ALL_SLOTS, 0, 4, keeper]).expect("slots");
    assert_eq!(schedule::wake_expired(line.kernel, 400), None);
    assert_eq!(line.state(2), EnvState::Waiting);
    call(line.kernel, line.root, "slots_assign", &[ALL_SLOTS, 0, 4, line.handles[0]]).unwrap();
    schedule::wake_expired(line.kernel, 500);
    assert_eq!(line.state(2), EnvState::Ready);
}

#[test]
fn badges_are_given_once_and_show() {
    let line = line(2);
    let server = line.envs[1];
    let entry = line.entry(1, 15);
    let badge = |source, badge| call(line.kernel, server, "cap_badge", &[source, badge]);
    for bad in [0, 1 << 60, u64::MAX] {
        assert_eq!(badge(entry, bad), Err(Error::BadArgument), "{bad:#x}");
    }
    let most = (1 << 60) - 1;
    let marked = badge(entry, most).expect("room");
    assert_eq!(badge(marked, 1), Err(Error::NoRight));
    assert_eq!(badge(OWN, 1), Err(Error::BadHandle), "an environment");
    let plain = Rights::CALL.into_word();
    let copy = call(line.kernel, server, "cap_derive", &[marked, plain, 0, 0]).expect("room");
    assert_eq!(badge(copy, 1), Err(Error::NoRight), "without GRANT");
    let mute = call(line.kernel, server, "cap_derive", &[entry, 0, 0, 0]).expect("room");
    let known = line.knows(1, 0);
    let theirs = call(line.kernel, server, "cap_grant", &[marked, known]).expect("room");
    match reply(line.kernel, line.envs[0], "transfer_call", &[theirs]) {
        Reply::Switch(_, switch) => assert_eq!((switch.code, switch.value), (most, 600)),
        _ => panic!("not called"),
    }
    assert!(matches!(
        reply(line.kernel, server, "transfer_send", &[mute]),
        Reply::Done(Err(Error::NoRight))
    ));
}

#[test]
fn entries_are_sixteen_and_in_user_space() {
    let line = line(1);
    let create = |arguments: [u64; 3]| call(line.kernel, line.envs[0], "entry_create", &arguments);
    assert_eq!(create([16, ENTRY, STACK]), Err(Error::OutOfRange));
    for address in [exo_abi::USER_TOP, 1 << 47, 0xffff_8000_0000_0000, u64::MAX] {
        assert_eq!(create([0, address, STACK]), Err(Error::BadAddress));
        assert_eq!(create([0, ENTRY, address | 1]), Err(Error::BadAddress));
    }
    let used = line.envs[0].capabilities.frames.get();
    while create([1, ENTRY, STACK]).is_ok() {}
    assert_eq!(create([1, ENTRY, STACK]), Err(Error::TableFull));
    assert_eq!(create([1, 0, 0]), Ok(0), "taking one away needs no room");
    assert_eq!(line.envs[0].capabilities.frames.get(), used);
}
