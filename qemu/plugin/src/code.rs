//! Which program a block of code belongs to.
//!
//! Several programs lie at the same virtual addresses, and a plugin sees no page
//! tables. What it sees is the code: a block belongs to the one program that has
//! these bytes at this address. Programs may agree on a few bytes, so it is
//! remembered which program a page of physical memory was found to hold, and that
//! decides where the bytes do not.

use std::collections::HashMap;

use crate::layout::{AMBIGUOUS, NEUTRAL, Place, Section, UNKNOWN};

/// The programs, and what has been learned about memory.
pub(crate) struct Code {
    sections: Vec<Section>,
    /// Section found in each page of physical memory, by some address of the page.
    pages: HashMap<usize, usize>,
}

/// A block's place among the sections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Home {
    Unknown,
    Ambiguous,
    Section(usize),
}

impl Code {
    pub(crate) fn new(sections: Vec<Section>) -> Self {
        Self { sections, pages: HashMap::new() }
    }

    /// Where code belongs that consists of `instructions`, each with its virtual
    /// address and bytes. The first of them is in the page of physical memory that
    /// `page` names, one way or another; zero names none.
    pub(crate) fn home(&mut self, page: usize, instructions: &[(u64, &[u8])]) -> Home {
        let mut fitting =
            (0..self.sections.len()).filter(|&index| self.sections[index].holds(instructions));
        match (fitting.next(), fitting.next()) {
            (None, _) => Home::Unknown,
            (Some(index), None) => {
                if page != 0 {
                    self.pages.insert(page, index);
                }
                Home::Section(index)
            }
            (Some(_), Some(_)) => {
                let known = self.pages.get(&page);
                let fitting = known.filter(|&&index| self.sections[index].holds(instructions));
                fitting.map_or(Home::Ambiguous, |&index| Home::Section(index))
            }
        }
    }

    /// How to count the instruction at `address` of such code.
    pub(crate) fn place(&self, home: Home, address: u64) -> Place {
        match home {
            Home::Unknown => Place::new(UNKNOWN, NEUTRAL),
            Home::Ambiguous => Place::new(AMBIGUOUS, NEUTRAL),
            Home::Section(index) => {
                let place = self.sections.get(index).and_then(|section| {
                    let offset = address.checked_sub(section.address)?;
                    section.places.get(usize::try_from(offset).ok()?).copied()
                });
                place.unwrap_or(Place::new(UNKNOWN, NEUTRAL))
            }
        }
    }
}

impl Section {
    fn holds(&self, instructions: &[(u64, &[u8])]) -> bool {
        instructions.iter().all(|(address, bytes)| {
            let offset = address.checked_sub(self.address).and_then(|at| usize::try_from(at).ok());
            let here = offset.and_then(|offset| self.code.get(offset..));
            here.is_some_and(|here| here.starts_with(bytes))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(address: u64, code: &[u8], function: u32) -> Section {
        let places = (0..code.len()).map(|_| Place::new(function, 1)).collect();
        Section { address, code: code.to_vec(), places }
    }

    #[test]
    fn bytes_decide_and_pages_remember() {
        let mut code = Code::new(vec![
            section(0x1000, &[0x55, 0x90, 0x01], 7),
            section(0x1000, &[0x55, 0x90, 0x02], 8),
            section(0x8000, &[0xf4], 9),
        ]);
        let same: &[(u64, &[u8])] = &[(0x1000, &[0x55]), (0x1001, &[0x90])];
        assert_eq!(code.home(1, same), Home::Ambiguous);
        assert_eq!(code.home(1, &[(0x1001, &[0x90, 0x02])]), Home::Section(1));
        assert_eq!(code.home(2, &[(0x1002, &[0x01])]), Home::Section(0));
        assert_eq!(code.home(1, same), Home::Section(1));
        assert_eq!(code.home(2, same), Home::Section(0));
        assert_eq!(code.home(0, same), Home::Ambiguous, "no page, no memory");
        assert_eq!(code.place(Home::Section(1), 0x1002).function(), 8);
        // Memory that was given to another program since.
        assert_eq!(code.home(1, &[(0x1002, &[0x01])]), Home::Section(0));
        assert_eq!(code.home(1, same), Home::Section(0));
    }

    #[test]
    fn other_code_is_unknown() {
        let mut code = Code::new(vec![section(0x8000, &[0xf4, 0x90], 9)]);
        for strange in [
            (0x8000_u64, &[0x90_u8][..]),
            (0x7fff, &[0xf4]),
            (0x8001, &[0x90, 0x90]),
            (0x8002, &[0x90]),
            (u64::MAX, &[0xf4]),
        ] {
            assert_eq!(code.home(3, &[strange]), Home::Unknown, "{strange:x?}");
        }
        assert_eq!(code.home(3, &[(0x8000, &[0xf4])]), Home::Section(0));
        assert_eq!(code.place(Home::Unknown, 0x8000), Place::new(UNKNOWN, NEUTRAL));
        assert_eq!(code.place(Home::Section(0), 0x9000), Place::new(UNKNOWN, NEUTRAL));
    }
}
