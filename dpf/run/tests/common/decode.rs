//! What generated code can do, by following every path through it.
//!
//! State before each instruction: how many bytes of the frame are known to be left, what
//! the scratch registers hold, and where the base is. Whatever is not understood is an
//! error, so the list of instructions is complete. What is known when one piece leaves for
//! another is known there, if it is known on all ways ([`check_all`]).

use std::collections::{BTreeMap, BTreeSet};

use dpf_run::Piece;
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

/// What surrounds the code.
#[derive(Debug, Default)]
pub(crate) struct World {
    /// Where jumps and calls may lead.
    pub(crate) entries: BTreeSet<u64>,
    /// Salts and entries of all nodes.
    pub(crate) nodes: Vec<(u64, u64)>,
    /// How far the heads of the hash table are from the base, and how many, as a power
    /// of two.
    pub(crate) distance: u64,
    pub(crate) bits: u32,
}

/// What r10 holds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Node {
    Anything,
    /// Below 2^n.
    Below(u32),
    /// A name, which may be none.
    Name,
    /// A name of a node.
    SomeName,
    /// Of one with the salt in r9.
    OfGroup,
}

/// What r11 holds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Table {
    Anything,
    Distance(u64),
    /// As far behind the base.
    Address(u64),
}

/// What the flags say.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flags {
    Anything,
    /// Bytes left against a number.
    Left(u32),
    /// r10 against zero.
    Name,
    /// The salt of the node against r9.
    Salt,
}

/// Where rdi and rsi are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Base {
    /// rdi is where the last rsi bytes of the frame begin. If rsi is below zero, that is
    /// beyond its end.
    Sound,
    /// rsi has been reduced by r8, and rdi has not yet been raised.
    Halfway,
    Unsound,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct State {
    /// Bytes of the frame from rdi that can be read.
    left: u32,
    base: Base,
    flags: Flags,
    node: Node,
    /// Whether r8 holds something that this piece put there.
    written8: bool,
    constant8: Option<u64>,
    constant9: Option<u64>,
    table: Table,
    /// How many of rdi and rsi are on the stack, and what was left then.
    saved: u8,
    left_then: u32,
    /// Whether the base may be beyond the end.
    moved: bool,
}

const ENTRY: State = State {
    left: 0,
    base: Base::Sound,
    flags: Flags::Anything,
    node: Node::Anything,
    written8: false,
    constant8: None,
    constant9: None,
    table: Table::Anything,
    saved: 0,
    left_then: 0,
    moved: true,
};

impl State {
    /// What holds whichever of two ways led here.
    fn meet(self, other: Self) -> Self {
        fn same<T: PartialEq>(one: T, other: T, otherwise: T) -> T {
            if one == other { one } else { otherwise }
        }
        assert_eq!(self.saved, other.saved, "stack agrees");
        Self {
            left: self.left.min(other.left),
            base: same(self.base, other.base, Base::Unsound),
            flags: same(self.flags, other.flags, Flags::Anything),
            node: same(self.node, other.node, Node::Anything),
            written8: self.written8 && other.written8,
            constant8: same(self.constant8, other.constant8, None),
            constant9: same(self.constant9, other.constant9, None),
            table: same(self.table, other.table, Table::Anything),
            saved: self.saved,
            left_then: self.left_then.min(other.left_then),
            moved: self.moved || other.moved,
        }
    }
}

/// Where a piece leaves for, and how many bytes are left then.
#[derive(Debug, Default)]
struct Ways {
    /// By address.
    direct: Vec<(u64, u32)>,
    /// To the entry of a node with this salt.
    node: Vec<(u64, u32)>,
}

/// The instructions of a piece.
pub(crate) fn decode(bytes: &[u8], address: u64) -> Vec<Instruction> {
    let decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
    let instructions: Vec<_> = decoder.into_iter().collect();
    assert!(instructions.iter().all(|it| !it.is_invalid()), "every byte is decoded");
    assert_eq!(instructions.iter().map(Instruction::len).sum::<usize>(), bytes.len());
    instructions
}

/// Checks all pieces that can be reached from `entry`, and that these are all. Of the frame
/// nothing is known there.
pub(crate) fn check_all(pieces: &[Piece], entry: Option<u64>, world: &World) {
    let pieces: BTreeMap<u64, &Piece> = pieces.iter().map(|it| (it.address, it)).collect();
    let mut left = BTreeMap::new();
    let mut work = Vec::from_iter(entry.map(|entry| (entry, 0)));
    while let Some((address, bytes)) = work.pop() {
        if left.get(&address).is_some_and(|&known| known <= bytes) {
            continue;
        }
        left.insert(address, bytes);
        let ways = check_piece(&pieces[&address].bytes, address, world, false, bytes);
        work.extend(ways.direct);
        for (salt, bytes) in ways.node {
            let of_group = world.nodes.iter().filter(|&&(other, _)| other == salt);
            work.extend(of_group.map(|&(_, entry)| (entry, bytes)));
        }
    }
    assert_eq!(left.len(), pieces.len(), "no piece is dead");
}

/// Checks a predicate.
pub(crate) fn check_predicate(bytes: &[u8]) {
    check_piece(bytes, 0x10000, &World::default(), true, 0);
}

/// Checks one piece. A predicate ends with rdi and rsi wherever they are.
fn check_piece(bytes: &[u8], address: u64, world: &World, predicate: bool, left: u32) -> Ways {
    let instructions: BTreeMap<u64, Instruction> =
        decode(bytes, address).into_iter().map(|it| (it.ip(), it)).collect();
    let entry = State { left, moved: !predicate, ..ENTRY };
    let mut states = BTreeMap::from([(address, entry)]);
    let mut work = vec![address];
    while let Some(ip) = work.pop() {
        let it = instructions.get(&ip).expect("execution stays in the piece, on instructions");
        for (to, state) in step(it, states[&ip], world, predicate, &mut Ways::default()) {
            let merged = states.get(&to).map_or(state, |&old| old.meet(state));
            if states.insert(to, merged) != Some(merged) {
                work.push(to);
            }
        }
    }
    assert_eq!(states.len(), instructions.len(), "no code is dead");
    // With what holds on all ways.
    let mut ways = Ways::default();
    for (ip, it) in &instructions {
        step(it, states[ip], world, predicate, &mut ways);
    }
    ways
}

/// The memory that an instruction reads must be the frame within bounds, a bucket or a node.
fn memory(it: &Instruction, state: &State, world: &World) {
    let size = it.memory_size().size() as u64;
    let at = it.memory_displacement64();
    let scale = it.memory_index_scale();
    assert_eq!(it.segment_prefix(), Register::None);
    // Of the heads, from number n on.
    let heads = |distance: u64| {
        let Node::Below(bits) = state.node else { panic!("{it}") };
        let offset = distance.wrapping_sub(world.distance);
        assert!(offset.is_multiple_of(4) && bits < 32, "{it}");
        assert!(offset / 4 + (1 << bits) <= 1 << world.bits, "{it}");
    };
    match (it.memory_base(), it.memory_index()) {
        (Register::RDI, Register::None) => {
            assert!(at + size <= u64::from(state.left), "{it} with {}", state.left);
            assert_eq!(state.base, Base::Sound);
        }
        (Register::R11, Register::R10) => {
            assert_eq!((scale, at, size), (4, 0, 4), "{it}");
            let Table::Address(distance) = state.table else { panic!("{it}") };
            heads(distance);
        }
        (Register::RCX, Register::R10) if scale == 4 => {
            assert_eq!(size, 4, "{it}");
            heads(at);
        }
        (Register::RCX, Register::R10) => {
            assert_eq!(scale, 8, "{it}");
            let entered = it.mnemonic() == Mnemonic::Jmp || it.mnemonic() == Mnemonic::Call;
            match state.node {
                Node::OfGroup if entered => assert_eq!((at, size), (16, 8), "{it}"),
                // Of the value, all or some; the salt; the name of the next in the bucket.
                Node::SomeName => assert!(at + size <= 16 || (at, size) == (52, 4), "{it}"),
                _ => panic!("{it}"),
            }
        }
        _ => panic!("{it} reads something else"),
    }
}

/// Where an instruction leads, and what is known there.
fn step(
    it: &Instruction,
    before: State,
    world: &World,
    predicate: bool,
    ways: &mut Ways,
) -> Vec<(u64, State)> {
    use Mnemonic as M;
    use Register as R;
    let mut after = State { flags: Flags::Anything, ..before };
    let next = it.next_ip();
    let (to, from) = (it.op0_register(), it.op1_register());
    let kind = |operand| it.try_op_kind(operand).ok();
    let number = || (0..it.op_count()).find_map(|i| it.try_immediate(i).ok());
    if (0..it.op_count()).any(|i| it.op_kind(i) == OpKind::Memory) {
        memory(it, &before, world);
        assert!(it.op0_kind() != OpKind::Memory || !matches!(it.mnemonic(), M::Mov), "a store");
    }
    let mut leave = |target: u64| {
        assert!(world.entries.contains(&target), "{it} leads to other code");
        assert_eq!(before.base, Base::Sound, "{it}");
        ways.direct.push((target, before.left));
    };
    let writes_field = |after: &mut State| {
        (after.constant8, after.written8) = (None, true);
        assert_ne!(after.base, Base::Halfway);
    };
    // A load of r8 alone does not depend on what it held.
    let loads8 = matches!(it.mnemonic(), M::Mov | M::Movzx) && matches!(to, R::R8 | R::R8D);
    let uses8 =
        (0..it.op_count()).any(|i| matches!(it.op_register(i), R::R8 | R::R8D | R::R8W | R::R8L));
    assert!(loads8 || !uses8 || before.written8, "{it}: nothing was put there");
    match (it.mnemonic(), to, from) {
        (M::Cmp, R::RSI, R::None) => after.flags = Flags::Left(number().expect("a number") as u32),
        (M::Cmp, R::None, R::R9) => {
            assert_eq!((it.memory_index(), it.memory_displacement64()), (R::R10, 8), "{it}");
            after.flags = Flags::Salt;
        }
        (M::Cmp, R::RDX | R::R8 | R::R8D | R::None, _) => {}
        (M::Test, R::R10D, R::R10D) => after.flags = Flags::Name,
        (M::Movzx, R::R8D, R::None) => writes_field(&mut after),
        (M::Mov, R::R8 | R::R8D, R::None) => {
            writes_field(&mut after);
            if kind(1) != Some(OpKind::Memory) {
                after.constant8 = number();
            }
        }
        (M::And | M::Sub | M::Shl | M::Shr, R::R8D, R::None)
        | (M::Sub, R::R8, R::R9)
        | (M::And | M::Shl | M::Shr, R::R8, R::None) => writes_field(&mut after),
        (M::Bswap, R::R8 | R::R8D, R::None) => writes_field(&mut after),
        (M::Mov, R::R9 | R::R9D, R::None) => {
            assert_ne!(kind(1), Some(OpKind::Memory));
            after.constant9 = number();
        }
        (M::Mov, R::R11 | R::R11D, R::None) => {
            assert_ne!(kind(1), Some(OpKind::Memory));
            after.table = Table::Distance(number().expect("a number"));
        }
        (M::Add, R::R11, R::RCX) => {
            let Table::Distance(distance) = before.table else { panic!("{it}") };
            after.table = Table::Address(distance);
        }
        // Look-up.
        (M::Mov, R::R10, R::R8) | (M::Imul, R::R10, R::R9) | (M::Imul, R::R10D, R::R8D) => {
            after.node = Node::Anything;
        }
        (M::Shr, R::R10, R::None) => {
            after.node = Node::Below(64 - number().expect("a number") as u32);
        }
        (M::Shr, R::R10D, R::None) => {
            after.node = Node::Below(32 - number().expect("a number") as u32);
        }
        (M::Mov, R::R10D, R::None) => after.node = Node::Name,
        // Shifts.
        (M::Push, R::RDI, R::None) => {
            assert_eq!((before.saved, before.base), (0, Base::Sound));
            (after.saved, after.left_then) = (1, before.left);
        }
        (M::Push, R::RSI, R::None) => {
            assert_eq!((before.saved, before.base), (1, Base::Sound));
            after.saved = 2;
        }
        (M::Pop, R::RSI, R::None) => {
            assert_eq!(before.saved, 2);
            (after.saved, after.left, after.base) = (1, 0, Base::Unsound);
        }
        (M::Pop, R::RDI, R::None) => {
            assert_eq!(before.saved, 1);
            (after.saved, after.left, after.base) = (0, before.left_then, Base::Sound);
        }
        (M::Sub, R::RSI, R::R8) => {
            assert_eq!(before.base, Base::Sound, "{it}");
            (after.left, after.base) = (0, Base::Halfway);
        }
        (M::Add, R::RDI, R::R8) => {
            assert_eq!(before.base, Base::Halfway, "{it}");
            (after.base, after.moved) = (Base::Sound, true);
        }
        // Results.
        (M::Mov, R::RDX, R::R8) | (M::Mov, R::EAX, R::None) | (M::Xor, R::EAX, R::EAX) => {}
        // Control.
        // With a sign: what is left may be below zero. At first it is not, and then a
        // predicate asks without.
        (M::Jl | M::Jae, ..) => {
            let (mut less, mut no_less) = (after, after);
            if let Flags::Left(count) = before.flags {
                assert_eq!(before.base, Base::Sound, "{it}");
                assert!(it.mnemonic() == M::Jl || !before.moved, "{it}");
                no_less.left = no_less.left.max(count);
            }
            if it.mnemonic() == M::Jae {
                std::mem::swap(&mut less, &mut no_less);
            }
            return vec![(it.near_branch_target(), less), (next, no_less)];
        }
        (M::Je, ..) if !world.entries.contains(&it.near_branch_target()) => {
            let mut taken = after;
            match before.flags {
                Flags::Name => {
                    assert_eq!(before.node, Node::Name);
                    after.node = Node::SomeName;
                }
                Flags::Salt => {
                    assert_eq!(before.node, Node::SomeName);
                    taken.node = Node::OfGroup;
                }
                _ => {}
            }
            return vec![(it.near_branch_target(), taken), (next, after)];
        }
        (M::Je, ..) => {
            assert_eq!(before.saved, 0);
            leave(it.near_branch_target());
        }
        (M::Jne | M::Ja | M::Jb, ..) => {
            return vec![(it.near_branch_target(), after), (next, after)];
        }
        (M::Jmp, ..) => {
            let target = it.near_branch_target();
            match it.code() {
                Code::Jmp_rel8_64 => return vec![(target, after)],
                Code::Jmp_rel32_64 => leave(target),
                Code::Jmp_rm64 if kind(0) == Some(OpKind::Memory) => {
                    assert_eq!(before.base, Base::Sound);
                    ways.node.push((before.constant9.expect("a salt"), before.left));
                }
                Code::Jmp_rm64 => leave(before.constant8.filter(|_| to == R::R8).expect("known")),
                _ => panic!("{it}"),
            }
            assert_eq!(before.saved, 0);
            return vec![];
        }
        (M::Call, ..) => {
            match it.code() {
                Code::Call_rel32_64 => leave(it.near_branch_target()),
                Code::Call_rm64 if kind(0) == Some(OpKind::Memory) => {
                    assert_eq!(before.base, Base::Sound);
                    ways.node.push((before.constant9.expect("a salt"), before.left));
                }
                Code::Call_rm64 => leave(before.constant8.filter(|_| to == R::R8).expect("known")),
                _ => panic!("{it}"),
            }
            assert_eq!(before.saved, 2, "{it}: the callee may move the base");
            // The callee keeps rcx and the stack.
            let State { saved, left_then, .. } = before;
            after = State { base: Base::Unsound, saved, left_then, ..ENTRY };
        }
        (M::Ret, ..) => {
            assert_eq!(before.saved, 0);
            assert!(!predicate || before.left_then == 0);
            return vec![];
        }
        _ => panic!("{it} is not among the instructions of filters"),
    }
    vec![(next, after)]
}

/// The code as text. Addresses are written by `name`.
pub(crate) fn listing(bytes: &[u8], address: u64, name: impl Fn(u64) -> Option<String>) -> String {
    use iced_x86::{Formatter, IntelFormatter};
    let mut formatter = IntelFormatter::new();
    formatter.options_mut().set_hex_prefix("0x");
    formatter.options_mut().set_hex_suffix("");
    formatter.options_mut().set_space_after_operand_separator(true);
    let mut text = String::new();
    for it in decode(bytes, address) {
        let mut line = String::new();
        formatter.format(&it, &mut line);
        let target = it.near_branch_target();
        let inside = (address..address + bytes.len() as u64).contains(&target);
        if target != 0 {
            let mnemonic = line.split_whitespace().next().unwrap_or_default();
            let to = if inside && target != address {
                format!("+{:02x}", target - address)
            } else {
                name(target).expect("a name")
            };
            line = format!("{mnemonic} {to}");
        } else if let Some(named) = (0..it.op_count())
            .filter_map(|i| it.try_immediate(i).ok())
            .find_map(|number| Some((number, name(number)?)))
        {
            let operand = line.rsplit(' ').next().unwrap_or_default().to_owned();
            line = line.replace(&operand, &named.1);
        }
        text += &format!("  {:02x}  {line}\n", it.ip() - address);
    }
    text
}
