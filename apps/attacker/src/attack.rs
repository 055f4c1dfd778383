//! What attacks are written with.

use alloc::string::{String, ToString};
use core::cell::Cell;
use core::fmt;

use exo_abi::boot::SELF;
use exo_abi::{EnvId, EnvState, EnvStatus, Error, Handle, VirtAddr};
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
    pub(crate) repelled: bool,
    answer: String,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.answer, if self.repelled { "repelled" } else { "BREACH" })
    }
}

impl Verdict {
    pub(crate) fn repelled(answer: impl ToString) -> Self {
        Self { repelled: true, answer: answer.to_string() }
    }

    pub(crate) fn breach(answer: impl ToString) -> Self {
        Self { repelled: false, answer: answer.to_string() }
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
            if !verdict.repelled {
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
        Self { repelled: unharmed, answer: answer.to_string() }
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

    /// The handles this environment was given or made, all of them.
    pub(crate) fn handles(&self) -> impl Iterator<Item = Handle> {
        let start = &self.environment.start;
        let binding = self.nic.as_ref().map(|nic| nic.binding);
        [Some(SELF), Some(start.frames), start.console, start.net, start.machine]
            .into_iter()
            .chain([binding, self.maker.keeper()])
            .flatten()
    }

    /// A frame number of every kind the machine has that is not this environment's.
    pub(crate) fn foreign(&self) -> impl Iterator<Item = exo_abi::Pfn> {
        let (frames, id) = (self.frames, self.id());
        frames.all().filter(move |pfn| frames.look(*pfn).is_some_and(|(_, owner)| owner != id))
    }
}
