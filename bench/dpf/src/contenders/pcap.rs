//! Classic BPF in libpcap, found when the program runs: it is not needed to build.
//!
//! `pcap_compile` makes programs, with its optimiser; `bpf_filter` interprets them, with
//! a check of the length at every load.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::sync::LazyLock;

use anyhow::{Context, Result, anyhow, ensure};
use libloading::Library;

use super::list::List;
use super::{Bytes, Contender, Task};
use crate::predicates::Predicate;

/// Most terms of one expression, of UDP ports and of others. The compiler's optimiser takes
/// time that grows with the square of them, and is run in callgrind, too.
pub(super) const MOST_JOINED: (u32, u32) = (1000, 100);
pub(super) const TOO_MANY: &str = "its compiler's optimiser takes too long";

/// Names of the library, the newest Debian's first.
const NAMES: [&str; 3] = ["libpcap.so.0.8", "libpcap.so.1", "libpcap.so"];
const ETHERNET: c_int = 1;
const LONGEST: c_int = 65_535;

/// `struct bpf_program`.
#[repr(C)]
struct Program {
    count: c_uint,
    instructions: *mut [u8; 8],
}

type Filter = unsafe extern "C" fn(*const [u8; 8], *const u8, c_uint, c_uint) -> c_uint;

/// The functions.
struct Pcap {
    open_dead: unsafe extern "C" fn(c_int, c_int) -> *mut c_void,
    close: unsafe extern "C" fn(*mut c_void),
    compile: unsafe extern "C" fn(*mut c_void, *mut Program, *const c_char, c_int, c_uint) -> c_int,
    error: unsafe extern "C" fn(*mut c_void) -> *const c_char,
    free: unsafe extern "C" fn(*mut Program),
    filter: Filter,
    version: unsafe extern "C" fn() -> *const c_char,
    // The functions are in it.
    _library: Library,
}

/// The library, or why there is none.
static PCAP: LazyLock<Result<Pcap, String>> =
    LazyLock::new(|| Pcap::load().map_err(|error| format!("{error:#}")));

fn pcap() -> Result<&'static Pcap> {
    PCAP.as_ref().map_err(|error| anyhow!("{error}"))
}

/// What the library says of itself, if there is one.
pub fn version() -> Option<String> {
    let pcap = pcap().ok()?;
    // SAFETY: gives a constant string.
    let text = unsafe { CStr::from_ptr((pcap.version)()) };
    Some(text.to_string_lossy().into_owned())
}

impl Pcap {
    fn load() -> Result<Self> {
        // SAFETY: libpcap's initialisers do nothing that depends on this process.
        let library = NAMES.iter().find_map(|name| unsafe { Library::new(*name) }.ok());
        let library = library.context("libpcap is not installed")?;
        // SAFETY: the types are those of pcap(3PCAP).
        unsafe {
            Ok(Self {
                open_dead: *library.get(b"pcap_open_dead")?,
                close: *library.get(b"pcap_close")?,
                compile: *library.get(b"pcap_compile")?,
                error: *library.get(b"pcap_geterr")?,
                free: *library.get(b"pcap_freecode")?,
                filter: *library.get(b"bpf_filter")?,
                version: *library.get(b"pcap_lib_version")?,
                _library: library,
            })
        }
    }

    fn compile(&self, expression: &str) -> Result<Vec<[u8; 8]>> {
        let text = CString::new(expression)?;
        let mut program = Program { count: 0, instructions: std::ptr::null_mut() };
        // SAFETY: the handle is the one just opened, and closed when its program and its
        // message have been copied; the program is freed if and only if it was made.
        unsafe {
            let handle = (self.open_dead)(ETHERNET, LONGEST);
            ensure!(!handle.is_null(), "pcap_open_dead failed");
            let failed = (self.compile)(handle, &mut program, text.as_ptr(), 1, u32::MAX) != 0;
            let result = if failed {
                Err(anyhow!("libpcap: {}", CStr::from_ptr((self.error)(handle)).to_string_lossy()))
            } else {
                let count = program.count as usize;
                let copy = std::slice::from_raw_parts(program.instructions, count).to_vec();
                (self.free)(&mut program);
                Ok(copy)
            };
            (self.close)(handle);
            result
        }
    }
}

#[inline]
fn takes(filter: Filter, program: &[[u8; 8]], frame: &[u8]) -> bool {
    let length = frame.len() as c_uint;
    // SAFETY: the program was made by libpcap, which ends every path with an answer, and
    // the frame is as long as it says.
    unsafe { filter(program.as_ptr(), frame.as_ptr(), length, length) != 0 }
}

/// One program after the other.
pub(super) struct Each {
    filter: Filter,
    known: Vec<Vec<[u8; 8]>>,
    installed: List<Vec<[u8; 8]>>,
}

impl Each {
    pub(super) fn new(task: Task<'_>) -> Result<Self> {
        let pcap = pcap()?;
        let compile = |predicate: &Predicate| pcap.compile(&predicate.to_string());
        let known: Vec<_> = task.predicates.iter().map(compile).collect::<Result<_>>()?;
        let installed = List::with_capacity(known.len());
        let mut each = Self { filter: pcap.filter, known, installed };
        (0..task.installed).try_for_each(|tag| each.insert(tag))?;
        Ok(each)
    }
}

impl Contender for Each {
    #[inline(never)]
    fn classify(&self, frame: &mut [u8]) -> Option<u32> {
        self.installed.find(|program| takes(self.filter, program, frame))
    }

    fn insert(&mut self, tag: u32) -> Result<()> {
        let program = self.known.get(tag as usize).context("no such filter")?;
        self.installed.push(tag, program.clone());
        Ok(())
    }

    fn remove(&mut self, tag: u32) -> Result<()> {
        self.installed.remove(tag)
    }

    fn bytes(&self) -> Bytes {
        let programs: usize = self.installed.filters().map(|program| program.len() * 8).sum();
        Bytes { code: 0, data: self.installed.bytes() + programs as u64 }
    }
}

/// One expression.
pub(super) struct Or {
    pcap: &'static Pcap,
    known: Vec<String>,
    installed: Vec<u32>,
    program: Vec<[u8; 8]>,
}

impl Or {
    pub(super) fn new(task: Task<'_>) -> Result<Self> {
        let known: Vec<_> = task.predicates.iter().map(|it| format!("({it})")).collect();
        // A tag moves what follows it in the expression, also behind an `or`.
        ensure!(task.predicates.iter().all(|it| it.vlan.is_none()), "`vlan` cannot be joined");
        let installed = (0..task.installed).collect();
        let mut or = Self { pcap: pcap()?, known, installed, program: Vec::new() };
        or.remake()?;
        Ok(or)
    }

    fn remake(&mut self) -> Result<()> {
        let terms = self.installed.iter().filter_map(|&tag| self.known.get(tag as usize));
        let terms: Vec<_> = terms.map(String::as_str).collect();
        self.program = self.pcap.compile(&terms.join(" or "))?;
        Ok(())
    }
}

impl Contender for Or {
    #[inline(never)]
    fn classify(&self, frame: &mut [u8]) -> Option<u32> {
        takes(self.pcap.filter, &self.program, frame).then_some(u32::MAX)
    }

    fn insert(&mut self, tag: u32) -> Result<()> {
        self.installed.push(tag);
        self.remake()
    }

    fn remove(&mut self, tag: u32) -> Result<()> {
        self.installed.retain(|&other| other != tag);
        self.remake()
    }

    fn bytes(&self) -> Bytes {
        Bytes { code: 0, data: 8 * self.program.len() as u64 }
    }

    fn tells_who(&self) -> bool {
        false
    }

    fn is_remade(&self) -> bool {
        true
    }
}
