//! What an emulator lets ring 3 do although the architecture (SDM vol. 2) forbids it. No kernel
//! can refuse what it is never asked, so this is no breach of the kernel; nor may it hide one.
//! Known by version and by attempt of `cargo exo attack`, each seen with that very version.

use super::emulator::Emulator;

/// One version's leniency.
struct Lenience {
    version: (u32, u32),
    /// Names of the attempts, as the attacker gives them.
    attempts: &'static [&'static str],
    what: &'static str,
}

const LENIENCES: [Lenience; 1] = [Lenience {
    version: (10, 0),
    attempts: &["throw the caches away", "write the caches back"],
    what: "does not ask for ring 0 before INVD and WBINVD, which do nothing in it; its \
           version 7.2 asks",
}];

impl Emulator {
    /// What this version lets ring 3 do of `attempt`, if that is known.
    #[must_use]
    pub fn lenience(&self, attempt: &str) -> Option<&'static str> {
        lenience(self.version(), attempt)
    }
}

fn lenience(version: (u32, u32), attempt: &str) -> Option<&'static str> {
    let known = |one: &&Lenience| one.version == version && one.attempts.contains(&attempt);
    LENIENCES.iter().find(known).map(|one| one.what)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An attempt is excused for the version it was seen with, and for no other; no other
    /// attempt is.
    #[test]
    fn known_by_version_and_attempt() {
        assert!(lenience((10, 0), "write the caches back").is_some());
        assert_eq!(lenience((7, 2), "write the caches back"), None);
        assert_eq!(lenience((10, 1), "write the caches back"), None, "not seen there");
        assert_eq!(lenience((10, 0), "map frame 0"), None);
    }

    /// What is excused is still attempted: the names are the attacker's.
    #[test]
    fn the_attacker_makes_these_attempts() {
        let source = crate::workspace::root().join("apps/attacker/src/instructions.rs");
        let source = std::fs::read_to_string(source).unwrap();
        for attempt in LENIENCES.iter().flat_map(|one| one.attempts) {
            assert!(source.contains(&format!("\"{attempt}\"")), "{attempt}");
        }
    }
}
