//! The start block: what an application is told when it starts.
//!
//! The creator writes it into the U-area behind the kernel's words, and the
//! application reads it once. The kernel knows nothing of it: it is a custom
//! between `apps/root` and this library, in fixed little-endian fields so that
//! neither needs an allocator to exchange it.

use exo_abi::{Handle, Pfn, START_BLOCK_BYTES, Word};

use crate::disk::Extent;

const MAGIC: u64 = u64::from_le_bytes(*b"EXOSTRT2");
const FIXED_BYTES: usize = 120;

/// What the application was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartBlock<'a> {
    /// The application's name in the boot manifest, at most 16 bytes.
    pub name: &'a str,
    /// Frames capability over [`StartBlock::first_frame`] and so on.
    pub frames: Handle,
    /// First frame of the range the application may take from.
    pub first_frame: Pfn,
    /// Number of frames in that range.
    pub frame_count: u32,
    /// Console capability, if granted.
    pub console: Option<Handle>,
    /// Network capability, if granted.
    pub net: Option<Handle>,
    /// Machine capability, if granted.
    pub machine: Option<Handle>,
    /// Disk capability and the extent that it is for, if granted.
    pub disk: Option<(Handle, Extent)>,
    /// Elevation capability, if granted.
    pub elevation: Option<Handle>,
    /// Own IPv4 address, if the manifest gives one.
    pub address: Option<[u8; 4]>,
    /// IPv4 address of the gateway.
    pub gateway: [u8; 4],
    /// Length of the network prefix in bits.
    pub prefix_len: u8,
    /// Seconds since 1970 when the machine was started.
    pub boot_unix_seconds: u64,
    /// Arguments, separated by zero bytes.
    pub arguments: &'a str,
}

impl<'a> StartBlock<'a> {
    /// Writes the block.
    ///
    /// Returns `None` if name or arguments are too long.
    pub fn write(&self, block: &mut [u8; START_BLOCK_BYTES]) -> Option<()> {
        let mut name = [0; 16];
        name.get_mut(..self.name.len())?.copy_from_slice(self.name.as_bytes());
        let handle = |handle: Option<Handle>| handle.map_or(0, Word::into_word);
        let (fixed, rest) = block.split_at_mut(FIXED_BYTES);
        let words = [
            MAGIC,
            self.frames.into_word(),
            self.first_frame.into_word() | u64::from(self.frame_count) << 32,
            handle(self.console),
            handle(self.net),
            handle(self.machine),
            u64::from(u32::from_le_bytes(self.address.unwrap_or_default()))
                | u64::from(u32::from_le_bytes(self.gateway)) << 32,
            u64::from(self.prefix_len) | u64::from(self.address.is_some()) << 8,
            self.boot_unix_seconds,
            self.arguments.len() as u64,
            handle(self.elevation),
        ];
        for (field, word) in fixed.chunks_exact_mut(8).zip(words) {
            field.copy_from_slice(&word.to_le_bytes());
        }
        fixed[88..104].copy_from_slice(&name);
        let (disk, extent) = self.disk.unwrap_or((Handle::NONE, Extent { first: 0, sectors: 0 }));
        fixed[104..112].copy_from_slice(&disk.into_word().to_le_bytes());
        fixed[112..116].copy_from_slice(&extent.first.to_le_bytes());
        fixed[116..].copy_from_slice(&extent.sectors.to_le_bytes());
        rest.get_mut(..self.arguments.len())?.copy_from_slice(self.arguments.as_bytes());
        Some(())
    }

    /// Reads the block back, if it is one.
    pub fn read(block: &'a [u8; START_BLOCK_BYTES]) -> Option<Self> {
        let (fixed, rest) = block.split_at(FIXED_BYTES);
        let word = |index: usize| {
            let bytes = fixed[index * 8..].first_chunk().copied().unwrap_or_default();
            u64::from_le_bytes(bytes)
        };
        if word(0) != MAGIC {
            return None;
        }
        let handle = |index| match word(index) {
            0 => None,
            word => Handle::from_word(word).ok(),
        };
        let text = |bytes: &'a [u8]| core::str::from_utf8(bytes).ok();
        let name = &fixed[88..104];
        let name_len = name.iter().position(|&byte| byte == 0).unwrap_or(16);
        let arguments_len = usize::try_from(word(9)).ok()?;
        Some(Self {
            name: text(&name[..name_len])?,
            frames: handle(1)?,
            first_frame: Pfn(word(2) as u32),
            frame_count: (word(2) >> 32) as u32,
            console: handle(3),
            net: handle(4),
            machine: handle(5),
            disk: handle(13).map(|disk| {
                (disk, Extent { first: word(14) as u32, sectors: (word(14) >> 32) as u32 })
            }),
            elevation: handle(10),
            address: (word(7) >> 8 & 1 == 1).then(|| (word(6) as u32).to_le_bytes()),
            gateway: ((word(6) >> 32) as u32).to_le_bytes(),
            prefix_len: word(7) as u8,
            boot_unix_seconds: word(8),
            arguments: text(rest.get(..arguments_len)?)?,
        })
    }

    /// The arguments one by one.
    pub fn arguments(&self) -> impl Iterator<Item = &'a str> {
        self.arguments.split('\0').filter(|argument| !argument.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use exo_abi::{Handle, Pfn, START_BLOCK_BYTES};

    use super::StartBlock;
    use crate::disk::Extent;

    #[test]
    fn round_trips() {
        let start = StartBlock {
            name: "sixteen-bytes-ok",
            frames: Handle::new(3, 9),
            first_frame: Pfn(77),
            frame_count: 4096,
            console: Some(Handle::new(1, 1)),
            net: None,
            machine: Some(Handle::new(2, 1)),
            disk: Some((Handle::new(5, 2), Extent { first: 16, sectors: 1 << 31 })),
            elevation: Some(Handle::new(7, 1)),
            address: Some([10, 0, 2, 15]),
            gateway: [10, 0, 2, 2],
            prefix_len: 24,
            boot_unix_seconds: 1_700_000_000,
            arguments: "a\0bc=d",
        };
        let mut block = [0; START_BLOCK_BYTES];
        start.write(&mut block).expect("fits");
        let read = StartBlock::read(&block).expect("is a block");
        assert_eq!(read, start);
        assert_eq!(read.arguments().collect::<Vec<_>>(), ["a", "bc=d"]);
        assert!(StartBlock { name: "seventeen-bytes-x", ..start }.write(&mut block).is_none());
    }

    #[test]
    fn garbage_is_no_block() {
        assert!(StartBlock::read(&[0; START_BLOCK_BYTES]).is_none());
        let mut block = [0xff; START_BLOCK_BYTES];
        assert!(StartBlock::read(&block).is_none());
        block[..8].copy_from_slice(b"EXOSTRT2");
        assert!(StartBlock::read(&block).is_none());
    }
}
