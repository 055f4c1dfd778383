//! The tree and its bounded operations, through the calls that use them.

use exo_abi::{DERIVATION_DEPTH, Error, Rights, Word};

use crate::testing::{ALL_FRAMES, ALL_SLOTS, NET, OWN, call, child, destroy, machine, stint};

fn rights(rights: Rights) -> u64 {
    rights.into_word()
}

fn until_done(mut step: impl FnMut() -> Result<u64, Error>) -> (Result<u64, Error>, u32) {
    let mut again = 0;
    loop {
        match step() {
            Err(Error::Again) => again += 1,
            result => return (result, again),
        }
    }
}

#[test]
fn rights_and_ranges_only_shrink() {
    let (kernel, root) = machine();
    let derive = |source, wanted, first, count| {
        call(kernel, root, "cap_derive", &[source, rights(wanted), first, count])
    };
    let some = Rights::TAKE.with(Rights::GRANT);
    let narrow = derive(ALL_FRAMES, some, 600, 100).expect("a sub-range");
    assert_eq!(derive(narrow, Rights::ALL, 600, 100), Err(Error::NoRight));
    assert_eq!(derive(narrow, some, 599, 2), Err(Error::OutOfRange));
    assert_eq!(derive(narrow, some, 699, 2), Err(Error::OutOfRange));
    assert_eq!(derive(narrow, some, 600, 0), Err(Error::OutOfRange));
    assert_eq!(derive(narrow, some, 600, u64::MAX), Err(Error::BadArgument));
    assert_eq!(derive(NET, some.only(Rights::BIND), 1, 0), Err(Error::BadArgument));
    let dead_end = derive(narrow, Rights::TAKE, 600, 1).expect("without GRANT");
    assert_eq!(derive(dead_end, Rights::TAKE, 600, 1), Err(Error::NoRight));
    assert_eq!(call(kernel, root, "frames_take", &[narrow, OWN, 699, 2]), Err(Error::OutOfRange));
    assert_eq!(call(kernel, root, "frames_take", &[narrow, OWN, 699, 1]), Ok(0));
}

#[test]
fn handles_die_with_their_capability() {
    let (kernel, root) = machine();
    let made = call(kernel, root, "cap_derive", &[ALL_SLOTS, rights(Rights::ASSIGN), 0, 1]);
    let made = made.expect("a capability");
    assert_eq!(call(kernel, root, "cap_drop", &[made]), Ok(0));
    assert_eq!(call(kernel, root, "cap_drop", &[made]), Err(Error::BadHandle));
    let again = call(kernel, root, "cap_derive", &[ALL_SLOTS, rights(Rights::ASSIGN), 0, 1]);
    let again = again.expect("the slot is used again");
    assert_eq!(again as u32, made as u32, "same index");
    assert_ne!(again, made, "another generation");
    assert_eq!(call(kernel, root, "cap_drop", &[made]), Err(Error::BadHandle));
    for forged in [0, 1, u64::MAX, again + (1 << 32), again ^ 0x40] {
        assert_eq!(call(kernel, root, "cap_revoke", &[forged]), Err(Error::BadHandle));
    }
}

#[test]
fn revoking_reaches_every_descendant_in_bounded_steps() {
    let (kernel, root) = machine();
    for frame in 1000..1010 {
        call(kernel, root, "frames_take", &[ALL_FRAMES, OWN, frame, 1]).expect("free");
        call(kernel, root, "cap_grow", &[frame]).expect("more slots");
    }
    let derive = |source| {
        let wanted = rights(Rights::ASSIGN.with(Rights::GRANT));
        call(kernel, root, "cap_derive", &[source, wanted, 0, 1]).expect("room")
    };
    let top = derive(ALL_SLOTS);
    let mut all = Vec::new();
    // Chains of 50, a fan of 200, and a fan hanging off the fan.
    for _ in 0..4 {
        let mut last = top;
        for _ in 0..50 {
            last = derive(last);
            all.push(last);
        }
    }
    for _ in 0..200 {
        all.push(derive(top));
    }
    for _ in 0..100 {
        all.push(derive(all[300]));
    }
    stint(64 * 120);
    let (result, again) = until_done(|| call(kernel, root, "cap_revoke", &[top]));
    assert_eq!(result, Ok(0));
    assert!(again > 0, "500 capabilities take more than one step");
    assert!(again < 40, "linear work: {again} steps");
    for handle in all {
        assert_eq!(call(kernel, root, "cap_drop", &[handle]), Err(Error::BadHandle));
    }
    assert_eq!(call(kernel, root, "cap_drop", &[top]), Ok(0), "the top itself stays");
}

#[test]
fn dropping_keeps_what_was_derived_and_who_may_revoke_it() {
    let (kernel, root) = machine();
    let wanted = rights(Rights::ASSIGN.with(Rights::GRANT));
    let derive = |source| call(kernel, root, "cap_derive", &[source, wanted, 0, 1]).expect("room");
    let top = derive(ALL_SLOTS);
    let middle = derive(top);
    let leaves: Vec<_> = (0..10).map(|_| derive(middle)).collect();
    assert_eq!(call(kernel, root, "cap_drop", &[middle]), Ok(0));
    for leaf in &leaves {
        assert_eq!(call(kernel, root, "slots_assign", &[*leaf, 0, 1, OWN]), Err(Error::NoRight));
    }
    assert_eq!(call(kernel, root, "cap_revoke", &[top]), Ok(0));
    for leaf in leaves {
        assert_eq!(call(kernel, root, "cap_drop", &[leaf]), Err(Error::BadHandle));
    }
}

#[test]
fn a_full_table_refuses_and_a_donated_frame_helps() {
    let (kernel, root) = machine();
    let wanted = rights(Rights::ASSIGN);
    let derive = || call(kernel, root, "cap_derive", &[ALL_SLOTS, wanted, 0, 1]);
    let made = std::iter::from_fn(|| derive().ok()).count();
    assert_eq!(made, 64 - 4);
    assert_eq!(derive(), Err(Error::TableFull));
    assert_eq!(call(kernel, root, "cap_grow", &[1000]), Err(Error::NotOwned));
    call(kernel, root, "frames_take", &[ALL_FRAMES, OWN, 1000, 1]).expect("free");
    assert_eq!(call(kernel, root, "cap_grow", &[1000]), Ok(0));
    assert_eq!(call(kernel, root, "frames_free", &[1000, 1]), Err(Error::NotOwned));
    assert!(derive().is_ok());
}

#[test]
fn granted_capabilities_outlive_a_dead_middleman_and_can_be_revoked() {
    let (kernel, root) = machine();
    let (one, one_handle) = child(kernel, root, 600);
    let (two, two_handle) = child(kernel, root, 700);
    let grant = |from, cap, to| call(kernel, from, "cap_grant", &[cap, to]);
    let ones_two = grant(root, two_handle, one_handle).expect("one may know two");
    let ones_frames = {
        let wanted = rights(Rights::TAKE.with(Rights::GRANT));
        let made = call(kernel, root, "cap_derive", &[ALL_FRAMES, wanted, 1000, 10]).unwrap();
        (made, grant(root, made, one_handle).expect("one gets frames"))
    };
    let twos = grant(one, ones_frames.1, ones_two).expect("and passes them on");
    assert_eq!(call(kernel, two, "frames_take", &[twos, OWN, 1000, 1]), Ok(0));
    assert_eq!(destroy(kernel, root, one_handle), Ok(()));
    assert_eq!(call(kernel, two, "frames_take", &[twos, OWN, 1001, 1]), Ok(0));
    assert_eq!(call(kernel, root, "cap_revoke", &[ones_frames.0]), Ok(0));
    assert_eq!(call(kernel, two, "frames_take", &[twos, OWN, 1002, 1]), Err(Error::BadHandle));
}

/// Between any two steps of a revocation an environment that holds something below makes
/// as many more as a batch allows, each of which takes two links to remove.
#[test]
fn revoking_ends_whatever_is_derived_meanwhile() {
    let (kernel, root) = machine();
    let (holder, handle) = child(kernel, root, 600);
    let wanted = rights(Rights::ASSIGN.with(Rights::GRANT));
    let derive = |by, source| call(kernel, by, "cap_derive", &[source, wanted, 0, 1]);
    let top = derive(root, ALL_SLOTS).expect("room");
    let granted = call(kernel, root, "cap_grant", &[top, handle]).expect("room");
    let above = derive(holder, granted).expect("room");
    let mut steps = 0;
    let fill = || (0..32).filter(|_| derive(holder, above).is_ok()).count();
    assert_eq!(fill(), 32);
    stint(16 * 120);
    while call(kernel, root, "cap_revoke", &[top]) == Err(Error::Again) {
        steps += 1;
        assert!(steps < 10, "it does not end");
        assert_eq!(derive(root, top), Err(Error::WrongState), "the revoked itself");
        assert_eq!(fill(), 0, "below it");
        let granted = call(kernel, root, "cap_grant", &[top, handle]);
        assert_eq!(granted, Err(Error::WrongState));
    }
    assert!(steps > 0, "it took no more than a step");
    assert!(derive(root, top).is_ok(), "once that is done");
}

#[test]
fn a_tree_is_no_deeper_than_can_be_looked_up() {
    let (kernel, root) = machine();
    call(kernel, root, "frames_take", &[ALL_FRAMES, OWN, 1000, 1]).expect("free");
    call(kernel, root, "cap_grow", &[1000]).expect("more slots");
    let wanted = rights(Rights::ASSIGN.with(Rights::GRANT));
    let derive = |source| call(kernel, root, "cap_derive", &[source, wanted, 0, 1]);
    let mut chain = vec![ALL_SLOTS];
    let refused = loop {
        match derive(chain[chain.len() - 1]) {
            Ok(next) => chain.push(next),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, Error::TooMuch);
    assert_eq!(chain.len(), DERIVATION_DEPTH as usize);
    // A mark at the top is seen at the bottom, and what is dropped makes room.
    assert_eq!(call(kernel, root, "cap_drop", &[chain[5]]), Ok(0));
    assert!(derive(chain[chain.len() - 1]).is_ok());
}

/// A slot has as many lives as there are generations, and then none.
#[test]
fn no_handle_comes_true_after_the_last_life_of_its_slot() {
    let (kernel, root) = machine();
    let derive = || call(kernel, root, "cap_derive", &[ALL_SLOTS, rights(Rights::ASSIGN), 0, 1]);
    let first = derive().expect("room");
    assert_eq!(call(kernel, root, "cap_drop", &[first]), Ok(0));
    let (_, slot) =
        super::table_slot(&kernel.frames, &root.capabilities, first as u32).expect("a slot");
    // As if it had been used all the time since.
    slot.generation.set(u32::MAX - 2);
    let mut last = Vec::new();
    for life in 0..2 {
        let made = derive().expect("room");
        assert_eq!(made as u32, first as u32, "the same slot in life {life}");
        assert_eq!(call(kernel, root, "cap_drop", &[made]), Ok(0));
        last.push(made);
    }
    let others = std::iter::from_fn(|| derive().ok()).collect::<Vec<_>>();
    assert_eq!(others.len(), 64 - 5, "all slots but this one");
    assert!(others.iter().all(|handle| *handle as u32 != first as u32));
    for gone in [first, 1 << 32 | first & 0xffff_ffff, last[0], last[1]] {
        assert_eq!(call(kernel, root, "cap_drop", &[gone]), Err(Error::BadHandle));
    }
    crate::schedule::set_state(kernel, root, exo_abi::EnvState::Ready);
    crate::check::all(kernel).expect("the free list is as it should be");
}
