//! `cargo exo client`: one request to a store.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;

use crate::client::{Client, Item, Storage, Stored};

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
    #[arg(long, global = true, default_value = "127.0.0.1:11211", value_name = "IP:PORT")]
    server: SocketAddr,
    /// Milliseconds to wait for an answer, each time
    #[arg(long, global = true, default_value_t = 1000, value_name = "MS")]
    timeout: u64,
    /// How often to ask if the request may safely be repeated
    #[arg(long, global = true, default_value_t = 3, value_name = "N")]
    attempts: u32,
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
        keys: Vec<String>,
    },
    /// Print `CAS-ID VALUE` of a key, for a later `cas`
    Gets {
        /// The key
        key: String,
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
    /// Store a value if nobody has stored since the `gets` that gave this id
    Cas {
        #[command(flatten)]
        store: Store,
        /// The id from `gets`
        id: u64,
    },
    /// Delete a key
    Delete {
        /// The key
        key: String,
    },
    /// Add to a decimal number and print the sum
    Incr {
        /// The key
        key: String,
        /// How much to add
        #[arg(default_value_t = 1)]
        delta: u64,
    },
    /// Subtract from a decimal number, not below 0, and print the difference
    Decr {
        /// The key
        key: String,
        /// How much to subtract
        #[arg(default_value_t = 1)]
        delta: u64,
    },
    /// Set the time to live of a key
    Touch {
        /// The key
        key: String,
        /// Seconds; 0 for ever
        #[arg(allow_negative_numbers = true)]
        ttl: i64,
    },
    /// Forget everything
    FlushAll {
        /// Seconds until then
        #[arg(default_value_t = 0)]
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
    key: String,
    /// The value
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// A number to store beside the value
    #[arg(long, default_value_t = 0)]
    flags: u32,
    /// Seconds to live; 0 for ever
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    ttl: i64,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let outcome = Client::connect(args.server).map_err(Into::into).and_then(|mut client| {
        client.timeout = Duration::from_millis(args.timeout.max(1));
        client.attempts = args.attempts;
        perform(&mut client, &args.request)
    });
    Ok(match outcome {
        Ok(Outcome::Done(text)) => {
            io::stdout().write_all(&text)?;
            ExitCode::SUCCESS
        }
        Ok(Outcome::Miss(text, why)) => {
            io::stdout().write_all(&text)?;
            eprintln!("{why}");
            ExitCode::from(MISS)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(ERROR)
        }
    })
}

/// What to print to standard output, and for a miss to standard error.
enum Outcome {
    Done(Vec<u8>),
    Miss(Vec<u8>, String),
}

fn perform(client: &mut Client, request: &Request) -> Result<Outcome> {
    let hit = |hit: bool, yes: &str, key: &str| match hit {
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

fn missing(key: &str) -> Outcome {
    Outcome::Miss(Vec::new(), format!("not found: {key}"))
}

/// The answer to `get`: bare for one key, with names for several.
fn got(keys: &[String], items: &[Item]) -> Outcome {
    let mut text = Vec::new();
    for item in items {
        if keys.len() > 1 {
            text.extend(&item.key);
            text.push(b' ');
        }
        text.extend(&item.value);
        text.push(b'\n');
    }
    let found = |key: &&String| !items.iter().any(|item| item.key == key.as_bytes());
    let missing: Vec<_> = keys.iter().filter(found).map(String::as_str).collect();
    match missing.is_empty() {
        true => Outcome::Done(text),
        false => Outcome::Miss(text, format!("not found: {}", missing.join(", "))),
    }
}

fn stored(client: &mut Client, how: Storage, store: &Store) -> Result<Outcome> {
    let Store { key, value, flags, ttl } = store;
    let result = client.store(how, key.as_bytes(), value.as_bytes(), *flags, *ttl)?;
    let miss = |why: &str| Outcome::Miss(Vec::new(), format!("not stored: {why}: {key}"));
    Ok(match (result, how) {
        (Stored::Stored, _) => done("stored"),
        (Stored::Exists, _) => miss("somebody else has stored since"),
        (Stored::NotStored, Storage::Add) => miss("the key exists"),
        (Stored::NotStored | Stored::NotFound, _) => miss("there is no such key"),
    })
}
