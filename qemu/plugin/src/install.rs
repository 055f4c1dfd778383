//! Being loaded, and taking part in translation.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs::{self, OpenOptions};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::code::Code;
use crate::kind::Kind;
use crate::spot::Spot;
use crate::{counts, journal, layout, qemu, trace};

/// The programs; none until the plugin is installed.
static CODE: Mutex<Option<Code>> = Mutex::new(None);
/// What QEMU knows this plugin by.
static PLUGIN: OnceLock<qemu::PluginId> = OnceLock::new();

/// Called by QEMU when it has loaded the plugin. Not zero is a refusal.
///
/// # Safety
/// `info` is QEMU's description of the machine, and `arguments` are
/// `argument_count` strings.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn qemu_plugin_install(
    id: qemu::PluginId,
    info: *const qemu::Info,
    argument_count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    // SAFETY: the contract of this function.
    let (info, arguments) = unsafe {
        let count = usize::try_from(argument_count).unwrap_or(0);
        let strings = (0..count).map(|index| CStr::from_ptr(*arguments.add(index)));
        let strings = strings.map(|string| string.to_string_lossy().into_owned());
        (&*info, strings.collect::<Vec<_>>())
    };
    let traces = arguments.iter().any(|argument| argument.starts_with("trace="));
    if !info.system_emulation || info.max_vcpus != 1 && !traces {
        eprintln!("exo-plugin: only machines with one processor can be counted");
        return 1;
    }
    if let Err(problem) = prepare(&arguments) {
        eprintln!("exo-plugin: {problem}");
        return 1;
    }
    let _ = PLUGIN.set(id);
    if traces {
        // SAFETY: `id` is what QEMU gave this plugin, and the callback lives for ever.
        unsafe { qemu::qemu_plugin_register_vcpu_tb_trans_cb(id, translated_to_trace) };
        return 0;
    }
    let later = arguments.iter().any(|argument| argument == "later=on");
    let callback = if later { translated_before } else { translated };
    // SAFETY: `id` is what QEMU gave this plugin, and the callbacks live for ever.
    unsafe { qemu::qemu_plugin_register_vcpu_tb_trans_cb(id, callback) };
    if !later {
        counts::start(false);
    }
    0
}

/// Called by QEMU for each block it has translated while nothing is counted yet.
extern "C" fn translated_before(_: qemu::PluginId, block: *mut qemu::Block) {
    // SAFETY: as in `translated`.
    unsafe {
        for index in 0..qemu::qemu_plugin_tb_n_insns(block) {
            let handle = qemu::qemu_plugin_tb_get_insn(block, index);
            if Kind::of(&qemu::bytes(handle)) == Kind::Halt {
                let (callback, none) = (on_halt_before, std::ptr::null_mut());
                let flags = qemu::NO_REGISTERS;
                qemu::qemu_plugin_register_vcpu_insn_exec_cb(handle, callback, flags, none);
            }
        }
    }
}

/// Counting begins at a `hlt`: QEMU then leaves the code it executes, and translates anew what
/// wakes.
extern "C" fn on_halt_before(_: u32, _: *mut c_void) {
    if let Some(&id) = PLUGIN.get()
        && counts::wanted()
    {
        // SAFETY: `id` is what QEMU gave this plugin, and the callback lives for ever.
        unsafe { qemu::qemu_plugin_reset(id, begin) };
    }
}

/// Called by QEMU when it has forgotten all blocks; the processor has carried out its `hlt`.
extern "C" fn begin(id: qemu::PluginId) {
    // SAFETY: as in `qemu_plugin_install`.
    unsafe { qemu::qemu_plugin_register_vcpu_tb_trans_cb(id, translated) };
    counts::start(true);
}

/// Reads the table, if there is one, and maps the counts or the journal.
fn prepare(arguments: &[String]) -> Result<(), String> {
    let argument = |name: &str| arguments.iter().find_map(|argument| argument.strip_prefix(name));
    let sections = match argument("table=") {
        None => Vec::new(),
        Some(path) => {
            let table = fs::read(path).map_err(|error| format!("{path}: {error}"))?;
            layout::decode(&table).ok_or(format!("{path}: not a table of this version"))?
        }
    };
    *CODE.lock().unwrap_or_else(PoisonError::into_inner) = Some(Code::new(sections));

    let (path, map): (_, fn(&'static [AtomicU64])) = match (argument("counts="), argument("trace="))
    {
        (Some(path), _) => (path, counts::map),
        (None, Some(path)) => (path, trace::map),
        (None, None) => return Err("the argument counts=FILE or trace=FILE is missing".into()),
    };
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.map_err(|error| format!("{path}: {error}"))?;
    // SAFETY: the file is made for this mapping and not cut; both sides use
    // it through atomics only.
    let bytes = unsafe { memmap2::MmapMut::map_mut(&file) };
    let bytes = Box::leak(Box::new(bytes.map_err(|error| format!("{path}: {error}"))?));
    // SAFETY: any bytes are valid atomics, which may be shared with another process.
    let (_, words, _) = unsafe { bytes.align_to::<AtomicU64>() };
    map(words);
    Ok(())
}

/// An instruction of a block, its virtual address, its bytes and how it counts.
struct Translated {
    handle: *mut qemu::Instruction,
    bytes: Vec<u8>,
    spot: Spot,
}

/// What a block consists of, which QEMU has just translated.
///
/// # Safety
/// `block` is what QEMU has given a callback that has not returned. The handles are good until it
/// returns.
unsafe fn read(block: *mut qemu::Block) -> Vec<Translated> {
    let mut code = CODE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(code) = code.as_mut() else { return Vec::new() };
    // SAFETY: block, instructions and their bytes live until the callback returns; the
    // indices are below the number of instructions.
    let (handles, copies, addresses, first) = unsafe {
        let handles: Vec<_> = (0..qemu::qemu_plugin_tb_n_insns(block))
            .map(|index| qemu::qemu_plugin_tb_get_insn(block, index))
            .collect();
        let copies: Vec<_> = handles.iter().map(|&handle| qemu::bytes(handle)).collect();
        let addresses = handles.iter().map(|&handle| qemu::qemu_plugin_insn_vaddr(handle));
        let addresses: Vec<_> = addresses.collect();
        let first = handles.first().map_or(0, |&first| qemu::qemu_plugin_insn_haddr(first).addr());
        (handles, copies, addresses, first)
    };
    if let Some(&address) = addresses.first() {
        trace::found(address, first);
    }
    let instructions: Vec<(u64, &[u8])> =
        addresses.iter().copied().zip(copies.iter().map(Vec::as_slice)).collect();
    let home = code.home(first & !0xfff, &instructions);
    let spots: Vec<_> = addresses
        .iter()
        .map(|&address| Spot { address, place: code.place(home, address) })
        .collect();
    let parts = handles.into_iter().zip(copies).zip(spots);
    parts.map(|((handle, bytes), spot)| Translated { handle, bytes, spot }).collect()
}

/// Called by QEMU for each block it has translated, of a guest that is traced.
extern "C" fn translated_to_trace(_: qemu::PluginId, block: *mut qemu::Block) {
    // SAFETY: as in `translated`.
    unsafe {
        for Translated { handle, spot, .. } in read(block) {
            let (flags, data) = (qemu::NO_REGISTERS, spot.encode());
            qemu::qemu_plugin_register_vcpu_insn_exec_cb(handle, on_traced, flags, data);
            if spot.place.row() == journal::at::PROBE {
                let stores = qemu::STORES;
                qemu::qemu_plugin_register_vcpu_mem_cb(handle, on_probe, flags, stores, data);
            }
        }
    }
}

/// Called by QEMU for each block it has translated.
extern "C" fn translated(_: qemu::PluginId, block: *mut qemu::Block) {
    // SAFETY: the block is used no longer than this function runs; the callbacks live for
    // ever and take the kind of data they are given here.
    unsafe {
        let instructions = read(block);
        let none = std::ptr::null_mut();
        qemu::qemu_plugin_register_vcpu_tb_exec_cb(block, on_block, qemu::NO_REGISTERS, none);
        for Translated { handle, bytes, spot } in instructions {
            let callback = match Kind::of(&bytes) {
                Kind::Halt => on_halt,
                Kind::Call => on_call,
                Kind::InterruptReturn => on_interrupt_return,
                Kind::Repeated => on_round,
                Kind::Other => on_instruction,
            };
            let flags = qemu::NO_REGISTERS;
            qemu::qemu_plugin_register_vcpu_insn_exec_cb(handle, callback, flags, spot.encode());
        }
    }
}

extern "C" fn on_traced(cpu: u32, spot: *mut c_void) {
    let spot = Spot::decode(spot);
    trace::instruction(cpu, spot.place, spot.user());
}

extern "C" fn on_probe(cpu: u32, access: qemu::Access, address: u64, spot: *mut c_void) {
    // SAFETY: QEMU says of the access it has given this callback where it went.
    let physical = unsafe {
        let address = qemu::qemu_plugin_get_hwaddr(access, address);
        (!address.is_null()).then(|| qemu::qemu_plugin_hwaddr_phys_addr(address))
    };
    let spot = Spot::decode(spot);
    trace::probe(cpu, spot.place, spot.user(), physical.unwrap_or(u64::MAX));
}

extern "C" fn on_block(_: u32, _: *mut c_void) {
    counts::block();
}

extern "C" fn on_instruction(_: u32, spot: *mut c_void) {
    let spot = Spot::decode(spot);
    counts::instruction(spot.place, spot.user());
}

extern "C" fn on_call(cpu: u32, spot: *mut c_void) {
    on_instruction(cpu, spot);
    counts::call();
}

extern "C" fn on_interrupt_return(cpu: u32, spot: *mut c_void) {
    on_instruction(cpu, spot);
    counts::interrupt_return();
}

extern "C" fn on_round(cpu: u32, spot: *mut c_void) {
    on_instruction(cpu, spot);
    let spot = Spot::decode(spot);
    counts::round(spot.address, spot.user());
}

extern "C" fn on_halt(cpu: u32, spot: *mut c_void) {
    on_instruction(cpu, spot);
    counts::halt();
}
