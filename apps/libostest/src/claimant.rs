//! Passes a part of its network on to a neighbour, and says what it cannot pass on twice.
//!
//! The neighbour is a child with a binding of its own, by a scope within that of this program:
//! one UDP port. The argument `want=A; B; C` holds expressions, keys of other scopes; each is
//! tried beside the neighbour, and once more when that has gone.

use dpf::packet::udp_to;
use exo_abi::{EnvState, Error, EventCount, Handle, Pfn, RingOrder, UserPtr, Word};
use libos::net::bind::{Delegated, bind, delegate};
use libos::println;
use libos::runtime::Environment;
use libos::sys;
use selftest::child::{Child, Maker, SHARED, exit, until_done};
use selftest::frames::{read, window, write};
use selftest::server::handle;

/// The port of this program, and the neighbour's.
const OWN: u16 = 4003;
const NEIGHBOURS: u16 = 5000;
const RINGS: RingOrder = RingOrder::new(1).expect("1 to 8");

/// Where in the page that is shared with the neighbour things lie, in bytes.
mod place {
    pub(super) const NET: usize = 0;
    pub(super) const FIRST: usize = 8;
    pub(super) const ADDRESS: usize = 16;
    /// Zero, then one and an error's code if it could not claim.
    pub(super) const READY: usize = 24;
}

/// What the neighbour does.
extern "C" fn neighbour(_: u64) -> ! {
    let code = claim().err().map_or(0, Error::code);
    write(SHARED, place::READY, 1 + code);
    if code != 0 {
        exit(code);
    }
    loop {
        let seen = sys::wait(EventCount(u64::MAX), 0).unwrap_or_default();
        let _ = sys::wait(EventCount(seen), 0);
    }
}

/// The frames behind the run: of the binding, of the filter, and of its code.
fn parts(first: Pfn) -> [Pfn; 3] {
    [0, 1, 2].map(|part| first.plus(RINGS.frames() + part))
}

fn claim() -> Result<(), Error> {
    let first = Pfn(read(SHARED, place::FIRST) as u32);
    let [binding, object, code] = parts(first);
    let net = handle(SHARED, place::NET);
    let binding = Handle::from_word(sys::net_bind(net, first, RINGS, binding)?)?;
    let address = (read(SHARED, place::ADDRESS) as u32).to_be_bytes();
    let mut wire = [0; dpf::MAX_WIRE];
    let filter = udp_to(address, NEIGHBOURS);
    let length = filter.encode(&mut wire).ok_or(Error::TooMuch)?;
    let at = UserPtr(wire.as_ptr().expose_provenance() as u64);
    sys::filter_install(binding, at, length as u64, object, code)?;
    Ok(())
}

/// Tries. Returns the exit code.
pub(crate) fn run(environment: Environment) -> u64 {
    let (Some(config), Some(wanted)) = (environment.net_config(), environment.argument("want"))
    else {
        println!("no network, or nothing wanted");
        return 1;
    };
    let _rings = match bind(&environment, &config, OWN, RINGS) {
        Ok(rings) => rings,
        Err(error) => {
            println!("{error}");
            return 2;
        }
    };
    let Some(net) = environment.start.net else { return 1 };
    let passed_on = match delegate(&environment, net, &[udp_to(config.address, NEIGHBOURS)]) {
        Ok(passed_on) => passed_on,
        Err(error) => {
            println!("{error}");
            return 4;
        }
    };
    let beside = || -> Result<(), Error> {
        let maker = Maker::new(&environment)?;
        let child = begin(&maker, &passed_on, config.address)?;
        want(&environment, net, wanted);
        child.destroy()?;
        maker.close()?;
        give_back(&environment, &passed_on)
    };
    if let Err(error) = beside() {
        println!("neighbour: {error}");
        return 3;
    }
    println!("the neighbour has gone");
    want(&environment, net, wanted);
    println!("done");
    0
}

/// Starts the neighbour, and waits until it has claimed.
fn begin<'a>(
    maker: &'a Maker,
    passed_on: &Delegated,
    address: [u8; 4],
) -> Result<Child<'a>, Error> {
    let page = window(0);
    let frame = maker.frames.page(page)?;
    let child = maker.child()?;
    child.share(frame)?;
    let first = maker.frames.take(child.env, RINGS.frames() + 3)?;
    write(page, place::NET, sys::cap_grant(passed_on.net, child.env)?);
    write(page, place::FIRST, first.into_word());
    write(page, place::ADDRESS, u32::from_be_bytes(address).into());
    child.start(neighbour, 0)?;
    while read(page, place::READY) == 0 {
        if EnvState::from_u32(child.status()?.state) == Some(EnvState::Faulted) {
            return Err(Error::WrongState);
        }
        sys::slice_yield()?;
    }
    match read(page, place::READY) {
        1 => {
            println!("the neighbour's scope is in frame {}", passed_on.object.0);
            Ok(child)
        }
        code => Err(Error::from_code(code - 1).unwrap_or(Error::WrongState)),
    }
}

/// Takes what was passed on back.
fn give_back(environment: &Environment, passed_on: &Delegated) -> Result<(), Error> {
    until_done(|| sys::net_unscope(passed_on.object))?;
    sys::cap_drop(passed_on.net)?;
    for frame in [passed_on.object, passed_on.code] {
        environment.memory.give_frame(frame).map_err(|_| Error::NotOwned)?;
    }
    Ok(())
}

/// Tries to make a scope of each key, and takes it away.
fn want(environment: &Environment, net: Handle, expressions: &str) {
    for (number, text) in (1..).zip(expressions.split(';')) {
        let key = match dpf_text::parse(text) {
            Ok(key) => key,
            Err(error) => {
                println!("{error}");
                continue;
            }
        };
        match delegate(environment, net, &[key]) {
            Ok(made) => {
                let removed = give_back(environment, &made);
                println!("{number}: made, removed: {}", removed.is_ok());
            }
            Err(error) => println!("{number}: {error}"),
        }
    }
}
