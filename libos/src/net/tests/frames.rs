//! Frames written by hand, so that the tests do not lean on what they test.

use super::{CLIENT, PORT, SERVER};

/// RFC 1071, the slow way.
pub(in crate::net) fn checksum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let words = bytes.chunks(2).map(|pair| {
        u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or_default()]))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&SERVER.mac[..], &CLIENT.mac, &ethertype.to_be_bytes(), payload].concat()
}

/// From client to server.
pub(in crate::net) fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut header = [0; 20];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&length.to_be_bytes());
    header[4..6].copy_from_slice(&0x1234_u16.to_be_bytes());
    header[8] = 64;
    header[9] = protocol;
    header[12..16].copy_from_slice(&CLIENT.address);
    header[16..20].copy_from_slice(&SERVER.address);
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    ethernet(0x0800, &[&header, payload].concat())
}

/// From port 54321 of the client to the server's port.
pub(in crate::net) fn udp(payload: &[u8]) -> Vec<u8> {
    let length = ((8 + payload.len()) as u16).to_be_bytes();
    let mut header = [0; 8];
    header[..2].copy_from_slice(&54321_u16.to_be_bytes());
    header[2..4].copy_from_slice(&PORT.to_be_bytes());
    header[4..6].copy_from_slice(&length);
    let pseudo = [&CLIENT.address[..], &SERVER.address, &[0, 17], &length].concat();
    let sum = match checksum(&[&pseudo, &header, payload]) {
        0 => 0xffff,
        sum => sum,
    };
    header[6..8].copy_from_slice(&sum.to_be_bytes());
    ipv4(17, &[&header, payload].concat())
}

pub(in crate::net) fn ping(payload: &[u8]) -> Vec<u8> {
    let mut message = [&[8, 0, 0, 0, 0xab, 0xcd, 0, 7], payload].concat();
    let sum = checksum(&[&message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ipv4(1, &message)
}

pub(in crate::net) fn arp_request() -> Vec<u8> {
    let mut frame = ethernet(
        0x0806,
        &[&[0, 1, 8, 0, 6, 4, 0, 1], &CLIENT.mac[..], &CLIENT.address, &[0; 6], &SERVER.address]
            .concat(),
    );
    frame[..6].fill(0xff);
    frame
}

/// Puts a right checksum into the IPv4 header of `frame`.
pub(in crate::net) fn fix_ipv4(frame: &mut [u8]) {
    frame[24..26].fill(0);
    let length = usize::from(frame[14] & 15) * 4;
    let sum = checksum(&[&frame[14..14 + length]]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}

/// The same frame from another station and address, with right checksums.
pub(in crate::net) fn from(mac: [u8; 6], address: [u8; 4], frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[6..12].copy_from_slice(&mac);
    frame[26..30].copy_from_slice(&address);
    // None, for UDP.
    if frame[23] == 17 {
        frame[40..42].fill(0);
    }
    fix_ipv4(&mut frame);
    frame
}

/// `address` is at `mac`, to the server.
pub(in crate::net) fn arp_reply(mac: [u8; 6], address: [u8; 4]) -> Vec<u8> {
    let mut frame = ethernet(
        0x0806,
        &[&[0, 1, 8, 0, 6, 4, 0, 2], &mac[..], &address, &SERVER.mac, &SERVER.address].concat(),
    );
    frame[6..12].copy_from_slice(&mac);
    frame
}
