//! The plugin in QEMU, and its counts as they grow.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use memmap2::MmapMut;
use tempfile::TempDir;

use super::layout::{FIXED, ROWS, counts_len, word};
use super::table::Table;
use crate::machine::emulator::Emulator;
use crate::machine::{Machine, option_value};
use crate::signals::Signals;
use crate::{guest, workspace};

/// How often to look at the counts while waiting.
const GLANCE: Duration = Duration::from_micros(50);
/// How long may pass until what is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// The guest is at rest if it is halted and executes nothing for so long.
const REST: Duration = Duration::from_millis(50);

/// A counter for one machine.
pub(crate) struct Counter {
    plugin: PathBuf,
    map: MmapMut,
    /// Whether there is a table, and instructions are counted by function.
    by_function: bool,
    // Table and counts.
    dir: TempDir,
}

/// All counts at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Instructions.
    pub(crate) total: u64,
    /// `hlt` instructions: how often the processor went to sleep.
    pub(crate) halts: u64,
    /// `syscall` instructions.
    pub(crate) calls: u64,
    /// `iretq` instructions: returns from interrupts and exceptions.
    pub(crate) returns: u64,
    /// Instructions at addresses of user space.
    pub(crate) user: u64,
    /// Of all instructions, the rounds of repeated string instructions after their first.
    pub(crate) rounds: u64,
    /// Of these, those at addresses of user space.
    pub(crate) user_rounds: u64,
    /// Instructions by function and row, [`ROWS`] for each function.
    pub(crate) matrix: Vec<u64>,
}

impl Counter {
    /// A counter by function, of the programs in `table`: builds the plugin and prepares
    /// its files. The machine it is for is to be started with [`Counter::arguments`].
    pub(crate) fn new(table: &Table) -> Result<Self> {
        Self::prepare(Some(table))
    }

    /// A counter for any guest: of user space and kernel, and of all; from
    /// [`Counter::begin`] on.
    pub(crate) fn of_any_guest() -> Result<Self> {
        Self::prepare(None)
    }

    fn prepare(table: Option<&Table>) -> Result<Self> {
        let plugin = build()?;
        let dir = tempfile::Builder::new().prefix("exo-bench-").tempdir()?;
        if let Some(table) = table {
            std::fs::write(dir.path().join("table"), table.encode())
                .context("cannot write the table of instructions")?;
        }
        let functions = table.map_or(FIXED as usize, |table| table.functions().len());
        let path = dir.path().join("counts");
        let file: File = OpenOptions::new().create_new(true).read(true).write(true).open(&path)?;
        file.set_len(counts_len(functions) as u64)?;
        // SAFETY: the file was made just now in a directory of our own, and no other process
        // cuts it; both sides use it through atomics only.
        let map = unsafe { MmapMut::map_mut(&file) }.context("cannot map the counts")?;
        let counter = Self { plugin, map, by_function: table.is_some(), dir };
        counter.let_go();
        Ok(counter)
    }

    /// Arguments for QEMU.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let mut plugin = OsString::from("file=");
        plugin.push(option_value(&self.plugin));
        let files = ["table", "counts"].into_iter().skip(usize::from(!self.by_function));
        for name in files {
            plugin.push(format!(",{name}="));
            plugin.push(option_value(&self.dir.path().join(name)));
        }
        if !self.by_function {
            plugin.push(",later=on");
        }
        vec!["-plugin".into(), plugin]
    }

    /// A counter for any guest counts from the guest's next `hlt` on; the guest has to be
    /// woken for that. One by function has counted all the time.
    pub(crate) fn begin(&self) {
        self.word(word::WANTED).store(1, Release);
    }

    /// **Blocking** until instructions are counted.
    pub(crate) fn wait_until_counting(&self, machine: &Machine, interrupt: &Signals) -> Result<()> {
        let counting = || self.word(word::READY).load(Acquire) != 0;
        wait_for(counting, "the counting plugin does not begin", machine, interrupt)
    }

    /// Fails if QEMU runs without the plugin. To be called when the guest has spoken, of a
    /// counter by function.
    pub(crate) fn ensure_ready(&self, machine: &Machine) -> Result<()> {
        ensure!(
            self.word(word::READY).load(Acquire) != 0,
            "QEMU did not load the counting plugin; it must be built with plugins, \
             as Debian's is\n{}",
            machine.report()
        );
        Ok(())
    }

    /// Instructions executed so far.
    pub(crate) fn total(&self) -> u64 {
        self.word(word::TOTAL).load(Relaxed)
    }

    /// All counts. Exact while the processor is held or halted.
    pub(crate) fn read(&self) -> Counts {
        let words = self.words();
        let read = |index: usize| words.get(index).map_or(0, |word| word.load(Relaxed));
        Counts {
            total: read(word::TOTAL),
            halts: read(word::HALTS),
            calls: read(word::CALLS),
            returns: read(word::RETURNS),
            user: read(word::USER),
            rounds: read(word::ROUNDS),
            user_rounds: read(word::USER_ROUNDS),
            matrix: words.iter().skip(word::MATRIX).map(|word| word.load(Relaxed)).collect(),
        }
    }

    /// From now on the processor is held at its next `hlt`.
    pub(crate) fn hold(&self) {
        self.word(word::HALTS_ALLOWED).store(self.word(word::HALTS).load(Acquire), Release);
    }

    /// Carries out the `hlt` that the processor is held at; it is held at the next one.
    pub(crate) fn let_one_pass(&self) {
        self.hold();
    }

    /// Holds the processor no more.
    pub(crate) fn let_go(&self) {
        self.word(word::HALTS_ALLOWED).store(u64::MAX, Release);
    }

    /// Whether the processor is held at a `hlt`.
    pub(crate) fn is_held(&self) -> bool {
        let allowed = self.word(word::HALTS_ALLOWED).load(Relaxed);
        self.word(word::HALTS).load(Acquire) > allowed
    }

    /// **Blocking** until the processor is held at a `hlt`.
    pub(crate) fn wait_until_held(&self, machine: &Machine, interrupt: &Signals) -> Result<()> {
        wait_for(|| self.is_held(), "the guest does not go to sleep", machine, interrupt)
    }

    /// **Blocking** until the processor has been halted for some time, or is held.
    pub(crate) fn wait_until_at_rest(&self, machine: &Machine, interrupt: &Signals) -> Result<()> {
        let halted = || self.word(word::HALTED).load(Acquire) != 0;
        let at_rest = || {
            let before = self.total();
            std::thread::sleep(REST);
            (halted() || self.is_held()) && self.total() == before
        };
        wait_for(at_rest, "the guest does not come to rest", machine, interrupt)
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the map begins on a page and any bytes are valid atomics, which may
        // be shared with another process.
        let (_, words, _) = unsafe { self.map.align_to::<AtomicU64>() };
        words
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        &self.words()[index]
    }
}

impl Counts {
    /// What was counted between `earlier` and this.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let matrix = self.matrix.iter().zip(&earlier.matrix);
        Self {
            total: self.total.wrapping_sub(earlier.total),
            halts: self.halts.wrapping_sub(earlier.halts),
            calls: self.calls.wrapping_sub(earlier.calls),
            returns: self.returns.wrapping_sub(earlier.returns),
            user: self.user.wrapping_sub(earlier.user),
            rounds: self.rounds.wrapping_sub(earlier.rounds),
            user_rounds: self.user_rounds.wrapping_sub(earlier.user_rounds),
            matrix: matrix.map(|(now, then)| now.wrapping_sub(*then)).collect(),
        }
    }

    /// Adds what was counted at another time.
    pub(crate) fn add(&mut self, other: &Self) {
        self.total += other.total;
        self.halts += other.halts;
        self.calls += other.calls;
        self.returns += other.returns;
        self.user += other.user;
        self.rounds += other.rounds;
        self.user_rounds += other.user_rounds;
        self.matrix.resize(other.matrix.len(), 0);
        self.matrix.iter_mut().zip(&other.matrix).for_each(|(sum, count)| *sum += count);
    }

    /// Instructions of the kernel.
    pub(crate) fn kernel(&self) -> u64 {
        self.total.wrapping_sub(self.user)
    }

    /// All instructions, but a repeated string instruction as one, however many rounds.
    pub(crate) fn repeats_once(&self) -> u64 {
        self.total.wrapping_sub(self.rounds)
    }

    /// Instructions of row `row`.
    pub(crate) fn of_row(&self, row: usize) -> u64 {
        self.matrix.iter().skip(row).step_by(ROWS).sum()
    }

    /// Instructions by function: number, row, count. Without zeros.
    pub(crate) fn by_function(&self) -> impl Iterator<Item = (usize, usize, u64)> {
        let cells = self.matrix.iter().enumerate().filter(|&(_, &count)| count != 0);
        cells.map(|(index, &count)| (index / ROWS, index % ROWS, count))
    }
}

/// **Blocking** until `done`. An error that begins with `problem` if that takes too long.
pub(crate) fn wait_for(
    mut done: impl FnMut() -> bool,
    problem: &str,
    machine: &Machine,
    interrupt: &Signals,
) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        interrupt.check()?;
        ensure!(machine.running(), "the guest ended\n{}", machine.report());
        ensure!(Instant::now() < deadline, "{problem}\n{}", machine.report());
        std::thread::sleep(GLANCE);
    }
    Ok(())
}

/// Builds the plugin, and says where it is.
pub(crate) fn build() -> Result<PathBuf> {
    let guest = workspace::guest_target_dir();
    let target = guest.parent().context("the build directory has no parent")?;
    let later = Emulator::find()?.has_later_plugins();
    let mut command = workspace::cargo();
    command.args(["build", "--release", "--package", "exo-plugin", "--target-dir"]).arg(target);
    command.args(["--features", "api3"].iter().filter(|_| later));
    guest::run(command, "building the counting plugin")?;
    let path = target.join("release/libexo_plugin.so");
    ensure!(path.is_file(), "cargo built the counting plugin, but not to {}", path.display());
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::rows::Row;
    use crate::machine::Config;
    use crate::prerequisites::QEMU;

    #[test]
    fn counts_are_subtracted_and_summed() {
        let mut matrix = vec![0; 3 * ROWS];
        matrix[2] = 5;
        let before =
            Counts { total: 5, halts: 1, calls: 2, matrix: matrix.clone(), ..Counts::default() };
        matrix[2] = 7;
        matrix[ROWS + 2] = 10;
        matrix[2 * ROWS + 4] = 100;
        let after = Counts {
            total: 117,
            halts: 2,
            calls: 5,
            user: 100,
            rounds: 10,
            matrix,
            ..Counts::default()
        };
        let between = after.since(&before);
        assert_eq!((between.total, between.halts, between.calls), (112, 1, 3));
        assert_eq!((between.kernel(), between.repeats_once()), (12, 102));
        assert_eq!((between.of_row(2), between.of_row(4), between.of_row(0)), (12, 100, 0));
        assert_eq!(between.by_function().collect::<Vec<_>>(), [(0, 2, 2), (1, 2, 10), (2, 4, 100)]);
    }

    /// Where the code of the kernel below lies.
    const CODE: u32 = 0x10_0000 + 64 + 2 * 56 + 20;

    /// An ELF file with a PVH note and 32-bit code.
    fn kernel(code: &[u8]) -> Vec<u8> {
        let len = u64::from(CODE) - 0x10_0000 + code.len() as u64;
        let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
        for field in [u64::from(CODE), 64, 0] {
            elf.extend(field.to_le_bytes());
        }
        elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        for (kind, offset, len) in [(1_u32, 0, len), (4, 64 + 2 * 56, 20)] {
            elf.extend(kind.to_le_bytes());
            elf.extend(7_u32.to_le_bytes());
            for field in [offset, 0x10_0000 + offset, 0x10_0000 + offset, len, len, 4] {
                elf.extend(field.to_le_bytes());
            }
        }
        for field in [4_u32, 4, 18, u32::from_le_bytes(*b"Xen\0"), CODE] {
            elf.extend(field.to_le_bytes());
        }
        elf.extend(code);
        elf
    }

    /// Counts of a machine that executes `code` until it halts; the code writes "xx".
    fn counts_of(code: &[u8], icount: bool) -> Counts {
        let table = Table::of_code(CODE.into(), code, Row::Answer);
        let counter = Counter::new(&table).unwrap();
        run(&counter, code, icount, |counter, machine, interrupt| {
            counter.ensure_ready(machine).unwrap();
            counter.wait_until_at_rest(machine, interrupt).unwrap();
            counter.read()
        })
    }

    /// Runs `code` until it has written "xx", and then `look`.
    fn run<T>(
        counter: &Counter,
        code: &[u8],
        icount: bool,
        look: impl FnOnce(&Counter, &Machine, &Signals) -> T,
    ) -> T {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kernel");
        std::fs::write(&path, kernel(code)).unwrap();
        let interrupt = Signals::register().unwrap();
        let mut config = Config::named("bench").unwrap();
        config.icount = icount;
        config.extra = counter.arguments();
        let machine = Machine::start(&config, &path, b"no bundle").unwrap();
        assert_eq!(machine.wait_for_line("xx", PATIENCE).unwrap(), "xx");
        look(counter, &machine, &interrupt)
    }

    /// What a guest executes before its counts are wanted is not counted, and it is not
    /// slowed by it; afterwards it is found asleep.
    #[test]
    fn counts_from_a_hlt_on() {
        if QEMU.find().is_none() {
            eprintln!("skipped: {} is missing", QEMU.name);
            return;
        }
        let code = [
            0xba, 0xf8, 3, 0, 0, // mov edx, 0x3f8
            0xb0, b'x', // mov al, 'x'
            0xee, 0xee, // out, out
            0xb0, b'\n', 0xee, // mov al, newline; out
            0xb9, 0, 0, 0, 0x20, // mov ecx, 2^29
            0x49, 0x75, 0xfd, // next: dec ecx; jnz next
            0xf4, // hlt
        ];
        let counter = Counter::of_any_guest().unwrap();
        let counts = run(&counter, &code, true, |counter, machine, interrupt| {
            assert!(counter.ensure_ready(machine).is_err(), "nothing is counted yet");
            counter.begin();
            counter.wait_until_counting(machine, interrupt).unwrap();
            counter.wait_until_at_rest(machine, interrupt).unwrap();
            counter.read()
        });
        assert_eq!((counts.total, counts.halts), (0, 0));
    }

    /// What is counted must be what was executed, also where QEMU ends a block early: at an
    /// access to a device. Of a string instruction every round counts, and the look at the
    /// counter that finds it done; all but one are counted apart. Later QEMUs execute a
    /// whole one at a time where time is not counted in instructions.
    #[test]
    fn counts_a_known_number_of_instructions() {
        if QEMU.find().is_none() {
            eprintln!("skipped: {} is missing", QEMU.name);
            return;
        }
        let code = |rounds: u8| {
            [
                0xb9, 0xe8, 3, 0, 0,    // mov ecx, 1000
                0x49, // next: dec ecx
                0x75, 0xfd, // jnz next
                0xba, 0xf8, 3, 0, 0, // mov edx, 0x3f8
                0xb0, b'x', // mov al, 'x'
                0xee, 0x90, 0x90, 0xee, 0x90, // out, nop, nop, out, nop
                0xb0, b'\n', 0xee, 0x90, // mov al, newline; out; nop
                0xbf, 0, 0, 0x20, 0, // mov edi, 2 MiB
                0xb1, rounds, // mov cl, rounds
                0xf3, 0xaa, // rep stosb
                0xf4, // hlt
            ]
        };
        let others = 1 + 2 * 1000 + 2 + 5 + 3 + 2 + 1;
        for icount in [true, false] {
            let whole = !icount && Emulator::find().unwrap().has_later_plugins();
            let [few, many] = [10, 30].map(|rounds| counts_of(&code(rounds), icount));
            for (counts, rounds) in [(&few, 10), (&many, 30)] {
                let row = counts.of_row(Row::Answer.index());
                let counted = if whole { 1 } else { rounds + 1 };
                assert_eq!(row, others + counted, "icount {icount}");
                assert_eq!((counts.halts, counts.calls), (1, 0));
                let sum: u64 = counts.by_function().map(|(_, _, count)| count).sum();
                assert_eq!(sum, counts.total);
            }
            let further = if whole { 0 } else { 20 };
            assert_eq!(many.rounds - few.rounds, further, "icount {icount}");
            assert_eq!(few.user, few.total, "all of it lies in the lower half");
        }
    }
}
