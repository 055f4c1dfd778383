//! eBPF programs, written as one would write them by hand.
//!
//! As for Linux' packet hooks, register 1 points to the addresses of the frame's first
//! byte and of its end, and a program asks for the length before it loads. The
//! fields of the header are loaded in network order, with constants turned round
//! instead.

use anyhow::{Result, ensure};

use crate::predicates::{Predicate, STATION, Transport, What};

/// Instructions (RFC 9669) and what they are called there.
mod op {
    pub(super) const LDXB: u8 = 0x71;
    pub(super) const LDXH: u8 = 0x69;
    pub(super) const LDXW: u8 = 0x61;
    pub(super) const LDXDW: u8 = 0x79;
    pub(super) const ADD: u8 = 0x07;
    pub(super) const ADD_REG: u8 = 0x0f;
    pub(super) const AND: u8 = 0x57;
    pub(super) const LSH: u8 = 0x67;
    pub(super) const MOV: u8 = 0xb7;
    pub(super) const MOV_REG: u8 = 0xbf;
    pub(super) const TO_BE: u8 = 0xdc;
    pub(super) const EXIT: u8 = 0x95;
    pub(super) const JA: u8 = 0x05;
    pub(super) const JGT: u8 = 0x25;
    pub(super) const JGT_REG: u8 = 0x2d;
    pub(super) const JLT: u8 = 0xa5;
    pub(super) const JNE: u8 = 0x55;
    pub(super) const JNE32: u8 = 0x56;
    pub(super) const JSET: u8 = 0x45;
}

/// Registers: what the program was given; the frame's end and its base so far; scratch.
const CONTEXT: u8 = 1;
const BASE: u8 = 2;
const END: u8 = 3;
const FIELD: u8 = 4;

/// What the program returns if the frame is not for it.
pub(super) const NO: u32 = 0;

/// A program under construction, with one block at which all tests arrive that fail.
#[derive(Default)]
struct Code {
    bytes: Vec<u8>,
    /// Jumps to that block, by number of instruction.
    failing: Vec<usize>,
    /// A jump is longer than 16 bits can say.
    too_far: bool,
}

impl Code {
    fn emit(&mut self, opcode: u8, to: u8, from: u8, offset: i16, constant: u32) -> usize {
        self.bytes.extend([opcode, from << 4 | to]);
        self.bytes.extend(offset.to_le_bytes());
        self.bytes.extend(constant.to_le_bytes());
        self.bytes.len() / 8 - 1
    }

    fn load(&mut self, opcode: u8, at: u16) {
        self.emit(opcode, FIELD, BASE, at as i16, 0);
    }

    /// Jumps to the end if the comparison of the field holds.
    fn fail_if(&mut self, opcode: u8, constant: u32) {
        let at = self.emit(opcode, FIELD, 0, 0, constant);
        self.failing.push(at);
    }

    fn require_byte(&mut self, at: u16, value: u8) {
        self.load(op::LDXB, at);
        self.fail_if(op::JNE, value.into());
    }

    fn require_half(&mut self, at: u16, value: u16) {
        self.load(op::LDXH, at);
        self.fail_if(op::JNE, value.to_be().into());
    }

    fn require_word(&mut self, at: u16, value: u32) {
        self.load(op::LDXW, at);
        self.fail_if(op::JNE32, value.to_be());
    }

    /// `length` bytes from the base on must be there.
    fn require_length(&mut self, length: u16) {
        self.emit(op::MOV_REG, FIELD, BASE, 0, 0);
        self.emit(op::ADD, FIELD, 0, 0, length.into());
        let at = self.emit(op::JGT_REG, FIELD, END, 0, 0);
        self.failing.push(at);
    }

    fn start(&mut self) {
        self.emit(op::LDXDW, BASE, CONTEXT, 0, 0);
        self.emit(op::LDXDW, END, CONTEXT, 8, 0);
    }

    /// IPv4 at `at` with this protocol; not a later fragment if `first`.
    fn require_ipv4(&mut self, at: u16, protocol: u8, first: bool) {
        self.require_half(at - 2, 0x0800);
        self.require_byte(at + 9, protocol);
        if first {
            self.load(op::LDXH, at + 6);
            self.fail_if(op::JSET, 0x1fff_u16.to_be().into());
        }
    }

    /// Moves the base so that the transport header, of which `length` bytes must be
    /// there, is at `at`.
    fn skip_ipv4(&mut self, at: u16, length: u16) {
        self.load(op::LDXB, at);
        self.emit(op::AND, FIELD, 0, 0, 15);
        self.fail_if(op::JLT, 5);
        self.emit(op::LSH, FIELD, 0, 0, 2);
        self.emit(op::ADD_REG, BASE, FIELD, 0, 0);
        self.require_length(at + length);
    }

    fn answer(&mut self, value: u32) {
        self.emit(op::MOV, 0, 0, 0, value);
        self.emit(op::EXIT, 0, 0, 0, 0);
    }

    /// Where the next instruction will be.
    fn here(&self) -> usize {
        self.bytes.len() / 8
    }

    /// The block for tests that fail.
    fn place_failure(&mut self) {
        let here = self.here();
        self.answer(NO);
        for jump in std::mem::take(&mut self.failing) {
            self.direct(jump, here);
        }
    }

    fn finish(self) -> Result<Vec<u8>> {
        ensure!(!self.too_far, "a jump does not reach: its distance has 16 bits");
        Ok(self.bytes)
    }

    fn direct(&mut self, jump: usize, target: usize) {
        let offset = i16::try_from(target as i64 - jump as i64 - 1);
        let place = self.bytes.get_mut(jump * 8 + 2..jump * 8 + 4);
        match (offset, place) {
            (Ok(offset), Some(place)) => place.copy_from_slice(&offset.to_le_bytes()),
            _ => self.too_far = true,
        }
    }
}

/// A program that answers 1 to the frames of one predicate.
pub(super) fn of(predicate: &Predicate) -> Result<Vec<u8>> {
    let mut code = Code::default();
    let at = if predicate.vlan.is_some() { 18 } else { 14 };
    code.start();
    match predicate.what {
        What::Arp(_) => code.require_length(at + 28),
        What::Icmp(_) | What::Ports { .. } => code.require_length(at + 20),
    }
    if let Some(zeros) = predicate.zeros {
        code.load(op::LDXW, 6);
        code.fail_if(op::JSET, zeros.to_be());
    }
    if let Some(vlan) = predicate.vlan {
        code.require_half(12, 0x8100);
        code.load(op::LDXH, 14);
        code.emit(op::AND, FIELD, 0, 0, 0x0fff_u16.to_be().into());
        code.fail_if(op::JNE, vlan.to_be().into());
    }
    match predicate.what {
        What::Arp(target) => {
            code.require_half(at - 2, 0x0806);
            code.require_word(at + 24, target.to_bits());
        }
        What::Icmp(to) => {
            code.require_ipv4(at, 1, false);
            code.require_word(at + 16, to.to_bits());
        }
        What::Ports { over, to, ports: (first, last), from } => {
            let protocol = match over {
                Transport::Udp => 17,
                Transport::Tcp => 6,
            };
            code.require_ipv4(at, protocol, true);
            code.require_word(at + 16, to.to_bits());
            if let Some((source, _)) = from {
                code.require_word(at + 12, source.to_bits());
            }
            code.skip_ipv4(at, 4);
            if let Some((_, port)) = from {
                code.require_half(at, port);
            }
            if first == last {
                code.require_half(at + 2, first);
            } else {
                code.load(op::LDXH, at + 2);
                code.emit(op::TO_BE, FIELD, 0, 0, 16);
                code.fail_if(op::JLT, first.into());
                code.fail_if(op::JGT, last.into());
            }
        }
    }
    code.answer(1);
    code.place_failure();
    code.finish()
}

/// A program that answers to UDP for [`STATION`] with the number beside the port, and
/// else with [`NO`]. `ports` ascend.
pub(super) fn tree(ports: &[(u16, u32)]) -> Result<Vec<u8>> {
    let mut code = Code::default();
    code.start();
    code.require_length(34);
    code.require_ipv4(14, 17, true);
    code.require_word(30, STATION.to_bits());
    code.skip_ipv4(14, 4);
    code.load(op::LDXH, 16);
    code.emit(op::TO_BE, FIELD, 0, 0, 16);
    // In the middle, where jumps from the beginning reach it.
    let jump = code.emit(op::JA, 0, 0, 0, 0);
    code.place_failure();
    let here = code.here();
    code.direct(jump, here);
    branch(&mut code, ports);
    code.finish()
}

/// Ends with an answer in each of its leaves.
fn branch(code: &mut Code, ports: &[(u16, u32)]) {
    match ports {
        [] => code.answer(NO),
        [(port, number)] => {
            let jump = code.emit(op::JNE, FIELD, 0, 0, (*port).into());
            code.answer(*number);
            let here = code.here();
            code.answer(NO);
            code.direct(jump, here);
        }
        _ => {
            let (low, high) = ports.split_at(ports.len() / 2);
            let most = low.last().map_or(0, |&(port, _)| port);
            let jump = code.emit(op::JGT, FIELD, 0, 0, most.into());
            branch(code, low);
            let here = code.here();
            code.direct(jump, here);
            branch(code, high);
        }
    }
}
