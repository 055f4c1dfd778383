//! Wants filters that a neighbour has, and says why it cannot have them.
//!
//! The neighbour is a child with a binding of its own, under the network capability of this
//! program: it claims one UDP port. The argument `want=A; B; C` holds expressions; each is
//! tried beside the neighbour, and once more when that has gone.

use exo_abi::{EnvState, Error, EventCount, Handle, Pfn, RingOrder, UserPtr, Word};
use libos::net::bind::{BindError, bind, install};
use libos::println;
use libos::runtime::Environment;
use libos::sys;
use selftest::child::{Child, Maker, SHARED, exit};
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
    let filter = dpf::packet::udp_to(address, NEIGHBOURS);
    let length = filter.encode(&mut wire).ok_or(Error::TooMuch)?;
    let at = UserPtr(wire.as_ptr().expose_provenance() as u64);
    sys::filter_install(binding, at, length as u64, object, code, Handle::NONE)?;
    Ok(())
}

/// Tries. Returns the exit code.
pub(crate) fn run(environment: Environment) -> u64 {
    let (Some(config), Some(wanted)) = (environment.net_config(), environment.argument("want"))
    else {
        println!("no network, or nothing wanted");
        return 1;
    };
    let mut rings = match bind(&environment, &config, OWN, RINGS) {
        Ok(rings) => rings,
        Err(error) => {
            println!("{error}");
            return 2;
        }
    };
    let binding = rings.bell().binding;
    let beside = || -> Result<(), Error> {
        let maker = Maker::new(&environment)?;
        let child = begin(&maker, &environment, config.address)?;
        want(&environment, binding, wanted);
        child.destroy()?;
        maker.close()
    };
    if let Err(error) = beside() {
        println!("neighbour: {error}");
        return 3;
    }
    println!("the neighbour has gone");
    want(&environment, binding, wanted);
    println!("done");
    0
}

/// Starts the neighbour, and waits until it has claimed.
fn begin<'a>(
    maker: &'a Maker,
    environment: &Environment,
    address: [u8; 4],
) -> Result<Child<'a>, Error> {
    let page = window(0);
    let frame = maker.frames.page(page)?;
    let child = maker.child()?;
    child.share(frame)?;
    let net = environment.start.net.ok_or(Error::NoDevice)?;
    let first = maker.frames.take(child.env, RINGS.frames() + 3)?;
    write(page, place::NET, sys::cap_grant(net, child.env)?);
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
            let [_, object, _] = parts(first);
            println!("the neighbour is environment {}, its filter {}", child.id.0, object.0);
            Ok(child)
        }
        code => Err(Error::from_code(code - 1).unwrap_or(Error::WrongState)),
    }
}

/// Tries to install each filter, and takes it off again.
fn want(environment: &Environment, binding: Handle, expressions: &str) {
    for (number, text) in (1..).zip(expressions.split(';')) {
        let filter = match dpf_text::parse(text) {
            Ok(filter) => filter,
            Err(error) => {
                println!("{error}");
                continue;
            }
        };
        match install(environment, binding, &filter) {
            Ok(object) => {
                let removed = sys::filter_remove(binding, object);
                println!("{number}: installed, removed: {}", removed.is_ok());
            }
            Err(error @ BindError::Conflict(_)) => println!("{number}: {error}"),
            Err(error) => println!("{number}: without explanation, {error}"),
        }
    }
}
