//! The guest's first program: a script for busybox's shell.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::time::{SystemTime, UNIX_EPOCH};

use super::guest::{FAILED, READY, Step};

/// What a socket may hold unread, in bytes as Linux counts them; 212,992 of its own accord.
pub const RECEIVE_BUFFER: u32 = 4 << 20;

/// Where a module lies.
pub(super) fn module_path(name: &str) -> String {
    format!("lib/modules/{name}.ko")
}

/// What a guest does first: file systems, the time of now, `modules`, the NIC at `address`, then `steps`.
/// It says [`READY`] then, or why not.
pub(super) fn script(modules: &[&str], address: Option<Ipv4Addr>, steps: &[Step]) -> String {
    let mut script = format!(
        "\
#!/bin/busybox sh
# Made by `cargo exo` (qemu/src/linux/init.rs).
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /sbin /usr/sbin
/bin/busybox --install -s
# The guest ends with a reset, and QEMU with it.
failed() {{
    echo \"{FAILED}$1\"
    sync
    reboot -f
}}
must() {{
    eval \"$1\" || failed \"$1\"
}}
serve() {{
    eval \"$2\"
    failed \"$1 has ended with code $?\"
}}
must 'mount -t proc proc /proc'
must 'mount -t sysfs sysfs /sys'
must 'mount -t devtmpfs dev /dev'
"
    );
    // The machine has no clock that goes on while it is off.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    must(&mut script, &format!("date -u -s @{} >/dev/null", now.as_secs()));
    for name in modules {
        must(&mut script, &format!("insmod /{}", module_path(name)));
    }
    if let Some(address) = address {
        // A socket holds a few dozen packets unread, of the pages that a NIC with XDP gives
        // it fewer than of a plain one's buffers. A load of many requests is to wait, not lost.
        for limit in ["rmem_max", "rmem_default"] {
            must(&mut script, &format!("echo {RECEIVE_BUFFER} > /proc/sys/net/core/{limit}"));
        }
        // Devices are found after their drivers.
        must(
            &mut script,
            "for i in 1 2 3 4 5 6 7 8 9 0; do [ -e /sys/class/net/eth0 ] && break; sleep 0.2; done",
        );
        must(&mut script, "ip link set lo up");
        must(&mut script, &format!("ip addr add {address}/24 dev eth0"));
        must(&mut script, "ip link set eth0 up");
        let [a, b, c, _] = address.octets();
        must(&mut script, &format!("ip route add default via {a}.{b}.{c}.2"));
    }
    for step in steps {
        match step {
            Step::Command(command) => must(&mut script, command),
            Step::Service(name, command) => {
                let _ = writeln!(script, "serve {} {} &", quoted(name), quoted(command));
            }
        }
    }
    let _ = writeln!(script, "echo '{READY}'");
    // The kernel panics when its first process ends.
    script += "while :; do wait; sleep 3600; done\n";
    script
}

fn must(script: &mut String, command: &str) {
    let _ = writeln!(script, "must {}", quoted(command));
}

/// As one word of a shell's line.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_come_in_order_and_whole() {
        let steps = [
            Step::Command("echo 'two words' > /tmp/a".to_owned()),
            Step::Service("store".to_owned(), "store -p 1".to_owned()),
        ];
        let script = script(&["virtio"], Some(Ipv4Addr::new(10, 0, 2, 15)), &steps);
        let at = |part: &str| script.find(part).unwrap_or_else(|| panic!("no {part}\n{script}"));
        let order = [
            "must 'insmod /lib/modules/virtio.ko'",
            "must 'ip addr add 10.0.2.15/24 dev eth0'",
            r"must 'echo '\''two words'\'' > /tmp/a'",
            "serve 'store' 'store -p 1' &",
            "echo 'linux: ready'",
        ];
        assert!(order.is_sorted_by_key(|part| at(part)), "{script}");
        let without = super::script(&[], None, &[]);
        assert!(!without.contains("eth0") && !without.contains("insmod"));
    }

    /// A shell at least reads it: `sh -n` runs nothing.
    #[test]
    fn is_a_script() {
        let steps = [Step::Command("a 'b' \"c\" $d".to_owned())];
        let script = script(&["x"], Some(Ipv4Addr::LOCALHOST), &steps);
        let status = std::process::Command::new("sh").args(["-n", "-c", &script]).status();
        assert!(status.unwrap().success());
    }
}
