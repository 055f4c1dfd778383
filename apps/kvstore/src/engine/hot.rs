//! Which keys are read most: a sketch of bounded size.
//!
//! One read in [`EVERY`], at random, is looked at. Of those, the *space-saving* algorithm
//! (Metwally, Agrawal, El Abbadi, ICDT 2005) counts [`PLACES`] keys: one that has no place takes
//! that of the key with the lowest count and goes on from there, so that a count is never too low,
//! and too high by at most what was taken over, which is noted. So each key with more
//! than a 32nd of the reads has a place. After [`SPAN`] looks all counts are halved: what was
//! popular once is forgotten.
//!
//! Place on the packet path: step 5, in each read; shown by `stats hotkeys`.
//!
//! **Cost.** A read counts down a number. A look hashes the key and compares it with those of all
//! places.

use super::Engine;
use super::chance::Chance;
use super::item::ItemRef;
use super::key::Key;

/// How many keys are counted.
pub(super) const PLACES: usize = 32;

/// Of so many reads one is looked at, in the mean.
const EVERY: u32 = 64;

/// Looks after which counts are halved.
const SPAN: u32 = 1 << 16;

/// Bytes of a place: count, what was taken over, hash, length of the key, key.
const PLACE: usize = 4 + 4 + 4 + 1 + Key::MAX_LEN;

/// Bytes of the sketch.
pub(super) const HOT: usize = PLACES * PLACE;

/// A key that is read often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HotKey<'e> {
    /// The key.
    pub key: &'e [u8],
    /// How many reads of it there were lately, about.
    pub reads: u64,
    /// How many there were at least, as far as it was not another's place.
    pub least: u64,
}

/// The sketch, in memory of the store's bound.
pub(super) struct HotKeys<'m> {
    places: &'m mut [[u8; PLACE]],
    /// Reads until the next look.
    left: u32,
    /// Looks since counts were halved.
    looks: u32,
    chance: Chance,
}

impl<'m> HotKeys<'m> {
    /// With [`HOT`] bytes of `memory`.
    pub(super) fn new(memory: &'m mut [u8]) -> Self {
        let places = memory.as_chunks_mut().0;
        places.fill([0; PLACE]);
        Self { places, left: 1, looks: 0, chance: Chance::new() }
    }

    /// Whether this read is to be looked at.
    #[inline(always)]
    fn is_due(&mut self) -> bool {
        self.left -= 1;
        self.left == 0
    }

    /// A key with this hash was read; the next look is some reads later.
    fn look(&mut self, hash: u32, key: &[u8]) {
        self.left = 1 + self.chance.next() % (2 * EVERY - 1);
        self.looks += 1;
        if self.looks == SPAN {
            self.looks = 0;
            for place in self.places.iter_mut() {
                let (count, over) = (count(place) / 2, over(place) / 2);
                set_counts(place, count, over);
            }
        }
        let mine =
            |place: &&mut [u8; PLACE]| place[8..12] == hash.to_le_bytes() && key_in(place) == key;
        if let Some(place) = self.places.iter_mut().find(mine) {
            let (count, over) = (count(place), over(place));
            return set_counts(place, count + 1, over);
        }
        let Some(place) = self.places.iter_mut().min_by_key(|place| count(place)) else { return };
        let taken = count(place);
        set_counts(place, taken + 1, taken);
        place[8..12].copy_from_slice(&hash.to_le_bytes());
        place[12] = key.len() as u8;
        place[13..13 + key.len()].copy_from_slice(key);
    }

    /// The key with the highest count but `rank` others.
    fn ranked(&self, rank: usize) -> Option<HotKey<'_>> {
        let before = |a: usize, b: usize| {
            let (of_a, of_b) = (count(&self.places[a]), count(&self.places[b]));
            of_a > of_b || (of_a == of_b && a < b)
        };
        let numbers = 0..self.places.len();
        let place = numbers
            .clone()
            .find(|&n| numbers.clone().filter(|&other| before(other, n)).count() == rank)?;
        let place = &self.places[place];
        let reads = |looks: u32| u64::from(looks) * u64::from(EVERY);
        let (count, over) = (count(place), over(place));
        let hot = HotKey { key: key_in(place), reads: reads(count), least: reads(count - over) };
        (count > 0).then_some(hot)
    }
}

fn word(place: &[u8; PLACE], at: usize) -> u32 {
    u32::from_le_bytes([place[at], place[at + 1], place[at + 2], place[at + 3]])
}

fn count(place: &[u8; PLACE]) -> u32 {
    word(place, 0)
}

fn over(place: &[u8; PLACE]) -> u32 {
    word(place, 4)
}

fn set_counts(place: &mut [u8; PLACE], count: u32, over: u32) {
    place[..4].copy_from_slice(&count.to_le_bytes());
    place[4..8].copy_from_slice(&over.to_le_bytes());
}

fn key_in(place: &[u8; PLACE]) -> &[u8] {
    &place[13..13 + usize::from(place[12])]
}

impl Engine<'_> {
    /// A client reads an item: its key may be counted.
    #[inline(always)]
    pub(super) fn count_read(&mut self, item: ItemRef) {
        if self.hot.is_due() {
            self.look_at_read(item);
        }
    }

    #[cold]
    #[inline(never)]
    fn look_at_read(&mut self, item: ItemRef) {
        let hash = self.hash_of(item);
        self.hot.look(hash, self.heap.link(item).1);
    }

    /// Of the keys that are read most, the one after `rank` others. Those that cannot stand in a
    /// line have a place, too.
    #[must_use]
    pub fn hot_key(&self, rank: usize) -> Option<HotKey<'_>> {
        self.hot.ranked(rank)
    }

    /// Forgets which keys are read.
    pub fn forget_hot_keys(&mut self) {
        self.hot.places.fill([0; PLACE]);
        self.hot.looks = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Expiry, Mode, Stored};
    use super::*;
    use std::format;
    use std::vec;

    #[test]
    fn popular_keys_are_told_among_many_others() {
        let mut memory = vec![0xa5; 4 << 20];
        let mut engine = Engine::new(&mut memory, &Config::default()).unwrap();
        let name = |n: u32| format!("key-{n}");
        for n in 0..5000 {
            let (key, value) = (name(n), b"v");
            let key = Key::new(key.as_bytes()).unwrap();
            assert_eq!(engine.store(Mode::Set, key, 0, Expiry::NEVER, value), Stored::Stored);
        }
        // One read in four is of key 7, one in eight of key 9, the rest of all in turn.
        let reads = 400_000_u32;
        for n in 0..reads {
            let number = match n % 8 {
                0 | 4 => 7,
                2 => 9,
                _ => n % 5000,
            };
            engine.get(Key::new(name(number).as_bytes()).unwrap()).unwrap();
        }
        let [first, second, third] = [0, 1, 2].map(|rank| engine.hot_key(rank).unwrap());
        assert_eq!((first.key, second.key), (&b"key-7"[..], &b"key-9"[..]));
        let near = |hot: HotKey<'_>, real: u32| {
            let real = u64::from(real);
            assert!(hot.reads * 10 > real * 9 && hot.least * 10 < real * 11, "{hot:?}, {real}");
            assert!(hot.least <= hot.reads);
        };
        near(first, reads / 4);
        near(second, reads / 8);
        // Beyond them all are alike, and what is known of them is little.
        assert!(third.least < second.least / 10, "{third:?}");
        assert!(engine.hot_key(PLACES - 1).is_some() && engine.hot_key(PLACES).is_none());
        engine.forget_hot_keys();
        assert_eq!(engine.hot_key(0), None);
    }

    #[test]
    fn what_was_popular_is_forgotten() {
        let mut memory = vec![0xa5; HOT];
        let mut hot = HotKeys::new(&mut memory);
        (0..SPAN).for_each(|_| hot.look(1, b"old"));
        for n in 0..8 * SPAN {
            if n % 2 == 0 { hot.look(2, b"new") } else { hot.look(n | 1 << 31, &n.to_le_bytes()) }
        }
        assert_eq!(hot.ranked(0).unwrap().key, b"new");
        let old = (0..PLACES).find(|&rank| hot.ranked(rank).is_some_and(|hot| hot.key == b"old"));
        assert_eq!(old, None);
    }
}
