//! Reads and runs a script.

mod segment;
mod service;

use std::collections::VecDeque;
use std::path::Path;

use libos::net::stream::TcpStack;
use libos::net::tcp::{BUFFER, FastTcp, TcpLimits};
use libos::net::wire::Wire;
use libos::net::{NetConfig, NetDevice};

use segment::{Numbers, Segment};
use service::Lines;

pub(crate) const SERVER: NetConfig = NetConfig {
    mac: [2, 0, 0, 0, 0, 1],
    address: [10, 0, 0, 1],
    prefix_len: 24,
    gateway: [10, 0, 0, 254],
};
pub(crate) const CLIENT: ([u8; 6], [u8; 4]) = ([2, 0, 0, 0, 0, 2], [10, 0, 0, 2]);
pub(crate) const PORTS: (u16, u16) = (40_000, 11_211);
/// Handshakes that may be incomplete in scripts.
const HALF_OPEN: u32 = 4;
/// How exact times are, in microseconds: the stack counts milliseconds.
const TOLERANCE: u64 = 2000;

/// Runs the script in `file`. The error says where it was not followed.
pub(crate) fn run(file: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file:?}: {error}"))?;
    let mut memory = vec![0; 4 * BUFFER];
    let limits = TcpLimits { connections: 16, half_open: HALF_OPEN, ..TcpLimits::default() };
    let (far, near) = Wire::pair(64);
    let mut stage = Stage {
        stack: FastTcp::new(&SERVER, PORTS.1, &mut memory, limits, [1, 2], 0),
        service: Lines,
        near,
        far,
        now: 0,
        numbers: Numbers::default(),
        sent: VecDeque::new(),
    };
    let mut line_time = 0;
    for (number, line) in text.lines().enumerate() {
        let line = line.split("//").next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let failed =
            |error: String| format!("{}:{}: {line}\n    {error}", file.display(), number + 1);
        stage.line(line, &mut line_time).map_err(failed)?;
    }
    match stage.sent.front() {
        Some((time, segment)) => {
            Err(format!("{}: at {}: not expected: {segment}", file.display(), seconds(*time)))
        }
        None => Ok(()),
    }
}

fn seconds(micros: u64) -> String {
    format!("{:.3}", micros as f64 / 1e6)
}

struct Stage<'m> {
    stack: FastTcp<'m, service::State>,
    service: Lines,
    near: Wire,
    far: Wire,
    now: u64,
    numbers: Numbers,
    /// What has left, and when.
    sent: VecDeque<(u64, Segment)>,
}

impl Stage<'_> {
    fn line(&mut self, line: &str, time: &mut u64) -> Result<(), String> {
        let (when, what) = line.split_once(' ').ok_or("a time and what happens")?;
        let relative = when.strip_prefix('+');
        let value: f64 = relative.unwrap_or(when).parse().map_err(|_| "not a time")?;
        let value = (value * 1e6).round() as u64;
        *time = if relative.is_some() { *time + value } else { value };
        self.pass_until(*time);
        let what = what.trim();
        if let Some(count) = what.strip_prefix("flood ") {
            let count: u16 = count.parse().map_err(|_| "not a number")?;
            let syn = Segment::parse("S 0:0(0) win 1000 <mss 1460,sackOK,wscale 7>")?;
            for port in 0..count {
                self.say(&syn.frame(&self.numbers, 50_000 + port));
            }
            return Ok(());
        }
        if let Some(text) = what.strip_prefix("< ") {
            let segment = Segment::parse(text)?;
            self.say(&segment.frame(&self.numbers, PORTS.0));
            return Ok(());
        }
        let text = what.strip_prefix("> ").ok_or("neither < nor > nor flood")?;
        let wanted = Segment::parse(text)?;
        let Some((sent, segment)) = self.sent.pop_front() else {
            return Err("nothing was sent".to_owned());
        };
        if sent.abs_diff(*time) > TOLERANCE {
            return Err(format!("was sent at {}: {segment}", seconds(sent)));
        }
        if wanted.is_met_by(&segment) { Ok(()) } else { Err(format!("was: {segment}")) }
    }

    /// Lets time pass, and the stack do what it wants to do meanwhile.
    fn pass_until(&mut self, time: u64) {
        loop {
            let wait = TcpStack::<Lines>::wait_micros(&mut self.stack, self.now);
            match wait.map(|wait| self.now + wait) {
                Some(next) if next <= time + TOLERANCE / 2 => self.now = next.max(self.now + 1),
                _ => break,
            }
            self.poll();
        }
        self.now = self.now.max(time);
    }

    fn say(&mut self, frame: &[u8]) {
        if let Some(buffer) = self.far.slots().free {
            buffer[..frame.len()].copy_from_slice(frame);
        }
        self.far.commit(frame.len());
        self.far.sync().expect("a wire");
        self.poll();
    }

    fn poll(&mut self) {
        let polled = self.stack.poll(&mut self.near, &mut self.service, self.now, 64);
        polled.expect("a wire");
        self.near.sync().expect("a wire");
        while let Some(frame) = self.far.slots().received {
            if let Some(segment) = Segment::of_frame(frame, &mut self.numbers) {
                if std::env::var_os("PKT_PRINT").is_some() {
                    eprintln!("{} > {segment}", seconds(self.now));
                }
                self.sent.push_back((self.now, segment));
            }
            self.far.consume();
        }
    }
}
