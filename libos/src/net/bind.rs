//! Binding to the network: rings of own frames, and filters for own packets.
//!
//! Everything the kernel keeps for a binding lies in frames given to it here:
//! one for the binding, one for each filter.

use alloc::boxed::Box;
use core::fmt;
use core::sync::atomic::Ordering::Relaxed;

use dpf::packet::{arp_for, icmp_to, udp_to};
use dpf::{Filter, MAX_WIRE};
use exo_abi::{EnvId, Error, Handle, Pfn, RingOrder, SyncCounts, UserPtr, Word, call_number};

use super::rings::{Doorbell, Rings};
use super::{Conflict, NetConfig, announce};
use crate::memory::MemoryError;
use crate::runtime::Environment;
use crate::sys;

/// Rings `net_sync`.
#[derive(Clone, Copy, Debug)]
pub struct KernelBell {
    /// The binding's handle.
    pub binding: Handle,
}

impl Doorbell for KernelBell {
    #[inline]
    fn ring(&mut self) -> Result<SyncCounts, Error> {
        sys::net_sync(self.binding).map(SyncCounts::from_value)
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
    /// The kernel refused a filter for what another takes.
    Conflict(Box<Conflict>),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNetwork => f.write_str("no network"),
            Self::Memory(error) => write!(f, "no memory for network: {error}"),
            Self::Refused(error) => write!(f, "binding refused: {error}"),
            Self::Filter(error) => write!(f, "filter refused: {error}"),
            Self::Conflict(conflict) => write!(f, "filter refused: {conflict}"),
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
    let (run, first) = memory.map_network_run(order.frames())?;
    let object = memory.take_frame()?;
    let binding = sys::net_bind(net, first, order, object).map_err(BindError::Refused)?;
    // A value that is a handle decodes from any word.
    let binding = Word::from_word(binding).map_err(BindError::Refused)?;
    // SAFETY: the run is page aligned, mapped read and write for good, zeroed by
    // the kernel when it was taken, and handed out to nobody else.
    let mut rings = unsafe { Rings::new(run, order, KernelBell { binding }) };
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
/// [`BindError`]; after a refusal the frames are free again. A conflict is explained
/// ([`BindError::Conflict`]), unless what was in the way has gone meanwhile.
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
    let frames = [object, code].map(Word::into_word);
    let words = [binding.into_word(), at, length as u64, frames[0], frames[1], 0];
    let Err((error, name)) = sys::explained(call_number("filter_install"), words) else {
        return Ok(object);
    };
    for frame in [object, code] {
        memory.give_frame(frame)?;
    }
    let conflict = match error {
        Error::FilterConflict => explain(environment, binding, filter, name),
        _ => None,
    };
    Err(conflict.map_or(BindError::Filter(error), |conflict| BindError::Conflict(conflict.into())))
}

/// Why `wanted` is refused, if the filter in the frame `name` still is what is in its way.
fn explain(
    environment: &Environment,
    binding: Handle,
    wanted: &Filter,
    name: u64,
) -> Option<Conflict> {
    let object = Pfn::from_word(name).ok()?;
    let owner = environment.frame_table.get(object.0 as usize)?.owner.load(Relaxed);
    let taken = read(binding, object).ok()?;
    Conflict::new(*wanted, taken, object, EnvId(owner))
}

/// Reads the filter in the frame `object`, whoever's it is.
///
/// # Errors
/// The kernel's refusal: [`Error::NoRight`] if it cannot be in the way of any filter of
/// `binding`, [`Error::Vacant`] if there is none.
pub fn read(binding: Handle, object: Pfn) -> Result<Filter, Error> {
    let mut wire = [0_u8; MAX_WIRE];
    let to = UserPtr(wire.as_mut_ptr().expose_provenance() as u64);
    let length = sys::filter_read(binding, object, to, MAX_WIRE as u64)?;
    let wire = core::hint::black_box(wire);
    let text = wire.get(..length as usize).ok_or(Error::TooMuch)?;
    Filter::decode(text).map_err(|_| Error::BadFilter)
}
