//! What applications share: pages of root's own, mapped for each of them, and the right to put
//! capabilities into each other's tables.
//!
//! Root owns the pages, so no application can take them away from another, and what one leaves
//! there the others still read after its end.

use alloc::string::String;
use alloc::vec::Vec;

use exo_abi::boot::SELF;
use exo_abi::{Error, Handle, Protection, Rights, VirtAddr, Word};
use libos::environment::space;
use libos::memory::layout::SHARED;
use libos::start::{MAX_SIDES, ShareGrant};
use libos::sys;
use root::manifest::{SIDES, Share};

use crate::child::Child;

const _: () = assert!(SIDES == MAX_SIDES);

/// Makes each of `shares` for the children that have it, which do not run yet.
pub(crate) fn make(shares: &[Share], children: &mut [Child]) -> Result<(), Error> {
    let mut at = SHARED.start;
    for share in shares {
        let place = |name: &String| children.iter().position(|child| child.name == *name);
        let sides: Vec<_> = share.apps.iter().filter_map(place).collect();
        map(share.pages, at, &sides, children)?;
        for (side, &place) in sides.iter().enumerate() {
            let mut peers = [None; MAX_SIDES];
            for (peer, &other) in peers.iter_mut().zip(&sides).filter(|(_, other)| **other != place)
            {
                *peer = Some(introduce(children, other, place)?);
            }
            let grant = ShareGrant {
                name: &share.name,
                address: at.get(),
                pages: share.pages,
                side: side as u8,
                sides: sides.len() as u8,
                peers,
            };
            let bytes = grant.to_bytes().ok_or(Error::TooMuch)?;
            children.get_mut(place).ok_or(Error::Vacant)?.shares.extend(bytes);
        }
        // A page between two shares stays unmapped.
        at = at.plus(share.pages + 1).ok_or(Error::BadAddress)?;
    }
    Ok(())
}

/// Maps fresh pages of root's own for all of `sides` at `at`.
fn map(pages: u32, at: VirtAddr, sides: &[usize], children: &[Child]) -> Result<(), Error> {
    for page in 0..pages {
        let (frame, here) = (space::own_frame()?, at.plus(page).ok_or(Error::BadAddress)?);
        for child in sides.iter().filter_map(|&side| children.get(side)) {
            let table = || child.builder.take(1);
            space::map(child.env, SELF, frame, here, 1, Protection::ReadWrite, table)?;
        }
    }
    Ok(())
}

/// Lets the child `to` put capabilities into the table of the child `of`. Returns the handle
/// that `to` has for it.
fn introduce(children: &mut [Child], of: usize, to: usize) -> Result<Handle, Error> {
    let to = children.get(to).ok_or(Error::Vacant)?.env;
    let of = children.get_mut(of).ok_or(Error::Vacant)?;
    let rights = Rights::ENDOW.with(Rights::GRANT);
    let narrowed = Handle::from_word(sys::cap_derive(of.env, rights, 0, 0)?)?;
    of.derived.push(narrowed);
    Handle::from_word(sys::cap_grant(narrowed, to)?)
}
