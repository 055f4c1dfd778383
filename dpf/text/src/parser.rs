//! The terms of a conjunction.
//!
//! ```text
//! expression = term { ("and" | "&&") term }
//! term       = "(" expression ")" | comparison | layer [ rest ] | direction place
//!            | "vlan" [ number ] | "greater" number | "multicast" | "broadcast"
//! ```
//!
//! Comparisons are read in the module `arithmetic`, what follows `src` and `dst` in the
//! module `address`. What a term means depends on the others; that is the module `meaning`.

use alloc::format;
use alloc::vec::Vec;
use core::ops::Range;

use dpf::{Atom, MAX_FRAME};

use crate::error::Problem;
use crate::lexer::{Lexeme, Token, tokens};
use crate::number::{Base, is_number, read};
use crate::refusal;
use crate::term::{Direction, Kind, Layer, Term};

/// All terms of a text.
pub(crate) fn terms(text: &str) -> Result<Vec<Term>, Problem> {
    let mut parser = Parser { tokens: tokens(text)?, next: 0, depth: 0, terms: Vec::new() };
    if parser.peek() == Token::End {
        let message = "an empty expression takes every packet, and a filter may not";
        return Err(parser.problem(message).instead("say what is wanted: `ip`, `arp`, …"));
    }
    parser.expression()?;
    match parser.peek() {
        Token::End => Ok(parser.terms),
        _ => Err(parser.unexpected()),
    }
}

/// Deeper parentheses are refused, so that the stack is bounded.
const DEPTH: usize = 32;

/// What may begin a term. What else follows a term does not lack an `and`.
const BEGINNINGS: [&str; 21] = [
    "ether",
    "ip",
    "arp",
    "icmp",
    "tcp",
    "udp",
    "ip6",
    "icmp6",
    "vlan",
    "src",
    "dst",
    "greater",
    "less",
    "len",
    "broadcast",
    "multicast",
    "host",
    "net",
    "port",
    "portrange",
    "not",
];

pub(crate) struct Parser<'t> {
    tokens: Vec<Lexeme<'t>>,
    pub(crate) next: usize,
    /// Parentheses that are open.
    depth: usize,
    terms: Vec<Term>,
}

impl<'t> Parser<'t> {
    pub(crate) fn lexeme(&self) -> Lexeme<'t> {
        self.tokens.get(self.next).or(self.tokens.last()).cloned().unwrap_or((Token::End, 0..0))
    }

    pub(crate) fn peek(&self) -> Token<'t> {
        self.peek_at(0)
    }

    /// The token after `ahead` others.
    pub(crate) fn peek_at(&self, ahead: usize) -> Token<'t> {
        self.tokens.get(self.next + ahead).map_or(Token::End, |&(token, _)| token)
    }

    /// The next token's place.
    pub(crate) fn place(&self) -> Range<usize> {
        self.lexeme().1
    }

    /// The token that was taken last.
    fn last(&self) -> Option<&Lexeme<'t>> {
        self.next.checked_sub(1).and_then(|last| self.tokens.get(last))
    }

    /// The place of the token that was taken last.
    pub(crate) fn last_place(&self) -> Range<usize> {
        self.last().map_or(self.place(), |(_, place)| place.clone())
    }

    pub(crate) fn problem(&self, message: impl Into<alloc::string::String>) -> Problem {
        Problem::new(&self.place(), message)
    }

    /// The next token cannot follow what was read.
    fn unexpected(&self) -> Problem {
        match self.peek() {
            Token::End => self.problem("something is missing here"),
            Token::Symbol(")") => self.problem("there is no `(` that this would close"),
            Token::Symbol("(" | "!") => self.problem("`and` is missing before this"),
            Token::Word(word) if BEGINNINGS.contains(&word) => {
                self.problem("`and` is missing before this")
            }
            Token::Word(word) | Token::Symbol(word) => {
                let before = match self.last() {
                    Some((Token::Word(before) | Token::Symbol(before), _)) => before,
                    _ => "",
                };
                let problem = self.problem(format!("`{word}` is not understood behind `{before}`"));
                match Layer::named(before) {
                    Some(_) => problem.instead("name a field by its place: `ip[8] < 5`"),
                    None => problem,
                }
            }
        }
    }

    pub(crate) fn take(&mut self) -> Lexeme<'t> {
        let lexeme = self.lexeme();
        self.next += 1;
        lexeme
    }

    pub(crate) fn accept(&mut self, token: Token<'_>) -> bool {
        let found = self.peek() == token;
        self.next += usize::from(found);
        found
    }

    pub(crate) fn expect(&mut self, symbol: &'static str) -> Result<(), Problem> {
        match self.accept(Token::Symbol(symbol)) {
            true => Ok(()),
            false => Err(self.problem(format!("`{symbol}` is missing here"))),
        }
    }

    /// What `inner` reads, in parentheses.
    pub(crate) fn nested<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        self.expect("(")?;
        if self.depth == DEPTH {
            return Err(self.problem("too many parentheses"));
        }
        self.depth += 1;
        let read = inner(self)?;
        self.depth -= 1;
        match self.peek() {
            Token::Symbol(")") | Token::End => self.expect(")")?,
            _ => return Err(self.unexpected()),
        }
        Ok(read)
    }

    fn expression(&mut self) -> Result<(), Problem> {
        loop {
            self.term()?;
            match self.peek() {
                Token::Word("and") | Token::Symbol("&&") => self.next += 1,
                Token::Word("or") | Token::Symbol("||") => {
                    return Err(refusal::alternative(&self.place()));
                }
                _ => return Ok(()),
            }
        }
    }

    fn term(&mut self) -> Result<(), Problem> {
        let (token, at) = self.lexeme();
        let kind = match token {
            _ if self.at_comparison() => self.comparison()?,
            Token::Symbol("(") => return self.nested(Self::expression),
            Token::Word("not") | Token::Symbol("!") => {
                return Err(refusal::negation(&at));
            }
            Token::End => return Err(self.problem("a term is missing here")),
            Token::Symbol(symbol) => {
                return Err(self.problem(format!("a term cannot begin with `{symbol}`")));
            }
            Token::Word(word) => {
                self.next += 1;
                self.kind(word, &at)?
            }
        };
        self.terms.push(Term { kind, at: at.start..self.last_place().end });
        Ok(())
    }

    /// The term that begins with `word`, which has been taken.
    fn kind(&mut self, word: &str, at: &Range<usize>) -> Result<Kind, Problem> {
        if let Some(layer) = Layer::named(word) {
            return self.of_layer(layer, word, at);
        }
        match word {
            "src" | "dst" => self.directed(None, word),
            "multicast" => Ok(Kind::Multicast),
            "broadcast" => {
                Ok(Kind::Station { direction: Direction::Destination, address: (1 << 48) - 1 })
            }
            "vlan" => self.vlan(),
            "greater" => {
                let at = self.place();
                match self.number(u64::MAX, "a length")? {
                    length if length <= MAX_FRAME as u64 => Ok(Kind::Longer(length as u16)),
                    _ => Err(refusal::too_long(&at)),
                }
            }
            "less" => Err(refusal::shorter(at)),
            "host" | "net" | "port" | "portrange" => Err(refusal::undirected(word, at)),
            "proto" => {
                let message = "`proto` without a layer is of IPv4 or of IPv6, which is two filters";
                Err(Problem::new(at, message).instead("write `ip proto`"))
            }
            _ if word.starts_with(|c: char| c.is_ascii_digit()) => {
                let message = format!("`{word}` alone does not say of what it is the value");
                let instead =
                    "write what it is: `dst host`, `dst port`, …; names are not repeated for it";
                Err(Problem::new(at, message).instead(instead))
            }
            _ => {
                let known = "known are ether, ip, arp, icmp, tcp, udp, ip6, icmp6, vlan, src, dst, greater, len, broadcast, multicast";
                Err(Problem::new(at, format!("`{word}` is not known")).instead(known))
            }
        }
    }

    /// What follows the name of a layer, which is at `name_at`.
    fn of_layer(
        &mut self,
        layer: Layer,
        name: &str,
        name_at: &Range<usize>,
    ) -> Result<Kind, Problem> {
        let (token, at) = self.lexeme();
        let both = name_at.start..at.end;
        match token {
            Token::Word(word @ ("src" | "dst")) => {
                self.next += 1;
                self.directed(Some(layer), word)
            }
            Token::Word("proto") if layer == Layer::Ethernet => {
                self.next += 1;
                self.ether_protocol()
            }
            Token::Word("proto") if layer == Layer::Ip => {
                self.next += 1;
                Ok(Kind::IpProtocol(self.protocol()?))
            }
            Token::Word("proto") if layer == Layer::Ip6 => {
                self.next += 1;
                let number = self.protocol()?;
                Err(refusal::ip6_protocol(number, &(name_at.start..self.last_place().end)))
            }
            Token::Word(word @ ("broadcast" | "multicast")) => {
                self.next += 1;
                self.group(layer, name, word, &both)
            }
            Token::Word("host" | "net") if layer == Layer::Ip6 => Err(refusal::ipv6(&both)),
            Token::Word(word @ ("host" | "net" | "port" | "portrange")) => {
                Err(refusal::undirected(&format!("{name} {word}"), &at))
            }
            _ if layer == Layer::Ethernet => {
                let message = "`ether` alone says nothing";
                Err(self
                    .problem(message)
                    .instead("write `ether dst`, `ether src`, `ether proto`, …"))
            }
            _ if layer == Layer::Icmp6 => Err(refusal::ip6_protocol(58, name_at)),
            _ => Ok(Kind::Is(layer)),
        }
    }

    /// `broadcast` or `multicast` of a layer.
    fn group(
        &self,
        layer: Layer,
        name: &str,
        word: &str,
        at: &Range<usize>,
    ) -> Result<Kind, Problem> {
        match (layer, word) {
            (Layer::Ethernet, "multicast") => Ok(Kind::Multicast),
            (Layer::Ethernet, _) => {
                Ok(Kind::Station { direction: Direction::Destination, address: (1 << 48) - 1 })
            }
            // The first byte of the destination is 224 or more.
            (Layer::Ip, "multicast") => {
                Ok(Kind::Compare { layer, atom: Atom::masked(16, 1, 0xe0, 0xe0) })
            }
            (Layer::Ip6, "multicast") => {
                Ok(Kind::Compare { layer, atom: Atom::exact(24, 1, 0xff) })
            }
            (Layer::Ip, _) => {
                let message = "`ip broadcast` is two addresses of a net, all zeros and all ones \
                               behind a mask that a filter does not know";
                Err(Problem::new(at, message).instead(
                    "write the address: `ip dst host 10.0.2.255`, `ip dst host 255.255.255.255`; \
                     or `ether broadcast`",
                ))
            }
            _ => Err(Problem::new(at, format!("`{name}` has no `{word}`")).instead(
                "write `ether broadcast`, `ether multicast`, `ip multicast` or `ip6 multicast`",
            )),
        }
    }

    /// The protocol in an IP header: a number, or the name of one that is known.
    fn protocol(&mut self) -> Result<u8, Problem> {
        let (token, at) = self.lexeme();
        let number = match token {
            Token::Word(word) => match word.trim_start_matches('\\') {
                "icmp" => 1,
                "tcp" => 6,
                "udp" => 17,
                "icmp6" => 58,
                word if is_number(word) => return Ok(self.number(0xff, "a protocol")? as u8),
                word => {
                    let message = format!("the protocol `{word}` is not known by its name");
                    return Err(Problem::new(&at, message)
                        .instead("write its number, or icmp, tcp, udp or icmp6"));
                }
            },
            _ => return Err(Problem::new(&at, "a protocol is missing here")),
        };
        self.next += 1;
        Ok(number)
    }

    fn ether_protocol(&mut self) -> Result<Kind, Problem> {
        let (token, at) = self.lexeme();
        let number = match token {
            Token::Word(word) => match word.trim_start_matches('\\') {
                "ip" => 0x0800,
                "arp" => 0x0806,
                "ip6" => 0x86dd,
                word if is_number(word) => {
                    return match self.number(0xffff, "an Ethernet protocol")? as u16 {
                        number @ 1536.. => Ok(Kind::EtherType(number)),
                        _ => {
                            let message = "a number below 1536 is a length, not a protocol";
                            Err(Problem::new(&at, message))
                        }
                    };
                }
                word => {
                    let message = format!("the protocol `{word}` is not known by its name");
                    return Err(
                        Problem::new(&at, message).instead("write its number, or ip, arp or ip6")
                    );
                }
            },
            _ => return Err(Problem::new(&at, "an Ethernet protocol is missing here")),
        };
        self.next += 1;
        Ok(Kind::EtherType(number))
    }

    fn vlan(&mut self) -> Result<Kind, Problem> {
        match self.peek() {
            Token::Word(word) if word.starts_with(|c: char| c.is_ascii_digit()) => {
                Ok(Kind::Vlan(Some(self.number(0xfff, "a VLAN")? as u16)))
            }
            _ => Ok(Kind::Vlan(None)),
        }
    }

    /// A number up to `most`, or a name that pcap has for one.
    pub(crate) fn number(&mut self, most: u64, what: &str) -> Result<u64, Problem> {
        let (token, at) = self.take();
        let Token::Word(text) = token else {
            return Err(Problem::new(&at, format!("{what} is missing here")));
        };
        read(text, Base::Prefix, most).map_err(|wrong| wrong.problem(text, what, most, &at))
    }
}
