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
//! table says.
//!
//! The code is a function of the calling convention of the System V ABI,
//!
//! ```text
//! extern "sysv64" fn(frame: *const u8, length: usize, rank: u64, base: *const u8)
//!     -> struct { tag: u64, rank: u64 }
//! ```
//!
//! `rank` is zero and `base` is that of the store; the frame has `length` bytes, at least
//! [`MIN_FRAME`]. No filter matches if the rank in the answer is zero, and then the tag means
//! nothing. Each piece keeps this convention, and frame, length and base besides: that is
//! why a group can call a child and go on with the next group. A shift cannot leave by a
//! jump, even as the last group: whoever called may need its base again.
//!
//! Every load from the frame follows, in its own piece, a comparison of the bytes left
//! with the end of the window that it is in. Calls nest by one for each test at most.
//!
//! [`compile`](compile()) makes a predicate of one filter, without anything around it.

use core::mem::offset_of;

use crate::assembler::{Assembler, If, Width};
use crate::language::{Filter, MIN_FRAME};
use crate::siblings::CHAIN;
use crate::storage::{CodeSlot, Group, GroupId, Node, NodeId, SLOT, Store, Tag, UNIT};
use crate::test::{Field, Test, WINDOW, ones};
use crate::trie::group_code;

type Slot = Assembler<SLOT>;

/// Makes the code of a group at `depth`, if code is made.
pub(crate) fn group<S: Store>(store: &mut S, id: GroupId, depth: usize) {
    let slot = CodeSlot { block: store.group(id).block, index: depth };
    if let Some(origin) = store.code_address(slot) {
        let group = *store.group(id);
        let next = group_code(store, group.next, depth);
        let code = few(store, &group, origin, next);
        let code = code.unwrap_or_else(|| many(store, &group, origin, next));
        store.write_code(slot, code.bytes());
    }
}

/// The code of a node in which a filter ends, which goes on with `groups`.
pub(crate) fn acceptance(rank: u64, tag: Tag, origin: u64, groups: Option<u64>) -> Slot {
    let mut code = Slot::new(origin);
    code.improve(rank, tag.0);
    code.leave(groups);
    code
}

/// The code of a group that names its nodes, if they are few enough.
fn few<S: Store>(store: &S, group: &Group, origin: u64, next: Option<u64>) -> Option<Slot> {
    if group.count > CHAIN {
        return None;
    }
    let mut code = Slot::new(origin);
    let last = next.is_none();
    let first = store.node(group.first);
    match group.test {
        Test::Bits { at, mask, .. } if mask != 0 => {
            code.require(end(at));
            let part = Part::of(at, mask);
            let whole = part.load(&mut code, group.count == 1);
            let mut id = group.first;
            while id != NodeId::NONE {
                let node = store.node(id);
                id = node.next;
                part.compare(&mut code, whole, node.value);
                if last {
                    code.jump_if_equal(node.entry);
                    continue;
                }
                let skip = code.jump_if(If::NotEqual);
                code.call(node.entry);
                if id != NodeId::NONE {
                    code.leave(next);
                }
                code.land(skip);
            }
        }
        Test::Shift { .. } => {
            test(&mut code, &group.test);
            code.save_base();
            code.advance();
            code.call(first.entry);
            code.restore_base();
        }
        _ => {
            test(&mut code, &group.test);
            if last { code.jump(first.entry) } else { code.call(first.entry) }
        }
    }
    code.land_misses();
    code.leave(next);
    code.fits().then_some(code)
}

/// The code of a group that finds its nodes in the table.
fn many<S: Store>(store: &S, group: &Group, origin: u64, next: Option<u64>) -> Slot {
    const { assert!(UNIT == 1 << 6 && size_of::<Node>() <= 1 << 7) };
    let mut code = Slot::new(origin);
    let Test::Bits { at, mask, .. } = group.test else { return code };
    let table = store.buckets();
    code.require(end(at));
    code.load_masked(Width::Quad, at, mask);
    code.look_up(group.salt.0, table.bits, group.salt.offset(table.bits), table.address);
    let try_node = code.here();
    code.address(6);
    code.compare_node_field(offset_of!(Node, value) as u8);
    let differs = code.jump_if(If::NotEqual);
    code.compare_node_constant(offset_of!(Node, salt) as u8);
    let found = code.jump_if(If::Equal);
    code.land(differs);
    code.follow(offset_of!(Node, next_in_bucket) as u8);
    code.jump_back(try_node);
    code.land(found);
    code.enter(offset_of!(Node, entry) as u8, next.is_some());
    code.land_misses();
    code.leave(next);
    code
}

/// Misses unless the frame passes. The field of a shift is then loaded, scaled, and no
/// more than what is left.
fn test<const N: usize>(code: &mut Assembler<N>, test: &Test) {
    match *test {
        Test::Bits { at, mask, value } => {
            code.require(end(at));
            if mask != 0 {
                let part = Part::of(at, mask);
                let whole = part.load(code, true);
                part.compare(code, whole, value);
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
        Test::Shift { field, scale } => {
            code.require(end(field.at()));
            let low = (field.low() % 8) as u8;
            code.load_masked(Width::Byte, field.first / 8, ones(field.bits) << low);
            code.shift(Width::Byte, scale.saturating_sub(low), low.saturating_sub(scale));
            code.require_field();
        }
    }
}

/// How many bytes must be left for the window at `at`.
fn end(at: u16) -> u32 {
    u32::from(at) + WINDOW as u32
}

/// The part of a window that is loaded: where it starts in the window, and how wide it is,
/// so that it holds the bytes from `first` to before `end`.
fn narrowest(first: u32, end: u32) -> (u16, Width) {
    let (bytes, width) = match end - first {
        0 | 1 => (1, Width::Byte),
        2 => (2, Width::Word),
        3 | 4 => (4, Width::Double),
        _ => (8, Width::Quad),
    };
    (first.min(WINDOW as u32 - bytes) as u16, width)
}

/// What is looked at of a window, and its mask.
#[derive(Clone, Copy)]
struct Part {
    at: u16,
    width: Width,
    mask: u64,
    /// Bits of the window before it.
    low: u16,
}

impl Part {
    /// The mask must not be empty.
    fn of(at: u16, mask: u64) -> Self {
        let (first, width) = narrowest(mask.trailing_zeros() / 8, 8 - mask.leading_zeros() / 8);
        Self { at: at + first, width, mask: mask >> (8 * first), low: 8 * first }
    }

    /// Loads and masks it, unless it is whole and can be compared in place once.
    fn load<const N: usize>(&self, code: &mut Assembler<N>, once: bool) -> bool {
        let whole = self.mask == ones(8 * self.width as u8);
        let in_place = whole && once && self.width != Width::Quad;
        if !in_place {
            code.load_masked(self.width, self.at, self.mask);
        }
        in_place
    }

    /// Compares it with what `value` of the window is there.
    fn compare<const N: usize>(&self, code: &mut Assembler<N>, in_place: bool, value: u64) {
        let value = value >> self.low;
        if in_place {
            code.compare_frame(self.width, self.at, value);
        } else {
            code.compare(self.width, value);
        }
    }
}

/// Loads the number in a field; in how wide a register.
fn load_field<const N: usize>(code: &mut Assembler<N>, field: Field) -> Width {
    code.require(end(field.at()));
    let first = field.first / 8 - field.at();
    let (start, width) = narrowest(first.into(), (field.end() - field.at()).into());
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

/// The most bytes of a [`Predicate`].
pub const PREDICATE: usize = 768;

/// One filter as a function of the System V ABI, `(frame: *const u8, length: usize) -> u32`:
/// 1 if a frame matches, or else 0. It can be executed anywhere.
#[derive(Clone, Copy)]
pub struct Predicate(Assembler<PREDICATE>);

impl Predicate {
    /// The code.
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// Makes code that answers what [`Filter::matches`] does.
pub fn compile(filter: &Filter) -> Predicate {
    let mut code = Assembler::new(0);
    code.refuse_below(MIN_FRAME as u8);
    for step in filter.tests() {
        test(&mut code, step);
        if let Test::Shift { .. } = step {
            code.advance();
        }
    }
    code.answer(1);
    code.leave(None);
    Predicate(code)
}
