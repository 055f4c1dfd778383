//! What can be asked, and how an answer is compared.
//!
//! A request names capabilities by the specification's names, not by handles:
//! which number a handle is, is the kernel's affair, and the comparison only
//! demands that it is a new one.
//!
//! A request may be wrong in several ways at once. The documents do not say which
//! of the true reasons the kernel gives, so the specification gives all, and the
//! kernel must give one of them; and if there is none it must do what was asked.

use exo_abi::{Error, Protection, Rights};

use super::world::{CapName, EnvName, Frame};

/// A call with its arguments.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Call {
    Derive { source: CapName, rights: Rights, first: u32, count: u32 },
    Grant { cap: CapName, env: CapName },
    Revoke { cap: CapName },
    Drop { cap: CapName },
    Grow { frame: Frame },
    Take { frames: CapName, env: CapName, first: Frame, count: u32 },
    Free { first: Frame, count: u32 },
    Install { env: CapName, page: u64, level: u8, frame: Frame },
    Remove { env: CapName, page: u64, level: u8 },
    Map { space: CapName, owner: CapName, first: Frame, page: u64, count: u32, how: Protection },
    Unmap { space: CapName, page: u64, count: u32 },
    Guard { env: CapName },
    Admit { env: CapName, frame: Frame },
    MapKeyed { space: CapName, owner: CapName, frame: Frame, page: u64, how: Protection, key: u32 },
    Create { parts: [Frame; 4] },
    Destroy { env: CapName },
    Assign { slots: CapName, first: u32, count: u32, env: CapName },
    Bind { net: CapName, first: Frame, order: u8, object: Frame },
    Unbind { binding: CapName },
    Attach { binding: CapName, filter: usize, object: Frame, code: Frame },
    Detach { binding: CapName, object: Frame },
    Scope { net: CapName, key: usize, object: Frame, code: Frame },
    Unscope { object: Frame },
    DiskBind { disk: CapName, ring: Frame, object: Frame },
    DiskUnbind { object: Frame },
}

impl Call {
    /// Its name in the table of system calls.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Derive { .. } => "cap_derive",
            Self::Grant { .. } => "cap_grant",
            Self::Revoke { .. } => "cap_revoke",
            Self::Drop { .. } => "cap_drop",
            Self::Grow { .. } => "cap_grow",
            Self::Take { .. } => "frames_take",
            Self::Free { .. } => "frames_free",
            Self::Install { .. } => "table_install",
            Self::Remove { .. } => "table_remove",
            Self::Map { .. } => "map",
            Self::Unmap { .. } => "unmap",
            Self::Guard { .. } => "env_guard",
            Self::Admit { .. } => "code_admit",
            Self::MapKeyed { .. } => "map_keyed",
            Self::Create { .. } => "env_create",
            Self::Destroy { .. } => "env_destroy",
            Self::Assign { .. } => "slots_assign",
            Self::Bind { .. } => "net_bind",
            Self::Unbind { .. } => "net_unbind",
            Self::Attach { .. } => "filter_install",
            Self::Detach { .. } => "filter_remove",
            Self::Scope { .. } => "net_scope",
            Self::Unscope { .. } => "net_unscope",
            Self::DiskBind { .. } => "disk_bind",
            Self::DiskUnbind { .. } => "disk_unbind",
        }
    }
}

/// A call and its caller.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Request {
    pub by: EnvName,
    pub call: Call,
}

/// Every reason to refuse a request.
#[derive(Clone, Default, PartialEq, Debug)]
pub(super) struct Reasons(pub Vec<Error>);

impl Reasons {
    /// Notes a reason if it holds.
    pub(super) fn when(&mut self, holds: bool, reason: Error) {
        if holds && !self.0.contains(&reason) {
            self.0.push(reason);
        }
    }

    /// Goes on only if there is no reason not to.
    pub(super) fn none(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl From<Error> for Reasons {
    fn from(reason: Error) -> Self {
        Self(vec![reason])
    }
}

/// What a call that is done returns: a new capability of the caller (for a grant, of its
/// receiver), or nothing.
pub(super) type Answer = Result<Option<CapName>, Reasons>;

impl std::fmt::Display for Reasons {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|reason| reason.name()).collect();
        f.write_str(&names.join(" or "))
    }
}
