//! Segments as scripts write them, and as frames.

use std::fmt;

use super::{CLIENT, PORTS, SERVER};

/// The server's first number, once it is known. The client's is zero.
#[derive(Default)]
pub(crate) struct Numbers {
    server: u32,
}

/// A segment, with numbers that count from each side's first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Segment {
    bits: String,
    first: u32,
    length: usize,
    ack: Option<u32>,
    window: Option<u16>,
    options: Option<Vec<String>>,
    data: Option<Vec<u8>>,
}

impl Segment {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (text, data) = match text.split_once('"') {
            Some((text, data)) => {
                let data = data.strip_suffix('"').ok_or("the data does not end")?;
                (text, Some(data.replace("\\n", "\n").into_bytes()))
            }
            None => (text, None),
        };
        let (text, options) = match text.split_once('<') {
            Some((text, options)) => {
                let options = options.trim().strip_suffix('>').ok_or("the options do not end")?;
                (text, Some(options.split(',').map(|option| option.trim().to_owned()).collect()))
            }
            None => (text, None),
        };
        let mut words = text.split_whitespace();
        let bits = words.next().ok_or("no control bits")?.to_owned();
        if bits.chars().any(|bit| !"SFRP.".contains(bit)) {
            return Err(format!("{bits} are no control bits"));
        }
        let range = words.next().ok_or("no numbers")?;
        let numbers: Vec<_> = range.split([':', '(', ')']).collect();
        let number = |at: usize| numbers.get(at).and_then(|number| number.parse::<u32>().ok());
        let (first, end, length) = number(0)
            .zip(number(1))
            .zip(number(2))
            .map(|((a, b), c)| (a, b, c))
            .ok_or("numbers?")?;
        if first + length != end {
            return Err(format!("{first} and {length} are not {end}"));
        }
        if data.as_ref().is_some_and(|data| data.len() != length as usize) {
            return Err(format!("the data is {} bytes", data.map_or(0, |data| data.len())));
        }
        let mut segment =
            Self { bits, first, length: length as usize, options, data, ..Self::default() };
        while let Some(word) = words.next() {
            let value = words.next().and_then(|value| value.parse::<u32>().ok());
            match (word, value) {
                ("ack", Some(value)) => segment.ack = Some(value),
                ("win", Some(value)) => segment.window = Some(value as u16),
                _ => return Err(format!("{word}?")),
            }
        }
        if segment.bits.contains('.') != segment.ack.is_some() {
            return Err("an acknowledgement is `.` and `ack`".to_owned());
        }
        Ok(segment)
    }

    /// Whether `sent` is as this one wants it.
    pub(crate) fn is_met_by(&self, sent: &Self) -> bool {
        let is_as = |wanted: bool, same: bool| !wanted || same;
        (&self.bits, self.first, self.length, self.ack)
            == (&sent.bits, sent.first, sent.length, sent.ack)
            && is_as(self.window.is_some(), self.window == sent.window)
            && is_as(self.options.is_some(), self.options == sent.options)
            && is_as(self.data.is_some(), self.data == sent.data)
    }

    /// From the client's `port` to the server.
    pub(crate) fn frame(&self, numbers: &Numbers, port: u16) -> Vec<u8> {
        let bit = |(bit, value): (char, u8)| if self.bits.contains(bit) { value } else { 0 };
        let bits: u8 = [('F', 1), ('S', 2), ('R', 4), ('P', 8), ('.', 16)].map(bit).iter().sum();
        let mut options = Vec::new();
        for option in self.options.iter().flatten() {
            let words: Vec<_> = option.split([' ', ':']).collect();
            let number = |at: usize| words[at].parse::<u32>().expect("a number");
            match words[0] {
                "mss" => options.extend([&[2, 4][..], &(number(1) as u16).to_be_bytes()].concat()),
                "wscale" => options.extend([3, 3, number(1) as u8]),
                "sackOK" => options.extend([4, 2]),
                "nop" => options.push(1),
                "sack" => {
                    options.extend([5, (2 + 4 * (words.len() - 1)) as u8]);
                    let edges = (1..words.len()).map(|at| number(at).wrapping_add(numbers.server));
                    options.extend(edges.flat_map(u32::to_be_bytes));
                }
                other => panic!("option {other}?"),
            }
        }
        options.resize(options.len().next_multiple_of(4), 0);
        let mut tcp = Vec::new();
        tcp.extend(port.to_be_bytes());
        tcp.extend(PORTS.1.to_be_bytes());
        tcp.extend(self.first.to_be_bytes());
        tcp.extend(self.ack.map_or(0, |ack| ack.wrapping_add(numbers.server)).to_be_bytes());
        tcp.extend([((20 + options.len()) << 2) as u8, bits]);
        tcp.extend(self.window.unwrap_or(65_535).to_be_bytes());
        tcp.extend([0; 4]);
        tcp.extend(options);
        tcp.extend(self.data.clone().unwrap_or_else(|| vec![b'x'; self.length]));
        let length = (tcp.len() as u16).to_be_bytes();
        let sum = checksum(&[&CLIENT.1[..], &SERVER.address, &[0, 6], &length, &tcp].concat());
        tcp[16..18].copy_from_slice(&sum);
        let mut ip = vec![0x45, 0];
        ip.extend((20 + tcp.len() as u16).to_be_bytes());
        ip.extend([0, 0, 0, 0, 64, 6, 0, 0]);
        ip.extend(CLIENT.1);
        ip.extend(SERVER.address);
        let sum = checksum(&ip);
        ip[10..12].copy_from_slice(&sum);
        [&SERVER.mac[..], &CLIENT.0, &[8, 0], &ip, &tcp].concat()
    }

    /// A segment from the server, if it is for the script's client.
    pub(crate) fn of_frame(frame: &[u8], numbers: &mut Numbers) -> Option<Self> {
        assert_eq!(frame[23], 6, "nothing but TCP");
        assert_eq!((checksum(&frame[14..34]), &frame[..6]), ([0; 2], &CLIENT.0[..]));
        let tcp = &frame[34..];
        let length = (tcp.len() as u16).to_be_bytes();
        let pseudo = [&frame[26..34], &[0, 6], &length, tcp].concat();
        assert_eq!(checksum(&pseudo), [0; 2], "its checksum");
        let short = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let long = |at: usize| u32::from(short(at)) << 16 | u32::from(short(at + 2));
        if short(2) != PORTS.0 {
            return None;
        }
        let mut bits = String::new();
        for (letter, bit) in [('S', 2), ('F', 1), ('R', 4), ('P', 8), ('.', 16)] {
            if tcp[13] & bit != 0 {
                bits.push(letter);
            }
        }
        if tcp[13] & 2 != 0 {
            numbers.server = long(4);
        }
        let data_at = usize::from(tcp[12] >> 4) * 4;
        let mut options = Vec::new();
        let mut rest = &tcp[20..data_at];
        while let [kind, behind @ ..] = rest {
            if *kind == 1 {
                options.push("nop".to_owned());
                rest = behind;
                continue;
            }
            let value = &rest[2..usize::from(rest[1])];
            let edge = |bytes: &[u8]| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            options.push(match kind {
                2 => format!("mss {}", u16::from_be_bytes([value[0], value[1]])),
                3 => format!("wscale {}", value[0]),
                4 => "sackOK".to_owned(),
                5 => {
                    let pair = |pair: &[u8]| format!("{}:{}", edge(pair), edge(&pair[4..]));
                    format!("sack {}", value.chunks(8).map(pair).collect::<Vec<_>>().join(" "))
                }
                other => panic!("option {other}"),
            });
            rest = &rest[usize::from(rest[1])..];
        }
        // A reset without an acknowledgement has the number that its cause acknowledged.
        Some(Self {
            first: long(4).wrapping_sub(numbers.server),
            length: tcp.len() - data_at,
            ack: (tcp[13] & 16 != 0).then(|| long(8)),
            window: Some(short(14)),
            options: Some(options),
            data: Some(tcp[data_at..].to_vec()),
            bits,
        })
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bits, first, length, .. } = self;
        let end = first.wrapping_add(*length as u32);
        write!(f, "{bits} {first}:{end}({length})")?;
        if let Some(ack) = self.ack {
            write!(f, " ack {ack}")?;
        }
        if let Some(window) = self.window {
            write!(f, " win {window}")?;
        }
        if let Some(options) = self.options.as_ref().filter(|options| !options.is_empty()) {
            write!(f, " <{}>", options.join(","))?;
        }
        match &self.data {
            Some(data) if !data.is_empty() && data.len() < 40 => {
                write!(f, " {:?}", String::from_utf8_lossy(data))
            }
            _ => Ok(()),
        }
    }
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or_default()));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}
