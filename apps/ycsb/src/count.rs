//! Instructions of single operations, counted by the client around its call.

use kvstore_local::Failure;
use libos::println;
use libos::sys;
use ruler::Counter;

use crate::guest::{Problem, Store};

/// What is measured: names, bytes of the value.
const SIZES: [(&str, usize); 2] = [("64", 64), ("1024", 1024)];
/// Keys of one look-up of several.
const MANY: usize = 16;

pub(crate) fn run(mut store: Store) -> Result<(), Problem> {
    let counter = Counter::new(|line| println!("{line}"));
    counter.check();
    counter.measure("null", || sys::null().map(drop)).map_err(Problem::Kernel)?;
    let key = b"user000000000001";
    let mut buffer = [0; 1024];
    for (name, len) in SIZES {
        let value = alloc::vec![b'v'; len];
        let set = alloc::format!("set/{name}");
        counter.measure(&set, || store.set(key, &value, 0, 0))?;
        let get = alloc::format!("get/{name}");
        let mut wrong = 0;
        counter.measure(&get, || -> Result<(), Failure> {
            let found = store.get(key, &mut buffer)?;
            wrong += u64::from(found.is_none_or(|found| found.len != len));
            Ok(())
        })?;
        if wrong > 0 || buffer.get(..len) != Some(&value[..]) {
            return Err(Problem::Wrong);
        }
    }
    // The gate alone, if clients enter by it; what is read for it is read already.
    if store.way().knock() {
        counter.measure("visit", || -> Result<(), Failure> {
            store.way().knock();
            Ok(())
        })?;
    }
    counter.measure("miss", || store.get(b"user000000000002", &mut buffer).map(drop))?;
    let keys: [[u8; 16]; MANY] = core::array::from_fn(|index| {
        let mut key = *key;
        key[15] = b'a' + index as u8;
        key
    });
    for key in &keys {
        store.set(key, &[b'v'; 64], 0, 0)?;
    }
    let keys = keys.each_ref().map(|key| &key[..]);
    let many = counter.samples(ruler::SAMPLES, || {
        let mut found = 0;
        store.get_many(&keys, &mut buffer, |_, item| found += usize::from(item.is_some()))?;
        if found == MANY { Ok(()) } else { Err(Problem::Wrong) }
    })?;
    counter.print("get-many/64", MANY as u64, many);
    println!("done");
    Ok(())
}
