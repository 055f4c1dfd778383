//! `cargo exo client`: one request to a store.

use std::ffi::{OsStr, OsString};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;

use crate::client::{Client, Item, Storage, Stored};
use crate::output::{self, note};

/// Exit code if the store did not have, or did not take, what was asked for.
const MISS: u8 = 1;
/// Exit code if there was no answer or an error.
const ERROR: u8 = 2;

/// Talk to a store: memcached text protocol over UDP
///
/// Exits with 0 on success, 1 if the key is missing or the condition of a storage
/// command is not met, 2 if there is no answer or an error.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the store listens
    #[arg(long, global = true, default_value = "127.0.0.1:11211", value_name = "HOST:PORT",
          value_parser = server)]
    server: String,
    /// Milliseconds to wait for an answer, each time
    #[arg(long, global = true, default_value_t = 1000, value_name = "MS")]
    timeout: u64,
    /// How often to ask if the request may safely be repeated
    #[arg(long, global = true, default_value_t = 3, value_name = "N")]
    attempts: u32,
    /// Seconds to wait first, until a store answers that is only being started
    #[arg(long, global = true, default_value_t = 0, value_name = "SECONDS")]
    wait: u64,
    #[command(subcommand)]
    request: Request,
}

#[derive(Debug, Subcommand)]
#[command(rename_all = "snake_case")]
enum Request {
    /// Print the value of a key; of several keys, lines `KEY VALUE`
    Get {
        /// The keys
        #[arg(required = true)]
        keys: Vec<OsString>,
    },
    /// Print `CAS-ID VALUE` of a key, for a later `cas`
    Gets {
        /// The key
        key: OsString,
    },
    /// Store a value
    Set(Store),
    /// Store a value if the key is new
    Add(Store),
    /// Store a value if the key exists
    Replace(Store),
    /// Add to the end of an existing value
    Append(Store),
    /// Add to the front of an existing value
    Prepend(Store),
    /// Store a value if no client has stored since the `gets` that gave this id
    Cas {
        #[command(flatten)]
        store: Store,
        /// The id from `gets`
        id: u64,
    },
    /// Delete a key
    Delete {
        /// The key
        key: OsString,
    },
    /// Add to a decimal number and print the sum
    Incr {
        /// The key
        key: OsString,
        /// How much to add
        #[arg(default_value_t = 1)]
        delta: u64,
    },
    /// Subtract from a decimal number, not below 0, and print the difference
    Decr {
        /// The key
        key: OsString,
        /// How much to subtract
        #[arg(default_value_t = 1)]
        delta: u64,
    },
    /// Set the time to live of a key
    Touch {
        /// The key
        key: OsString,
        /// Seconds to live, at most 30 days, or the Unix time of the end; 0 for ever
        #[arg(allow_negative_numbers = true, value_parser = lifetime)]
        ttl: i32,
    },
    /// Forget everything
    FlushAll {
        /// Seconds until then, at most 30 days, or its Unix time
        #[arg(default_value_t = 0, value_parser = delay)]
        delay: u32,
    },
    /// Print statistics
    Stats,
    /// Print the version
    Version,
}

#[derive(Debug, clap::Args)]
struct Store {
    /// The key
    key: OsString,
    /// The value
    #[arg(allow_hyphen_values = true)]
    value: OsString,
    /// A number to store beside the value
    #[arg(long, default_value_t = 0)]
    flags: u32,
    /// Seconds to live, at most 30 days, or the Unix time of the end; 0 for ever, below that
    /// not at all
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = lifetime)]
    ttl: i32,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let outcome = await_answer(args).and_then(|()| perform(&mut connect(args)?, &args.request));
    let told = outcome.and_then(|outcome| {
        let (text, why) = match outcome {
            Outcome::Done(text) => (text, None),
            Outcome::Miss(text, why) => (text, Some(why)),
        };
        output::print_bytes(&text)?;
        let Some(why) = why else { return Ok(ExitCode::SUCCESS) };
        note!("{why}");
        Ok(ExitCode::from(MISS))
    });
    Ok(told.unwrap_or_else(|error| output::failure(&error, ERROR)))
}

/// **Blocking** until the store answers, if that is wanted: what may be asked only once is asked
/// then.
fn await_answer(args: &Args) -> Result<()> {
    if args.wait == 0 {
        return Ok(());
    }
    let deadline = Instant::now() + Duration::from_secs(args.wait);
    loop {
        match connect(args).and_then(|mut client| Ok(client.version()?)) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= deadline => {
                return Err(error.context(format!("no answer within {} seconds", args.wait)));
            }
            // A port that nothing listens on refuses at once.
            Err(_) => sleep(Duration::from_millis(50)),
        }
    }
}

/// A client of the store. If its name stands for several addresses, of the first that answers.
fn connect(args: &Args) -> Result<Client> {
    let addresses = args.server.to_socket_addrs();
    let addresses = addresses.with_context(|| format!("cannot look up {}", args.server))?;
    let mut addresses: Vec<SocketAddr> = addresses.collect();
    // `cargo exo run` listens on 127.0.0.1 only, which `localhost` often is not first.
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.dedup();
    let client = |address: &SocketAddr| -> Result<Client> {
        let mut client = Client::connect(*address)?;
        client.timeout = Duration::from_millis(args.timeout.max(1));
        client.attempts = args.attempts;
        Ok(client)
    };
    let first = addresses.first().with_context(|| format!("{} has no address", args.server))?;
    if addresses.len() > 1 {
        let answering = addresses.iter().find_map(|address| {
            let mut client = client(address).ok()?;
            client.attempts = 1;
            client.version().ok()?;
            client.attempts = args.attempts;
            Some(client)
        });
        if let Some(client) = answering {
            return Ok(client);
        }
    }
    client(first)
}

/// `HOST:PORT`, where the host is a name or an address, in brackets if it is one of IPv6.
fn server(text: &str) -> Result<String> {
    let (host, port) = text.rsplit_once(':').context("HOST:PORT, such as localhost:11211")?;
    ensure!(!host.is_empty(), "there is no host before the port");
    let port = port.parse::<u16>().ok().filter(|&port| port != 0);
    ensure!(port.is_some(), "the port is a number from 1 to 65535");
    Ok(text.to_owned())
}

/// Seconds or, above this, a Unix time: so the protocol has it.
const MONTH: i64 = 30 * 24 * 60 * 60;

/// A time to live, if the store can keep it: it cuts longer numbers to 32 bits, and drops what
/// ended in the past.
fn lifetime(text: &str) -> Result<i32> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    lifetime_at(text, now.cast_signed())
}

fn lifetime_at(text: &str, now: i64) -> Result<i32> {
    let given: i64 = text.parse().context("not a number of seconds")?;
    if (MONTH + 1..=now).contains(&given) {
        let end = now.saturating_add(given);
        let advice = match i32::try_from(end) {
            Ok(end) => format!("; the Unix time in {given} seconds is {end}"),
            Err(_) => String::new(),
        };
        bail!(
            "more than 30 days ({MONTH} seconds) is a Unix time, and this one has passed{advice}"
        );
    }
    i32::try_from(given).context("more than the store can keep: times have 32 bits")
}

/// The same, not below zero.
fn delay(text: &str) -> Result<u32> {
    lifetime(text)?.try_into().context("a delay is not negative")
}

/// What to print to standard output, and for a miss to standard error.
enum Outcome {
    Done(Vec<u8>),
    Miss(Vec<u8>, String),
}

fn perform(client: &mut Client, request: &Request) -> Result<Outcome> {
    let hit = |hit: bool, yes: &str, key: &OsStr| match hit {
        true => done(yes),
        false => missing(key),
    };
    Ok(match request {
        Request::Get { keys } => {
            let mut items = Vec::new();
            for key in keys {
                items.extend(client.get(key.as_bytes())?);
            }
            got(keys, &items)
        }
        Request::Gets { key } => match client.gets(key.as_bytes())? {
            Some(item) => {
                let id = item.cas.unwrap_or_default().to_string();
                Outcome::Done([id.as_bytes(), b" ", &item.value, b"\n"].concat())
            }
            None => missing(key),
        },
        Request::Set(store) => stored(client, Storage::Set, store)?,
        Request::Add(store) => stored(client, Storage::Add, store)?,
        Request::Replace(store) => stored(client, Storage::Replace, store)?,
        Request::Append(store) => stored(client, Storage::Append, store)?,
        Request::Prepend(store) => stored(client, Storage::Prepend, store)?,
        Request::Cas { store, id } => stored(client, Storage::Cas(*id), store)?,
        Request::Delete { key } => hit(client.delete(key.as_bytes())?, "deleted", key),
        Request::Incr { key, delta } => match client.incr(key.as_bytes(), *delta)? {
            Some(sum) => done(&sum.to_string()),
            None => missing(key),
        },
        Request::Decr { key, delta } => match client.decr(key.as_bytes(), *delta)? {
            Some(difference) => done(&difference.to_string()),
            None => missing(key),
        },
        Request::Touch { key, ttl } => hit(client.touch(key.as_bytes(), *ttl)?, "touched", key),
        Request::FlushAll { delay } => {
            client.flush_all(*delay)?;
            done("ok")
        }
        Request::Stats => {
            let lines = client.stats()?.into_iter().map(|(name, value)| format!("{name} {value}"));
            done(&lines.collect::<Vec<_>>().join("\n"))
        }
        Request::Version => done(&client.version()?),
    })
}

fn done(text: &str) -> Outcome {
    Outcome::Done(format!("{text}\n").into_bytes())
}

fn missing(key: &OsStr) -> Outcome {
    Outcome::Miss(Vec::new(), format!("not found: {}", key.display()))
}

/// The answer to `get`: bare for one key, with names for several.
fn got(keys: &[OsString], items: &[Item]) -> Outcome {
    let mut text = Vec::new();
    for item in items {
        if keys.len() > 1 {
            text.extend(&item.key);
            text.push(b' ');
        }
        text.extend(&item.value);
        text.push(b'\n');
    }
    let found = |key: &&OsString| !items.iter().any(|item| item.key == key.as_bytes());
    let missing: Vec<_> = keys.iter().filter(found).map(|key| key.to_string_lossy()).collect();
    match missing.is_empty() {
        true => Outcome::Done(text),
        false => Outcome::Miss(text, format!("not found: {}", missing.join(", "))),
    }
}

fn stored(client: &mut Client, how: Storage, store: &Store) -> Result<Outcome> {
    let Store { key, value, flags, ttl } = store;
    let result = client.store(how, key.as_bytes(), value.as_bytes(), *flags, *ttl)?;
    let miss =
        |why: &str| Outcome::Miss(Vec::new(), format!("not stored: {why}: {}", key.display()));
    Ok(match (result, how) {
        (Stored::Stored, _) => done("stored"),
        (Stored::Exists, _) => miss("another client has stored since"),
        (Stored::NotStored, Storage::Add) => miss("the key exists"),
        (Stored::NotStored | Stored::NotFound, _) => miss("there is no such key"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_store_cannot_keep_is_refused() {
        let now = 1_700_000_000;
        let lifetime = |text: &str| lifetime_at(text, now);
        for text in ["0", "-1", "1", "2592000", "1700000001", "2147483647", "-2147483648"] {
            assert_eq!(i64::from(lifetime(text).unwrap()), text.parse::<i64>().unwrap());
        }
        let passed = lifetime("5000000").unwrap_err().to_string();
        assert!(passed.contains("30 days") && passed.ends_with(" is 1705000000"), "{passed}");
        for text in ["2592001", "1700000000", "2147483648", "4294967297", "-2147483649", "x", ""] {
            assert!(lifetime(text).is_err(), "{text}");
        }
        assert!(delay("-1").is_err());
    }

    #[test]
    fn a_store_that_comes_late_is_waited_for() {
        use clap::Parser;
        use std::net::UdpSocket;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let place = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let asked = |wait: &str| {
            let server = place.to_string();
            let line =
                ["client", "--server", &server, "--timeout", "50", "--wait", wait, "version"];
            await_answer(&Line::try_parse_from(line).unwrap().args)
        };
        let error = asked("1").unwrap_err().to_string();
        assert!(error.contains("no answer within 1 seconds"), "{error}");
        let store = std::thread::spawn(move || {
            sleep(Duration::from_millis(300));
            let socket = UdpSocket::bind(place).unwrap();
            let mut request = [0; 64];
            let (_, client) = socket.recv_from(&mut request).unwrap();
            let reply = [&request[..2], &[0, 0, 0, 1, 0, 0], b"VERSION 1\r\n"].concat();
            socket.send_to(&reply, client).unwrap();
        });
        asked("60").unwrap();
        store.join().unwrap();
    }

    #[test]
    fn keys_and_values_need_not_be_text() {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let odd = OsStr::from_bytes(b"k\xff");
        let line = ["client", "set"].map(OsStr::new).into_iter().chain([odd, odd]);
        let Request::Set(store) = Line::try_parse_from(line).unwrap().args.request else {
            panic!("not that request")
        };
        assert_eq!((store.key.as_bytes(), store.value.as_bytes()), (&b"k\xff"[..], &b"k\xff"[..]));
    }

    #[test]
    fn servers_have_names() {
        for text in ["localhost:1", "127.0.0.1:11211", "[::1]:65535", "store.example:9"] {
            assert_eq!(server(text).unwrap(), text);
        }
        for text in ["localhost", ":1", "localhost:0", "localhost:65536", "localhost:memcache"] {
            assert!(server(text).is_err(), "{text}");
        }
    }
}
