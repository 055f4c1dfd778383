//! Binding to the network: rings of own frames, and filters for own packets.
//!
//! Everything the kernel keeps for a binding lies in frames given to it here:
//! one for the binding, one for each filter.

use core::fmt;

use dpf::packet::{arp_for, icmp_to, udp_to};
use dpf::{Filter, MAX_WIRE};
use exo_abi::{Error, Handle, RingOrder, SyncCounts, UserPtr};

use super::rings::{Doorbell, Rings};
use super::{NetConfig, announce};
use crate::memory::MemoryError;
use crate::memory::guest::Memory;
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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BindError {
    /// No network capability, no address or no network interface.
    NoNetwork,
    /// No memory for rings, binding or filters.
    Memory(MemoryError),
    /// The kernel refused to make the binding.
    Refused(Error),
    /// The kernel refused a filter.
    Filter(Error),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNetwork => f.write_str("no network"),
            Self::Memory(error) => write!(f, "no memory for network: {error}"),
            Self::Refused(error) => write!(f, "binding refused: {error}"),
            Self::Filter(error) => write!(f, "filter refused: {error}"),
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
    let binding = exo_abi::Word::from_word(binding).map_err(BindError::Refused)?;
    // SAFETY: the run is page aligned, mapped read and write for good, zeroed by
    // the kernel when it was taken, and handed out to nobody else.
    let mut rings = unsafe { Rings::new(run, order, KernelBell { binding }) };
    for filter in [arp_for(config.address), icmp_to(config.address), udp_to(config.address, port)] {
        install(memory, binding, &filter)?;
    }
    announce(&mut rings, config).map_err(BindError::Refused)?;
    Ok(rings)
}

fn install(memory: Memory, binding: Handle, filter: &Filter) -> Result<(), BindError> {
    let mut wire = [0; MAX_WIRE];
    let length = filter.encode(&mut wire).ok_or(BindError::Filter(Error::TooMuch))?;
    let (object, code) = (memory.take_frame()?, memory.take_frame()?);
    let at = UserPtr(wire.as_ptr().expose_provenance() as u64);
    sys::filter_install(binding, at, length as u64, object, code, Handle::NONE)
        .map_err(BindError::Filter)?;
    Ok(())
}
