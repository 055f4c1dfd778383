//! UDP over IPv4 and Ethernet, for a server: an answer is its question with both ends exchanged.
//!
//! A beginning, to be changed. Any host can send anything: what is not a whole, intact packet for
//! this address is dropped, and nothing here may panic.

use libos::abi::Error;
use libos::net::answerers::is_answerer;
use libos::net::checksum::Sum;
use libos::net::{Endpoint, NetConfig, NetDevice, Service, Slots, TxBuffer, UdpStack};

/// Headers of Ethernet, IPv4 without options, and UDP; an ARP packet is as long.
const HEAD: usize = 42;
type Head = [u8; HEAD];
/// Where UDP and ICMP begin.
const UDP: usize = 34;

/// Remembers nothing of its peers: an answer goes to where the question came from.
pub(crate) struct Mirror {
    config: NetConfig,
    port: u16,
    /// The head of a question whose answer is several datagrams, while they are sent.
    several: Option<Head>,
}

/// The 16-bit number at `at`.
fn number(head: &Head, at: usize) -> u16 {
    head.get(at..at + 2).map_or(0, |field| u16::from(field[0]) << 8 | u16::from(field[1]))
}

impl Mirror {
    pub(crate) const fn new(config: &NetConfig, port: u16) -> Self {
        Self { config: *config, port, several: None }
    }

    /// Answers `frame`. Returns the length of what is to be sent, if anything is.
    fn answer(
        &mut self,
        service: &mut impl Service,
        frame: &[u8],
        reply: &mut TxBuffer,
    ) -> Option<usize> {
        let head: &Head = frame.first_chunk()?;
        if head[12..14] == [8, 6] {
            return self.answer_arp(head, reply);
        }
        let packet = frame.get(UDP..14 + usize::from(number(head, 16)))?;
        let is_host = !matches!(head[26], 0 | 127 | 224..) && head[26..30] != self.config.address;
        let is_whole = head[20] & 0x3f == 0 && head[21] == 0; // no fragment
        let is_ours = head[12..15] == [8, 0, 0x45] && head[30..34] == self.config.address;
        if !(is_host && is_whole && is_ours && Sum::of(&head[14..34]).is_intact()) {
            return None;
        }
        match head[23] {
            1 if packet[0] == 8 && Sum::of(packet).is_intact() => {
                let echo = reply.get_mut(UDP..UDP + packet.len())?;
                echo.copy_from_slice(packet);
                (echo[0], echo[2], echo[3]) = (0, 0, 0);
                let sum = Sum::of(echo).checksum();
                echo[2..4].copy_from_slice(&sum);
                reply[..UDP].copy_from_slice(&self.mirrored(head, packet.len())[..UDP]);
                Some(UDP + packet.len())
            }
            17 => self.answer_datagram(service, head, packet, reply),
            _ => None,
        }
    }

    fn answer_datagram(
        &mut self,
        service: &mut impl Service,
        head: &Head,
        packet: &[u8],
        reply: &mut TxBuffer,
    ) -> Option<usize> {
        let datagram = packet.get(..usize::from(number(head, 38)))?;
        let from =
            Endpoint { address: [head[26], head[27], head[28], head[29]], port: number(head, 34) };
        let pseudo = Sum::of(&head[26..34]).and(Sum::field(17)).and(Sum::field(number(head, 38)));
        let is_intact = number(head, 40) == 0 || pseudo.and(Sum::of(datagram)).is_intact();
        if number(head, 36) != self.port || is_answerer(from.port, self.port) || !is_intact {
            return None;
        }
        let (question, room) = (datagram.get(8..)?, reply.get_mut(HEAD..)?);
        let answered = service.answer_with_sum(question, from, room);
        if answered.is_none() && service.has_more() {
            self.several = Some(*head);
        }
        answered.map(|(length, sum)| self.send(head, length, sum, reply))
    }

    /// Puts the headers before an answer of `length` bytes with that sum.
    fn send(&self, question: &Head, length: usize, sum: Sum, reply: &mut TxBuffer) -> usize {
        let mut head = self.mirrored(question, 8 + length);
        head[34..36].copy_from_slice(&question[36..38]);
        head[36..38].copy_from_slice(&question[34..36]);
        head[38..40].copy_from_slice(&(8 + length as u16).to_be_bytes());
        head[40..].fill(0);
        let pseudo = Sum::of(&head[26..42]).and(Sum::field(17)).and(Sum::field(8 + length as u16));
        let sum = match pseudo.and(sum).checksum() {
            [0, 0] => [0xff; 2], // zero would mean that there is none
            sum => sum,
        };
        head[40..].copy_from_slice(&sum);
        reply[..HEAD].copy_from_slice(&head);
        HEAD + length
    }

    /// The head of a packet back, with `length` bytes behind the header of IPv4.
    fn mirrored(&self, question: &Head, length: usize) -> Head {
        let mut head = *question;
        head[..6].copy_from_slice(&question[6..12]);
        head[6..12].copy_from_slice(&self.config.mac);
        head[16..18].copy_from_slice(&(20 + length as u16).to_be_bytes());
        head[18..26].copy_from_slice(&[0, 0, 0x40, 0, 64, question[23], 0, 0]);
        head[26..30].copy_from_slice(&self.config.address);
        head[30..34].copy_from_slice(&question[26..30]);
        let sum = Sum::of(&head[14..34]).checksum();
        head[24..26].copy_from_slice(&sum);
        head
    }

    /// Which station has our address? This one does.
    fn answer_arp(&self, question: &Head, reply: &mut TxBuffer) -> Option<usize> {
        let is_request = question[14..22] == [0, 1, 8, 0, 6, 4, 0, 1];
        if !is_request || question[38..] != self.config.address || question[22] & 1 == 1 {
            return None;
        }
        let mut head = *question;
        head[..6].copy_from_slice(&question[22..28]);
        head[6..12].copy_from_slice(&self.config.mac);
        head[21] = 2; // a reply
        head[22..28].copy_from_slice(&self.config.mac);
        head[28..32].copy_from_slice(&self.config.address);
        head[32..].copy_from_slice(&question[22..32]);
        reply[..HEAD].copy_from_slice(&head);
        Some(HEAD)
    }
}

impl UdpStack for Mirror {
    fn poll<D: NetDevice, S: Service>(
        &mut self,
        device: &mut D,
        service: &mut S,
        _: u64,
        budget: u32,
    ) -> Result<u32, Error> {
        let mut handled = 0;
        while handled < budget {
            if device.is_full() {
                service.settle()?;
                device.sync()?;
            }
            let Slots { received, free: Some(buffer) } = device.slots() else { break };
            let length = if let Some(question) = self.several {
                let next = buffer.get_mut(HEAD..).and_then(|room| service.more(room));
                let Some((length, sum)) = next else {
                    self.several = None;
                    continue;
                };
                self.send(&question, length, sum, buffer)
            } else {
                let Some(frame) = received else { break };
                let length = self.answer(service, frame, buffer).unwrap_or(0);
                device.consume();
                length
            };
            if length > 0 {
                device.commit(length);
            }
            handled += 1;
        }
        service.settle()?;
        Ok(handled)
    }

    fn wait_micros(&mut self, _: u64) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use libos::net::conformance;

    use super::*;

    /// What every stack must do.
    #[test]
    fn conforms() {
        conformance::check(|config, port, _| Mirror::new(config, port));
    }
}
