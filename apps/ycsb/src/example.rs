//! The worked example of `docs/colocated.md`: a client that calls the store.

use kvstore_local::{Door, Failure, Stored};
use libos::println;
use libos::runtime::Environment;

/// Counts visits under a key that a client of the network reads as well.
pub(crate) fn run(environment: &Environment) -> Result<(), Failure> {
    let share = environment.share("window-0").expect("a share of the manifest");
    let mut store = Door::open(share).map_err(Failure::Refused)?;

    store.set(b"greeting", b"hello", 0, 0)?;
    store.set(b"visits", b"0", 0, 0)?;
    for _ in 0..10 {
        store.incr(b"visits", 1)?;
    }

    let mut buffer = [0; 100];
    let found = store.get(b"greeting", &mut buffer)?.expect("just stored");
    println!("greeting: {}", buffer[..found.len].escape_ascii());

    // Stored only if it is still what was read.
    let stored = store.cas(b"greeting", b"good evening", (0, 0), found.cas)?;
    assert_eq!(stored, Stored::Stored);
    let again = store.cas(b"greeting", b"good night", (0, 0), found.cas)?;
    assert_eq!(again, Stored::Exists);

    // Several in one call.
    store.get_many(
        &[b"greeting", b"visits", b"nothing"],
        &mut buffer,
        |number, found| match found {
            Some((_, value)) => println!("{number}: {}", value.escape_ascii()),
            None => println!("{number}: not there"),
        },
    )?;
    assert!(store.delete(b"greeting")?);
    Ok(())
}
