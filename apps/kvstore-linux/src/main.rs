//! The store as a Linux process.
//!
//! Step 5 of a packet's journey is the same library as in the exokernel's application
//! (`apps/kvstore`), with the same limits and answers. What lies before and behind it is
//! Linux: a UDP socket, from which up to 64 requests are taken with one system call
//! (`recvmmsg`) and to which their answers go with one (`sendmmsg`); and TCP connections at the
//! same port, which one thread serves.
//!
//! **Threads.** There is one store. Each thread has a socket of its own at the same port
//! (`SO_REUSEPORT`), and the store is locked while a batch is answered: most of what a
//! request costs is the kernel's receiving and sending, and that is not under the lock.
//! Linux deals packets out by addresses and ports, so all requests of one client socket
//! are answered by one thread, in order; a single client does not make use of several.
//! A partition of the keys for each thread would need no lock, but what one client stores
//! another would not find.
//!
//! | file | what it is |
//! |---|---|
//! | [`arguments`] | what can be chosen |
//! | [`socket`] | sockets at one port |
//! | [`batch`] | many datagrams with one system call |
//! | [`connections`] | TCP |
//! | [`store`] | the library, its memory, its clock and its journal |
//! | [`file`] | where the journal is |
//!
//! **Durable.** With `--durable` the answers to a batch wait until what it changed is in a file:
//! one write and one flush for all of it, made under the lock. With a `--promise` of less a thread
//! more sees to it that what was acknowledged is flushed in time.

mod arguments;
mod batch;
mod connections;
mod file;
mod socket;
mod store;

use std::convert::Infallible;
use std::io::{self, Write};
use std::net::{TcpListener, UdpSocket};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use clap::Parser;

use arguments::Arguments;
use batch::{Answers, Batch};
use kvstore::Time;
use kvstore::datagrams::Source;
use kvstore::durable::promise::Promise;
use store::Store;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let prepared = Store::new(&arguments).and_then(|store| Ok((store, sockets(&arguments)?)));
    let (store, (sockets, listener)) = match prepared {
        Ok((store, sockets)) => (Mutex::new(store), sockets),
        Err(error) => {
            eprintln!("kvstore: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let (Some(file), Ok(store)) = (&arguments.durable, store.lock()) {
        let _ = writeln!(io::stdout(), "kvstore: {}: {} items", file.display(), store.items());
    }
    let address = listener.as_ref().map(TcpListener::local_addr);
    let address = address.or_else(|| sockets.first().map(UdpSocket::local_addr));
    if let Some(Ok(address)) = address {
        // It serves whether or not this is read.
        let _ = writeln!(io::stdout(), "kvstore: serving {address}");
    }
    thread::scope(|scope| {
        if let Some(listener) = listener {
            scope.spawn(|| {
                let Err(error) = connections::serve(listener, arguments.connections, &store);
                eprintln!("kvstore: TCP: {error}");
                std::process::exit(1)
            });
        }
        if arguments.promise != Promise::Always {
            scope.spawn(|| keep_in_time(&store, arguments.promise));
        }
        for socket in &sockets {
            scope.spawn(|| {
                let served = if arguments.echo { echo(socket) } else { serve(socket, &store) };
                let Err(error) = served;
                eprintln!("kvstore: network: {error}");
                // The others would serve only some of the clients.
                std::process::exit(1)
            });
        }
    });
    ExitCode::FAILURE
}

/// Sockets for datagrams, unless users have to log in, and, unless there is no store to be served,
/// one for connections, all at one port.
fn sockets(arguments: &Arguments) -> Result<(Vec<UdpSocket>, Option<TcpListener>), String> {
    /// How often a free number is looked for that is free for both.
    const TRIES: u32 = 16;
    let mut tries = 0;
    loop {
        tries += 1;
        let sockets = socket::bind(arguments.address(), arguments.threads)?;
        let bound = sockets.first().and_then(|socket| socket.local_addr().ok());
        let mut address = arguments.address();
        address.set_port(bound.map_or(address.port(), |bound| bound.port()));
        if arguments.echo {
            return Ok((sockets, None));
        }
        match connections::bind(address) {
            // No datagram belongs to a user that has logged in.
            Ok(listener) if arguments.auth_file.is_some() => return Ok((vec![], Some(listener))),
            Ok(listener) => return Ok((sockets, Some(listener))),
            Err(_) if arguments.address().port() == 0 && tries < TRIES => {}
            Err(error) => return Err(error),
        }
    }
}

/// Has the store keep its promise while nothing is asked.
fn keep_in_time(store: &Mutex<Store>, promise: Promise) -> Infallible {
    loop {
        let wait = {
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            store.commit();
            store.wait()
        };
        // What is acknowledged meanwhile is not due before that.
        thread::sleep(wait.unwrap_or(Duration::from_micros(promise.lag_micros())));
    }
}

/// Sends back what has come.
fn echo(socket: &UdpSocket) -> io::Result<Infallible> {
    let mut batch = Batch::new();
    loop {
        batch.receive(socket)?;
        batch.answer(socket, &mut |request: &[u8], reply: &mut [u8]| {
            reply.get_mut(..request.len())?.copy_from_slice(request);
            Some(request.len())
        });
        batch.send(socket);
    }
}

/// A store, and the time of a batch.
struct Serving<'s> {
    store: &'s mut Store,
    now: Time,
}

impl Answers for Serving<'_> {
    fn answer(&mut self, request: &[u8], from: Source, reply: &mut [u8]) -> Option<usize> {
        self.store.answer(request, from, self.now, reply)
    }

    fn has_more(&self) -> bool {
        self.store.has_more()
    }

    fn before_sending(&mut self) {
        self.store.commit();
    }

    fn more(&mut self, reply: &mut [u8]) -> Option<usize> {
        self.store.more(reply)
    }
}

/// Takes what has come, answers it, sends the answers; again and again.
fn serve(socket: &UdpSocket, store: &Mutex<Store>) -> io::Result<Infallible> {
    let mut batch = Batch::new();
    loop {
        batch.receive(socket)?;
        {
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            // One reading of the clock serves a batch: expiry has seconds.
            let now = store.now();
            batch.answer(socket, &mut Serving { store: &mut store, now });
            store.commit();
        }
        batch.send(socket);
    }
}
