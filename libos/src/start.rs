//! The start block: what an application is told when it starts.
//!
//! The creator writes it into the U-area behind the kernel's words, and the
//! application reads it once. The kernel knows nothing of it: it is a custom
//! between `apps/root` and this library, in fixed little-endian fields so that
//! neither needs an allocator to exchange it.

use exo_abi::{Handle, Pfn, START_BLOCK_BYTES, Word};

use crate::disk::Extent;

const MAGIC: u64 = u64::from_le_bytes(*b"EXOSTRT5");
const FIXED_BYTES: usize = 144;
/// Most applications of one share.
pub const MAX_SIDES: usize = 8;
/// Words at the beginning of a share, for the handles of doorbells and entry points.
pub const SHARE_HEADER: usize = 2 * MAX_SIDES * MAX_SIDES;
/// A [`ShareGrant`] as bytes.
pub const SHARE_BYTES: usize = 32 + 8 * MAX_SIDES;

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
    /// Capability for a protection key, and which it is, if there was one left.
    pub key: Option<(Handle, u32)>,
    /// Own IPv4 address, if the manifest gives one.
    pub address: Option<[u8; 4]>,
    /// IPv4 address of the gateway.
    pub gateway: [u8; 4],
    /// Length of the network prefix in bits.
    pub prefix_len: u8,
    /// Seconds since 1970 when the machine was started.
    pub boot_unix_seconds: u64,
    /// Bytes of the images that it may make children of, which root has mapped for it as a bundle; zero
    /// if there are none.
    pub programs: u64,
    /// Arguments, separated by zero bytes.
    pub arguments: &'a str,
    /// What it shares with others: [`SHARE_BYTES`] for each.
    pub shares: &'a [u8],
}

/// Memory that root has mapped for several applications (`libos::share`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareGrant<'a> {
    /// Its name in the boot manifest, at most 16 bytes.
    pub name: &'a str,
    /// Where it is mapped.
    pub address: u64,
    /// How many pages.
    pub pages: u32,
    /// Which of those that share it this application is.
    pub side: u8,
    /// How many share it.
    pub sides: u8,
    /// Environment capabilities of the others, each where its side is.
    pub peers: [Option<Handle>; MAX_SIDES],
}

impl<'a> ShareGrant<'a> {
    /// As bytes; `None` if the name is too long.
    #[must_use]
    pub fn to_bytes(&self) -> Option<[u8; SHARE_BYTES]> {
        let mut bytes = [0; SHARE_BYTES];
        bytes.get_mut(..16)?.get_mut(..self.name.len())?.copy_from_slice(self.name.as_bytes());
        let facts =
            u64::from(self.pages) | u64::from(self.side) << 32 | u64::from(self.sides) << 40;
        let peers = self.peers.map(|peer| peer.map_or(0, Word::into_word));
        let words = [self.address, facts].into_iter().chain(peers);
        for (field, word) in bytes[16..].chunks_exact_mut(8).zip(words) {
            field.copy_from_slice(&word.to_le_bytes());
        }
        Some(bytes)
    }

    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (name, rest) = bytes.split_at_checked(16)?;
        let word = |index: usize| {
            let bytes = rest.get(8 * index..)?.first_chunk().copied()?;
            Some(u64::from_le_bytes(bytes))
        };
        let length = name.iter().position(|&byte| byte == 0).unwrap_or(16);
        let facts = word(1)?;
        Some(Self {
            name: core::str::from_utf8(&name[..length]).ok()?,
            address: word(0)?,
            pages: facts as u32,
            side: (facts >> 32) as u8,
            sides: (facts >> 40) as u8,
            peers: core::array::from_fn(|side| {
                word(2 + side)
                    .filter(|&word| word != 0)
                    .and_then(|word| Handle::from_word(word).ok())
            }),
        })
    }
}

impl<'a> StartBlock<'a> {
    /// Writes the block.
    ///
    /// Returns `None` if name, arguments or shares are too long.
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
            self.arguments.len() as u64 | (self.shares.len() as u64) << 32,
            handle(self.elevation),
        ];
        for (field, word) in fixed.chunks_exact_mut(8).zip(words) {
            field.copy_from_slice(&word.to_le_bytes());
        }
        fixed[88..104].copy_from_slice(&name);
        let (disk, extent) = self.disk.unwrap_or((Handle::NONE, Extent { first: 0, sectors: 0 }));
        fixed[104..112].copy_from_slice(&disk.into_word().to_le_bytes());
        fixed[112..116].copy_from_slice(&extent.first.to_le_bytes());
        fixed[116..120].copy_from_slice(&extent.sectors.to_le_bytes());
        let (keys, key) = self.key.unwrap_or((Handle::NONE, 0));
        fixed[120..128].copy_from_slice(&keys.into_word().to_le_bytes());
        fixed[128..136].copy_from_slice(&u64::from(key).to_le_bytes());
        fixed[136..].copy_from_slice(&self.programs.to_le_bytes());
        let (arguments, rest) = rest.split_at_mut_checked(self.arguments.len())?;
        arguments.copy_from_slice(self.arguments.as_bytes());
        rest.get_mut(..self.shares.len())?.copy_from_slice(self.shares);
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
        let (arguments_len, shares_len) = (word(9) as u32 as usize, (word(9) >> 32) as usize);
        let (arguments, rest) = rest.split_at_checked(arguments_len)?;
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
            key: handle(15).map(|keys| (keys, word(16) as u32)),
            address: (word(7) >> 8 & 1 == 1).then(|| (word(6) as u32).to_le_bytes()),
            gateway: ((word(6) >> 32) as u32).to_le_bytes(),
            prefix_len: word(7) as u8,
            boot_unix_seconds: word(8),
            programs: word(17),
            arguments: text(arguments)?,
            shares: rest.get(..shares_len)?,
        })
    }

    /// The arguments one by one.
    pub fn arguments(&self) -> impl Iterator<Item = &'a str> {
        self.arguments.split('\0').filter(|argument| !argument.is_empty())
    }

    /// What it shares with others, one by one.
    pub fn shares(&self) -> impl Iterator<Item = ShareGrant<'a>> + use<'a> {
        self.shares.chunks_exact(SHARE_BYTES).filter_map(ShareGrant::read)
    }

    /// The value of the first argument `key=value`, if there is one.
    pub fn argument(&self, key: &str) -> Option<&'a str> {
        self.arguments().find_map(|argument| {
            let (name, value) = argument.split_once('=')?;
            (name == key).then_some(value)
        })
    }
}

#[cfg(test)]
mod tests {
    use exo_abi::{Handle, Pfn, START_BLOCK_BYTES};

    use super::{MAX_SIDES, ShareGrant, StartBlock};
    use crate::disk::Extent;

    #[test]
    fn round_trips() {
        let mut peers = [None; MAX_SIDES];
        (peers[0], peers[7]) = (Some(Handle::new(5, 2)), Some(Handle::new(6, 1)));
        let share = ShareGrant {
            name: "queue",
            address: 0x40_0000_0000,
            pages: 3,
            side: 1,
            sides: 8,
            peers,
        };
        let other =
            ShareGrant { name: "sixteen-bytes-ok", side: 0, peers: [None; MAX_SIDES], ..share };
        let shares = [share, other].map(|share| share.to_bytes().expect("fits")).concat();
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
            key: Some((Handle::new(8, 1), 15)),
            address: Some([10, 0, 2, 15]),
            gateway: [10, 0, 2, 2],
            prefix_len: 24,
            boot_unix_seconds: 1_700_000_000,
            programs: 1 << 40,
            arguments: "a\0bc=d",
            shares: &shares,
        };
        let mut block = [0; START_BLOCK_BYTES];
        start.write(&mut block).expect("fits");
        let read = StartBlock::read(&block).expect("is a block");
        assert_eq!(read, start);
        assert_eq!(read.arguments().collect::<Vec<_>>(), ["a", "bc=d"]);
        assert_eq!(read.shares().collect::<Vec<_>>(), [share, other]);
        assert!(
            StartBlock { shares: &[1; START_BLOCK_BYTES], ..start }.write(&mut block).is_none()
        );
        assert!(StartBlock { name: "seventeen-bytes-x", ..start }.write(&mut block).is_none());
    }

    #[test]
    fn garbage_is_no_block() {
        assert!(StartBlock::read(&[0; START_BLOCK_BYTES]).is_none());
        let mut block = [0xff; START_BLOCK_BYTES];
        assert!(StartBlock::read(&block).is_none());
        block[..8].copy_from_slice(b"EXOSTRT5");
        assert!(StartBlock::read(&block).is_none());
    }
}
