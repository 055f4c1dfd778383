//! An extent of the disk, through the library OS and on the bare ring.
//!
//! `as=disk` writes a pattern, flushes and reads it back, with many requests in flight; with
//! `found=N` it first looks for what a run before it, with seed N, has left. `as=disk-errors`
//! counts reads that the device fails, and `as=disk-read` reads what is there from elsewhere.
//! `as=disk-bench` writes and flushes `blocks=N` times 4 KiB, one after the other, to be counted from
//! outside; with `way=blocking` as to a file, with `way=write` without the flush.

use alloc::vec::Vec;

use exo_abi::{DiskOperation, DiskRequest, Error, FRAME_BYTES, Handle, Word};
use libos::disk::{Buffer, Command, Disk, Done, Doorbell, Extent, Kernel};
use libos::println;
use libos::runtime::Environment;
use libos::sched::Park;
use libos::sys;

/// Sectors of one request here, and requests that are kept in flight.
const SECTORS: u32 = 8;
const DEPTH: u32 = 16;
/// Requests of a round.
const REQUESTS: u32 = 128;

/// Exit code when something is not as it should be.
const WRONG: u64 = 1;

pub(crate) fn run(environment: Environment) -> u64 {
    match try_disk(environment) {
        Ok(code) => code,
        Err(error) => {
            println!("disk: refused: {error}");
            WRONG
        }
    }
}

fn try_disk(mut environment: Environment) -> Result<u64, Error> {
    let (handle, extent) = environment.start.disk.ok_or(Error::NoDevice)?;
    println!("disk: sectors {} to {}", extent.first, extent.first + extent.sectors);
    let mut disk = libos::disk::open(environment.memory, handle, extent)?;
    if environment.argument("as") == Some("disk-errors") {
        return errors(&mut environment, &mut disk);
    }
    if environment.argument("as") == Some("disk-bench") {
        return bench(&mut environment, disk, (handle, extent));
    }
    if environment.argument("as") == Some("disk-read") {
        let wrong = round(&mut environment, &mut disk, Round::Read(Left::Byte(90)))?;
        println!("disk: {} of {REQUESTS} pieces are 90 throughout", REQUESTS - wrong);
        return Ok(u64::from(wrong));
    }
    let number = |key: &str| environment.argument(key).and_then(|value| value.parse::<u8>().ok());
    let (found, seed) = (number("found"), number("seed").unwrap_or(1));
    let left = found.map_or(Left::Byte(0), Left::Seed);
    let wrong = round(&mut environment, &mut disk, Round::Read(left))?;
    println!("disk: {} of {REQUESTS} pieces are as they were left", REQUESTS - wrong);
    let before = environment.system.disk_requests.load(core::sync::atomic::Ordering::Relaxed);
    round(&mut environment, &mut disk, Round::Write(seed))?;
    flush(&mut environment, &mut disk)?;
    let after = environment.system.disk_requests.load(core::sync::atomic::Ordering::Relaxed);
    println!("disk: {} requests written and flushed", after - before);
    let again = round(&mut environment, &mut disk, Round::Read(Left::Seed(seed)))?;
    println!("disk: {} of {REQUESTS} pieces read back", REQUESTS - again);
    let refused = outside(&mut environment, handle, extent)?;
    println!("disk: {refused} requests outside were refused");
    Ok(if wrong + again == 0 { 0 } else { WRONG })
}

#[derive(Clone, Copy)]
enum Round {
    Read(Left),
    Write(u8),
}

/// What is to be found.
#[derive(Clone, Copy)]
enum Left {
    /// What a run with that seed has made.
    Seed(u8),
    Byte(u8),
}

/// What byte `at` of piece `number` is.
fn pattern(seed: u8, number: u32, at: usize) -> u8 {
    seed ^ (number as u8).wrapping_mul(31) ^ (at as u8) ^ (at >> 8) as u8
}

/// Reads or writes all pieces. Returns how many were not as they should be.
fn round(
    environment: &mut Environment,
    disk: &mut Disk<Kernel>,
    what: Round,
) -> Result<u32, Error> {
    let mut buffers = Vec::new();
    for _ in 0..DEPTH {
        buffers.push(Buffer::map(environment.memory, SECTORS * 512 / FRAME_BYTES as u32)?);
    }
    let mut flying = Vec::new();
    let (mut next, mut done, mut wrong) = (0, 0, 0);
    while done < REQUESTS {
        while next < REQUESTS
            && let Some(mut buffer) = buffers.pop()
        {
            let command = match what {
                Round::Read(_) => {
                    buffer.fill(0xaa);
                    Command::Read(SECTORS, buffer)
                }
                Round::Write(seed) => {
                    for (at, byte) in buffer.iter_mut().enumerate() {
                        *byte = pattern(seed, next, at);
                    }
                    Command::Write(SECTORS, buffer)
                }
            };
            // From the last piece to the first.
            let first = (REQUESTS - 1 - next) * SECTORS;
            let ticket = disk.submit(first, command).map_err(|refused| refused.error)?;
            flying.push((ticket, next));
            next += 1;
        }
        let finished = wait(environment, disk)?;
        finished.result?;
        let place = flying.iter().position(|(ticket, _)| *ticket == finished.ticket);
        let (_, number) = flying.swap_remove(place.ok_or(Error::WrongState)?);
        let buffer = finished.buffer.ok_or(Error::WrongState)?;
        if let Round::Read(left) = what {
            let expected = |at| match left {
                Left::Seed(seed) => pattern(seed, number, at),
                Left::Byte(byte) => byte,
            };
            wrong += u32::from(buffer.iter().enumerate().any(|(at, byte)| *byte != expected(at)));
        }
        buffers.push(buffer);
        done += 1;
    }
    Ok(wrong)
}

fn flush(environment: &mut Environment, disk: &mut Disk<Kernel>) -> Result<(), Error> {
    disk.submit(0, Command::Flush).map_err(|refused| refused.error)?;
    wait(environment, disk)?.result
}

/// Sleeps until a request is done.
fn wait<B: Doorbell>(environment: &mut Environment, disk: &mut Disk<B>) -> Result<Done, Error> {
    loop {
        let seen = environment.park.seen();
        disk.sync()?;
        match disk.next_done() {
            Some(done) => return Ok(done),
            None => environment.park.park(seen, None),
        }
    }
}

/// Asks on a ring of its own for sectors before, behind and across the extent. Returns how many
/// requests were refused for that.
fn outside(environment: &mut Environment, disk: Handle, extent: Extent) -> Result<u32, Error> {
    let memory = environment.memory;
    let refusal = |_| Error::NotFree;
    let (at, ring_frame) = memory.map_device_run(1).map_err(refusal)?;
    let object = memory.take_frame().map_err(refusal)?;
    let binding = Handle::from_word(sys::disk_bind(disk, ring_frame, object)?)?;
    // SAFETY: the page was just mapped for it, for good; all of it is atomics.
    let ring = unsafe { at.cast::<exo_abi::DiskRing>().as_ref() };
    let buffer = Buffer::map(memory, 1)?;
    let (first, end) = (u64::from(extent.first), u64::from(extent.first + extent.sectors));
    let tries = [(first - 1, 1), (first - 1, 2), (end, 1), (end - 1, 2), (0, 1), (u64::MAX, 2)];
    for (index, (first, sectors)) in (0..).zip(tries) {
        let operation = DiskOperation::Write as u32;
        let (buffer, tag) = (buffer.address(), first);
        ring.submit(index, DiskRequest { operation, sectors, first, buffer, tag });
    }
    sys::disk_sync(binding)?;
    let refused = (0..tries.len() as u32).filter_map(|index| ring.completion(index));
    let refused = refused.filter(|it| it.result == Err(Error::OutOfRange)).count();
    sys::disk_unbind(object)?;
    Ok(refused as u32)
}

/// Reads each piece; those that the device cannot read are errors, and all others come.
fn errors(environment: &mut Environment, disk: &mut Disk<Kernel>) -> Result<u64, Error> {
    let (mut failed, mut fine) = (0, 0);
    let mut buffer = Some(Buffer::map(environment.memory, 1)?);
    for number in 0..REQUESTS {
        let memory = buffer.take().ok_or(Error::WrongState)?;
        let command = Command::Read(SECTORS, memory);
        disk.submit(number * SECTORS, command).map_err(|refused| refused.error)?;
        let done = wait(environment, disk)?;
        match done.result {
            Ok(()) => fine += 1,
            Err(Error::DeviceFailed) => failed += 1,
            Err(error) => return Err(error),
        }
        buffer = done.buffer;
    }
    println!("disk: {failed} requests failed, {fine} did not");
    Ok(0)
}

/// Writes 4 KiB at random places and flushes each, on the ring or through the blocking layer; then
/// sleeps, so that what it took can be counted.
fn bench(
    environment: &mut Environment,
    mut disk: Disk<Kernel>,
    (handle, extent): (Handle, Extent),
) -> Result<u64, Error> {
    let blocks = environment.argument("blocks").and_then(|text| text.parse::<u32>().ok());
    let blocks = blocks.ok_or(Error::BadArgument)?;
    let mut random = 1_u32;
    let mut place = move || {
        // Xorshift (Marsaglia 2003).
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        random % (extent.sectors / SECTORS) * SECTORS
    };
    if environment.argument("way") == Some("blocking") {
        let (memory, park) = (environment.memory, environment.park);
        let mut disk = libos::disk::blocking(memory, park, handle, extent, 1)?;
        let bytes = [0x5a; SECTORS as usize * 512];
        for _ in 0..blocks {
            disk.write(place(), &bytes)?;
            disk.flush()?;
        }
    } else {
        let flushes = environment.argument("way") != Some("write");
        let mut buffer = Some(Buffer::map(environment.memory, 1)?);
        for _ in 0..blocks {
            let memory = buffer.take().ok_or(Error::WrongState)?;
            let command = Command::Write(SECTORS, memory);
            disk.submit(place(), command).map_err(|refused| refused.error)?;
            let done = wait(environment, &mut disk)?;
            done.result?;
            buffer = done.buffer;
            if flushes {
                flush(environment, &mut disk)?;
            }
        }
    }
    println!("disk: wrote {blocks} blocks");
    loop {
        let seen = environment.park.seen();
        environment.park.park(seen, None);
    }
}
