//! Binding to the network: rings of own frames, filters for own packets, and parts of the
//! network passed on.
//!
//! Everything the kernel keeps for a binding lies in frames given to it here:
//! one for the binding, two for each filter and scope.

use core::fmt;
use core::sync::atomic::Ordering::Relaxed;

use dpf::packet::{arp_for, icmp_to, udp_to};
use dpf::{Filter, KEY_WIRE, MAX_WIRE};
use exo_abi::{
    EnvId, Error, EventCount, Handle, Pfn, RingOrder, SyncCounts, UserPtr, Word, call_number,
};

use super::rings::{Doorbell, Rings};
use super::{NetConfig, announce};
use crate::elevation::direct;
use crate::memory::MemoryError;
use crate::runtime::Environment;
use crate::sched::Ticks;
use crate::sys;

/// Rings `net_sync`.
#[derive(Clone, Copy, Debug)]
pub struct KernelBell {
    /// The binding's handle.
    pub binding: Handle,
    /// Whether by direct calls ([`crate::elevation::direct`]), which are right in either ring, and
    /// cheaper in ring 0 only.
    pub direct: bool,
}

impl Doorbell for KernelBell {
    #[inline]
    fn ring(&mut self) -> Result<SyncCounts, Error> {
        let sync = if self.direct { direct::net_sync } else { sys::net_sync };
        sync(self.binding).map(SyncCounts::from_value)
    }

    #[inline]
    fn ring_and_wait(
        &mut self,
        seen: EventCount,
        deadline: Option<Ticks>,
    ) -> Option<Result<(), (Error, SyncCounts)>> {
        if self.direct {
            return None;
        }
        // Zero is for none; the clock has long passed it.
        let deadline = deadline.map_or(0, |ticks| ticks.0.max(1));
        let words = sys::registers(&[self.binding.into_word(), seen.0, deadline]);
        let slept = sys::enter(const { call_number("net_wait") }, words);
        Some(slept.map(drop).map_err(|(error, value)| (error, SyncCounts::from_value(value))))
    }
}

/// Why there is no binding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BindError {
    /// No network capability, no address or no network interface.
    NoNetwork,
    /// No memory for rings, binding or filters.
    Memory(MemoryError),
    /// The kernel refused to make the binding.
    Refused(Error),
    /// The kernel refused a filter.
    Filter(Error),
    /// The kernel refused to make a scope.
    Scope(Error),
    /// The kernel refused to make a scope, since another holds some of its packets.
    Delegated {
        /// The other's frame.
        object: Pfn,
        /// The environment that made it.
        owner: EnvId,
    },
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNetwork => f.write_str("no network"),
            Self::Memory(error) => write!(f, "no memory for network: {error}"),
            Self::Refused(error) => write!(f, "binding refused: {error}"),
            Self::Filter(error) => write!(f, "filter refused: {error}"),
            Self::Scope(error) => write!(f, "scope refused: {error}"),
            Self::Delegated { object, owner } => write!(
                f,
                "scope refused: some of its packets are of the scope in frame {}, which \
                 environment {} made",
                object.0, owner.0
            ),
        }
    }
}

impl From<MemoryError> for BindError {
    fn from(error: MemoryError) -> Self {
        Self::Memory(error)
    }
}

/// Binds to the network as `config` says, with rings of `order`: claims ARP and
/// ICMP for the own address, and UDP to `port` of it; then announces the address.
///
/// # Errors
/// [`BindError`]. What was set up by then stays until the environment ends: an
/// application that cannot bind has nothing else to do.
pub fn bind(
    environment: &Environment,
    config: &NetConfig,
    port: u16,
    order: RingOrder,
) -> Result<Rings<KernelBell>, BindError> {
    let net = environment.start.net.ok_or(BindError::NoNetwork)?;
    let memory = environment.memory;
    let (run, first) = memory.map_device_run(order.frames())?;
    let object = memory.take_frame()?;
    let binding = sys::net_bind(net, first, order, object).map_err(BindError::Refused)?;
    // A value that is a handle decodes from any word.
    let binding = Word::from_word(binding).map_err(BindError::Refused)?;
    // SAFETY: the run is page aligned, mapped read and write for good, zeroed by
    // the kernel when it was taken, and handed out to no other caller.
    let mut rings = unsafe { Rings::new(run, order, KernelBell { binding, direct: false }) };
    for filter in [arp_for(config.address), icmp_to(config.address), udp_to(config.address, port)] {
        install(environment, binding, &filter)?;
    }
    announce(&mut rings, config).map_err(BindError::Refused)?;
    Ok(rings)
}

/// Installs `filter` for `binding` in two frames of the environment's own. Returns the one
/// that is its name.
///
/// # Errors
/// [`BindError`]; after a refusal the frames are free again.
pub fn install(
    environment: &Environment,
    binding: Handle,
    filter: &Filter,
) -> Result<Pfn, BindError> {
    let memory = environment.memory;
    let mut wire = [0; MAX_WIRE];
    let length = filter.encode(&mut wire).ok_or(BindError::Filter(Error::TooMuch))?;
    let at = wire.as_ptr().expose_provenance() as u64;
    let (object, code) = (memory.take_frame()?, memory.take_frame()?);
    let at = UserPtr(at);
    let Err(error) = sys::filter_install(binding, at, length as u64, object, code) else {
        return Ok(object);
    };
    for frame in [object, code] {
        memory.give_frame(frame)?;
    }
    Err(BindError::Filter(error))
}

/// A part of the network that is passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delegated {
    /// The network capability for it.
    pub net: Handle,
    /// Its frame, for `net_unscope`.
    pub object: Pfn,
    /// The frame of its code, free after that.
    pub code: Pfn,
}

/// Makes of the network capability `net` one for the packets that have one of `keys`, at most
/// two. The holder of `net` does not receive them any more.
///
/// A key that pins a port must pin the IPv4 header length and that there is no fragment, too,
/// as [`dpf::packet::udp_to`] does: else the holder can listen, but not send.
///
/// # Errors
/// [`BindError`]; after a refusal the frames are free again.
pub fn delegate(
    environment: &Environment,
    net: Handle,
    keys: &[Filter],
) -> Result<Delegated, BindError> {
    let memory = environment.memory;
    let mut wire = [0; 2 * KEY_WIRE];
    let used = dpf::encode_keys(keys, &mut wire).ok_or(BindError::Scope(Error::BadFilter))?;
    let at = wire.as_ptr().expose_provenance() as u64;
    let (object, code) = (memory.take_frame()?, memory.take_frame()?);
    let frames = [object, code].map(Word::into_word);
    let words = [net.into_word(), at, used as u64, frames[0], frames[1], 0];
    let (error, name) = match sys::explained(call_number("net_scope"), words) {
        Ok(handle) => {
            let net = Word::from_word(handle).map_err(BindError::Scope)?;
            return Ok(Delegated { net, object, code });
        }
        Err(refusal) => refusal,
    };
    for frame in [object, code] {
        memory.give_frame(frame)?;
    }
    match (error, Pfn::from_word(name)) {
        (Error::FilterConflict, Ok(object)) => {
            let entry = environment.frame_table.get(object.0 as usize);
            let owner = EnvId(entry.map_or(0, |entry| entry.owner.load(Relaxed)));
            Err(BindError::Delegated { object, owner })
        }
        (error, _) => Err(BindError::Scope(error)),
    }
}
