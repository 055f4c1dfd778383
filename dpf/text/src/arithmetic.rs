//! Comparisons of a field with a number: `tcp[tcpflags] & (tcp-syn|tcp-ack) = tcp-syn`.
//!
//! ```text
//! comparison = value relation value
//! value      = masked { "|" masked }
//! masked     = primary { "&" primary }
//! primary    = NUMBER | "(" value ")" | layer "[" NUMBER [ ":" NUMBER ] "]" | "len"
//! ```
//!
//! As in pcap, `&` binds tighter than `|`, and either side may be the field. pcap computes
//! with fields; a filter masks one, so anything else than numbers is refused elsewhere.

use alloc::format;

use dpf::MAX_FRAME;

use crate::comparison::{self, Relation};
use crate::error::Problem;
use crate::lexer::Token;
use crate::number::is_number;
use crate::parser::Parser;
use crate::refusal::{shorter, too_long};
use crate::term::{Kind, Layer};

/// What stands on one side of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Constant(u64),
    /// The bits `mask` of `width` bytes at `offset`.
    Field {
        layer: Layer,
        offset: u16,
        width: u8,
        mask: u64,
    },
    /// Of the frame.
    Length,
}

/// The longest frame, as a bound of numbers.
const LONGEST: u64 = MAX_FRAME as u64;

impl Parser<'_> {
    /// Whether the next tokens begin a comparison and not another term.
    pub(crate) fn at_comparison(&self) -> bool {
        match self.peek() {
            Token::Symbol("(") => self.behind_parentheses().is_some_and(is_operator),
            Token::Word("len" | "length") => true,
            Token::Word(word) => match self.peek_at(1) {
                Token::Symbol("[") => Layer::named(word).is_some(),
                next => is_number(word) && is_operator(next),
            },
            _ => false,
        }
    }

    /// The token behind the parenthesis that closes the one that is next.
    fn behind_parentheses(&self) -> Option<Token<'_>> {
        let mut open = 0_usize;
        for ahead in 0.. {
            match self.peek_at(ahead) {
                Token::Symbol("(") => open += 1,
                Token::Symbol(")") if open == 1 => return Some(self.peek_at(ahead + 1)),
                Token::Symbol(")") => open -= 1,
                Token::End => break,
                _ => {}
            }
        }
        None
    }

    pub(crate) fn comparison(&mut self) -> Result<Kind, Problem> {
        let start = self.place().start;
        let left = self.value()?;
        let relation = match self.peek() {
            Token::Symbol(symbol) => Relation::of(symbol),
            _ => None,
        };
        let Some(relation) = relation else {
            let message = "a comparison is missing here";
            let instead = match left {
                Value::Length => "write `>=` or `>` and a number of bytes",
                _ => "write `=`, `!=`, `<`, `<=`, `>` or `>=` and a number",
            };
            return Err(self.problem(message).instead(instead));
        };
        self.next += 1;
        let right = self.value()?;
        let at = start..self.last_place().end;
        let (left, relation, right) = match left {
            Value::Constant(_) => (right, relation.turned(), left),
            _ => (left, relation, right),
        };
        match (left, right) {
            (Value::Field { layer, offset, width, mask }, Value::Constant(value)) => {
                let atom = comparison::atom((offset, width, mask), relation, value, &at)?;
                Ok(Kind::Compare { layer, atom })
            }
            (Value::Length, Value::Constant(value)) => {
                let least = match relation {
                    Relation::GreaterOrEqual => value,
                    Relation::Greater => value.saturating_add(1),
                    _ => return Err(shorter(&at)),
                };
                if least > LONGEST {
                    return Err(too_long(&at));
                }
                Ok(Kind::Longer(least as u16))
            }
            (Value::Constant(_), _) => {
                Err(Problem::new(&at, "this compares two numbers, and says nothing of a packet"))
            }
            _ => {
                Err(Problem::new(&at, "a field is compared with a number, not with another field"))
            }
        }
    }

    fn value(&mut self) -> Result<Value, Problem> {
        let mut sum = self.masked()?;
        loop {
            let at = self.place();
            if !self.accept(Token::Symbol("|")) {
                return Ok(sum);
            }
            sum = match (sum, self.masked()?) {
                (Value::Constant(a), Value::Constant(b)) => Value::Constant(a | b),
                _ => {
                    let message = "`|` joins numbers, not fields, and binds less tightly than `&`";
                    let instead = "put the numbers in parentheses: `& (tcp-syn|tcp-ack)`";
                    return Err(Problem::new(&at, message).instead(instead));
                }
            };
        }
    }

    fn masked(&mut self) -> Result<Value, Problem> {
        let mut product = self.primary()?;
        loop {
            let at = self.place();
            if !self.accept(Token::Symbol("&")) {
                return Ok(product);
            }
            let mut place = self.place();
            let factor = self.primary()?;
            place.end = self.last_place().end;
            product = match (product, factor) {
                (Value::Constant(a), Value::Constant(b)) => Value::Constant(a & b),
                (Value::Field { layer, offset, width, mask: before }, Value::Constant(mask))
                | (Value::Constant(mask), Value::Field { layer, offset, width, mask: before }) => {
                    let bits = 8 * u32::from(width);
                    if mask & !(u64::MAX >> (64 - bits)) != 0 {
                        let message = format!("the mask has bits beyond the {bits} of the field");
                        return Err(Problem::new(&place, message));
                    }
                    if mask & before == 0 {
                        return Err(Problem::new(&place, "the mask picks no bit of the field"));
                    }
                    Value::Field { layer, offset, width, mask: mask & before }
                }
                (Value::Length, _) | (_, Value::Length) => return Err(shorter(&at)),
                _ => {
                    return Err(Problem::new(&at, "a field is masked by a number, not by another"));
                }
            };
        }
    }

    fn primary(&mut self) -> Result<Value, Problem> {
        let value = match self.peek() {
            Token::Symbol("(") => self.nested(Self::value)?,
            Token::Word("len" | "length") => {
                self.next += 1;
                Value::Length
            }
            Token::Word(word) => match (Layer::named(word), self.peek_at(1)) {
                (Some(layer), Token::Symbol("[")) => {
                    self.next += 2;
                    self.field(layer)?
                }
                _ => Value::Constant(self.number(u64::MAX, "a number")?),
            },
            _ => Value::Constant(self.number(u64::MAX, "a number")?),
        };
        match self.peek() {
            Token::Symbol(operator @ ("<<" | ">>")) => {
                let message =
                    format!("a filter does not shift a field (`{operator}`), it masks it");
                let instead =
                    "compare where the bits are: `ip[0] & 0xf0 = 0x40` for `ip[0] >> 4 = 4`";
                Err(self.problem(message).instead(instead))
            }
            Token::Symbol(operator @ ("+" | "*" | "%" | "^"))
            | Token::Word(operator @ ("-" | "/")) => {
                let message = format!("a filter does not compute (`{operator}`)");
                Err(self
                    .problem(message)
                    .instead("it masks a field and compares: `ip[0] & 0xf > 5`"))
            }
            _ => Ok(value),
        }
    }

    /// `offset [ ":" size ] "]"` of a layer.
    fn field(&mut self, layer: Layer) -> Result<Value, Problem> {
        let offset = self.number(LONGEST - 1, "an offset")? as u16;
        let mut width = 1;
        if self.accept(Token::Symbol(":")) {
            let at = self.place();
            width = self.number(8, "a size")? as u8;
            if !matches!(width, 1 | 2 | 4 | 8) {
                return Err(Problem::new(&at, "a field has 1, 2, 4 or 8 bytes"));
            }
        }
        self.expect("]")?;
        Ok(Value::Field { layer, offset, width, mask: u64::MAX >> (64 - 8 * u32::from(width)) })
    }
}

/// Whether the token goes on with what a comparison begins with.
fn is_operator(token: Token<'_>) -> bool {
    match token {
        Token::Symbol(symbol) => {
            Relation::of(symbol).is_some()
                || matches!(symbol, "&" | "|" | "<<" | ">>" | "+" | "*" | "%" | "^")
        }
        Token::Word(word) => matches!(word, "-" | "/"),
        Token::End => false,
    }
}
