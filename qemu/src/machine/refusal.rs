//! Why QEMU did not start, in words of this command: QEMU speaks of its own options.

use super::ports::{Protocol, ensure_free};

/// What QEMU's complaints mean, as far as it is known; nothing otherwise.
pub(super) fn explain(complaints: &str) -> Option<String> {
    let kvm = || kvm(complaints).map(|refusal| refusal.to_string());
    port(complaints).or_else(|| tap(complaints)).or_else(kvm)
}

/// A TAP device that QEMU may not use.
fn tap(complaints: &str) -> Option<String> {
    let (_, rest) = complaints.split_once("could not configure /dev/net/tun (")?;
    let (device, why) = rest.split_once("):")?;
    let why = why.lines().next().unwrap_or_default().trim();
    Some(format!("QEMU cannot use the TAP device {device}: {why}; {}", super::tap::recipe(device)))
}

/// Why QEMU could not use KVM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KvmRefusal {
    /// This user may not open `/dev/kvm`.
    Permission,
    /// Something else; QEMU's words.
    Other(String),
}

impl std::fmt::Display for KvmRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Permission => write!(
                f,
                "this user may not open /dev/kvm (permission denied); \
                 on most systems the members of its group may, after a new login: \
                 sudo usermod -aG kvm \"$USER\""
            ),
            Self::Other(words) => write!(f, "QEMU cannot use KVM: {words}"),
        }
    }
}

/// The refusal in QEMU's complaints, if it is about KVM.
pub(super) fn kvm(complaints: &str) -> Option<KvmRefusal> {
    const SIGNS: [&str; 3] = [
        "failed to initialize kvm",
        "Could not access KVM kernel module",
        "invalid accelerator kvm",
    ];
    let line = complaints.lines().find(|line| SIGNS.iter().any(|sign| line.contains(sign)))?;
    Some(match line.contains("Permission denied") {
        true => KvmRefusal::Permission,
        false => KvmRefusal::Other(line.trim().to_owned()),
    })
}

/// Why QEMU did not start under KVM: as [`kvm`], or its last words.
pub(super) fn of_kvm(complaints: &str) -> KvmRefusal {
    let last = complaints.lines().last().unwrap_or("it ended without a word");
    kvm(complaints).unwrap_or_else(|| KvmRefusal::Other(last.to_owned()))
}

/// A port that was free when this command looked, and not when QEMU came.
fn port(complaints: &str) -> Option<String> {
    let udp = (
        "host forwarding rule 'udp:127.0.0.1:",
        Protocol::Udp,
        "a service",
        "--port or --echo-port",
    );
    let service = ("host forwarding rule 'tcp:127.0.0.1:", Protocol::Tcp, udp.2, udp.3);
    let tcp = ("-gdb tcp:127.0.0.1:", Protocol::Tcp, "a debugger", "--gdb PORT");
    [udp, service, tcp].into_iter().find_map(|(sign, protocol, purpose, option)| {
        let (_, rest) = complaints.split_once(sign)?;
        let port = rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
        Some(match ensure_free(protocol, port, option, purpose) {
            Err(error) => error.to_string(),
            Ok(()) => format!(
                "{protocol} port {port} on 127.0.0.1, meant for {purpose}, was taken by another \
                 program while QEMU started; try again, or choose another with {option}"
            ),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_device_of_another_user_is_named() {
        let denied = "qemu-system-x86_64: -netdev tap,id=n0,ifname=exo0,script=no: could not \
                      configure /dev/net/tun (exo0): Operation not permitted\n";
        let told = explain(denied).unwrap();
        assert!(told.contains("exo0: Operation not permitted; "), "{told}");
        assert!(told.contains("sudo ip tuntap add exo0 mode tap user"), "{told}");
    }

    #[test]
    fn permission_is_told_from_other_refusals() {
        let denied = "Could not access KVM kernel module: Permission denied\n\
                      qemu-system-x86_64: -accel kvm: failed to initialize kvm: Permission denied\n";
        assert_eq!(kvm(denied), Some(KvmRefusal::Permission));
        assert!(explain(denied).unwrap().contains("permission denied"));
        let busy =
            "qemu-system-x86_64: -accel kvm: failed to initialize kvm: Device or resource busy";
        assert_eq!(kvm(busy), Some(KvmRefusal::Other(busy.to_owned())));
        assert_eq!(kvm("qemu-system-x86_64: -M: Permission denied"), None);
        assert_eq!(explain("qemu-system-x86_64: -x: invalid option"), None);
    }
}
