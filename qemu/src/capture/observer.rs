//! Packets of the environments' rings.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;

use super::refusal;
use super::writer::{Direction, Interface, Packet, Writer};
use crate::inspect::rings::{Counts, Ring, rings};
use crate::inspect::{Memory, Published};

/// How often to look which environments there are.
const ROUND: Duration = Duration::from_millis(50);

/// What was seen so far.
#[derive(Default)]
pub(super) struct Observer {
    looked: Option<Instant>,
    interfaces: HashMap<u32, Interface>,
    bindings: HashMap<Ring, Binding>,
}

struct Binding {
    interface: Interface,
    address: Option<[u8; 4]>,
    counts: Counts,
}

impl Observer {
    /// Writes what has come. The `last` time, which environments there are is looked at again, however
    /// lately it was: on a busy host that may not have happened since they began.
    pub(super) fn pass_on(
        &mut self,
        memory: &Memory,
        writer: &mut Writer,
        last: bool,
    ) -> Result<()> {
        if last || self.looked.is_none_or(|looked| looked.elapsed() >= ROUND) {
            self.look(memory, writer)?;
            self.looked = Some(Instant::now());
        }
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        for (ring, binding) in &mut self.bindings {
            let Some(counts) = ring.counts(memory) else { continue };
            let Binding { interface, address, counts: before } = binding;
            let mut write = |(past, now): (u32, u32), direction| -> Result<()> {
                let all = now.wrapping_sub(past);
                let seen = all.min(ring.slots());
                let mut missed = all - seen;
                for index in (0..seen).map(|index| now.wrapping_sub(seen).wrapping_add(index)) {
                    let (bytes, comment) = match direction {
                        Direction::In => (ring.delivered(memory, index), None),
                        Direction::Out => {
                            let bytes = ring.taken(memory, index);
                            let comment =
                                bytes.as_ref().and_then(|bytes| refusal::reason(bytes, *address));
                            (bytes, comment)
                        }
                    };
                    let Some(bytes) = bytes else { continue };
                    let (interface, bytes) = (*interface, &bytes[..]);
                    writer.packet(&Packet { interface, at, bytes, direction, missed, comment })?;
                    missed = 0;
                }
                Ok(())
            };
            write((before.delivered, counts.delivered), Direction::In)?;
            write((before.taken, counts.taken), Direction::Out)?;
            *before = counts;
        }
        Ok(())
    }

    /// Looks which environments there are, and where their rings lie.
    fn look(&mut self, memory: &Memory, writer: &mut Writer) -> Result<()> {
        let Ok(published) = Published::find(memory) else { return Ok(()) };
        let mut bindings = HashMap::new();
        for environment in published.environments() {
            for ring in rings(&environment) {
                let interface = match self.interfaces.get(&environment.id) {
                    Some(interface) => *interface,
                    None => writer.interface(&environment.name, environment.address)?,
                };
                self.interfaces.insert(environment.id, interface);
                let known = self.bindings.remove(&ring);
                let counts = known.map_or(Counts::default(), |binding| binding.counts);
                let address = environment.address;
                bindings.insert(ring, Binding { interface, address, counts });
            }
        }
        self.bindings = bindings;
        Ok(())
    }

    /// Ends the file with what the kernel has counted. Returns how many packets are in it.
    pub(super) fn finish(&self, memory: &Memory, mut writer: Writer) -> Result<u64> {
        if let Ok(published) = Published::find(memory) {
            writer.statistics(published.info)?;
        }
        writer.finish()
    }
}
