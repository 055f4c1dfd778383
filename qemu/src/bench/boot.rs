//! From QEMU's start to the first answer.

use std::fmt::Write;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::builder::RangedU64ValueParser;
use serde::Serialize;

use super::conditions::Conditions;
use super::counter::{Counter, Counts};
use super::get::{store_of, wait_until_serving};
use super::report::{Stating, save};
use super::steps::Steps;
use super::table::{Function, Table};
use crate::client::{HEADER_LEN, request};
use crate::figures::{self, Named};
use crate::machine::{Config, HostPorts, Machine, Network};
use crate::output::{self, note, say};
use crate::signals::Signals;
use crate::{guest, workspace};

/// Milliseconds to the first answer that this system is to stay below, under TCG.
const GOAL: f64 = 300.0;
/// How often to ask.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a boot may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Measure the time from QEMU's start to the store's first answer
///
/// Boots boot/manifests/default.toml under TCG with user-mode networking and asks for
/// the version until there is an answer: in half of the boots once the store says that
/// it serves, in the other half from the start. Then counts the instructions of a boot
/// until everything serves and sleeps. Times depend on the machine and on what else it
/// does.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Boots to time, of each kind
    #[arg(long, default_value_t = 10, value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(0..=1000))]
    runs: usize,
    /// Boots to count the instructions of
    #[arg(long, default_value_t = 2, value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(0..=1000))]
    counted: usize,
    /// How many functions to list
    #[arg(long, default_value_t = 10, value_name = "N")]
    top: usize,
    /// Where to save everything as JSON
    /// [default: figures/out/boot.json]
    #[arg(long, value_name = "FILE", value_parser = crate::output::destination)]
    json: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Report {
    unit: &'static str,
    better: &'static str,
    goal: f64,
    conditions: Conditions,
    /// Asked once the store says that it serves.
    when_serving: Vec<f64>,
    /// Asked from the start.
    from_start: Vec<f64>,
    /// Instructions of each counted boot.
    instructions: Vec<u64>,
    /// Instructions by program.
    programs: Vec<(String, u64)>,
    /// Instructions by program and function, most first.
    functions: Vec<(String, String, u64)>,
}

pub(crate) fn run(args: &Args, interrupt: &Signals) -> Result<()> {
    let config = Config::named("default")?;
    guest::build(&config.manifest)?;
    let (mut when_serving, mut from_start) = (Vec::new(), Vec::new());
    for number in 1..=args.runs {
        note!("bench: boots {number} of {}", args.runs);
        when_serving.push(time_one(&config, true, interrupt)?.as_secs_f64() * 1000.0);
        from_start.push(time_one(&config, false, interrupt)?.as_secs_f64() * 1000.0);
    }
    let mut counted = Vec::new();
    let images = config.manifest.apps.iter().map(|app| app.image.as_str());
    let images = [guest::KERNEL, guest::ROOT].into_iter().chain(images);
    let table = Table::of_programs(images, &Steps::of_workspace()?, interrupt)?;
    for number in 1..=args.counted {
        note!("bench: counting boot {number} of {}", args.counted);
        counted.push(count_one(&config, &table, interrupt)?);
    }

    let conditions = Conditions::now("TCG; instructions with -icount shift=0,sleep=off");
    let report = Report::new(conditions, [when_serving, from_start], &counted, table.functions());
    let path = save(&report, args.json.as_deref(), "boot")?;
    output::print(report.text(args.top)?)?;
    say!("\nsaved to {}", path.display())?;
    Ok(())
}

/// From QEMU's start to the first answer. With `patient`, nothing is asked until the
/// store says that it serves.
///
/// QEMU's user-mode network asks for the guest's MAC address when it has something to
/// pass on, and if the guest is not up to answer then, not again for a second. So a client
/// that asks early gets an answer late, unless the guest announces itself.
fn time_one(config: &Config, patient: bool, interrupt: &Signals) -> Result<Duration> {
    let mut config = config.clone();
    config.network = Network::User(HostPorts::Free);
    let bundle = guest::bundle(&config.manifest)?;
    let kernel = workspace::guest_elf(guest::KERNEL);
    let question = request(1, b"version\r\n")?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("no free UDP port")?;
    socket.set_read_timeout(Some(PAUSE))?;

    let start = Instant::now();
    let machine = Machine::start(&config, &kernel, &bundle)?;
    let port = machine.udp_port().context("the manifest has no store")?;
    if patient {
        wait_until_serving(&machine, &store_of(&config.manifest)?.name, interrupt)?;
    }
    let mut answer = [0; 2048];
    loop {
        interrupt.check()?;
        // No program listens there at first, and that may be an error here.
        let _ = socket.send_to(&question, (Ipv4Addr::LOCALHOST, port));
        if let Ok(len) = socket.recv(&mut answer) {
            let answer = answer.get(HEADER_LEN..len).unwrap_or_default();
            ensure!(
                answer.starts_with(b"VERSION "),
                "the store's first answer makes no sense: \"{}\"",
                answer.escape_ascii()
            );
            return Ok(start.elapsed());
        }
        ensure!(machine.running(), "the guest ended\n{}", machine.report());
        if start.elapsed() > PATIENCE {
            bail!("the store does not answer\n{}", machine.report());
        }
    }
}

/// Instructions until everything serves and sleeps, on a wire on which nothing comes.
fn count_one(config: &Config, table: &Table, interrupt: &Signals) -> Result<Counts> {
    let counter = Counter::new(table)?;
    let mut config = config.clone();
    config.network = Network::Frames;
    config.icount = true;
    config.extra = counter.arguments();
    let machine = Machine::boot(&config)?;
    wait_until_serving(&machine, &store_of(&config.manifest)?.name, interrupt)?;
    counter.ensure_ready(&machine)?;
    counter.wait_until_at_rest(&machine, interrupt)?;
    Ok(counter.read())
}

/// Least, middle and most of some times.
fn spread(times: &[f64]) -> Option<[f64; 3]> {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    Some([*times.first()?, *times.get(times.len() / 2)?, *times.last()?])
}

impl Stating for Report {
    fn stated(&self) -> Named {
        let mut stated = Named::from([("goal".to_owned(), figures::count(self.goal))]);
        if let Some(times) = spread(&self.when_serving) {
            for (name, time) in ["least", "middle", "most"].into_iter().zip(times) {
                stated.insert(name.to_owned(), figures::count(time.round()));
            }
        }
        if let Some(&least) = self.instructions.iter().min() {
            stated.insert("millions".to_owned(), figures::millions(least as f64));
        }
        stated
    }
}

impl Report {
    fn new(
        conditions: Conditions,
        [when_serving, from_start]: [Vec<f64>; 2],
        counted: &[Counts],
        functions: &[Function],
    ) -> Self {
        let mut by_program: Vec<(String, u64)> = Vec::new();
        let mut by_function: Vec<(String, String, u64)> = Vec::new();
        for (number, _, count) in counted.first().into_iter().flat_map(Counts::by_function) {
            let Some(Function { image, name }) = functions.get(number) else { continue };
            match by_program.iter_mut().find(|(program, _)| program == image) {
                Some((_, sum)) => *sum += count,
                None => by_program.push((image.clone(), count)),
            }
            // A function's rows lie side by side.
            match by_function.last_mut().filter(|(i, n, _)| (i, n) == (image, name)) {
                Some((.., sum)) => *sum += count,
                None => by_function.push((image.clone(), name.clone(), count)),
            }
        }
        by_program.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        by_function.sort_by_key(|&(.., count)| std::cmp::Reverse(count));
        Self {
            unit: "milliseconds from QEMU's start to the first answer over UDP",
            better: "lower",
            goal: GOAL,
            conditions,
            when_serving,
            from_start,
            instructions: counted.iter().map(|counts| counts.total).collect(),
            programs: by_program,
            functions: by_function,
        }
    }

    fn text(&self, top: usize) -> Result<String> {
        let mut out = String::new();
        writeln!(out, "{}; {} is better", self.unit, self.better)?;
        write!(out, "{}", self.conditions.lines())?;
        writeln!(out)?;
        for (how, times) in [
            ("asked once it says that it serves", &self.when_serving),
            ("asked from the start", &self.from_start),
        ] {
            let Some([least, middle, most]) = spread(times) else { continue };
            let boots = times.len();
            let verdict = if middle < self.goal { "met" } else { "missed" };
            writeln!(
                out,
                "{how}, {boots} boots: least {least:.0} ms, middle {middle:.0} ms, most {most:.0} ms \
                 (goal: middle below {:.0} ms: {verdict})",
                self.goal
            )?;
        }
        let (Some(least), Some(most)) =
            (self.instructions.iter().min(), self.instructions.iter().max())
        else {
            return Ok(out);
        };
        let boots = self.instructions.len();
        writeln!(
            out,
            "\ninstructions until all serve and sleep, {boots} boots: {least} to {most}"
        )?;
        for (program, count) in &self.programs {
            writeln!(out, "{count:>12}  {program}")?;
        }
        if top > 0 {
            writeln!(out, "\nmost expensive functions:")?;
        }
        for (program, function, count) in self.functions.iter().take(top) {
            writeln!(out, "{count:>12}  {program:10} {function}")?;
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::ROWS;
    use super::*;

    #[test]
    fn sums_by_program_and_function() {
        let function =
            |image: &str, name: &str| Function { image: image.into(), name: name.into() };
        let functions = [function("root", "f"), function("exokernel", "g"), function("root", "h")];
        let mut matrix = vec![0; 3 * ROWS];
        (matrix[0], matrix[3], matrix[ROWS], matrix[2 * ROWS]) = (1, 2, 10, 20);
        let counts = Counts { total: 33, matrix, ..Counts::default() };
        let times = [vec![500.0, 100.0, 200.0], vec![400.0]];
        let report =
            Report::new(Conditions::now("TCG"), times, &[counts.clone(), counts], &functions);
        assert_eq!(report.programs, [("root".into(), 23), ("exokernel".into(), 10)]);
        assert_eq!(report.functions[0], ("root".into(), "h".into(), 20));
        assert_eq!(report.functions[2], ("root".into(), "f".into(), 3));
        let text = report.text(1).unwrap();
        assert!(text.contains("least 100 ms, middle 200 ms, most 500 ms"), "{text}");
        assert!(text.contains("300 ms: met") && text.contains("300 ms: missed"), "{text}");
        assert!(text.contains("2 boots: 33 to 33"), "{text}");
        let stated = report.stated();
        assert_eq!((stated["least"].as_str(), stated["middle"].as_str()), ("100", "200"));
        assert_eq!((stated["most"].as_str(), stated["millions"].as_str()), ("500", "0.0"));
        assert!(text.contains("root       h") && !text.contains("root       f"), "{text}");
    }
}
