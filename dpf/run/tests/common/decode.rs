//! What a piece of generated code can do, by following every path through it.
//!
//! State before each instruction: how many bytes of the frame are known to be left, what
//! the scratch registers hold, and whether the base has been saved and moved. Whatever is
//! not understood is an error, so the list of instructions is complete.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

/// What surrounds the code.
#[derive(Debug, Default)]
pub(crate) struct World {
    /// Where jumps and calls may lead.
    pub(crate) entries: BTreeSet<u64>,
    /// The heads of the hash table and how many, as a power of two.
    pub(crate) table: u64,
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
    /// A name of a node, in bytes.
    Offset,
    Address,
}

/// What the flags say.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flags {
    Anything,
    /// Bytes left against a number, or against r8.
    Left(u32),
    LeftField,
    /// r10 against zero.
    Name,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct State {
    /// Bytes of the frame from rdi that can be read.
    left: u32,
    /// rsi is not less than r8.
    field_fits: bool,
    /// rsi has been reduced by r8, and rdi not yet raised.
    halfway: bool,
    flags: Flags,
    node: Node,
    constant8: Option<u64>,
    constant11: Option<u64>,
    /// How many of rdi and rsi are on the stack.
    saved: u8,
    moved: bool,
}

const ENTRY: State = State {
    left: 0,
    field_fits: false,
    halfway: false,
    flags: Flags::Anything,
    node: Node::Anything,
    constant8: None,
    constant11: None,
    saved: 0,
    moved: false,
};

impl State {
    /// What holds whichever of two ways led here.
    fn meet(self, other: Self) -> Self {
        assert_eq!((self.saved, self.moved), (other.saved, other.moved), "stack agrees");
        assert_eq!(self.halfway, other.halfway);
        Self {
            left: self.left.min(other.left),
            field_fits: self.field_fits && other.field_fits,
            flags: if self.flags == other.flags { self.flags } else { Flags::Anything },
            node: if self.node == other.node { self.node } else { Node::Anything },
            constant8: self.constant8.filter(|_| self.constant8 == other.constant8),
            constant11: self.constant11.filter(|_| self.constant11 == other.constant11),
            ..self
        }
    }

    fn balanced(&self) {
        assert!(self.saved == 0 && !self.moved && !self.halfway, "base and stack as before");
    }
}

/// The instructions of a piece.
pub(crate) fn decode(bytes: &[u8], address: u64) -> Vec<Instruction> {
    let decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
    let instructions: Vec<_> = decoder.into_iter().collect();
    assert!(instructions.iter().all(|it| !it.is_invalid()), "every byte is decoded");
    assert_eq!(instructions.iter().map(Instruction::len).sum::<usize>(), bytes.len());
    instructions
}

/// Checks one piece. A predicate ends with rdi and rsi wherever they are.
pub(crate) fn check(bytes: &[u8], address: u64, world: &World, predicate: bool) {
    let instructions: BTreeMap<u64, Instruction> =
        decode(bytes, address).into_iter().map(|it| (it.ip(), it)).collect();
    let mut states = BTreeMap::from([(address, ENTRY)]);
    let mut work = vec![address];
    while let Some(ip) = work.pop() {
        let it = instructions.get(&ip).expect("execution stays in the piece, on instructions");
        for (to, state) in step(it, states[&ip], world, predicate) {
            let merged = states.get(&to).map_or(state, |&old| old.meet(state));
            if states.insert(to, merged) != Some(merged) {
                work.push(to);
            }
        }
    }
    assert_eq!(states.len(), instructions.len(), "no code is dead");
}

/// The memory that an instruction reads must be the frame within bounds, a bucket or a node.
fn memory(it: &Instruction, state: &State, world: &World) {
    let size = it.memory_size().size() as u32;
    let at = it.memory_displacement64();
    assert_eq!(it.segment_prefix(), Register::None);
    match (it.memory_base(), it.memory_index()) {
        (Register::RDI, Register::None) => {
            assert!(at + u64::from(size) <= u64::from(state.left), "{it} with {}", state.left);
            assert!(!state.halfway);
        }
        (Register::R11, Register::R10) => {
            assert_eq!((it.memory_index_scale(), at, size), (4, 0, 4), "{it}");
            assert_eq!(state.constant11, Some(world.table), "{it}");
            assert!(matches!(state.node, Node::Below(bits) if bits <= world.bits), "{it}");
        }
        (Register::R10, Register::None) => {
            assert_eq!(state.node, Node::Address, "{it}");
            // Value, salt, entry, and the name of the next in the bucket.
            assert!([(0, 8), (8, 8), (16, 8), (52, 4)].contains(&(at, size)), "{it}");
        }
        _ => panic!("{it} reads something else"),
    }
}

/// Where an instruction leads, and what is known there.
fn step(it: &Instruction, before: State, world: &World, predicate: bool) -> Vec<(u64, State)> {
    use Mnemonic as M;
    use Register as R;
    let mut after = State { flags: Flags::Anything, ..before };
    let next = it.next_ip();
    let (to, from) = (it.op0_register(), it.op1_register());
    let kind = |operand| it.try_op_kind(operand).ok();
    let number = || (0..it.op_count()).find_map(|i| it.try_immediate(i).ok());
    let leaves = |target: u64| {
        assert!(world.entries.contains(&target), "{it} leads to other code");
    };
    if (0..it.op_count()).any(|i| it.op_kind(i) == OpKind::Memory) {
        memory(it, &before, world);
        assert!(it.op0_kind() != OpKind::Memory || !matches!(it.mnemonic(), M::Mov), "a store");
    }
    let writes_field = |after: &mut State| {
        after.constant8 = None;
        after.field_fits = false;
        assert!(!after.halfway);
    };
    match (it.mnemonic(), to, from) {
        (M::Cmp, R::RSI, R::None) => after.flags = Flags::Left(number().expect("a number") as u32),
        (M::Cmp, R::RSI, R::R8) => after.flags = Flags::LeftField,
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
        (M::Mov, R::R9 | R::R9D, R::None) => assert_ne!(kind(1), Some(OpKind::Memory)),
        (M::Mov, R::R11 | R::R11D, R::None) => {
            assert_ne!(kind(1), Some(OpKind::Memory));
            after.constant11 = number();
        }
        // Look-up.
        (M::Mov, R::R10, R::R8) | (M::Imul, R::R10, R::R9) => after.node = Node::Anything,
        (M::Shr, R::R10, R::None) => {
            after.node = Node::Below(64 - number().expect("a number") as u32);
        }
        (M::Xor, R::R10D, R::None) => {
            let Node::Below(bits) = before.node else { panic!("{it}") };
            assert!(number().expect("a number") as u32 as u64 >> bits == 0 && bits <= 32);
        }
        (M::Mov, R::R10D, R::None) => after.node = Node::Name,
        (M::Shl, R::R10, R::None) => {
            assert_eq!((before.node, number()), (Node::SomeName, Some(6)));
            after.node = Node::Offset;
        }
        (M::Add, R::R10, R::RCX) => {
            assert_eq!(before.node, Node::Offset);
            after.node = Node::Address;
        }
        // Shifts.
        (M::Push, R::RDI, R::None) => {
            assert_eq!((before.saved, before.moved), (0, false));
            after.saved = 1;
        }
        (M::Push, R::RSI, R::None) => {
            assert_eq!((before.saved, before.moved), (1, false));
            after.saved = 2;
        }
        (M::Pop, R::RSI, R::None) => {
            assert_eq!(before.saved, 2);
            after.saved = 1;
            after.left = 0;
        }
        (M::Pop, R::RDI, R::None) => {
            assert_eq!(before.saved, 1);
            (after.saved, after.moved, after.left) = (0, false, 0);
        }
        (M::Sub, R::RSI, R::R8) => {
            assert!(before.field_fits && (before.saved == 2 || predicate), "{it}");
            (after.halfway, after.left, after.field_fits) = (true, 0, false);
        }
        (M::Add, R::RDI, R::R8) => {
            assert!(before.halfway);
            (after.halfway, after.moved) = (false, !predicate);
        }
        // Results.
        (M::Mov, R::RDX, R::R8) | (M::Mov, R::EAX, R::None) | (M::Xor, R::EAX, R::EAX) => {}
        // Control.
        (M::Jb | M::Jae, ..) => {
            let (mut less, mut no_less) = (after, after);
            match before.flags {
                Flags::Left(count) => no_less.left = no_less.left.max(count),
                Flags::LeftField => no_less.field_fits = true,
                _ => {}
            }
            if it.mnemonic() == M::Jae {
                std::mem::swap(&mut less, &mut no_less);
            }
            return vec![(it.near_branch_target(), less), (next, no_less)];
        }
        (M::Je, ..) if !world.entries.contains(&it.near_branch_target()) => {
            let taken = after;
            if before.flags == Flags::Name {
                assert_eq!(before.node, Node::Name);
                after.node = Node::SomeName;
            }
            return vec![(it.near_branch_target(), taken), (next, after)];
        }
        (M::Je, ..) => {
            after.balanced();
        }
        (M::Jne | M::Ja, ..) => return vec![(it.near_branch_target(), after), (next, after)],
        (M::Jmp, ..) => {
            let target = it.near_branch_target();
            match it.code() {
                Code::Jmp_rel8_64 => return vec![(target, after)],
                Code::Jmp_rel32_64 => leaves(target),
                Code::Jmp_rm64 if kind(0) == Some(OpKind::Memory) => {
                    assert_eq!((it.memory_base(), it.memory_displacement64()), (R::R10, 16));
                }
                Code::Jmp_rm64 => leaves(before.constant8.filter(|_| to == R::R8).expect("known")),
                _ => panic!("{it}"),
            }
            after.balanced();
            return vec![];
        }
        (M::Call, ..) => {
            match it.code() {
                Code::Call_rel32_64 => leaves(it.near_branch_target()),
                Code::Call_rm64 if kind(0) == Some(OpKind::Memory) => {
                    assert_eq!((it.memory_base(), it.memory_displacement64()), (R::R10, 16));
                }
                Code::Call_rm64 => leaves(before.constant8.filter(|_| to == R::R8).expect("known")),
                _ => panic!("{it}"),
            }
            assert!(!before.halfway && before.saved != 1);
            // The callee keeps rdi, rsi, rcx and the stack.
            after = State { left: before.left, saved: before.saved, moved: before.moved, ..ENTRY };
        }
        (M::Ret, ..) => {
            after.balanced();
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
