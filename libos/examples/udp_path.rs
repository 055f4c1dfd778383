//! What step 4 of the packet path costs, in instructions.
//!
//! Drives the UDP fast path over real rings, with a doorbell that always has the
//! same requests, and a service that answers without looking. Count twice and
//! divide the difference:
//!
//! ```sh
//! cargo build --profile guest -p libos --example udp_path
//! for n in 1000 2000; do
//!     valgrind --tool=callgrind --callgrind-out-file=/dev/null \
//!         target/guest/examples/udp_path $n 100 100 2>&1 | grep refs
//! done
//! ```
//!
//! Arguments: batches of 64 requests, bytes of a request, bytes of an answer.

use std::alloc::{Layout, alloc_zeroed};
use std::hint::black_box;
use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;

use exo_abi::{Error, RingOrder, RingPage, SyncCounts};
use libos::net::checksum::Sum;
use libos::net::rings::{Doorbell, Rings};
use libos::net::udp::FastUdp;
use libos::net::{Endpoint, NetConfig, NetDevice, Service, UdpStack};

const BATCH: u32 = 64;

/// Gives every slot back, with the packet that is in it already.
struct Repeat(NonNull<RingPage>);

impl Doorbell for Repeat {
    fn ring(&mut self) -> Result<SyncCounts, Error> {
        // SAFETY: the ring page of the run, alive as long as the program.
        let page = unsafe { self.0.as_ref() };
        page.tx_consumed.0.store(page.tx_produced.0.load(Relaxed), Relaxed);
        page.rx_produced.0.store(page.rx_consumed.0.load(Relaxed).wrapping_add(BATCH), Relaxed);
        Ok(SyncCounts { taken: BATCH, refused: 0 })
    }
}

struct Constant(usize);

impl Service for Constant {
    fn answer(&mut self, request: &[u8], from: Endpoint, reply: &mut [u8]) -> Option<usize> {
        black_box((request.len(), from, reply.len()));
        Some(self.0)
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse().expect("a number"));
    let mut argument = |default: usize| arguments.next().unwrap_or(default);
    let (batches, request, answer) = (argument(1000), argument(100), argument(100));

    let config = NetConfig {
        mac: [2, 0, 0, 0, 0, 1],
        address: [10, 0, 2, 15],
        prefix_len: 24,
        gateway: [10, 0, 2, 2],
    };
    let frame = request_frame(&config, request);
    let order = RingOrder::new(6).expect("1 to 8");
    let layout = Layout::from_size_align(order.frames() as usize * 4096, 4096).expect("sound");
    // SAFETY: the layout is not empty.
    let run = NonNull::new(unsafe { alloc_zeroed(layout) }).expect("host has memory");
    // SAFETY: the run begins with a ring page; buffers lie within the run.
    unsafe {
        for slot in 0..order.slots() {
            let buffer = run.add(order.rx_offset(slot));
            buffer.copy_from_nonoverlapping(NonNull::from(&frame[..]).cast(), frame.len());
            let page = run.cast::<RingPage>().as_ref();
            page.rx_length[slot as usize].store(frame.len() as u16, Relaxed);
        }
    }
    // SAFETY: zeroed indices, and used by the rings and `Repeat` alone.
    let mut rings = unsafe { Rings::new(run, order, Repeat(run.cast())) };
    let mut stack = FastUdp::new(&config, 11211);
    let mut service = Constant(answer);
    let mut handled = 0;
    for _ in 0..batches {
        rings.sync().expect("never fails");
        handled += stack.poll(&mut rings, &mut service, 0, BATCH).expect("never fails");
    }
    println!("{handled} requests of {request} bytes, dropped: {}", stack.drops().total());
}

/// A request of `length` bytes from 10.0.2.2, checksums included.
fn request_frame(config: &NetConfig, length: usize) -> Vec<u8> {
    let udp_length = (8 + length) as u16;
    let mut frame = [&config.mac[..], &[2, 0, 0, 0, 0, 2], &[8, 0]].concat();
    frame.extend([0x45, 0]);
    frame.extend((20 + udp_length).to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 2, 2]);
    frame.extend(config.address);
    let header_sum = Sum::of(&frame[14..]).checksum();
    frame[24..26].copy_from_slice(&header_sum);
    frame.extend(54321_u16.to_be_bytes());
    frame.extend(11211_u16.to_be_bytes());
    frame.extend(udp_length.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend((0..length).map(|i| i as u8));
    let pseudo = Sum::of(&frame[26..34]).and(Sum::field(17)).and(Sum::field(udp_length));
    let sum = pseudo.and(Sum::of(&frame[34..])).checksum();
    frame[40..42].copy_from_slice(&sum);
    frame
}
