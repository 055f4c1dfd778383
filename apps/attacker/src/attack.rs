//! What attacks are written with.

use alloc::string::{String, ToString};
use core::cell::Cell;
use core::fmt;
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

use exo_abi::boot::SELF;
use exo_abi::{EnvId, EnvState, EnvStatus, Error, Handle, MAX_CORES, SLOT_COUNT, VirtAddr};
use libos::runtime::Environment;
use selftest::child::{Child, Code, Maker};
use selftest::frames::Frames;
use selftest::random::Random;

use crate::nic::Nic;

/// An attack: what it is called, and what does it.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&mut Attacker) -> Attempt,
}

/// How an attack ends; an error if it could not even be made.
pub(crate) type Attempt = Result<Verdict, Error>;

/// What the kernel said, and whether that was a no.
pub(crate) struct Verdict {
    pub(crate) outcome: Outcome,
    answer: String,
}

/// What an attack has shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Repelled,
    Breach,
    /// Nothing: this machine, or this share of it, is not one where it can be made.
    NotTried,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answer = &self.answer;
        match self.outcome {
            Outcome::Repelled => write!(f, "kernel said {answer}: repelled"),
            Outcome::Breach => write!(f, "kernel said {answer}: BREACH"),
            Outcome::NotTried => write!(f, "not tried: {answer}"),
        }
    }
}

impl Verdict {
    fn new(outcome: Outcome, answer: impl ToString) -> Self {
        Self { outcome, answer: answer.to_string() }
    }

    pub(crate) fn repelled(answer: impl ToString) -> Self {
        Self::new(Outcome::Repelled, answer)
    }

    pub(crate) fn breach(answer: impl ToString) -> Self {
        Self::new(Outcome::Breach, answer)
    }

    /// For what is known before anything is tried, and only for that.
    pub(crate) fn not_tried(reason: impl ToString) -> Self {
        Self::new(Outcome::NotTried, reason)
    }

    pub(crate) fn is_repelled(&self) -> bool {
        self.outcome == Outcome::Repelled
    }

    /// The attack could not be made: that shows nothing, so it is no success.
    pub(crate) fn not_set_up(error: Error) -> Self {
        Self::breach(alloc::format!("{error} too early"))
    }

    /// Repelled if the call was refused for the reason `wanted`.
    pub(crate) fn refused(result: Result<u64, Error>, wanted: Error) -> Self {
        Self::refused_for(result, &[wanted])
    }

    /// Repelled if the call was refused for one of the reasons `wanted`.
    pub(crate) fn refused_for(result: Result<u64, Error>, wanted: &[Error]) -> Self {
        match result {
            Err(error) if wanted.contains(&error) => Self::repelled(error),
            Err(error) => Self::breach(alloc::format!("{error}, which says nothing")),
            Ok(value) => Self::breach(alloc::format!("yes ({value:#x})")),
        }
    }

    /// Repelled if every call was refused for one of the reasons `wanted`, and
    /// there was one.
    pub(crate) fn every(
        results: impl Iterator<Item = Result<u64, Error>>,
        wanted: &[Error],
    ) -> Self {
        let mut count = 0;
        let mut last = None;
        for result in results {
            let verdict = Self::refused_for(result, wanted);
            if !verdict.is_repelled() {
                return Self::breach(alloc::format!("{} at try {count}", verdict.answer));
            }
            count += 1;
            last = Some(verdict);
        }
        match last {
            Some(verdict) if count > 1 => {
                Self::repelled(alloc::format!("{}, {count} times", verdict.answer))
            }
            Some(verdict) => verdict,
            None => Self::breach("nothing: there was nothing to try"),
        }
    }

    /// Repelled if `unharmed` holds.
    pub(crate) fn harmless(unharmed: bool, answer: impl ToString) -> Self {
        if unharmed { Self::repelled(answer) } else { Self::breach(answer) }
    }

    /// Repelled if the environment died by one of the exceptions `vectors`.
    pub(crate) fn died(status: Option<EnvStatus>, vectors: &[u32]) -> Self {
        let Some(status) = status else { return Self::breach("nothing: the child lives") };
        match EnvState::from_u32(status.state) {
            Some(EnvState::Faulted) if vectors.contains(&status.vector) => {
                Self::repelled(alloc::format!("exception {}", status.vector))
            }
            Some(EnvState::Faulted) => {
                let EnvStatus { vector, rip, address, .. } = status;
                Self::breach(alloc::format!("exception {vector} at {rip:#x}, {address:#x}"))
            }
            Some(EnvState::Exited) => {
                Self::breach(alloc::format!("nothing: the child went on to {:#x}", status.code))
            }
            _ => Self::breach("a state that is no end"),
        }
    }
}

/// Ticks of patience with a child that should die at once.
pub(crate) const PATIENCE: u64 = 1 << 36;

/// The attacking environment.
pub(crate) struct Attacker {
    pub(crate) environment: Environment,
    pub(crate) maker: Maker,
    pub(crate) frames: Frames,
    pub(crate) random: Random,
    pub(crate) nic: Option<Nic>,
    window: Cell<u32>,
}

impl Attacker {
    pub(crate) fn new(environment: Environment) -> Result<Self, Error> {
        let maker = Maker::new(&environment)?;
        let frames = maker.frames;
        let mut attacker = Self {
            environment,
            maker,
            frames,
            random: Random::new(0x6578_6f73),
            nic: None,
            window: Cell::new(16),
        };
        attacker.nic = Nic::new(&attacker)?;
        Ok(attacker)
    }

    pub(crate) fn close(self) -> Result<(), Error> {
        self.maker.close()
    }

    /// Own id.
    pub(crate) fn id(&self) -> EnvId {
        self.environment.id
    }

    /// A page of address space that nothing uses yet, with page tables.
    pub(crate) fn window(&self) -> Result<VirtAddr, Error> {
        let index = self.window.get();
        self.window.set(index + 1);
        let at = selftest::frames::window(index);
        self.frames.cover(SELF, at)?;
        Ok(at)
    }

    /// Runs `code` in a child, and says whether it died by one of `vectors`.
    pub(crate) fn victim(&self, code: Code, argument: u64, vectors: &[u32]) -> Attempt {
        let status = self.maker.try_out(code, argument, PATIENCE)?;
        Ok(Verdict::died(status, vectors))
    }

    /// The same in a child that `prepare` has given something.
    pub(crate) fn prepared_victim(
        &self,
        prepare: impl FnOnce(&Child<'_>) -> Result<u64, Error>,
        code: Code,
        vectors: &[u32],
    ) -> Attempt {
        let child = self.maker.child()?;
        let argument = prepare(&child)?;
        child.start(code, argument)?;
        let status = child.wait(PATIENCE)?;
        child.destroy()?;
        Ok(Verdict::died(status, vectors))
    }

    /// Whether it has time slots on the processor `core`.
    pub(crate) fn has_slots_on(&self, core: usize) -> bool {
        let owners = self.environment.system.slots.owners.chunks(SLOT_COUNT).nth(core);
        let own = |owner: &AtomicU32| owner.load(Relaxed) == self.id().0;
        owners.is_some_and(|owners| owners.iter().any(own))
    }

    /// Whether all its time slots are on one processor, so that they can be counted in
    /// rounds of one slice vector.
    pub(crate) fn is_on_one_processor(&self) -> bool {
        (0..MAX_CORES).filter(|core| self.has_slots_on(*core)).count() == 1
    }

    /// The handles this environment was given or made, all of them.
    pub(crate) fn handles(&self) -> impl Iterator<Item = Handle> {
        let start = &self.environment.start;
        let binding = self.nic.as_ref().map(|nic| nic.binding);
        let peers = start.shares().flat_map(|share| share.peers);
        [Some(SELF), Some(start.frames), start.console, start.net, start.machine]
            .into_iter()
            .chain(start.disk.map(|(disk, _)| Some(disk)))
            .chain(start.key.map(|(keys, _)| Some(keys)))
            .chain([binding, self.maker.keeper()])
            .chain(peers)
            .flatten()
            .chain(self.entries())
    }

    /// Those of them that others gave it to call them by, whenever they did.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Handle> + use<> {
        self.environment.shares().flat_map(|share| {
            let sides = 0..share.sides();
            sides.filter_map(move |side| share.entry(side))
        })
    }

    /// A frame number of every kind the machine has that is not this environment's.
    pub(crate) fn foreign(&self) -> impl Iterator<Item = exo_abi::Pfn> {
        let (frames, id) = (self.frames, self.id());
        frames.all().filter(move |pfn| frames.look(*pfn).is_some_and(|(_, owner)| owner != id))
    }
}
