//! One filter as code, without anything around it.

use crate::assembler::{Assembler, If};
use crate::compile::test;
use crate::filter::{Filter, MIN_FRAME};
use crate::test::Test;

/// The most bytes of a [`Predicate`].
pub const PREDICATE: usize = 768;

/// One filter as a function of the System V ABI, `(frame: *const u8, length: usize) -> u32`:
/// 1 if a frame matches, or else 0. It can be executed anywhere.
#[derive(Clone, Copy)]
pub struct Predicate(Assembler<PREDICATE>);

impl Predicate {
    /// The code. What does not fit refuses every frame.
    pub fn bytes(&self) -> &[u8] {
        const REFUSE: &[u8] = &[0x31, 0xc0, 0xc3]; // xor eax, eax; ret
        if self.0.fits() { self.0.bytes() } else { REFUSE }
    }
}

/// Makes code that answers what [`Filter::matches`] does.
pub fn compile(filter: &Filter) -> Predicate {
    let mut code = Assembler::new(0);
    let mut ahead = filter.tests();
    // What is relative to one base needs as long a frame as the longest of it.
    let mut run_length = || {
        let mut length = 0;
        for step in ahead.by_ref() {
            length = step.length().max(length);
            if let Test::Shift { .. } = step {
                break;
            }
        }
        length
    };
    code.refuse_below(run_length().max(MIN_FRAME as u16));
    for step in filter.tests() {
        test(&mut code, step);
        if let Test::Shift { .. } = step {
            code.advance();
            let length = run_length();
            if length > 0 {
                code.require(length);
            }
        }
    }
    code.answer(1);
    code.leave(None);
    Predicate(code)
}

impl<const N: usize> Assembler<N> {
    /// Answers 0 to frames shorter than `length` bytes, and to all that will be missed.
    fn refuse_below(&mut self, length: u16) {
        self.put(&[0x31, 0xc0]); // xor eax, eax
        self.compare_left(length);
        let skip = self.jump_if(If::NotBelow);
        self.land_misses();
        self.leave(None);
        self.land(skip);
    }
}
