//! Packets of the file that QEMU writes while the machine runs.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pcap_file::PcapError;
use pcap_file::pcap::PcapParser;

use super::writer::{Direction, Interface, Packet, Writer};
use crate::machine::GUEST_MAC;

/// The file, as far as it was read.
pub(super) struct Wire {
    path: PathBuf,
    file: Option<File>,
    parser: Option<PcapParser>,
    /// What was read and is no whole packet yet.
    rest: Vec<u8>,
}

impl Wire {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), file: None, parser: None, rest: Vec::new() }
    }

    /// Writes what has come.
    pub(super) fn pass_on(&mut self, writer: &mut Writer) -> Result<()> {
        // QEMU makes it.
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        file.read_to_end(&mut self.rest).context("cannot read what QEMU captures")?;
        self.parse(writer)
    }

    fn parse(&mut self, writer: &mut Writer) -> Result<()> {
        let mut left = self.rest.as_slice();
        loop {
            let Some(parser) = &self.parser else {
                match PcapParser::new(left) {
                    Ok((rest, parser)) => (left, self.parser) = (rest, Some(parser)),
                    Err(PcapError::IncompleteBuffer) => break,
                    Err(error) => return Err(error).context("QEMU captures in another format"),
                }
                continue;
            };
            match parser.next_packet(left) {
                Ok((rest, packet)) => {
                    left = rest;
                    let sender = packet.data.get(6..12);
                    let direction = match sender == Some(&GUEST_MAC) {
                        true => Direction::Out,
                        false => Direction::In,
                    };
                    writer.packet(&Packet {
                        interface: Interface::WIRE,
                        at: packet.timestamp,
                        bytes: &packet.data,
                        direction,
                        missed: 0,
                        comment: None,
                    })?;
                }
                Err(PcapError::IncompleteBuffer) => break,
                Err(error) => return Err(error).context("QEMU captures in another format"),
            }
        }
        let done = self.rest.len() - left.len();
        self.rest.drain(..done);
        Ok(())
    }
}
