//! From events to what happened: an account for each processor and each environment.
//!
//! A processor has three levels of slices: the environment it is for, how the kernel was entered,
//! and the step of a packet's journey. An environment has its system calls, each until it goes on
//! behind it, however long it slept in between or another ran; upcalls; calls that it serves; and
//! moments, such as a fault or a probe of its own.

use std::collections::{BTreeMap, HashMap};

use exo_abi::{SYSCALLS, Upcall};

use super::journal::Event;
use super::labels::{Code, Deed, Label, Labels};
use crate::guest;
use crate::manifest::Manifest;

/// Something that took a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) track: Track,
    /// How many slices of its track it lies in.
    pub(crate) depth: usize,
    pub(crate) name: String,
    /// Instructions executed before it began.
    pub(crate) from: u64,
    /// Instructions executed when it ended.
    pub(crate) to: u64,
    /// Whether its end was seen.
    pub(crate) ended: bool,
}

/// A moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) track: Track,
    pub(crate) name: String,
    pub(crate) at: u64,
    /// What a probe was given.
    pub(crate) value: Option<u64>,
}

/// Of what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Track {
    /// A processor, by number.
    Processor(u8),
    /// An environment, by its place in [`Timeline::environments`].
    Environment(usize),
}

/// What happened.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    pub(crate) slices: Vec<Slice>,
    pub(crate) moments: Vec<Moment>,
    environments: Vec<Environment>,
    /// The last environment with its U-area in this frame, and the program it was seen to run.
    known: HashMap<u32, (usize, String)>,
    /// Names of the applications of each program, in the order in which root starts them.
    names: HashMap<String, Vec<String>>,
    processors: BTreeMap<u8, Processor>,
    last: u64,
}

#[derive(Debug)]
struct Environment {
    name: String,
    open: Vec<Open>,
}

/// A slice that has not ended.
#[derive(Debug)]
struct Open {
    kind: Kind,
    name: String,
    from: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Call(u64),
    Upcall,
    Serves,
}

#[derive(Debug, Default)]
struct Processor {
    /// The environment it is for.
    environment: Option<usize>,
    /// The levels' names and beginnings.
    levels: [Option<(String, u64)>; 3],
    /// In the kernel, since when.
    entered: Option<u64>,
    /// The system call that is being served.
    call: Option<u64>,
    deed: Option<Deed>,
}

const ENVIRONMENT: usize = 0;
const RING_0: usize = 1;
const STEP: usize = 2;

/// How the kernel was entered, before that is known.
const UNNAMED: &str = "kernel";

impl Timeline {
    /// An empty one of the machine of `manifest`.
    pub(crate) fn new(manifest: &Manifest) -> Self {
        let mut names: HashMap<String, Vec<String>> = HashMap::new();
        names.insert(guest::ROOT.to_owned(), vec![guest::ROOT.to_owned()]);
        for app in &manifest.apps {
            names.entry(app.image.clone()).or_default().push(app.name.clone());
        }
        Self { names, ..Self::default() }
    }

    /// Names of the environments.
    pub(crate) fn environments(&self) -> impl Iterator<Item = &str> {
        self.environments.iter().map(|environment| environment.name.as_str())
    }

    /// How many processors there are.
    pub(crate) fn processors(&self) -> impl Iterator<Item = u8> {
        self.processors.keys().copied()
    }

    /// There is a processor of which nothing is known.
    #[cfg(test)]
    pub(super) fn add_processor(&mut self, number: u8) {
        self.processors.insert(number, Processor::default());
    }

    /// What a track is called.
    pub(crate) fn name(&self, track: Track) -> String {
        match track {
            Track::Processor(number) => format!("processor {number}"),
            Track::Environment(index) => {
                self.environments.get(index).map_or_else(String::new, |known| known.name.clone())
            }
        }
    }

    /// Takes the next event.
    pub(crate) fn add(&mut self, event: &Event, labels: &Labels) {
        self.arrive(event, labels.get(event.label));
    }

    fn arrive(&mut self, event: &Event, label: &Label) {
        let at = event.at;
        self.last = self.last.max(at);
        // The firmware and the kernel's first instructions lie in the lower half, too.
        let user = event.user && event.space != 0;
        let mut processor = self.processors.remove(&event.cpu).unwrap_or_default();
        let environment = match user {
            true => Some(self.environment(event.space, &label.image)),
            false => processor.environment,
        };
        if environment != processor.environment {
            self.close(event.cpu, &mut processor, ENVIRONMENT, at);
            // It has replied, and whatever called it goes on.
            if let Some(server) = processor.environment
                && processor.call.is_some_and(is_reply)
            {
                self.end(server, at, |kind| kind == Kind::Serves);
            }
            processor.environment = environment;
        }
        let track = environment.map(Track::Environment).unwrap_or(Track::Processor(event.cpu));
        let moment = |name: String, value| Moment { track, name, at, value };
        if let Code::Probe(name) = &label.code {
            self.moments.push(moment(name.clone(), Some(event.value)));
            self.processors.insert(event.cpu, processor);
            return;
        }

        self.set(
            event.cpu,
            &mut processor,
            ENVIRONMENT,
            at,
            environment.map(|index| self.environments[index].name.clone()),
        );
        if user {
            self.go_on(event, label, &mut processor);
            processor.entered = None;
            processor.call = None;
            self.set(event.cpu, &mut processor, RING_0, at, None);
        } else {
            self.in_ring_0(event, label, &mut processor, track);
        }
        let deed = if let Code::Does(deed) = label.code { Some(deed) } else { None };
        if deed != processor.deed
            && let Some(deed) = deed
        {
            self.moments.push(moment(deed.name().to_owned(), None));
        }
        processor.deed = deed;
        let step = label.row.map(|row| row.name().to_owned());
        self.set(event.cpu, &mut processor, STEP, at, step);
        self.processors.insert(event.cpu, processor);
    }

    /// The processor of `event` is in ring 0, which may be about `track`.
    fn in_ring_0(&mut self, event: &Event, label: &Label, processor: &mut Processor, track: Track) {
        let at = event.at;
        let entered = *processor.entered.get_or_insert(at);
        let name = match &label.code {
            Code::Call(number) if processor.call.is_none() => {
                processor.call = Some(*number);
                let name = call_name(*number);
                if let Some(index) = processor.environment {
                    let open =
                        Open { kind: Kind::Call(*number), name: name.clone(), from: entered };
                    self.environments[index].open.push(open);
                }
                Some(name)
            }
            Code::Vector(vector) => {
                let name = vector_name(*vector);
                if *vector < 32 {
                    self.moments.push(Moment { track, name: name.clone(), at, value: None });
                }
                Some(name)
            }
            _ => None,
        };
        let unnamed = processor.levels[RING_0].as_ref().is_none_or(|(name, _)| name == UNNAMED);
        match name {
            // What the entry began with is part of it.
            Some(name) if unnamed => processor.levels[RING_0] = Some((name, entered)),
            // An interrupt of the halted kernel.
            name @ Some(_) => self.set(event.cpu, processor, RING_0, at, name),
            None if unnamed => {
                processor.levels[RING_0].get_or_insert((UNNAMED.to_owned(), at));
            }
            None => {}
        }
    }

    /// The environment of `event` goes on in ring 3.
    fn go_on(&mut self, event: &Event, label: &Label, processor: &mut Processor) {
        let Some(index) = processor.environment else { return };
        let (at, left_ring_0) = (event.at, processor.entered.is_some());
        match label.code {
            Code::Upcall => {
                let name = upcall_name(event.value);
                self.environments[index].open.push(Open { kind: Kind::Upcall, name, from: at });
            }
            Code::UpcallEnd => {
                self.end(index, at, |kind| kind == Kind::Upcall);
                // The application goes on behind the call that it interrupted.
                if let Some(Kind::Call(_)) =
                    self.environments[index].open.last().map(|open| open.kind)
                {
                    self.end_innermost(index, at, true);
                }
            }
            _ if !left_ring_0 => {}
            _ => {
                let innermost = self.environments[index].open.last().map(|open| open.kind);
                let by_transfer = processor.call.filter(|&number| is_transfer(number));
                match (by_transfer, innermost) {
                    // Called by another environment, while it may wait for something itself.
                    (Some(number), _)
                        if innermost != Some(Kind::Call(number)) && !is_reply(number) =>
                    {
                        let name = "serves a call".to_owned();
                        self.environments[index].open.push(Open {
                            kind: Kind::Serves,
                            name,
                            from: at,
                        });
                    }
                    (_, Some(Kind::Call(number))) => {
                        self.end(index, at, |kind| kind == Kind::Call(number));
                        // It has replied, and is called again.
                        if is_reply(number) {
                            self.end(index, at, |kind| kind == Kind::Serves);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// Ends the innermost open slice of that kind, and those within.
    fn end(&mut self, index: usize, at: u64, is: impl Fn(Kind) -> bool) {
        let Some(depth) = self.environments[index].open.iter().rposition(|open| is(open.kind))
        else {
            return;
        };
        while self.environments[index].open.len() > depth {
            self.end_innermost(index, at, true);
        }
    }

    fn end_innermost(&mut self, index: usize, at: u64, ended: bool) {
        if let Some(Open { name, from, .. }) = self.environments[index].open.pop() {
            let depth = self.environments[index].open.len();
            let track = Track::Environment(index);
            self.slices.push(Slice { track, depth, name, from, to: at, ended });
        }
    }

    /// Ends everything that has not ended, at the last event or, if that is later, after
    /// `executed` instructions.
    pub(crate) fn finish(&mut self, executed: u64) {
        let at = self.last.max(executed);
        for index in 0..self.environments.len() {
            while !self.environments[index].open.is_empty() {
                self.end_innermost(index, at, false);
            }
        }
        for (cpu, mut processor) in std::mem::take(&mut self.processors) {
            self.close(cpu, &mut processor, ENVIRONMENT, at);
            self.processors.insert(cpu, processor);
        }
        self.slices.sort_by_key(|slice| (slice.from, slice.track, slice.depth));
        self.moments.sort_by_key(|moment| moment.at);
    }

    /// The environment with its U-area in frame `space`, which runs `image`; empty if that is not
    /// known, of code that two programs have at one address.
    fn environment(&mut self, space: u32, image: &str) -> usize {
        if let Some((index, known)) = self.known.get(&space) {
            if image.is_empty() || image == known {
                return *index;
            }
            if known.is_empty() {
                let index = *index;
                self.environments[index].name = self.name_of(space, image);
                self.known.insert(space, (index, image.to_owned()));
                return index;
            }
        }
        let name = self.name_of(space, image);
        let index = self.environments.len();
        self.environments.push(Environment { name, open: Vec::new() });
        self.known.insert(space, (index, image.to_owned()));
        index
    }

    /// The name of the next environment that is seen to run `image`.
    fn name_of(&mut self, space: u32, image: &str) -> String {
        let names = self.names.get_mut(image).filter(|names| !names.is_empty());
        let image = if image.is_empty() { "some program" } else { image };
        names.map_or_else(|| format!("{image} in frame {space}"), |names| names.remove(0))
    }

    /// From `at` on the processor's `level` is called `name`.
    fn set(
        &mut self,
        cpu: u8,
        processor: &mut Processor,
        level: usize,
        at: u64,
        name: Option<String>,
    ) {
        if processor.levels[level].as_ref().map(|(name, _)| name) != name.as_ref() {
            self.close(cpu, processor, level, at);
            processor.levels[level] = name.map(|name| (name, at));
        }
    }

    /// Ends the processor's slices from `level` on.
    fn close(&mut self, cpu: u8, processor: &mut Processor, level: usize, at: u64) {
        for depth in (level..processor.levels.len()).rev() {
            if let Some((name, from)) = processor.levels[depth].take()
                && from < at
            {
                let track = Track::Processor(cpu);
                self.slices.push(Slice { track, depth, name, from, to: at, ended: true });
            }
        }
    }
}

impl Deed {
    fn name(self) -> &'static str {
        match self {
            Self::Halts => "sleeps until an interrupt",
            Self::EndsSlice => "end of slice",
            Self::Faults => "ends by an exception",
            Self::Starts => "starts an environment",
            Self::Ends => "an environment ends",
            Self::AsksBack => "asks for resources back",
            Self::Takes => "takes a frame",
            Self::Elevates => "into ring 0",
            Self::Lowers => "out of ring 0",
        }
    }
}

fn call_name(number: u64) -> String {
    let call = SYSCALLS.iter().find(|call| call.number == number);
    call.map_or_else(|| format!("call {number}"), |call| call.name.to_owned())
}

fn is_transfer(number: u64) -> bool {
    call_name(number).starts_with("transfer_")
}

fn is_reply(number: u64) -> bool {
    call_name(number) == "transfer_reply"
}

fn vector_name(vector: u8) -> String {
    let name = match vector {
        0 => "divide error",
        1 => "debug exception",
        3 => "breakpoint",
        6 => "invalid opcode",
        13 => "general protection",
        14 => "page fault",
        17 => "alignment check",
        _ if vector < 32 => return format!("exception {vector}"),
        _ => return format!("interrupt {vector}"),
    };
    name.to_owned()
}

/// The name of an upcall by its reason, and for an exception its vector from bit 32 on.
fn upcall_name(value: u64) -> String {
    let name = match value as u32 {
        reason if reason == Upcall::Exception as u32 => {
            return format!("upcall: {}", vector_name((value >> 32) as u8));
        }
        reason if reason == Upcall::SliceEnd as u32 => "end of slice",
        reason if reason == Upcall::SliceBegin as u32 => "begin of slice",
        reason if reason == Upcall::Event as u32 => "event",
        reason if reason == Upcall::Revoke as u32 => "resources wanted back",
        reason if reason == Upcall::Lowered as u32 => "out of ring 0",
        // The library begins one itself: `libos::upcall::enter`.
        _ => "entered by the application",
    };
    format!("upcall: {name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::rows::Row;
    use crate::manifest;

    const TWO: &str = "[[app]]\nname = \"one\"\nimage = \"app\"\nframes = 1024\nslots = 16\n\
        grants = []\n[[app]]\nname = \"two\"\nimage = \"app\"\nframes = 1024\nslots = 16\ngrants = []\n";

    /// Slices and moments of a machine of two applications that run one program.
    struct Machine(Timeline);

    impl Machine {
        fn new() -> Self {
            Self(Timeline::new(&manifest::parse(TWO).unwrap()))
        }

        fn comes(&mut self, at: u64, space: u32, user: bool, image: &str, code: Code) -> &mut Self {
            let row = matches!(code, Code::Kernel).then_some(Row::Receive);
            let event = Event { at, label: 0, cpu: 0, user, space, value: 1 | 14 << 32 };
            self.0.arrive(&event, &Label { image: image.into(), code, row });
            self
        }

        fn user(&mut self, at: u64, space: u32) -> &mut Self {
            self.comes(at, space, true, "app", Code::User)
        }

        fn kernel(&mut self, at: u64, space: u32, code: Code) -> &mut Self {
            self.comes(at, space, false, "exokernel", code)
        }

        fn calls(&mut self, at: u64, space: u32, name: &str) -> &mut Self {
            self.kernel(at, space, Code::Enter);
            self.kernel(at + 1, space, Code::Call(exo_abi::call_number(name)))
        }

        /// What environment `index` did.
        fn of(&mut self, index: usize) -> Vec<(String, u64, u64)> {
            self.0.finish(0);
            let slices = self.0.slices.iter();
            let own = slices.filter(|slice| slice.track == Track::Environment(index));
            own.map(|slice| (slice.name.clone(), slice.from, slice.to)).collect()
        }
    }

    fn named(name: &str, from: u64, to: u64) -> (String, u64, u64) {
        (name.to_owned(), from, to)
    }

    #[test]
    fn a_call_lasts_until_its_caller_goes_on() {
        let mut machine = Machine::new();
        machine.user(10, 5).calls(20, 5, "wait").kernel(25, 5, Code::Kernel);
        // Another runs meanwhile.
        machine.user(30, 6).calls(40, 6, "null").user(45, 6).kernel(50, 6, Code::Vector(32));
        machine.kernel(52, 6, Code::Kernel).user(60, 5);
        assert_eq!(machine.of(0), [named("wait", 20, 60)]);
        assert_eq!(machine.of(1), [named("null", 40, 45)]);
        let names: Vec<_> = machine.0.environments().collect();
        assert_eq!(names, ["one", "two"], "in the order in which they are seen");
        let processor: Vec<_> = machine
            .0
            .slices
            .iter()
            .filter(|slice| slice.track == Track::Processor(0))
            .map(|slice| (slice.depth, slice.name.as_str(), slice.from, slice.to))
            .collect();
        let expected = [
            (0, "one", 10, 30),
            (1, "wait", 20, 30),
            (2, "receive", 25, 30),
            (0, "two", 30, 60),
            (1, "null", 40, 45),
            (1, "interrupt 32", 50, 60),
            (2, "receive", 52, 60),
        ];
        assert_eq!(processor, expected);
    }

    #[test]
    fn upcalls_lie_within_what_they_interrupt() {
        let mut machine = Machine::new();
        machine.user(10, 5).calls(20, 5, "wait");
        machine.kernel(30, 5, Code::Kernel).comes(40, 5, true, "app", Code::Upcall);
        machine.user(41, 5).calls(50, 5, "null").user(60, 5);
        machine.comes(70, 5, true, "app", Code::UpcallEnd).user(71, 5);
        let expected =
            [named("wait", 20, 70), named("upcall: page fault", 40, 70), named("null", 50, 60)];
        assert_eq!(machine.of(0), expected);
    }

    #[test]
    fn a_server_serves_while_it_waits_itself() {
        let mut machine = Machine::new();
        machine.user(1, 6).calls(2, 6, "wait").user(10, 5);
        for round in [0, 100] {
            machine.calls(round + 20, 5, "transfer_call").user(round + 30, 6);
            machine.calls(round + 40, 6, "transfer_reply").user(round + 50, 5);
        }
        // The first that was seen is the server.
        let calls = [named("transfer_call", 20, 50), named("transfer_call", 120, 150)];
        assert_eq!(machine.of(1), calls);
        let served: Vec<_> =
            machine.of(0).into_iter().filter(|(name, ..)| name == "serves a call").collect();
        assert_eq!(served, [named("serves a call", 30, 50), named("serves a call", 130, 150)]);
    }

    #[test]
    fn what_does_not_end_says_so() {
        let mut machine = Machine::new();
        machine.user(10, 5).calls(20, 5, "exit").kernel(25, 5, Code::Does(Deed::Ends));
        machine.0.finish(500);
        let exit = machine.0.slices.iter().find(|slice| slice.name == "exit");
        let exit = exit.map(|slice| (slice.from, slice.to, slice.ended));
        // On the processor it is over when nothing more was executed; of the environment it never is.
        assert!(exit == Some((20, 500, true)) || exit == Some((20, 500, false)), "{exit:?}");
        assert!(machine.0.slices.iter().any(|slice| slice.name == "exit" && !slice.ended));
        assert_eq!(machine.0.moments[0].name, "an environment ends");
    }

    /// Code that two programs have at one address is no sign of another program.
    #[test]
    fn an_environment_is_named_when_its_program_is_known() {
        let mut machine = Machine::new();
        machine.comes(1, 7, true, "", Code::Unknown).user(2, 7).comes(
            3,
            7,
            true,
            "",
            Code::Unknown,
        );
        assert_eq!(machine.0.environments().collect::<Vec<_>>(), ["one"]);
        machine.comes(4, 7, true, "other", Code::User);
        assert_eq!(machine.0.environments().collect::<Vec<_>>(), ["one", "other in frame 7"]);
    }
}
