//! What the kernel says of itself: version, command line, mitigations, clock source.

use std::{fs, io, ptr};

use crate::check;

const VULNERABILITIES: &str = "/sys/devices/system/cpu/vulnerabilities";
const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/// Prints each as `linux KEY: VALUE`.
pub(crate) fn print() -> io::Result<()> {
    mount(c"proc", c"/proc")?;
    mount(c"sysfs", c"/sys")?;
    for (key, path) in [
        ("release", "/proc/sys/kernel/osrelease"),
        ("version", "/proc/sys/kernel/version"),
        ("command line", "/proc/cmdline"),
        ("clock source", CLOCK_SOURCE),
    ] {
        println!("linux {key}: {}", fs::read_to_string(path)?.trim());
    }
    let mut files = fs::read_dir(VULNERABILITIES)?.collect::<io::Result<Vec<_>>>()?;
    files.sort_by_key(fs::DirEntry::file_name);
    for file in files {
        let name = file.file_name();
        let state = fs::read_to_string(file.path())?;
        println!("linux mitigation {}: {}", name.to_string_lossy(), state.trim());
    }
    Ok(())
}

/// Mounts a file system without a device, making the directory if need be.
fn mount(kind: &std::ffi::CStr, at: &std::ffi::CStr) -> io::Result<()> {
    fs::create_dir_all(at.to_string_lossy().as_ref())?;
    // SAFETY: all strings end with a zero byte and live through the call; this kind of
    // file system takes no data.
    check(unsafe { libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, ptr::null()) })?;
    Ok(())
}
