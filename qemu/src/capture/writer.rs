//! The file, in the format pcapng: an interface for the wire and one for each environment.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use exo_abi::SystemInfo;
use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::interface_statistics::{
    InterfaceStatisticsBlock, InterfaceStatisticsOption,
};

/// The file.
pub(super) struct Writer {
    file: PcapNgWriter<BufWriter<File>>,
    interfaces: u32,
    packets: u64,
}

/// An interface of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interface(u32);

/// Where a packet goes, seen from the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    In,
    Out,
}

/// A packet of the file.
pub(super) struct Packet<'p> {
    pub(super) interface: Interface,
    /// Since 1970.
    pub(super) at: Duration,
    pub(super) bytes: &'p [u8],
    pub(super) direction: Direction,
    /// How many before it were not seen.
    pub(super) missed: u32,
    pub(super) comment: Option<Cow<'p, str>>,
}

impl Interface {
    /// What is on the wire.
    pub(super) const WIRE: Self = Self(0);
}

impl Writer {
    /// Makes the file, with the wire as the only interface so far.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        let file = PcapNgWriter::new(BufWriter::new(file)).context("cannot write the capture")?;
        let mut writer = Self { file, interfaces: 0, packets: 0 };
        writer.interface("wire", None)?;
        Ok(writer)
    }

    /// One more interface.
    pub(super) fn interface(&mut self, name: &str, address: Option<[u8; 4]>) -> Result<Interface> {
        // Times are written in nanoseconds, whatever is said here; so that has to be said.
        let mut options = vec![
            InterfaceDescriptionOption::IfName(name.to_owned().into()),
            InterfaceDescriptionOption::IfTsResol(9),
        ];
        options.extend(address.map(|address| {
            // With its mask.
            InterfaceDescriptionOption::IfIpv4Addr([address, [255; 4]].concat().into())
        }));
        let block = InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen: 0, options };
        self.file.write_pcapng_block(block).context("cannot write the capture")?;
        let interface = Interface(self.interfaces);
        self.interfaces += 1;
        self.flush()?;
        Ok(interface)
    }

    /// One more packet.
    pub(super) fn packet(&mut self, packet: &Packet<'_>) -> Result<()> {
        let direction = match packet.direction {
            Direction::In => 1,
            Direction::Out => 2,
        };
        let mut options = vec![EnhancedPacketOption::Flags(direction)];
        if packet.missed != 0 {
            options.push(EnhancedPacketOption::DropCount(packet.missed.into()));
        }
        options.extend(packet.comment.clone().map(EnhancedPacketOption::Comment));
        let block = EnhancedPacketBlock {
            interface_id: packet.interface.0,
            timestamp: packet.at,
            original_len: packet.bytes.len() as u32,
            data: packet.bytes.into(),
            options,
        };
        self.file.write_pcapng_block(block).context("cannot write the capture")?;
        self.packets += 1;
        self.flush()
    }

    /// What the kernel has counted, as statistics of the wire.
    pub(super) fn statistics(&mut self, info: &SystemInfo) -> Result<()> {
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
        let (received, refused) = (read(&info.received), read(&info.refused));
        let (unclaimed, overflowed) = (read(&info.unclaimed), read(&info.overflowed));
        let said = format!(
            "the kernel received {received} packets, {unclaimed} of them for no environment, \
             {overflowed} for one with a full ring; it sent {}, and refused to send {refused}",
            read(&info.transmitted)
        );
        let options = vec![
            InterfaceStatisticsOption::Comment(said.into()),
            InterfaceStatisticsOption::IsbIfRecv(received),
            InterfaceStatisticsOption::IsbFilterAccept(received.saturating_sub(unclaimed)),
            InterfaceStatisticsOption::IsbOsDrop(overflowed),
        ];
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp = now.as_nanos() as u64;
        let block =
            InterfaceStatisticsBlock { interface_id: Interface::WIRE.0, timestamp, options };
        self.file.write_pcapng_block(block).context("cannot write the capture")?;
        Ok(())
    }

    /// Ends the file, and says how many packets are in it.
    pub(super) fn finish(mut self) -> Result<u64> {
        self.flush()?;
        Ok(self.packets)
    }

    /// A reader finds whole packets at any time.
    fn flush(&mut self) -> Result<()> {
        self.file.get_mut().flush().context("cannot write the capture")
    }
}

#[cfg(test)]
mod tests {
    use pcap_parser::{Block, PcapBlockOwned, PcapNGSlice};

    use super::*;

    /// Read with another library than it is written with.
    #[test]
    fn others_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new.pcapng");
        let mut writer = Writer::create(&path).unwrap();
        let store = writer.interface("kvstore", Some([10, 0, 2, 15])).unwrap();
        let at = Duration::new(1_700_000_000, 123_456_789);
        let (bytes, direction) = (&[7_u8; 61][..], Direction::Out);
        let comment = Some("refused: why".into());
        let packet = Packet { interface: store, at, bytes, direction, missed: 3, comment };
        writer.packet(&packet).unwrap();
        assert_eq!(writer.finish().unwrap(), 1);

        let file = std::fs::read(&path).unwrap();
        let (mut names, mut packets, mut resolution) = (Vec::new(), 0, 0);
        for block in PcapNGSlice::from_slice(&file).unwrap() {
            match block.unwrap() {
                PcapBlockOwned::NG(Block::InterfaceDescription(found)) => {
                    names.push(found.if_name().unwrap().unwrap().to_owned());
                    resolution = found.ts_resolution().unwrap();
                }
                PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                    packets += 1;
                    assert_eq!((packet.if_id, packet.caplen, packet.origlen), (1, 61, 61));
                    assert_eq!(&packet.data[..61], bytes);
                    assert_eq!(packet.decode_ts(0, resolution), (1_700_000_000, 123_456_789));
                    let values: Vec<_> =
                        packet.options.iter().map(|option| option.value.to_vec()).collect();
                    assert_eq!(values[0][..4], 2_u32.to_ne_bytes());
                    assert_eq!(values[1][..8], 3_u64.to_ne_bytes());
                    assert_eq!(&values[2][..12], b"refused: why");
                }
                _ => {}
            }
        }
        assert_eq!((names, packets), (vec!["wire".to_owned(), "kvstore".to_owned()], 1));
    }
}
