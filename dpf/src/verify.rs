//! Which descriptions become a [`Filter`], and how they are made canonical.
//!
//! Everything an application can get wrong is found here, once, before the
//! filter is installed; nothing after this module re-checks a filter.

use crate::error::errors;
use crate::language::{Atom, Filter, MAX_ATOMS, MAX_FRAME, MIN_FRAME, Test, WINDOW};

errors! {
    /// Why a description is not a filter. The numbers are part of the binary interface.
    pub enum FilterError {
        NoAtoms = 1: "filter has no atoms and would take every frame",
        TooManyAtoms = 2: "filter has more than 16 atoms",
        Width = 3: "atom width is not 1, 2, 4 or 8 bytes",
        BeyondFrame = 4: "atom ends beyond the longest frame, 1514 bytes",
        EmptyMask = 5: "atom mask is zero",
        StrayBits = 6: "atom has mask bits outside its field or value bits outside its mask",
        Contradiction = 7: "two atoms ask for different values of one bit",
        Version = 8: "filter wire form has an unknown version",
        Length = 9: "filter wire form is not as long as its atom count says",
    }
}

impl Filter {
    /// Verifies `atoms`, in any order, and brings them to canonical form.
    ///
    /// Atoms that say the same thing twice are merged. Errors: all of
    /// [`FilterError`] but `Version` and `Length`.
    /// **Trust**: the atoms may be hostile. **Cost**: bounded by [`MAX_ATOMS`] squared.
    pub fn new(atoms: &[Atom]) -> Result<Self, FilterError> {
        Self::verify(atoms.iter().copied())
    }

    /// [`Filter::new`] for atoms that are still being decoded or computed.
    pub(crate) fn verify(atoms: impl Iterator<Item = Atom>) -> Result<Self, FilterError> {
        let mut tests = [Test::VACANT; MAX_ATOMS];
        let mut count = 0;
        for atom in atoms {
            let slot = tests.get_mut(count).ok_or(FilterError::TooManyAtoms)?;
            *slot = check(&atom)?;
            count += 1;
        }
        if count == 0 {
            return Err(FilterError::NoAtoms);
        }
        let tests = tests.get_mut(..count).unwrap_or_default();
        // Each atom pins bits to constants, so if no pair disagrees, none do.
        let mut earlier = tests.iter();
        while let Some(test) = earlier.next_back() {
            if earlier.clone().any(|other| test.contradicts(other)) {
                return Err(FilterError::Contradiction);
            }
        }
        Ok(canonical(tests))
    }
}

/// One atom on its own.
fn check(atom: &Atom) -> Result<Test, FilterError> {
    if !matches!(atom.width, 1 | 2 | 4 | 8) {
        return Err(FilterError::Width);
    }
    if usize::from(atom.offset) + usize::from(atom.width) > MAX_FRAME {
        return Err(FilterError::BeyondFrame);
    }
    if atom.mask == 0 {
        return Err(FilterError::EmptyMask);
    }
    if atom.mask & !Atom::field(atom.width) != 0 || atom.value & !atom.mask != 0 {
        return Err(FilterError::StrayBits);
    }
    Ok(Test::of(atom))
}

/// The one form of these tests: see the module `language`.
///
/// The result never needs more windows than it was given. Covering points with
/// intervals of one length greedily from one end is optimal, and the tests given
/// are such a cover. If the first window is placed by length and not by the last
/// pinned byte, it is the window of the test that reaches furthest, which is part
/// of that cover.
fn canonical(rest: &mut [Test]) -> Filter {
    let mut windows = [Test::VACANT; MAX_ATOMS];
    let mut count = 0;
    let reach = rest.iter().map(Test::end).max().filter(|&end| end > MIN_FRAME);
    let mut end = reach.or_else(|| pinned_end(rest));
    for slot in windows.iter_mut().rev() {
        let Some(last) = end else { break };
        *slot = take_window(rest, last.saturating_sub(WINDOW) as u16);
        count += 1;
        end = pinned_end(rest);
    }
    windows.rotate_left(MAX_ATOMS - count);
    Filter::from_canonical(windows, count as u8)
}

/// One past the last byte that any of `tests` pins.
fn pinned_end(tests: &[Test]) -> Option<usize> {
    tests.iter().filter_map(Test::pinned_end).max()
}

/// Moves all bits pinned in the window at `at` out of `tests`, into one test.
fn take_window(tests: &mut [Test], at: u16) -> Test {
    let mut window = Test { at, mask: 0, value: 0 };
    let whole = Test { at, mask: u64::MAX, value: 0 };
    for test in tests {
        let (mask, value) = test.seen_at(at);
        window.mask |= mask;
        window.value |= value;
        test.mask &= !whole.seen_at(test.at).0;
        test.value &= test.mask;
    }
    window
}
