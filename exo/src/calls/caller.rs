//! A caller: what each handler gets, and what it gives back.

use exo_abi::{EnvState, Error, Handle, Pfn, Rights, UserPtr, Word};

use crate::capability::{self, CapRef, Kind, Object, Slot};
use crate::env::Env;
use crate::env::transfer::Switch;
use crate::kernel::Kernel;
use crate::object::{self, KernelObject};
use crate::user::UserSlice;
use crate::work::Work;

/// How a call ends.
#[derive(Clone, Copy)]
pub enum Reply {
    /// The caller goes on with this.
    Done(Result<u64, Error>),
    /// It was refused, and goes on with what explains that.
    Refused(Error, u64),
    /// The caller goes on with this value, but not the way it came: in another ring.
    Resume(u64),
    /// The caller stays ready, but others are to run first.
    Yield,
    /// The caller goes on with this when it is its turn again; the rest of its slice is another's.
    Aside(Error),
    /// The caller sleeps or has ended; others run.
    Stop,
    /// The activity that called is over, and no caller waits for it.
    Over,
    /// The processor goes on in another environment at once.
    Switch(Leaving, Switch),
    /// The machine is to be powered off with this code.
    PowerOff(u8),
}

/// What becomes of the caller in a [`Reply::Switch`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// It waits for a reply.
    Waits,
    /// It goes on when it is its turn.
    Ready,
    /// Its activity is over.
    Over,
}

impl From<Result<u64, Error>> for Reply {
    fn from(result: Result<u64, Error>) -> Self {
        Self::Done(result)
    }
}

impl From<Result<(), Error>> for Reply {
    fn from(result: Result<(), Error>) -> Self {
        Self::Done(result.map(|()| 0))
    }
}

/// Of what might find a scope in the way, and then names its frame.
impl From<Result<Result<u64, Pfn>, Error>> for Reply {
    fn from(result: Result<Result<u64, Pfn>, Error>) -> Self {
        match result {
            Ok(Err(pfn)) => Self::Refused(Error::FilterConflict, pfn.into_word()),
            Ok(Ok(value)) => Self::Done(Ok(value)),
            Err(error) => Self::Done(Err(error)),
        }
    }
}

/// A caller and the kernel: what every handler gets.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// The kernel.
    pub kernel: &'a Kernel,
    /// The calling environment.
    pub env: &'static Env,
}

impl<'a> Caller<'a> {
    /// What this entry may still do.
    #[inline]
    pub(crate) fn work(&self) -> &'a Work {
        &self.kernel.here().work
    }

    /// Copies `length` bytes at `from` in the caller's memory to the front of
    /// `buffer`, and returns them.
    pub(super) fn copy_in<'b>(
        &self,
        from: UserPtr,
        length: u64,
        buffer: &'b mut [u8],
    ) -> Result<&'b [u8], Error> {
        let length = usize::try_from(length).map_err(|_| Error::TooMuch)?;
        let target = buffer.get_mut(..length).ok_or(Error::TooMuch)?;
        UserSlice::new(self.env.root_table.get(), from).copy_in(&self.kernel.frames, target)?;
        Ok(target)
    }

    /// The object behind a capability of kind `kind` with `needed` rights, and its slot.
    #[inline(always)]
    pub(super) fn object<T: KernelObject>(
        &self,
        handle: Handle,
        kind: Kind,
        needed: Rights,
    ) -> Result<(&'static T, &'static Slot), Error> {
        let frames = &self.kernel.frames;
        let (_, slot) = capability::occupied(frames, &self.env.capabilities, handle)?;
        let named = slot.names(kind, frames).ok_or(Error::BadHandle)?;
        if slot.rights().allows(needed) { Ok((named, slot)) } else { Err(Error::NoRight) }
    }

    /// The environment behind a handle of the caller.
    pub(super) fn env_with(&self, handle: Handle, needed: Rights) -> Result<&'static Env, Error> {
        let frames = &self.kernel.frames;
        let (_, slot) = self.env.lookup(frames, handle, needed)?;
        let object = slot.object();
        if object.kind != Kind::Env {
            return Err(Error::BadHandle);
        }
        object::get(frames, Pfn(object.first)).ok_or(Error::BadHandle)
    }

    /// Like [`Caller::env_with`], for one that is still whole: nothing may be
    /// given to an environment that is being taken apart.
    pub(super) fn live_env_with(
        &self,
        handle: Handle,
        needed: Rights,
    ) -> Result<&'static Env, Error> {
        let env = self.env_with(handle, needed)?;
        if env.state() == EnvState::Dying {
            return Err(Error::WrongState);
        }
        Ok(env)
    }

    /// The object in frame `pfn`, for which the caller pays.
    pub(super) fn own_object<T: KernelObject>(&self, pfn: Pfn) -> Result<&'static T, Error> {
        let frames = &self.kernel.frames;
        let own = frames.owner(pfn) == Some(self.env.id());
        object::get(frames, pfn).filter(|_| own).ok_or(Error::NotOwned)
    }

    /// Puts a capability, derived from `parent`, into the table of `holder`. What the call
    /// returns: its handle there.
    pub(super) fn put(
        &self,
        holder: &Env,
        object: Object,
        rights: Rights,
        parent: CapRef,
    ) -> Result<u64, Error> {
        capability::insert(&self.kernel.frames, &holder.capabilities, object, rights, parent)
            .map(Word::into_word)
    }

    /// Makes sure that the capability a call returns, derived from `parent`, will find a
    /// place.
    pub(super) fn check_room(&self, parent: CapRef) -> Result<(), Error> {
        if self.env.capabilities.is_full() {
            return Err(Error::TableFull);
        }
        capability::check_parent(&self.kernel.frames, parent)
    }
}
