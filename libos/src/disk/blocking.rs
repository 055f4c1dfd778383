//! One request at a time, with sleep until it is done; or a job, and no sleep.

use exo_abi::{Error, SECTOR_BYTES};

use super::{Buffer, Command, Disk, Doorbell, Ticket};
use crate::sched::{Park, Ticks};

const SECTOR: usize = SECTOR_BYTES as usize;

/// An extent that is read and written by copying, for what is done seldom.
///
/// **Blocking** until the device has answered, or for as long as it may take
/// ([`Blocking::give_up_after`]). **Cost** of each method two crossings or more, and a copy.
pub struct Blocking<B, P> {
    disk: Disk<B>,
    park: P,
    /// Gone while the device has it.
    buffer: Option<Buffer>,
    limit: Option<Limit>,
    job: Option<Job>,
}

/// What goes on while the owner does.
#[derive(Clone, Copy, Debug)]
struct Job {
    /// The write, then the flush.
    ticket: Ticket,
    flushes: bool,
    /// When it is an error that the device has not answered.
    deadline: Option<u64>,
}

/// For how long a request is waited for.
#[derive(Clone, Copy, Debug)]
struct Limit {
    now: fn() -> u64,
    ticks: u64,
}

impl<B: Doorbell, P: Park> Blocking<B, P> {
    /// `disk`, of which nothing is in flight, through `buffer`, which holds a sector at least.
    pub fn new(disk: Disk<B>, park: P, buffer: Buffer) -> Self {
        Self { disk, park, buffer: Some(buffer), limit: None, job: None }
    }

    /// From now on a request that is not done after so many ticks of `now` is an error,
    /// [`Error::DeviceFailed`]. The device still has it, and with it the buffer: nothing is read or
    /// written until it has given that back, and its frames stay pinned so long.
    pub fn give_up_after(&mut self, now: fn() -> u64, ticks: u64) {
        self.limit = Some(Limit { now, ticks });
    }

    /// How many sectors there are.
    pub fn sectors(&self) -> u32 {
        self.disk.sectors()
    }

    /// Fills `bytes`, whole sectors, from `first` on.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::DeviceFailed`], or that the extent is gone.
    pub fn read(&mut self, first: u32, bytes: &mut [u8]) -> Result<(), Error> {
        self.have_buffer()?;
        let mut at = first;
        for chunk in bytes.chunks_mut(self.step()) {
            let sectors = whole(chunk.len())?;
            self.finish(at, |buffer| Command::Read(sectors, buffer))?;
            let buffer = self.buffer.as_deref().and_then(|buffer| buffer.get(..chunk.len()));
            chunk.copy_from_slice(buffer.ok_or(Error::WrongState)?);
            at += sectors;
        }
        Ok(())
    }

    /// Fills sectors from `first` on from `bytes`, whole sectors. They are durable after
    /// [`Blocking::flush`].
    ///
    /// # Errors
    /// As [`Blocking::read`].
    pub fn write(&mut self, first: u32, bytes: &[u8]) -> Result<(), Error> {
        self.have_buffer()?;
        let mut at = first;
        for chunk in bytes.chunks(self.step()) {
            let sectors = whole(chunk.len())?;
            let buffer = self.buffer.as_deref_mut().and_then(|it| it.get_mut(..chunk.len()));
            buffer.ok_or(Error::WrongState)?.copy_from_slice(chunk);
            self.finish(at, |buffer| Command::Write(sectors, buffer))?;
            at += sectors;
        }
        Ok(())
    }

    /// Fills `sectors` sectors from `first` on with zeros.
    ///
    /// # Errors
    /// As [`Blocking::read`]; [`Error::BadArgument`] if the device cannot do it by itself.
    pub fn write_zeroes(&mut self, first: u32, sectors: u32) -> Result<(), Error> {
        self.run(first, Command::WriteZeroes(sectors))
    }

    /// Makes durable what was written before.
    ///
    /// # Errors
    /// As [`Blocking::read`].
    pub fn flush(&mut self) -> Result<(), Error> {
        self.run(0, Command::Flush)
    }

    /// Begins to fill sectors from `first` on from `bytes`, and then to make durable what was
    /// written. [`Blocking::poll_job`] says what came of it; nothing else may be asked of the extent
    /// before.
    ///
    /// **Blocking** only for what is longer than the buffer. **Cost** a crossing and a copy.
    ///
    /// # Errors
    /// As [`Blocking::read`]; [`Error::Busy`] if there is a job already.
    pub fn begin_job(&mut self, first: u32, bytes: &[u8]) -> Result<(), Error> {
        self.have_no_job()?;
        let last = bytes.len().saturating_sub(1) / self.step() * self.step();
        let (front, rest) = bytes.split_at(last);
        self.write(first, front)?;
        self.have_buffer()?;
        let sectors = whole(rest.len())?;
        let mut buffer = self.buffer.take().ok_or(Error::WrongState)?;
        if let Some(place) = buffer.get_mut(..rest.len()) {
            place.copy_from_slice(rest);
        }
        let ticket = self.submit(first + whole(last)?, Command::Write(sectors, buffer))?;
        let deadline = self.deadline();
        self.job = Some(Job { ticket, flushes: false, deadline });
        self.disk.sync().map(drop)
    }

    /// What came of the job; `None` while it is not done, and if there is none.
    ///
    /// **Cost** a crossing each time that it is not done.
    pub fn poll_job(&mut self) -> Option<Result<(), Error>> {
        let job = self.job?;
        let result = match self.step_job(job) {
            Ok(Some(job)) => {
                self.job = Some(job);
                return None;
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        self.job = None;
        Some(result)
    }

    /// What is left of a job.
    fn step_job(&mut self, job: Job) -> Result<Option<Job>, Error> {
        let mut result = self.result_of(job.ticket);
        if result.is_none() {
            // An owner that never sleeps would be told at the end of its slice.
            self.disk.sync()?;
            result = self.result_of(job.ticket);
        }
        if let Some(result) = result {
            result?;
            if job.flushes {
                return Ok(None);
            }
            let ticket = self.submit(0, Command::Flush)?;
            self.disk.sync()?;
            return Ok(Some(Job { ticket, flushes: true, deadline: self.deadline() }));
        }
        let late = self.limit.zip(job.deadline).is_some_and(|(limit, end)| (limit.now)() >= end);
        if late { Err(Error::DeviceFailed) } else { Ok(Some(job)) }
    }

    /// Bytes that go at a time.
    fn step(&self) -> usize {
        let room = self.buffer.as_deref().map_or(0, <[u8]>::len);
        (room.min(exo_abi::MAX_SECTORS as usize * SECTOR) / SECTOR * SECTOR).max(SECTOR)
    }

    /// Does what `command` makes of the buffer.
    fn finish(&mut self, first: u32, command: impl FnOnce(Buffer) -> Command) -> Result<(), Error> {
        self.have_buffer()?;
        let buffer = self.buffer.take().ok_or(Error::WrongState)?;
        self.run(first, command(buffer))
    }

    /// Whether the buffer is here: a device that was late may have given it back.
    fn have_buffer(&mut self) -> Result<(), Error> {
        self.have_no_job()?;
        if self.buffer.is_none() {
            // It is gone for good if the extent was, with a request in flight.
            self.disk.sync()?;
            while let Some(done) = self.disk.next_done() {
                self.buffer = done.buffer.or(self.buffer.take());
            }
        }
        self.buffer.as_ref().map(|_| ()).ok_or(Error::DeviceFailed)
    }

    /// Puts a request into the ring. The buffer of one that is refused is here again.
    fn submit(&mut self, first: u32, command: Command) -> Result<Ticket, Error> {
        self.disk.submit(first, command).map_err(|refused| {
            if let Command::Read(_, buffer) | Command::Write(_, buffer) = refused.command {
                self.buffer = Some(buffer);
            }
            refused.error
        })
    }

    /// When a request that is submitted now is late.
    fn deadline(&self) -> Option<u64> {
        self.limit.map(|Limit { now, ticks }| now().saturating_add(ticks))
    }

    fn have_no_job(&self) -> Result<(), Error> {
        if self.job.is_some() { Err(Error::Busy) } else { Ok(()) }
    }

    fn run(&mut self, first: u32, command: Command) -> Result<(), Error> {
        self.have_no_job()?;
        let ticket = self.submit(first, command)?;
        let deadline = self.deadline();
        loop {
            let seen = self.park.seen();
            // What was done while it slept lies here already, and needs no crossing.
            if let Some(result) = self.result_of(ticket) {
                return result;
            }
            // If others have all of the device, it has room when they are done, which is not told.
            let all_taken = self.disk.sync()?;
            if let Some(result) = self.result_of(ticket) {
                return result;
            }
            if self.limit.zip(deadline).is_some_and(|(limit, end)| (limit.now)() >= end) {
                return Err(Error::DeviceFailed);
            }
            if all_taken {
                self.park.park(seen, deadline.map(Ticks));
            }
        }
    }

    /// What came of a request, if it is done. Its buffer is here again then.
    fn result_of(&mut self, ticket: Ticket) -> Option<Result<(), Error>> {
        loop {
            let done = self.disk.next_done()?;
            self.buffer = done.buffer.or(self.buffer.take());
            if done.ticket == ticket {
                return Some(done.result);
            }
        }
    }
}

/// The number of sectors that `bytes` are, which must be whole.
fn whole(bytes: usize) -> Result<u32, Error> {
    if bytes.is_multiple_of(SECTOR) { Ok((bytes / SECTOR) as u32) } else { Err(Error::BadArgument) }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use exo_abi::EventCount;

    use super::super::Extent;
    use super::super::model::{Awake, Kernel, buffer, disk};
    use super::*;

    fn extent() -> Blocking<Kernel, Awake> {
        Blocking::new(disk(Extent { first: 10, sectors: 40 }, 60), Awake, buffer(2048))
    }

    #[test]
    fn any_number_of_sectors_goes_both_ways() {
        let mut extent = extent();
        for (first, sectors) in [(0, 1), (3, 4), (5, 5), (0, 40), (39, 1)] {
            let bytes: Vec<u8> = (0..sectors * SECTOR).map(|at| (at / 7) as u8).collect();
            extent.write(first, &bytes).unwrap();
            let mut read = vec![0; bytes.len()];
            extent.read(first, &mut read).unwrap();
            assert_eq!(read, bytes);
        }
        extent.write_zeroes(1, 2).unwrap();
        let mut read = vec![1; 2 * SECTOR];
        extent.read(1, &mut read).unwrap();
        assert_eq!(read, [0; 2 * SECTOR]);
        extent.flush().unwrap();
        assert_eq!(extent.disk.bell().flushes, 1);
        let stored = &extent.disk.bell().stored;
        let outside = stored[..10 * SECTOR].iter().chain(&stored[50 * SECTOR..]);
        assert!(outside.copied().all(|byte| byte == 0xee));
    }

    thread_local! {
        static NOW: Cell<u64> = const { Cell::new(0) };
    }

    /// Sleeps until the time is over.
    struct Asleep;

    impl Park for Asleep {
        fn seen(&mut self) -> EventCount {
            EventCount(0)
        }

        fn park(&mut self, _: EventCount, deadline: Option<Ticks>) {
            NOW.set(deadline.expect("it waits for ever").0);
        }
    }

    #[test]
    fn a_device_that_is_late_is_an_error_and_keeps_the_buffer() {
        let disk = disk(Extent { first: 10, sectors: 40 }, 60);
        let mut extent = Blocking::new(disk, Asleep, buffer(2048));
        extent.give_up_after(|| NOW.get(), 1000);
        extent.write(3, &[7; SECTOR]).unwrap();
        extent.disk.bell().asleep = true;
        for round in 1..4 {
            assert_eq!(extent.write(3, &[8; SECTOR]), Err(Error::DeviceFailed));
            assert_eq!((NOW.get(), extent.disk.in_flight()), (1000, 1), "round {round}");
            assert_eq!(extent.read(3, &mut [0; SECTOR]), Err(Error::DeviceFailed));
        }
        assert_eq!(extent.flush(), Err(Error::DeviceFailed));
        assert_eq!((NOW.get(), extent.disk.in_flight()), (2000, 2));
        // It goes on once the device does.
        extent.disk.bell().asleep = false;
        let mut read = [0; SECTOR];
        extent.read(3, &mut read).unwrap();
        assert_eq!((read, extent.disk.in_flight()), ([8; SECTOR], 0));
        extent.flush().unwrap();
    }

    /// A job neither sleeps nor lets anything else at the extent; the flush comes after the write.
    #[test]
    fn a_job_goes_on_beside_its_owner() {
        let mut extent = extent();
        extent.disk.bell().asleep = true;
        let bytes = [7; 6 * SECTOR];
        extent.begin_job(3, &bytes[..SECTOR]).unwrap();
        for _ in 0..3 {
            assert_eq!(extent.poll_job(), None);
        }
        assert_eq!(extent.read(3, &mut [0; SECTOR]), Err(Error::Busy));
        assert_eq!(extent.flush(), Err(Error::Busy));
        assert_eq!(extent.begin_job(3, &bytes), Err(Error::Busy));
        extent.disk.bell().asleep = false;
        assert_eq!((extent.poll_job(), extent.disk.bell().flushes), (None, 1));
        assert_eq!((extent.poll_job(), extent.poll_job()), (Some(Ok(())), None));
        // Longer than the buffer.
        extent.begin_job(3, &bytes).unwrap();
        assert_eq!((extent.poll_job(), extent.poll_job()), (None, Some(Ok(()))));
        let mut read = [0; 6 * SECTOR];
        extent.read(3, &mut read).unwrap();
        assert_eq!((read, extent.disk.bell().flushes), (bytes, 2));
        extent.disk.bell().bad = Some(13);
        extent.begin_job(3, &bytes[..SECTOR]).unwrap();
        assert_eq!(extent.poll_job(), Some(Err(Error::DeviceFailed)));
        assert_eq!(extent.disk.bell().flushes, 2);
    }

    #[test]
    fn a_job_that_is_late_is_an_error() {
        let disk = disk(Extent { first: 10, sectors: 40 }, 60);
        let mut extent = Blocking::new(disk, Asleep, buffer(2048));
        extent.give_up_after(|| NOW.get(), 1000);
        extent.disk.bell().asleep = true;
        extent.begin_job(3, &[7; SECTOR]).unwrap();
        NOW.set(999);
        assert_eq!(extent.poll_job(), None);
        NOW.set(1000);
        assert_eq!(extent.poll_job(), Some(Err(Error::DeviceFailed)));
        assert_eq!(
            extent.begin_job(3, &[7; SECTOR]),
            Err(Error::DeviceFailed),
            "it has the buffer"
        );
    }

    #[test]
    fn errors_come_back_and_do_no_harm() {
        let mut extent = extent();
        assert_eq!(extent.read(40, &mut [0; SECTOR]), Err(Error::OutOfRange));
        assert_eq!(extent.write(39, &[0; 2 * SECTOR]), Err(Error::OutOfRange));
        assert_eq!(extent.write(0, &[0; 100]), Err(Error::BadArgument));
        extent.disk.bell().bad = Some(17);
        assert_eq!(extent.read(0, &mut [0; 10 * SECTOR]), Err(Error::DeviceFailed));
        extent.read(0, &mut [0; 7 * SECTOR]).unwrap();
        extent.read(8, &mut [0; 7 * SECTOR]).unwrap();
    }
}
