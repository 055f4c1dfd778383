//! TAP devices: a network between the host's kernel and the machine, made by the user beforehand.
//!
//! Making one takes rights that this command does not want: it says what to type, and afterwards any
//! process of that user can use the device.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, bail};

/// The device that is used if none is named.
pub const USUAL: &str = "exo0";
/// Of an interface's flags: it is up (`IFF_UP`, netdevice(7)).
const UP: u32 = 1;
/// Of a tunnel's flags: it carries Ethernet frames (`IFF_TAP`, `linux/if_tun.h`).
const TAP: u32 = 2;
/// The longest name of an interface.
const LONGEST: usize = 15;

/// Fails if `device` is no TAP device that is up, and says how to make one.
pub(crate) fn ensure_usable(device: &str) -> Result<()> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if device.is_empty() || device.len() > LONGEST || !device.bytes().all(is_name) {
        bail!("\"{device}\" is no name of a TAP device");
    }
    let directory = PathBuf::from("/sys/class/net").join(device);
    if !directory.exists() {
        bail!("there is no TAP device {device}; {}", recipe(device));
    }
    let flags = |file: &str| {
        let text = fs::read_to_string(directory.join(file)).ok()?;
        u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
    };
    if flags("tun_flags").is_none_or(|flags| flags & TAP == 0) {
        bail!("{device} is an interface, but no TAP device; {}", recipe(USUAL));
    }
    if flags("flags").is_none_or(|flags| flags & UP == 0) {
        bail!("the TAP device {device} is down: sudo ip link set {device} up");
    }
    Ok(())
}

/// How to make a device for this user; the commands stand alone in the last lines.
pub(super) fn recipe(device: &str) -> String {
    format!(
        "make one for this user, with the manifest's gateway as its address, by:\n  \
         sudo ip tuntap add {device} mode tap user \"$USER\"\n  \
         sudo ip addr add 10.0.2.2/24 dev {device}\n  \
         sudo ip link set {device} up"
    )
}

#[cfg(test)]
mod tests {
    use super::ensure_usable;

    #[test]
    fn what_is_no_tap_device_is_told_with_what_to_do() {
        let error = |device| ensure_usable(device).unwrap_err().to_string();
        assert!(error("exo-absent").starts_with("there is no TAP device exo-absent; make one"));
        assert!(error("exo-absent").contains("sudo ip tuntap add exo-absent mode tap user"));
        assert!(error("lo").starts_with("lo is an interface, but no TAP device"));
        for name in ["", "a/b", "a b", "much-too-long-a-name"] {
            assert!(error(name).contains("is no name"), "{name}");
        }
    }
}
