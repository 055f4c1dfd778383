//! The merged filters as code for x86-64.
//!
//! Place on the packet path: step 2, classify. What may lie: every byte of the frame.
//!
//! Every group has a piece of code, in a slot of the block that it is in, and so has
//! every acceptance. The code of a group tests the frame and goes on with the node's
//! entry, and then with the next group of the same node. So a frame takes the walk of
//! [`Trie::classify`], but values, places and widths are in the instructions, and
//! from a test to the next is a jump. A group of few values compares with each in turn;
//! one of many looks the value up in the table, in as many instructions for ten as for
//! a million. That code does not name its nodes, so a node comes and goes by what the
//! table says. Where a frame that gets to a node cannot get to any group that follows,
//! because they ask for other values of the same bits, it does not come back to them.
//!
//! The code is a function of the calling convention of the System V ABI,
//!
//! ```text
//! extern "sysv64" fn(frame: *const u8, length: usize, rank: u64, base: *const u8)
//!     -> struct { tag: u64, rank: u64 }
//! ```
//!
//! `rank` is zero and `base` is that of the store. No filter matches if the rank in the
//! answer is zero, and then the tag means nothing. Each piece keeps this convention, and
//! `base` besides. A shift moves frame and length and leaves them so: a group that goes on
//! after a visit to a child saves them itself, and the last group of a node, which leaves by
//! a jump, has no need to. The length is below zero where a shift led beyond the end.
//!
//! Every load from the frame follows a comparison of the bytes left with the end of the
//! window that it is in: at the head of the run, see the module `runs`, or earlier. Calls
//! nest by one for each test at most.

use core::mem::offset_of;

use crate::assembler::{Assembler, If};
use crate::siblings::CHAIN;
use crate::storage::{
    BlockId, Buckets, CodeSlot, Group, GroupId, Node, NodeId, SLOT, SLOTS, Store, Tag, UNIT,
};
use crate::test::{Bits, Field, Part, Test, WINDOW, Width, ones};
use crate::trie::group_code;

type Slot = Assembler<SLOT>;

/// Makes the code of a group at `depth`.
pub(crate) fn group<S: Store>(store: &mut S, id: GroupId, depth: usize) {
    let group = *store.group(id);
    let slot = CodeSlot { block: group.block, index: depth };
    let next = group_code(store, group.next, depth);
    let mut new = Slot::new(store.code_address(slot));
    if group.length > 0 {
        new.require(group.length);
    }
    let code = few(store, &group, new, next).or_else(|| many(store, &group, new, next));
    store.write_code(slot, code.as_ref().map_or(REFUSE, Slot::bytes));
}

/// `ret`: what code is made of that does not fit its slot. No test that fits is that long, but
/// if one were, no frame would pass.
const REFUSE: &[u8] = &[0xc3];

/// The code of a node in which a filter ends, which goes on with `groups`.
pub(crate) fn acceptance(rank: u64, tag: Tag, origin: u64, groups: Option<u64>) -> Slot {
    let mut code = Slot::new(origin);
    code.improve(rank, tag.0);
    code.leave(groups);
    code
}

/// Has frames that come to where the filter of `block` ends go on at `next`, the entry of
/// another trie in the same store, instead of being reported as `tag`; with `None`, be reported
/// again. What matches nothing there is reported as [`Tag`] 0.
///
/// No other filter's path may lead on from where this one ends. In effect until the trie of
/// `block` makes its code anew, which an insertion of its filter does.
pub fn pass_on<S: Store>(store: &mut S, block: BlockId, tag: Tag, next: Option<u64>) {
    // Less than that of any filter.
    const LEAST: u32 = 1;
    let slot = CodeSlot { block, index: SLOTS - 1 };
    let origin = store.code_address(slot);
    let code = match next {
        None => acceptance(LEAST.into(), tag, origin, None),
        Some(next) => {
            let mut code = Slot::new(origin);
            code.begin(LEAST);
            code.answer(0);
            code.jump(next);
            code
        }
    };
    store.write_code(slot, code.bytes());
}

/// The code of a group that names its nodes, if they are few enough.
fn few<S: Store>(store: &S, group: &Group, mut code: Slot, next: Option<u64>) -> Option<Slot> {
    if group.count > CHAIN {
        return None;
    }
    let last = next.is_none();
    let first = store.node(group.first);
    match group.test {
        Test::Bits { at, mask, .. } if mask != 0 => {
            let pins = Pins::of(at, mask);
            let in_place = pins.load(&mut code, group.count == 1);
            let mut id = group.first;
            while id != NodeId::NONE {
                let node = store.node(id);
                id = node.next;
                pins.compare(&mut code, in_place, node.value);
                if last || excludes(store, group.next, Bits { at, mask, value: node.value }) {
                    code.jump_if_equal(node.entry);
                    continue;
                }
                let skip = code.jump_if(If::NotEqual);
                visit(&mut code, |code| code.call(node.entry));
                if id != NodeId::NONE {
                    code.leave(next);
                }
                code.land(skip);
            }
        }
        Test::Shift { .. } => {
            test(&mut code, &group.test);
            if last {
                code.advance();
                return Some(leave(code, first.entry)).filter(Slot::fits);
            }
            visit(&mut code, |code| {
                code.advance();
                code.call(first.entry);
            });
        }
        _ => {
            test(&mut code, &group.test);
            if last {
                return Some(leave(code, first.entry)).filter(Slot::fits);
            }
            visit(&mut code, |code| code.call(first.entry));
        }
    }
    code.land_misses();
    code.leave(next);
    code.fits().then_some(code)
}

/// Groups that are compared with those before them.
const FOLLOWERS: u32 = 2;

/// Makes code for the groups before a group at `depth`, which may rely on what nodes it has.
pub(crate) fn before<S: Store>(store: &mut S, mut id: GroupId, depth: usize) {
    for _ in 0..FOLLOWERS {
        id = store.group(id).previous;
        if id == GroupId::NONE {
            return;
        }
        group(store, id, depth);
    }
}

/// Whether no frame with these bits gets to a node of the groups from `id` on. Only few
/// groups of few nodes are asked.
fn excludes<S: Store>(store: &S, mut id: GroupId, bits: Bits) -> bool {
    for _ in 0..FOLLOWERS {
        if id == GroupId::NONE {
            return true;
        }
        let group = store.group(id);
        let Test::Bits { at, mask, .. } = group.test else { return false };
        if group.count > CHAIN {
            return false;
        }
        let mut node = group.first;
        while node != NodeId::NONE {
            let Node { value, next, .. } = *store.node(node);
            if !bits.contradicts(&Bits { at, mask, value }) {
                return false;
            }
            node = next;
        }
        id = group.next;
    }
    id == GroupId::NONE
}

/// Goes on with the only child; if that was missed, nothing is left to do.
fn leave(mut code: Slot, child: u64) -> Slot {
    code.jump(child);
    if code.may_miss() {
        code.land_misses();
        code.leave(None);
    }
    code
}

/// Something that may move the base, and comes back.
fn visit(code: &mut Slot, what: impl FnOnce(&mut Slot)) {
    code.save_base();
    what(code);
    code.restore_base();
}

/// The code of a group that finds its nodes in the table.
fn many<S: Store>(store: &S, group: &Group, mut code: Slot, next: Option<u64>) -> Option<Slot> {
    const { assert!(UNIT == 8) };
    let Test::Bits { at, mask, .. } = group.test else { return None };
    let Buckets { distance, bits } = store.buckets();
    let pins = Pins::of(at, mask);
    pins.load(&mut code, false);
    code.keep(group.salt.0);
    match pins.part.width {
        Width::Quad => code.hash(65 - bits),
        _ => code.hash_narrow(group.salt.multiplier(), 33 - bits),
    }
    let first = size_of::<NodeId>() as u64 * u64::from(group.salt.offset(bits));
    code.look_up(distance.wrapping_add(first));
    let try_node = code.here();
    code.require_node();
    code.compare_node_field(pins.part.width, offset_of!(Node, value) as u8 + pins.part.first);
    let differs = code.jump_if(If::NotEqual);
    code.compare_node_constant(offset_of!(Node, salt) as u8);
    let found = code.jump_if(If::Equal);
    code.land(differs);
    code.follow(offset_of!(Node, next_in_bucket) as u8);
    code.jump_back(try_node);
    code.land(found);
    match next {
        None => code.jump_node(offset_of!(Node, entry) as u8),
        Some(_) => visit(&mut code, |code| code.call_node(offset_of!(Node, entry) as u8)),
    }
    code.land_misses();
    code.leave(next);
    code.fits().then_some(code)
}

/// Misses unless the frame, which is long enough, passes. By as much as a shift moves the
/// base is then the field.
pub(crate) fn test<const N: usize>(code: &mut Assembler<N>, test: &Test) {
    match *test {
        Test::Bits { at, mask, value } => {
            if mask != 0 {
                let pins = Pins::of(at, mask);
                let in_place = pins.load(code, true);
                pins.compare(code, in_place, value);
                code.miss_if_different();
            }
        }
        Test::Range { field, lo, hi } => {
            let width = load_field(code, field);
            if lo > 0 {
                code.subtract(width, lo);
            }
            code.compare(width, hi - lo);
            code.miss_if_above();
        }
        Test::Shift { field, scale, lo, hi } => {
            let low = (field.low() % 8) as u8;
            let [all, lo, hi] =
                [ones(field.bits), lo.into(), hi.into()].map(|bits: u64| bits << low);
            code.load_masked(Width::Byte, field.first / 8, all);
            if lo > 0 {
                code.compare(Width::Byte, lo);
                code.miss_if_below();
            }
            if hi < all {
                code.compare(Width::Byte, hi);
                code.miss_if_above();
            }
            code.shift(Width::Byte, scale.saturating_sub(low), low.saturating_sub(scale));
        }
    }
}

/// Pinned bits of a window: the part that is looked at, where it is, and the bits in it.
#[derive(Clone, Copy)]
struct Pins {
    part: Part,
    at: u16,
    mask: u64,
}

impl Pins {
    fn of(at: u16, mask: u64) -> Self {
        let part = Part::of(mask);
        Self { part, at: at + u16::from(part.first), mask: part.of_window(mask) }
    }

    /// Loads and masks them, unless they are whole and can be compared in place once.
    fn load<const N: usize>(&self, code: &mut Assembler<N>, once: bool) -> bool {
        let width = self.part.width;
        let whole = self.mask == ones(8 * width as u8);
        let in_place = whole && once && width != Width::Quad;
        if !in_place {
            code.load_masked(width, self.at, self.mask);
        }
        in_place
    }

    /// Compares them with what `value` of the window is there.
    fn compare<const N: usize>(&self, code: &mut Assembler<N>, in_place: bool, value: u64) {
        let value = self.part.of_window(value);
        if in_place {
            code.compare_frame(self.part.width, self.at, value);
        } else {
            code.compare(self.part.width, value);
        }
    }
}

/// Loads the number in a field; in how wide a register.
fn load_field<const N: usize>(code: &mut Assembler<N>, field: Field) -> Width {
    let first = field.first / 8 - field.at();
    let Part { first, width } = Part::between(first.into(), (field.end() - field.at()).into());
    let start = u16::from(first);
    code.load(width, field.at() + start);
    // The register is the field, with `low` bits below and `above` above it.
    let behind = 8 * (WINDOW as u16 - start) - 8 * width as u16;
    let bytes = field.low() - behind;
    let above = 8 * width as u16 - u16::from(field.bits) - bytes;
    let (low, above) = match width {
        Width::Byte => (bytes, if above > 0 { above + 24 } else { 0 }),
        Width::Word => (bytes + 16, above),
        _ => (bytes, above),
    };
    if width != Width::Byte {
        code.reverse(width);
    }
    code.shift(width, above as u8, (low + above) as u8);
    width
}
