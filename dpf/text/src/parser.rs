//! The terms of a conjunction.
//!
//! ```text
//! expression = term { ("and" | "&&") term }
//! term       = "(" expression ")" | layer [ rest ] | direction place | "vlan" [ number ]
//!            | "greater" number | "len" ( ">" | ">=" ) number | "multicast" | "broadcast"
//! ```
//!
//! What a term means depends on the others; that is the module `meaning`.

use alloc::format;
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use core::ops::Range;

use crate::comparison::{self, Relation};
use crate::error::Problem;
use crate::lexer::{Lexeme, Token, tokens};

/// Which header an offset or a name belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    Ethernet,
    Ip,
    Arp,
    /// Behind the IPv4 header, by protocol number.
    Transport(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Source,
    Destination,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The frame is of this layer, and that is all.
    Is(Layer),
    EtherType(u16),
    IpProtocol(u8),
    /// The address ANDed with the mask. No layer: IPv4 or ARP, as the rest says.
    Address {
        layer: Option<Layer>,
        direction: Direction,
        address: u32,
        mask: u32,
    },
    /// No layer: of the transport protocol that the rest says.
    Ports {
        layer: Option<Layer>,
        direction: Direction,
        lo: u16,
        hi: u16,
    },
    Station {
        direction: Direction,
        address: u64,
    },
    Multicast,
    Vlan(Option<u16>),
    /// The atom's offset counts from the start of the layer.
    Compare {
        layer: Layer,
        atom: dpf::Atom,
    },
    Longer(u16),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    pub(crate) kind: Kind,
    pub(crate) at: Range<usize>,
}

/// All terms of a text.
pub(crate) fn terms(text: &str) -> Result<Vec<Term>, Problem> {
    let mut parser = Parser { tokens: tokens(text)?, next: 0, terms: Vec::new() };
    if parser.peek() == Token::End {
        let message = "an empty expression takes every frame, and a filter may not";
        return Err(parser.problem(message).instead("say what is wanted: `ip`, `arp`, …"));
    }
    parser.expression(0)?;
    match parser.peek() {
        Token::End => Ok(parser.terms),
        Token::Symbol(")") => Err(parser.problem("there is no `(` that this would close")),
        _ => Err(parser.problem("`and` is missing before this")),
    }
}

/// Deeper parentheses are refused, so that the stack is bounded.
const DEPTH: usize = 32;

const ONE_SET: &str = "a filter is a conjunction: install one filter for each alternative";
const NO_NOT: &str =
    "a filter is a conjunction without negation; install a filter for what is wanted";

struct Parser<'t> {
    tokens: Vec<Lexeme<'t>>,
    next: usize,
    terms: Vec<Term>,
}

impl<'t> Parser<'t> {
    fn lexeme(&self) -> Lexeme<'t> {
        self.tokens.get(self.next).or(self.tokens.last()).cloned().unwrap_or((Token::End, 0..0))
    }

    fn peek(&self) -> Token<'t> {
        self.lexeme().0
    }

    /// The next token's place.
    fn place(&self) -> Range<usize> {
        self.lexeme().1
    }

    fn problem(&self, message: impl Into<alloc::string::String>) -> Problem {
        Problem::new(&self.place(), message)
    }

    fn take(&mut self) -> Lexeme<'t> {
        let lexeme = self.lexeme();
        self.next += 1;
        lexeme
    }

    fn accept(&mut self, token: Token<'_>) -> bool {
        let found = self.peek() == token;
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &'static str) -> Result<(), Problem> {
        match self.accept(Token::Symbol(symbol)) {
            true => Ok(()),
            false => Err(self.problem(format!("`{symbol}` is missing here"))),
        }
    }

    fn expression(&mut self, depth: usize) -> Result<(), Problem> {
        if depth > DEPTH {
            return Err(self.problem("too many parentheses"));
        }
        loop {
            self.term(depth)?;
            match self.peek() {
                Token::Word("and") | Token::Symbol("&&") => self.next += 1,
                Token::Word("or") | Token::Symbol("||") => {
                    return Err(self.problem("`or` cannot be said in one filter").instead(ONE_SET));
                }
                _ => return Ok(()),
            }
        }
    }

    fn term(&mut self, depth: usize) -> Result<(), Problem> {
        let (token, at) = self.lexeme();
        match token {
            Token::Symbol("(") => {
                self.next += 1;
                self.expression(depth + 1)?;
                return self.expect(")");
            }
            Token::Word("not") | Token::Symbol("!") => {
                return Err(self.problem("`not` cannot be said in a filter").instead(NO_NOT));
            }
            Token::End => return Err(self.problem("a term is missing here")),
            Token::Symbol(symbol) => {
                return Err(self.problem(format!("a term cannot begin with `{symbol}`")));
            }
            Token::Word(word) => {
                self.next += 1;
                let kind = self.kind(word, &at)?;
                let end = self.tokens.get(self.next - 1).map_or(at.end, |(_, last)| last.end);
                self.terms.push(Term { kind, at: at.start..end });
            }
        }
        Ok(())
    }

    /// The term that begins with `word`, which has been taken.
    fn kind(&mut self, word: &str, at: &Range<usize>) -> Result<Kind, Problem> {
        let layer = match word {
            "ether" => Layer::Ethernet,
            "ip" => Layer::Ip,
            "arp" => Layer::Arp,
            "icmp" => Layer::Transport(1),
            "tcp" => Layer::Transport(6),
            "udp" => Layer::Transport(17),
            "ip6" => return Ok(Kind::EtherType(0x86dd)),
            "src" | "dst" => return self.directed(None, word),
            "multicast" => return Ok(Kind::Multicast),
            "broadcast" => {
                return Ok(Kind::Station {
                    direction: Direction::Destination,
                    address: (1 << 48) - 1,
                });
            }
            "vlan" => return self.vlan(),
            "greater" => return Ok(Kind::Longer(self.number(0xffff, "a length")? as u16)),
            "len" => return self.length(),
            "less" => return Err(shorter(at)),
            "host" | "net" | "port" | "portrange" => return Err(undirected(word, at)),
            _ if word.starts_with(|c: char| c.is_ascii_digit()) => {
                let message = format!("`{word}` alone does not say of what it is the value");
                let instead =
                    "write what it is: `dst host`, `dst port`, …; names are not repeated for it";
                return Err(Problem::new(at, message).instead(instead));
            }
            _ => {
                let known = "known are ether, ip, arp, icmp, tcp, udp, ip6, vlan, src, dst, greater, len, broadcast, multicast";
                return Err(Problem::new(at, format!("`{word}` is not known")).instead(known));
            }
        };
        self.of_layer(layer, word)
    }

    /// What follows the name of a layer.
    fn of_layer(&mut self, layer: Layer, name: &str) -> Result<Kind, Problem> {
        let (token, at) = self.lexeme();
        match token {
            Token::Symbol("[") => self.comparison(layer),
            Token::Word(word @ ("src" | "dst")) => {
                self.next += 1;
                self.directed(Some(layer), word)
            }
            Token::Word("proto") if matches!(layer, Layer::Ethernet | Layer::Ip) => {
                self.next += 1;
                self.protocol(layer)
            }
            Token::Word(word @ ("broadcast" | "multicast")) if layer == Layer::Ethernet => {
                self.next += 1;
                self.kind(word, &at)
            }
            Token::Word(word @ ("host" | "net" | "port" | "portrange")) => {
                Err(undirected(&format!("{name} {word}"), &at))
            }
            _ if layer == Layer::Ethernet => {
                let message = "`ether` alone says nothing";
                Err(self
                    .problem(message)
                    .instead("write `ether dst`, `ether src`, `ether proto`, …"))
            }
            _ => Ok(Kind::Is(layer)),
        }
    }

    /// What follows `src` or `dst`.
    fn directed(&mut self, layer: Option<Layer>, word: &str) -> Result<Kind, Problem> {
        let direction = if word == "src" { Direction::Source } else { Direction::Destination };
        let (token, at) = self.lexeme();
        let Token::Word(what) = token else {
            return Err(self.problem(format!("an address or `port` is missing behind `{word}`")));
        };
        if matches!(what, "or" | "and") {
            let both = format!("`{word} {what} …` of one value is not understood");
            return Err(Problem::new(&at, both).instead(if what == "or" {
                ONE_SET
            } else {
                "write both: `src host A and dst host A`"
            }));
        }
        if matches!(what, "host" | "net" | "port" | "portrange") {
            self.next += 1;
        }
        let fits = match what {
            "port" | "portrange" => matches!(layer, None | Some(Layer::Transport(6 | 17))),
            "net" => matches!(layer, None | Some(Layer::Ip | Layer::Arp)),
            _ => matches!(layer, None | Some(Layer::Ip | Layer::Arp | Layer::Ethernet)),
        };
        if !fits {
            let message = format!("this protocol has no `{word} {what}`");
            return Err(Problem::new(&at, message)
                .instead("addresses belong to ip, arp and ether, ports to tcp and udp"));
        }
        match what {
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
        let (token, at) = self.take();
        let port = |text: &str| text.parse::<u16>().ok();
        let Token::Word(text) = token else {
            return Err(Problem::new(&at, "a port is missing here"));
        };
        let ports = match text.split_once('-') {
            Some((lo, hi)) if range => port(lo).zip(port(hi)),
            _ => port(text).filter(|_| !range).map(|port| (port, port)),
        };
        match ports {
            Some((lo, hi)) if lo <= hi => Ok((lo, hi)),
            Some(_) => Err(Problem::new(&at, "the first port is greater than the last")),
            None if range => Err(Problem::new(&at, format!("`{text}` is no range of ports"))
                .instead("write two numbers up to 65535: `portrange 8000-8100`")),
            None => Err(Problem::new(&at, format!("`{text}` is no port"))
                .instead("write a number up to 65535; names are not looked up")),
        }
    }

    fn address(&mut self, net: bool) -> Result<(u32, u32), Problem> {
        let (token, at) = self.take();
        let Token::Word(text) = token else {
            return Err(Problem::new(&at, "an IPv4 address is missing here"));
        };
        let no_address = |text: &str| {
            Problem::new(&at, format!("`{text}` is no IPv4 address"))
                .instead("write four numbers: `10.0.2.15`; names are not looked up")
        };
        let (host, length) = text.split_once('/').map_or((text, None), |(h, l)| (h, Some(l)));
        let address = host.parse::<Ipv4Addr>().map_err(|_| no_address(host))?.to_bits();
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
                let mask =
                    mask.parse::<Ipv4Addr>().map_err(|_| Problem::new(&at, "this is no mask"))?;
                mask.to_bits()
            }
            None => {
                let message = "the size of the net is missing";
                return Err(Problem::new(&at, message).instead(format!("write it: `{text}/24`")));
            }
            Some(length) => match length.parse::<u32>() {
                Ok(length @ 0..=32) => !u32::MAX.checked_shr(length).unwrap_or(0),
                _ => return Err(Problem::new(&at, "the prefix length is not 0 to 32")),
            },
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
        let mut bytes = text.split(':').map(|byte| {
            u8::from_str_radix(byte, 16).ok().filter(|_| byte.len() <= 2 && !byte.starts_with('+'))
        });
        let address = bytes.clone().count() == 6;
        let address =
            address.then(|| bytes.try_fold(0, |sum, byte| Some(sum << 8 | u64::from(byte?))));
        address.flatten().ok_or_else(|| {
            Problem::new(&at, format!("`{text}` is no Ethernet address"))
                .instead("write six bytes: `52:54:00:12:34:56`")
        })
    }

    fn protocol(&mut self, layer: Layer) -> Result<Kind, Problem> {
        let (token, at) = self.lexeme();
        let named = match token {
            Token::Word(word) => match word.trim_start_matches('\\') {
                "icmp" => Some(1),
                "tcp" => Some(6),
                "udp" => Some(17),
                "ip" => Some(0x0800),
                "arp" => Some(0x0806),
                "ip6" => Some(0x86dd),
                _ => None,
            },
            _ => None,
        };
        if let Some(number) = named.filter(|&number| (number > 0xff) == (layer == Layer::Ethernet))
        {
            self.next += 1;
            return Ok(if layer == Layer::Ip {
                Kind::IpProtocol(number as u8)
            } else {
                Kind::EtherType(number)
            });
        }
        if layer == Layer::Ip {
            return Ok(Kind::IpProtocol(self.number(0xff, "a protocol")? as u8));
        }
        match self.number(0xffff, "an Ethernet protocol")? as u16 {
            number @ 1536.. => Ok(Kind::EtherType(number)),
            _ => Err(Problem::new(&at, "a number below 1536 is a length, not a protocol")),
        }
    }

    fn vlan(&mut self) -> Result<Kind, Problem> {
        match self.peek() {
            Token::Word(word) if word.starts_with(|c: char| c.is_ascii_digit()) => {
                Ok(Kind::Vlan(Some(self.number(0xfff, "a VLAN")? as u16)))
            }
            _ => Ok(Kind::Vlan(None)),
        }
    }

    fn length(&mut self) -> Result<Kind, Problem> {
        let (token, at) = self.take();
        match token {
            Token::Symbol(">=") => Ok(Kind::Longer(self.number(0xffff, "a length")? as u16)),
            Token::Symbol(">") => Ok(Kind::Longer(self.number(0xfffe, "a length")? as u16 + 1)),
            Token::Symbol("<" | "<=" | "=" | "==" | "!=") => Err(shorter(&at)),
            _ => Err(Problem::new(&at, "`>=` and a length are missing here")),
        }
    }

    /// `[offset:size] & mask relation value`.
    fn comparison(&mut self, layer: Layer) -> Result<Kind, Problem> {
        self.expect("[")?;
        let offset = self.number(1513, "an offset")? as u16;
        let mut width = 1;
        if self.accept(Token::Symbol(":")) {
            let at = self.place();
            width = self.number(8, "a size")? as u8;
            if !matches!(width, 1 | 2 | 4 | 8) {
                return Err(Problem::new(&at, "a field has 1, 2, 4 or 8 bytes"));
            }
        }
        self.expect("]")?;
        let whole = u64::MAX >> (64 - 8 * u32::from(width));
        let mut mask = whole;
        let mut at = self.place();
        if self.accept(Token::Symbol("&")) {
            at = self.place();
            mask = self.constant()?;
            if mask == 0 || mask & !whole != 0 {
                let message =
                    format!("the mask picks no bits of a field of {width} bytes, or other bits");
                return Err(Problem::new(&at, message));
            }
        }
        let relation = match self.peek() {
            Token::Symbol(symbol) => Relation::of(symbol),
            _ => None,
        };
        let Some(relation) = relation else {
            return Err(self.problem("a comparison is missing here").instead(
                "the one operator before it is `& mask`; then `=`, `!=`, `<`, `<=`, `>` or `>=`",
            ));
        };
        self.next += 1;
        let value = self.constant()?;
        at.end = self.tokens.get(self.next - 1).map_or(at.end, |(_, last)| last.end);
        let atom = comparison::atom((offset, width, mask), relation, value, &at)?;
        Ok(Kind::Compare { layer, atom })
    }

    /// A number or several in parentheses, combined with `|`.
    fn constant(&mut self) -> Result<u64, Problem> {
        if !self.accept(Token::Symbol("(")) {
            return self.number(u64::MAX, "a number");
        }
        let mut sum = self.number(u64::MAX, "a number")?;
        while self.accept(Token::Symbol("|")) {
            sum |= self.number(u64::MAX, "a number")?;
        }
        self.expect(")")?;
        Ok(sum)
    }

    /// A number up to `most`: decimal, 0x hexadecimal, 0 octal, or a name that pcap has.
    fn number(&mut self, most: u64, what: &str) -> Result<u64, Problem> {
        let (token, at) = self.take();
        let Token::Word(text) = token else {
            return Err(Problem::new(&at, format!("{what} is missing here")));
        };
        let digits = |text: &str, radix| {
            u64::from_str_radix(text, radix).ok().filter(|_| !text.starts_with('+'))
        };
        let number = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
            Some(hexadecimal) => digits(hexadecimal, 16),
            None if text.len() > 1 && text.starts_with('0') => digits(text, 8),
            None => digits(text, 10),
        };
        let number =
            number.or_else(|| NAMES.iter().find(|(name, _)| *name == text).map(|&(_, n)| n));
        match number {
            Some(number) if number <= most => Ok(number),
            Some(_) => Err(Problem::new(&at, format!("{what} is at most {most}"))),
            None => {
                Err(Problem::new(&at, format!("{what} is missing here: `{text}` is no number")))
            }
        }
    }
}

/// The constants of pcap-filter(7).
const NAMES: [(&str, u64); 18] = [
    ("icmptype", 0),
    ("icmpcode", 1),
    ("tcpflags", 13),
    ("icmp-echoreply", 0),
    ("icmp-unreach", 3),
    ("icmp-sourcequench", 4),
    ("icmp-redirect", 5),
    ("icmp-echo", 8),
    ("icmp-timxceed", 11),
    ("icmp-paramprob", 12),
    ("tcp-fin", 1),
    ("tcp-syn", 2),
    ("tcp-rst", 4),
    ("tcp-push", 8),
    ("tcp-ack", 16),
    ("tcp-urg", 32),
    ("tcp-ece", 64),
    ("tcp-cwr", 128),
];

fn undirected(what: &str, at: &Range<usize>) -> Problem {
    let place = what.rsplit(' ').next().unwrap_or(what);
    let message =
        format!("`{what}` without a direction means source or destination, which is two filters");
    Problem::new(at, message).instead(format!("write `src {place}` or `dst {place}`"))
}

fn shorter(at: &Range<usize>) -> Problem {
    let message = "a filter cannot ask for a short frame, only for a long one";
    Problem::new(at, message).instead("write `len >= n`, or compare a length field: `ip[2:2] < n`")
}
