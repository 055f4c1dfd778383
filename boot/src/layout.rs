//! The memory map of the kernel's address space, in one place.
//!
//! ```text
//! 0x0000_0000_0000_0000  user space, one per environment
//! 0x0000_7fff_ffff_f000  USER_TOP: the last page is never mapped
//!                        (non-canonical hole)
//! 0xffff_8000_0000_0000  DIRECT_MAP: all physical memory but the kernel image's own
//!                        2 MiB, each page RW- or, if it holds the code of filters,
//!                        R-X; device registers, uncached
//! 0xffff_ffff_8020_0000  KERNEL_BASE + KERNEL_LOAD: the kernel image:
//!                        text R-X, read-only data R--, data RW-
//! ```
//!
//! The upper half is the same in every environment and closed to ring 3.

/// Start of the direct map of physical memory.
pub const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
/// Distance of the kernel image's virtual from its physical addresses. Also in
/// `kernel.ld`.
pub const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;
/// Physical address the kernel image is loaded at. Also in `kernel.ld`.
pub const KERNEL_LOAD: u64 = 0x20_0000;
/// Physical addresses of the local APIC's registers (SDM vol. 3, 11.4.1), the
/// first I/O APIC's, and the range that holds the virtio-mmio transports of the
/// `microvm` machine.
pub const LOCAL_APIC: u64 = 0xfee0_0000;
/// See [`LOCAL_APIC`].
pub const IO_APIC: u64 = 0xfec0_0000;
/// First and last 2 MiB page of device registers that the kernel maps.
pub const DEVICES: core::ops::Range<u64> = 0xfea0_0000..0xff00_0000;
