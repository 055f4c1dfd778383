//! The store behind the host's own TCP, as small as it can be: one thread a connection, one
//! lock. Shows how a connection drives a [`Conversation`], and stands in for a store where only
//! the protocol matters.
//!
//! `serve [PORT]`, on the loopback interface; without a port, any that is free.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use kvstore::stream::{Conversation, MIN_INPUT, MIN_OUTPUT, Next};
use kvstore::{Config, Service, Time};

/// Bytes for the store.
const MEMORY: usize = 256 << 20;

fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(0);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let memory = vec![0; MEMORY].leak();
    let config = Config { pid: std::process::id(), ..Config::default() };
    let service = Service::new(memory, &config).expect("enough memory");
    let store = &*Box::leak(Box::new(Mutex::new(service)));
    println!("serving {}", listener.local_addr()?);
    let start = Instant::now();
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || {
            let mut conversation = Conversation::new();
            // A connection that breaks is over; what was taken of it counts.
            let _ = serve(stream, &mut conversation, store, start);
            conversation.end(&mut store.lock().unwrap_or_else(PoisonError::into_inner));
        });
    }
    Ok(())
}

fn serve(
    mut stream: TcpStream,
    conversation: &mut Conversation,
    store: &Mutex<Service<'_>>,
    start: Instant,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = vec![0; 4 * MIN_INPUT];
    let mut output = vec![0; 4 * MIN_OUTPUT];
    let mut waiting = 0;
    loop {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
        let now = Time { unix, uptime: start.elapsed().as_secs() as u32 };
        let progress = {
            let mut service = store.lock().unwrap_or_else(PoisonError::into_inner);
            conversation.serve(&mut service, now, &input[..waiting], &mut output)
        };
        stream.write_all(&output[..progress.produced])?;
        input.copy_within(progress.consumed..waiting, 0);
        waiting -= progress.consumed;
        match progress.next {
            Next::Close => return Ok(()),
            Next::Room => {}
            Next::Input => match stream.read(&mut input[waiting..])? {
                0 => return Ok(()),
                len => waiting += len,
            },
        }
    }
}
