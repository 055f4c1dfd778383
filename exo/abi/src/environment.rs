//! Environments as ring 3 sees them: id, U-area, state and cause of death.

use core::sync::atomic::{AtomicU32, AtomicU64};

use crate::elevation::ElevationArea;
use crate::numbered;
use crate::upcall::{EventRing, Revocation, UpcallArea};
use crate::word::word;

/// Names an environment in the frame table and in reports: the number of the
/// frame that holds its kernel object. It conveys no authority. By default none.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(transparent)]
pub struct EnvId(pub u32);

impl EnvId {
    /// No environment: none lies in frame 0.
    pub const NONE: Self = Self(0);
}

/// How many events an environment has had: packets delivered, children ended.
/// `wait` takes the last count seen and returns at once if it has moved, so no
/// event can slip in between looking and sleeping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct EventCount(pub u64);

word!(EventCount: |word| Ok(Self(word)), |count| count.0);

/// Bytes of the U-area that belong to creator and application.
pub const START_BLOCK_BYTES: usize = 2048;

/// The page an environment shares with the kernel.
///
/// Most words the kernel writes and never reads. Those by which the environment
/// tells the kernel what it asks for may hold anything at any time: they decide what
/// happens to the environment itself, and nothing else. In the second half the creator of an
/// environment tells it what it was given.
#[repr(C, align(4096))]
pub struct UArea {
    /// The environment's own [`EnvId`].
    pub id: AtomicU32,
    /// Frame of [`crate::SystemInfo`]; every environment may map it, read-only.
    pub system_info: AtomicU32,
    /// The environment's [`EventCount`], kept current by the kernel.
    pub events: AtomicU64,
    /// How the kernel calls the environment.
    pub upcall: UpcallArea,
    /// What was rung at its doorbells.
    pub ring: EventRing,
    /// What is wanted back, and what was taken.
    pub revocation: Revocation,
    /// Not zero: capabilities that come with protected calls and replies are welcome.
    /// Written by the application.
    pub grants: AtomicU64,
    /// Running in ring 0.
    pub elevation: ElevationArea,
    reserved: [u64; 151],
    /// Start block: written by the creator before the start.
    pub start: [u8; START_BLOCK_BYTES],
}

numbered! {
    from_u32;
    /// What an environment is doing.
    pub enum EnvState: u32 {
        /// Created, not yet started.
        New = 0,
        /// Running, or ready to run.
        Ready = 1,
        /// Asleep in `wait`.
        Waiting = 2,
        /// Ended itself with `exit`.
        Exited = 3,
        /// Ended by the kernel for a processor exception.
        Faulted = 4,
        /// Being destroyed.
        Dying = 5,
        /// In a protected call: its server runs in its slots.
        Calling = 6,
    }
}

/// Return addresses kept of an environment that faulted.
pub const BACKTRACE_DEPTH: usize = 16;

/// What `env_status` reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct EnvStatus {
    /// [`EnvState`] as a number.
    pub state: u32,
    /// Exception vector (Intel SDM vol. 3, table 6-1), if it faulted.
    pub vector: u32,
    /// Exit code, if it exited; a page fault's error code, if it faulted by one.
    pub code: u64,
    /// Instruction pointer at the fault.
    pub rip: u64,
    /// Stack pointer at the fault.
    pub rsp: u64,
    /// Faulting address (`cr2`), for a page fault.
    pub address: u64,
    /// Return addresses by the frame-pointer chain, innermost first, zero
    /// padded. Gathered from the environment's own memory: a hint.
    pub backtrace: [u64; BACKTRACE_DEPTH],
}

impl EnvStatus {
    /// Status as `env_status` writes it: little-endian words in field order.
    pub const BYTES: usize = 8 + 8 * (4 + BACKTRACE_DEPTH);

    /// A status in which nothing has happened yet.
    pub const NEW: Self = Self {
        state: EnvState::New as u32,
        vector: 0,
        code: 0,
        rip: 0,
        rsp: 0,
        address: 0,
        backtrace: [0; BACKTRACE_DEPTH],
    };

    /// The bytes that cross the boundary.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let (head, words) = bytes.split_at_mut(8);
        head[..4].copy_from_slice(&self.state.to_le_bytes());
        head[4..].copy_from_slice(&self.vector.to_le_bytes());
        let fields = [self.code, self.rip, self.rsp, self.address];
        let values = fields.iter().chain(&self.backtrace);
        for (chunk, value) in words.chunks_exact_mut(8).zip(values) {
            chunk.copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    /// The status in `bytes`.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let word = |index: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[index * 8..index * 8 + 8]);
            u64::from_le_bytes(word)
        };
        Self {
            state: word(0) as u32,
            vector: (word(0) >> 32) as u32,
            code: word(1),
            rip: word(2),
            rsp: word(3),
            address: word(4),
            backtrace: core::array::from_fn(|i| word(5 + i)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BACKTRACE_DEPTH, EnvStatus, UArea};

    #[test]
    fn u_area_is_one_page() {
        assert_eq!(size_of::<UArea>(), 4096);
        assert_eq!(core::mem::offset_of!(UArea, start), 2048);
    }

    #[test]
    fn status_round_trips() {
        let status = EnvStatus {
            state: 4,
            vector: 14,
            code: 7,
            rip: 0x40_1000,
            rsp: 0x7fff_0000,
            address: 0xdead,
            backtrace: core::array::from_fn(|i| i as u64 * 3 + 1),
        };
        assert_eq!(EnvStatus::from_bytes(&status.to_bytes()), status);
        assert_eq!(status.backtrace.len(), BACKTRACE_DEPTH);
    }
}
