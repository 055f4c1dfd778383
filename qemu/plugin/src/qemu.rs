//! The part of QEMU's plugin interface that is used here.
//!
//! QEMU offers these functions to what it loads; no header is shipped with it.
//! What each does is documented in QEMU's manual, "TCG Plugins".
//!
//! There are two versions of it, and a QEMU takes one of them: version 1, up to QEMU 8, and
//! what came after version 2, tried with QEMU 10.0 (feature `api3`). They differ in how the
//! bytes of an instruction are read.

use std::ffi::{c_char, c_int, c_void};

/// The version of the interface this plugin is written for. A QEMU that has another one
/// refuses the plugin and says so.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "QEMU looks for this name")]
pub(crate) static qemu_plugin_version: c_int = if cfg!(feature = "api3") { 3 } else { 1 };

/// What QEMU knows a plugin by.
pub(crate) type PluginId = u64;

/// A translation block while it is being translated.
#[repr(C)]
pub(crate) struct Block {
    opaque: [u8; 0],
}

/// An instruction of such a block.
#[repr(C)]
pub(crate) struct Instruction {
    opaque: [u8; 0],
}

/// What the machine is (`qemu_info_t`).
#[repr(C)]
pub(crate) struct Info {
    target_name: *const c_char,
    version: [c_int; 2],
    /// Whether a whole machine is emulated.
    pub(crate) system_emulation: bool,
    smp_vcpus: c_int,
    /// Most processors the machine can have.
    pub(crate) max_vcpus: c_int,
}

/// An access to memory, as callbacks are told of it.
pub(crate) type Access = u32;

/// `QEMU_PLUGIN_MEM_W`: the callback is for stores.
pub(crate) const STORES: c_int = 2;

/// Where an access goes.
#[repr(C)]
pub(crate) struct Address {
    opaque: [u8; 0],
}

/// `QEMU_PLUGIN_CB_NO_REGS`: the callback looks at no register.
pub(crate) const NO_REGISTERS: c_int = 0;

pub(crate) type TranslateCallback = extern "C" fn(PluginId, *mut Block);
pub(crate) type SimpleCallback = extern "C" fn(PluginId);
pub(crate) type ExecuteCallback = extern "C" fn(u32, *mut c_void);
pub(crate) type AccessCallback = extern "C" fn(u32, Access, u64, *mut c_void);

unsafe extern "C" {
    pub(crate) fn qemu_plugin_register_vcpu_tb_trans_cb(id: PluginId, callback: TranslateCallback);
    /// Forgets all callbacks and translated blocks, then calls `callback`: not at once, but
    /// when no processor executes.
    pub(crate) fn qemu_plugin_reset(id: PluginId, callback: SimpleCallback);
    pub(crate) fn qemu_plugin_register_vcpu_tb_exec_cb(
        block: *mut Block,
        callback: ExecuteCallback,
        flags: c_int,
        data: *mut c_void,
    );
    pub(crate) fn qemu_plugin_register_vcpu_insn_exec_cb(
        instruction: *mut Instruction,
        callback: ExecuteCallback,
        flags: c_int,
        data: *mut c_void,
    );
    pub(crate) fn qemu_plugin_register_vcpu_mem_cb(
        instruction: *mut Instruction,
        callback: AccessCallback,
        flags: c_int,
        accesses: c_int,
        data: *mut c_void,
    );
    /// Null if it is not known. Until the callback returns.
    pub(crate) fn qemu_plugin_get_hwaddr(access: Access, address: u64) -> *const Address;
    pub(crate) fn qemu_plugin_hwaddr_phys_addr(address: *const Address) -> u64;
    pub(crate) fn qemu_plugin_tb_n_insns(block: *const Block) -> usize;
    pub(crate) fn qemu_plugin_tb_get_insn(block: *const Block, index: usize) -> *mut Instruction;
    pub(crate) fn qemu_plugin_insn_vaddr(instruction: *const Instruction) -> u64;
    pub(crate) fn qemu_plugin_insn_haddr(instruction: *const Instruction) -> *mut c_void;
    #[cfg(not(feature = "api3"))]
    fn qemu_plugin_insn_data(instruction: *const Instruction) -> *const c_void;
    #[cfg(feature = "api3")]
    fn qemu_plugin_insn_data(
        instruction: *const Instruction,
        destination: *mut c_void,
        length: usize,
    ) -> usize;
    fn qemu_plugin_insn_size(instruction: *const Instruction) -> usize;
}

/// The bytes of an instruction.
///
/// # Safety
/// `instruction` is one of a block that is being translated.
pub(crate) unsafe fn bytes(instruction: *const Instruction) -> Vec<u8> {
    // SAFETY: the contract of this function; QEMU gives the instruction's own size.
    let size = unsafe { qemu_plugin_insn_size(instruction) };
    #[cfg(not(feature = "api3"))]
    {
        // SAFETY: as before; so many bytes lie there until the translation ends, and they
        // are copied here.
        unsafe {
            let data = qemu_plugin_insn_data(instruction).cast::<u8>();
            std::slice::from_raw_parts(data, size).to_vec()
        }
    }
    #[cfg(feature = "api3")]
    {
        let mut bytes = vec![0_u8; size];
        // SAFETY: as before; QEMU writes at most the length it is given.
        let length = unsafe { qemu_plugin_insn_data(instruction, bytes.as_mut_ptr().cast(), size) };
        bytes.truncate(length);
        bytes
    }
}
