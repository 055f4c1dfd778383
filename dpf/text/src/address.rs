//! What follows `src` and `dst`: addresses, nets and ports.

use alloc::format;
use core::net::{Ipv4Addr, Ipv6Addr};

use crate::error::Problem;
use crate::lexer::Token;
use crate::number::{Base, Wrong, read};
use crate::parser::Parser;
use crate::refusal::{ipv6, undirected};
use crate::term::{Direction, Kind, Layer};

impl Parser<'_> {
    /// The rest of a term that began with `src` or `dst`, which was taken.
    pub(crate) fn directed(&mut self, layer: Option<Layer>, word: &str) -> Result<Kind, Problem> {
        let place = self.last_place();
        let mut direction = if word == "src" { Direction::Source } else { Direction::Destination };
        if let (Token::Word(joint @ ("and" | "or")), Token::Word(other @ ("src" | "dst"))) =
            (self.peek(), self.peek_at(1))
            && other != word
        {
            self.next += 2;
            if joint == "or" {
                let what = match self.peek() {
                    Token::Word(what @ ("net" | "port" | "portrange")) => what,
                    _ => "host",
                };
                let at = place.start..self.last_place().end;
                return Err(undirected(&format!("{word} or {other} {what}"), &at));
            }
            direction = Direction::Both;
        }
        let (token, at) = self.lexeme();
        let what = match token {
            Token::Word(what) if !matches!(what, "and" | "or") => what,
            _ => {
                let words = direction.words();
                return Err(
                    self.problem(format!("an address or `port` is missing behind `{words}`"))
                );
            }
        };
        if matches!(what, "host" | "net" | "port" | "portrange") {
            self.next += 1;
        }
        let fits = match what {
            "port" | "portrange" => matches!(layer, None | Some(Layer::Transport(6 | 17))),
            "net" => matches!(layer, None | Some(Layer::Ip | Layer::Arp)),
            _ => matches!(layer, None | Some(Layer::Ip | Layer::Arp | Layer::Ethernet)),
        };
        match what {
            _ if !fits && layer == Some(Layer::Ip6) && !matches!(what, "port" | "portrange") => {
                Err(ipv6(&at))
            }
            _ if !fits => {
                let message = match what {
                    "host" | "net" | "port" | "portrange" => {
                        format!("this protocol has no `{} {what}`", direction.words())
                    }
                    _ => format!("this protocol has no `{}`", direction.words()),
                };
                Err(Problem::new(&at, message)
                    .instead("addresses belong to ip, arp and ether, ports to tcp and udp"))
            }
            "port" | "portrange" => {
                let (lo, hi) = self.ports(what == "portrange")?;
                Ok(Kind::Ports { layer, direction, lo, hi })
            }
            _ if layer == Some(Layer::Ethernet) => {
                Ok(Kind::Station { direction, address: self.station()? })
            }
            _ => {
                let (address, mask) = self.address(what == "net")?;
                Ok(Kind::Address { layer, direction, address, mask })
            }
        }
    }

    fn ports(&mut self, range: bool) -> Result<(u16, u16), Problem> {
        const MOST: u64 = 0xffff;
        let (token, at) = self.take();
        let Token::Word(text) = token else {
            return Err(Problem::new(&at, "a port is missing here"));
        };
        if !range {
            return match read(text, Base::Prefix, MOST) {
                Ok(port) => Ok((port as u16, port as u16)),
                Err(Wrong::Word) => Err(Problem::new(&at, format!("`{text}` is no port"))
                    .instead("write a number up to 65535; names are not looked up")),
                Err(wrong) => Err(wrong.problem(text, "a port", MOST, &at)),
            };
        }
        let port = |text| read(text, Base::Ten, MOST).map(|port| port as u16);
        match text.split_once('-').map(|(lo, hi)| (port(lo), port(hi))) {
            Some((Ok(lo), Ok(hi))) if lo <= hi => Ok((lo, hi)),
            Some((Ok(_), Ok(_))) => {
                Err(Problem::new(&at, "the first port is greater than the last"))
            }
            _ => Err(Problem::new(&at, format!("`{text}` is no range of ports"))
                .instead("write two decimal numbers up to 65535: `portrange 8000-8100`")),
        }
    }

    /// An address and its mask: of a host, or of a net with `/length` or `mask`.
    fn address(&mut self, net: bool) -> Result<(u32, u32), Problem> {
        let (token, at) = self.take();
        let Token::Word(text) = token else {
            return Err(Problem::new(&at, "an IPv4 address is missing here"));
        };
        let (host, length) = text.split_once('/').map_or((text, None), |(h, l)| (h, Some(l)));
        let Some(address) = ipv4(host) else {
            if host.parse::<Ipv6Addr>().is_ok() {
                return Err(ipv6(&at));
            }
            return Err(Problem::new(&at, format!("`{host}` is no IPv4 address"))
                .instead("write four numbers: `10.0.2.15`; names are not looked up"));
        };
        let mask = match length {
            Some(_) if !net => {
                let message = "a host has no prefix length";
                return Err(Problem::new(&at, message).instead("write `net`"));
            }
            None if !net => u32::MAX,
            None if self.accept(Token::Word("mask")) => {
                let (token, at) = self.take();
                let Token::Word(mask) = token else {
                    return Err(Problem::new(&at, "a mask is missing here"));
                };
                ipv4(mask).ok_or_else(|| {
                    Problem::new(&at, format!("`{mask}` is no mask"))
                        .instead("write four numbers: `255.255.255.0`")
                })?
            }
            None => {
                let message = "the size of the net is missing";
                return Err(Problem::new(&at, message).instead(format!("write it: `{text}/24`")));
            }
            Some(length) => {
                let bits = read(length, Base::Prefix, 32)
                    .map_err(|wrong| wrong.problem(length, "a prefix length", 32, &at))?;
                !u32::MAX.checked_shr(bits as u32).unwrap_or(0)
            }
        };
        match address & !mask {
            0 => Ok((address, mask)),
            _ => Err(Problem::new(&at, "the address has bits outside of the net")
                .instead(format!("write {}", Ipv4Addr::from_bits(address & mask)))),
        }
    }

    fn station(&mut self) -> Result<u64, Problem> {
        let (token, at) = self.take();
        let Token::Word(text) = token else {
            return Err(Problem::new(&at, "an Ethernet address is missing here"));
        };
        bytes(text, ':', 6, Base::Sixteen, 2).ok_or_else(|| {
            Problem::new(&at, format!("`{text}` is no Ethernet address"))
                .instead("write six bytes: `52:54:00:12:34:56`")
        })
    }
}

/// Four decimal numbers, leading zeros or not: pcap has no octal ones here.
fn ipv4(text: &str) -> Option<u32> {
    bytes(text, '.', 4, Base::Ten, usize::MAX).map(|address| address as u32)
}

/// `count` bytes of at most `digits` digits each, the first as the most significant.
fn bytes(text: &str, between: char, count: usize, base: Base, digits: usize) -> Option<u64> {
    if text.split(between).count() != count {
        return None;
    }
    text.split(between).try_fold(0, |sum, part| {
        let byte = read(part, base, 0xff).ok().filter(|_| part.len() <= digits)?;
        Some(sum << 8 | byte)
    })
}
