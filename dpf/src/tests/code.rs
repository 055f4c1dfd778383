//! Code that is no good is not code.

use crate::assembler::{Assembler, If};

#[test]
fn a_jump_that_would_lead_nowhere_refuses() {
    let misses = |count: usize| {
        let mut code = Assembler::<128>::new(0);
        (0..count).for_each(|_| code.require(20));
        code.land_misses();
        code.leave(None);
        code
    };
    assert!(misses(3).fits() && !misses(3).bytes().is_empty());
    // The fourth jump ahead to a miss has no place among those that are completed.
    assert!(!misses(4).fits() && misses(4).bytes().is_empty());
    let skipping = |instructions: usize| {
        let mut code = Assembler::<256>::new(0);
        let skip = code.jump_if(If::Equal);
        (0..instructions).for_each(|_| code.save_base());
        code.land(skip);
        code
    };
    assert!(skipping(63).fits());
    // Further than a short jump reaches.
    assert!(!skipping(64).fits() && skipping(64).bytes().is_empty());
}

#[test]
fn code_that_does_not_fit_refuses() {
    let mut code = Assembler::<8>::new(0);
    code.require(20);
    assert!(code.fits());
    code.require(20);
    assert!(!code.fits() && code.bytes().is_empty());
}
