//! The start information that a PVH loader leaves in memory.
//!
//! Layout: Xen's `hvm_start_info`, version 1, as QEMU fills it. The reader works
//! on bytes so that it can be tested anywhere; the kernel hands it the physical
//! memory in question.

/// Bytes of the start information.
pub const START_INFO_BYTES: usize = 56;
/// Bytes of one module entry.
pub const MODULE_BYTES: usize = 32;
/// Bytes of one memory-map entry.
pub const MEMORY_BYTES: usize = 24;

const MAGIC: u32 = 0x336e_c578;
const MEMORY_RAM: u32 = 1;

fn word32(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

fn word64(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}

/// Where things are; all addresses are physical.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StartInfo {
    /// Number of modules.
    pub modules: u32,
    /// Module list, [`MODULE_BYTES`] each.
    pub module_list: u64,
    /// Zero-terminated command line.
    pub command_line: u64,
    /// Memory map, [`MEMORY_BYTES`] an entry.
    pub memory_map: u64,
    /// Entries of the memory map.
    pub memory_entries: u32,
}

impl StartInfo {
    /// Reads the start information; `None` if it is none, or of version 0
    /// (which has no memory map).
    pub fn parse(bytes: &[u8; START_INFO_BYTES]) -> Option<Self> {
        if word32(bytes, 0)? != MAGIC || word32(bytes, 4)? == 0 {
            return None;
        }
        Some(Self {
            modules: word32(bytes, 12)?,
            module_list: word64(bytes, 16)?,
            command_line: word64(bytes, 24)?,
            memory_map: word64(bytes, 40)?,
            memory_entries: word32(bytes, 48)?,
        })
    }
}

/// A range of physical memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
}

/// Reads a module entry: where it lies.
pub fn module(bytes: &[u8; MODULE_BYTES]) -> Option<Range> {
    Some(Range { start: word64(bytes, 0)?, length: word64(bytes, 8)? })
}

/// Reads a memory-map entry: the range, if it is RAM.
pub fn ram(bytes: &[u8; MEMORY_BYTES]) -> Option<Range> {
    (word32(bytes, 16)? == MEMORY_RAM)
        .then_some(Range { start: word64(bytes, 0)?, length: word64(bytes, 8)? })
}

/// The virtio-mmio transports on the command line, as
/// `virtio_mmio.device=SIZE@ADDRESS:IRQ` (Linux `virtio_mmio.c`, which defined
/// the syntax): pairs of register address and interrupt line.
pub fn transports(command_line: &[u8]) -> impl Iterator<Item = (u64, u32)> {
    command_line.split(|byte| *byte == b' ').filter_map(|word| {
        let spec = word.strip_prefix(b"virtio_mmio.device=")?;
        let spec = core::str::from_utf8(spec).ok()?;
        let (_size, place) = spec.split_once('@')?;
        let (address, irq) = place.split_once(':')?;
        let address = u64::from_str_radix(address.strip_prefix("0x")?, 16).ok()?;
        Some((address, irq.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::{Range, START_INFO_BYTES, StartInfo, module, ram, transports};

    #[test]
    fn start_info_is_read_by_offset() {
        let mut bytes = [0; START_INFO_BYTES];
        assert_eq!(StartInfo::parse(&bytes), None);
        bytes[..4].copy_from_slice(&0x336e_c578_u32.to_le_bytes());
        assert_eq!(StartInfo::parse(&bytes), None, "version 0 has no memory map");
        bytes[4] = 1;
        bytes[12] = 2;
        bytes[17] = 3;
        bytes[25] = 4;
        bytes[41] = 5;
        bytes[48] = 6;
        let info = StartInfo::parse(&bytes).expect("start info");
        assert_eq!(
            info,
            StartInfo {
                modules: 2,
                module_list: 0x300,
                command_line: 0x400,
                memory_map: 0x500,
                memory_entries: 6
            }
        );
    }

    #[test]
    fn only_ram_is_ram() {
        let mut bytes = [0; 24];
        bytes[1] = 0x10;
        bytes[9] = 0x20;
        assert_eq!(ram(&bytes), None);
        bytes[16] = 1;
        assert_eq!(ram(&bytes), Some(Range { start: 0x1000, length: 0x2000 }));
        assert_eq!(module(&[0; 32]), Some(Range { start: 0, length: 0 }));
    }

    #[test]
    fn transports_are_picked_from_the_command_line() {
        let line = b"quiet virtio_mmio.device=512@0xfeb00e00:12 virtio_mmio.device=x \
            virtio_mmio.device=512@0xfeb00c00:11";
        let found: Vec<_> = transports(line).collect();
        assert_eq!(found, [(0xfeb0_0e00, 12), (0xfeb0_0c00, 11)]);
    }
}
