//! The instructions of x86-64 that filters are made of, and no others.
//!
//! Encodings are from the Intel SDM, volume 2; a test has every one of them decoded by
//! a disassembler. The names say what is done to which registers:
//!
//! | register | holds |
//! |---|---|
//! | rdi, rsi | the current base in the frame; how many bytes of the frame are left there, below zero if the base is beyond its end |
//! | rdx, rax | the best rank so far; its tag |
//! | rcx | the base of the [`Store`](crate::Store), for names of nodes |
//! | r8 | the *field*: what was loaded from the frame; or a far target |
//! | r9 | a constant of 64 bits |
//! | r10, r11 | a node; the table of buckets |

use crate::test::{Width, ones};

/// As in the second hexadecimal digit of a conditional jump.
#[derive(Clone, Copy)]
pub(crate) enum If {
    Below = 2,
    NotBelow = 3,
    Equal = 4,
    NotEqual = 5,
    Above = 7,
    /// The one that has a sign.
    Less = 12,
}

/// A place in the code; a forward jump stands before it.
#[derive(Clone, Copy)]
pub(crate) struct Place(usize);

/// Where a failed test jumps.
#[derive(Clone, Copy)]
enum Miss {
    /// Not yet known. These jumps are to be completed.
    Ahead([Option<Place>; 3]),
    Behind(Place),
}

/// At most `N` bytes of code; what is beyond is only counted.
#[derive(Clone, Copy)]
pub(crate) struct Assembler<const N: usize> {
    code: [u8; N],
    length: usize,
    /// Where the first byte will be executed.
    origin: u64,
    miss: Miss,
    /// Whether a jump leads nowhere: then the code is no good.
    broken: bool,
}

impl<const N: usize> Assembler<N> {
    pub(crate) fn new(origin: u64) -> Self {
        Self { code: [0; N], length: 0, origin, miss: Miss::Ahead([None; 3]), broken: false }
    }

    pub(crate) fn fits(&self) -> bool {
        self.length <= N && !self.broken
    }

    /// The code, or nothing if it does not fit.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.code.get(..self.length).filter(|_| self.fits()).unwrap_or_default()
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        for (to, byte) in self.code.iter_mut().skip(self.length).zip(bytes) {
            *to = *byte;
        }
        self.length += bytes.len();
    }

    fn put_u32(&mut self, number: u32) {
        self.put(&number.to_le_bytes());
    }

    /// `register` (8 to 15) = `number`.
    fn constant(&mut self, register: u8, number: u64) {
        let opcode = 0xb0 + register;
        match u32::try_from(number) {
            Ok(number) => {
                self.put(&[0x41, opcode]);
                self.put_u32(number);
            }
            Err(_) => {
                self.put(&[0x49, opcode]);
                self.put(&number.to_le_bytes());
            }
        }
    }

    // Tests.

    /// Compares the bytes left with `length`.
    pub(crate) fn compare_left(&mut self, length: u16) {
        match i8::try_from(length) {
            Ok(length) => self.put(&[0x48, 0x83, 0xfe, length as u8]), // cmp rsi, length
            Err(_) => {
                self.put(&[0x48, 0x81, 0xfe]);
                self.put_u32(length.into());
            }
        }
    }

    /// Misses unless `length` bytes are left.
    pub(crate) fn require(&mut self, length: u16) {
        self.compare_left(length);
        self.miss_if(If::Less);
    }

    /// The byte that selects [rdi + at] and, in its middle, `register`; and `at`.
    fn frame(&mut self, register: u8, at: u16) {
        let small = i8::try_from(at);
        self.put(&[if small.is_ok() { 0x47 } else { 0x87 } | register << 3]);
        match small {
            Ok(at) => self.put(&[at as u8]),
            Err(_) => self.put_u32(at.into()),
        }
    }

    /// Field = frame at `at`, the first byte in the low bits. What is above it is zero.
    pub(crate) fn load(&mut self, width: Width, at: u16) {
        self.put(match width {
            Width::Byte => &[0x44, 0x0f, 0xb6],
            Width::Word => &[0x44, 0x0f, 0xb7],
            Width::Double => &[0x44, 0x8b],
            Width::Quad => &[0x4c, 0x8b],
        });
        self.frame(0, at);
    }

    /// Compares the frame at `at` with `value`. Not for [`Width::Quad`].
    pub(crate) fn compare_frame(&mut self, width: Width, at: u16, value: u64) {
        self.put(match width {
            Width::Byte => &[0x80],
            Width::Word => &[0x66, 0x81],
            _ => &[0x81],
        });
        self.frame(7, at);
        self.put(value.to_le_bytes().get(..width as usize).unwrap_or_default());
    }

    /// `field op= number` on 64 bits if `wide`, or else on 32.
    fn operate(&mut self, wide: bool, op: u8, number: u64) {
        if wide {
            self.constant(9, number);
            self.put(&[0x4d, op << 3 | 1, 0xc8]);
        } else {
            self.put(&[0x41, 0x81, 0xc0 | op << 3]);
            self.put_u32(number as u32);
        }
    }

    /// Field = frame at `at` & `mask`.
    pub(crate) fn load_masked(&mut self, width: Width, at: u16, mask: u64) {
        if width == Width::Quad && mask != u64::MAX {
            self.constant(8, mask);
            self.put(&[0x4c, 0x23]); // and r8, [rdi + at]
            return self.frame(0, at);
        }
        self.load(width, at);
        if mask != ones(8 * width as u8) {
            self.operate(false, 4, mask);
        }
    }

    /// Field -= `number`.
    pub(crate) fn subtract(&mut self, width: Width, number: u64) {
        self.operate(width == Width::Quad, 5, number);
    }

    /// Compares the field with `number`.
    pub(crate) fn compare(&mut self, width: Width, number: u64) {
        self.operate(width == Width::Quad, 7, number);
    }

    /// Reverses the bytes of the field's register, of 8 bytes for [`Width::Quad`] and
    /// of 4 otherwise.
    pub(crate) fn reverse(&mut self, width: Width) {
        self.put(&[if width == Width::Quad { 0x49 } else { 0x41 }, 0x0f, 0xc8]);
    }

    /// Field <<= `left`, then >>= `right`, in the same register.
    pub(crate) fn shift(&mut self, width: Width, left: u8, right: u8) {
        let prefix = if width == Width::Quad { 0x49 } else { 0x41 };
        if left > 0 {
            self.put(&[prefix, 0xc1, 0xe0, left]);
        }
        if right > 0 {
            self.put(&[prefix, 0xc1, 0xe8, right]);
        }
    }

    /// The base moves by the field, maybe beyond the end of the frame.
    pub(crate) fn advance(&mut self) {
        self.put(&[0x4c, 0x29, 0xc6, 0x4c, 0x01, 0xc7]); // sub rsi, r8; add rdi, r8
    }

    /// push rdi; push rsi
    pub(crate) fn save_base(&mut self) {
        self.put(&[0x57, 0x56]);
    }

    /// pop rsi; pop rdi
    pub(crate) fn restore_base(&mut self) {
        self.put(&[0x5e, 0x5f]);
    }

    // Look-up.

    /// Constant = `number`.
    pub(crate) fn keep(&mut self, number: u64) {
        self.constant(9, number);
    }

    /// Node = field * constant >> `shift`, of 64 bits.
    pub(crate) fn hash(&mut self, shift: u32) {
        self.put(&[0x4d, 0x89, 0xc2]); // mov r10, r8
        self.put(&[0x4d, 0x0f, 0xaf, 0xd1]); // imul r10, r9
        self.put(&[0x49, 0xc1, 0xea, shift as u8]); // shr r10, shift
    }

    /// Node = field * `multiplier` >> `shift`, of 32 bits.
    pub(crate) fn hash_narrow(&mut self, multiplier: u32, shift: u32) {
        self.put(&[0x45, 0x69, 0xd0]); // imul r10d, r8d, multiplier
        self.put_u32(multiplier);
        self.put(&[0x41, 0xc1, 0xea, shift as u8]); // shr r10d, shift
    }

    /// Node = the name that is 4 * node bytes behind what is `distance` bytes behind the base.
    pub(crate) fn look_up(&mut self, distance: u64) {
        match i32::try_from(distance as i64) {
            Ok(distance) => {
                self.put(&[0x46, 0x8b, 0x94, 0x91]); // mov r10d, [rcx + 4 * r10 + distance]
                self.put_u32(distance as u32);
            }
            Err(_) => {
                self.constant(11, distance);
                self.put(&[0x49, 0x01, 0xcb]); // add r11, rcx
                self.put(&[0x47, 0x8b, 0x14, 0x93]); // mov r10d, [r11 + 4 * r10]
            }
        }
    }

    /// Misses if the name of the node is none.
    pub(crate) fn require_node(&mut self) {
        self.put(&[0x45, 0x85, 0xd2]); // test r10d, r10d
        self.miss_if(If::Equal);
    }

    /// Compares what is at `at` of the node with the field.
    pub(crate) fn compare_node_field(&mut self, width: Width, at: u8) {
        // cmp [rcx + 8 * r10 + at], r8
        self.put(match width {
            Width::Byte => &[0x46, 0x38],
            Width::Word => &[0x66, 0x46, 0x39],
            Width::Double => &[0x46, 0x39],
            Width::Quad => &[0x4e, 0x39],
        });
        self.put(&[0x44, 0xd1, at]);
    }

    /// Compares 8 bytes at `at` of the node with the constant.
    pub(crate) fn compare_node_constant(&mut self, at: u8) {
        self.put(&[0x4e, 0x39, 0x4c, 0xd1, at]); // cmp [rcx + 8 * r10 + at], r9
    }

    /// Node = the name at `at` of the node.
    pub(crate) fn follow(&mut self, at: u8) {
        self.put(&[0x46, 0x8b, 0x54, 0xd1, at]); // mov r10d, [rcx + 8 * r10 + at]
    }

    /// Jumps to the address at `at` of the node.
    pub(crate) fn jump_node(&mut self, at: u8) {
        self.put(&[0x42, 0xff, 0x64, 0xd1, at]); // jmp [rcx + 8 * r10 + at]
    }

    /// Calls the address at `at` of the node.
    pub(crate) fn call_node(&mut self, at: u8) {
        self.put(&[0x42, 0xff, 0x54, 0xd1, at]); // call [rcx + 8 * r10 + at]
    }

    // Results.

    /// Best = this, unless the best rank is no less.
    pub(crate) fn improve(&mut self, rank: u64, tag: u32) {
        self.constant(8, rank);
        self.put(&[0x4c, 0x39, 0xc2]); // cmp rdx, r8
        let skip = self.jump_if(If::NotBelow);
        self.put(&[0x4c, 0x89, 0xc2]); // mov rdx, r8
        self.answer(tag);
        self.land(skip);
    }

    /// edx = `rank`: the best so far.
    pub(crate) fn begin(&mut self, rank: u32) {
        self.put(&[0xba]);
        self.put_u32(rank);
    }

    /// eax = `number`.
    pub(crate) fn answer(&mut self, number: u32) {
        self.put(&[0xb8]);
        self.put_u32(number);
    }

    // Control.

    pub(crate) fn here(&self) -> Place {
        Place(self.length)
    }

    /// Jumps ahead, by at most 127 bytes, to where the place lands.
    pub(crate) fn jump_if(&mut self, condition: If) -> Place {
        self.put(&[0x70 | condition as u8, 0]);
        self.here()
    }

    /// The jump that ends at `from` leads here.
    pub(crate) fn land(&mut self, from: Place) {
        match (self.code.get_mut(from.0.wrapping_sub(1)), i8::try_from(self.length - from.0)) {
            (Some(place), Ok(distance)) => *place = distance as u8,
            _ => self.broken = true,
        }
    }

    /// Jumps back, by at most 126 bytes.
    pub(crate) fn jump_back(&mut self, to: Place) {
        let distance = to.0.wrapping_sub(self.length + 2);
        self.put(&[0xeb, distance as u8]);
    }

    /// A failed test.
    fn miss_if(&mut self, condition: If) {
        if let Miss::Behind(to) = self.miss {
            let distance = to.0.wrapping_sub(self.length + 6);
            self.put(&[0x0f, 0x80 | condition as u8]);
            return self.put_u32(distance as u32);
        }
        let from = self.jump_if(condition);
        if let Miss::Ahead(jumps) = &mut self.miss {
            match jumps.iter_mut().find(|jump| jump.is_none()) {
                Some(vacant) => *vacant = Some(from),
                None => self.broken = true,
            }
        }
    }

    /// Misses unless what was compared is equal.
    pub(crate) fn miss_if_different(&mut self) {
        self.miss_if(If::NotEqual);
    }

    /// Misses if what was compared is above.
    pub(crate) fn miss_if_above(&mut self) {
        self.miss_if(If::Above);
    }

    /// Misses if what was compared is below.
    pub(crate) fn miss_if_below(&mut self) {
        self.miss_if(If::Below);
    }

    /// Whether anything can have been missed.
    pub(crate) fn may_miss(&self) -> bool {
        matches!(self.miss, Miss::Ahead([Some(_), ..]))
    }

    /// What has been missed and will be missed leads here.
    pub(crate) fn land_misses(&mut self) {
        if let Miss::Ahead(jumps) = self.miss {
            jumps.into_iter().flatten().for_each(|jump| self.land(jump));
        }
        self.miss = Miss::Behind(self.here());
    }

    /// Four bytes from the end of an instruction of `length` bytes, put here, to `target`;
    /// `None` if it is too far.
    fn distance(&self, length: usize, target: u64) -> Option<[u8; 4]> {
        let end = self.origin.wrapping_add((self.length + length) as u64);
        let distance = i32::try_from(target.wrapping_sub(end) as i64).ok()?;
        Some(distance.to_le_bytes())
    }

    /// jmp `target`
    pub(crate) fn jump(&mut self, target: u64) {
        self.go(target, 0xe9, 0xe0);
    }

    /// call `target`
    pub(crate) fn call(&mut self, target: u64) {
        self.go(target, 0xe8, 0xd0);
    }

    fn go(&mut self, target: u64, near: u8, far: u8) {
        if let Some(distance) = self.distance(5, target) {
            self.put(&[near]);
            self.put(&distance);
        } else {
            self.constant(8, target);
            self.put(&[0x41, 0xff, far]);
        }
    }

    /// Jumps to `target` if what was compared is equal.
    pub(crate) fn jump_if_equal(&mut self, target: u64) {
        if let Some(distance) = self.distance(6, target) {
            self.put(&[0x0f, 0x80 | If::Equal as u8]);
            self.put(&distance);
        } else {
            let skip = self.jump_if(If::NotEqual);
            self.jump(target);
            self.land(skip);
        }
    }

    /// Goes on with `next`, or returns.
    pub(crate) fn leave(&mut self, next: Option<u64>) {
        match next {
            Some(next) => self.jump(next),
            None => self.put(&[0xc3]),
        }
    }
}
