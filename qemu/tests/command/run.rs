//! `cargo exo run` as its host sees it: signals, ports, KVM, and what it shows to be typed.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::place::{Place, Running, SILENT, TALKS, free_port};

fn run(place: &Place, more: &[&str]) -> Command {
    let port = free_port();
    let mut command = place.exo(&["run", "--port", &port, "--echo-port", "0"]);
    command.args(more);
    command
}

#[test]
fn an_ignored_signal_stays_ignored() {
    let place = Place::new(TALKS);
    let arguments = ["run", "--accel", "tcg", "--port", &free_port(), "--echo-port", "0"];
    let mut running = Running::start(place.exo_ignoring("HUP", &arguments));
    running.line("kvstore: up");
    running.signal("HUP");
    // More of it than can be under way.
    for _ in 0..10 {
        running.line("kvstore: up");
    }
    running.signal("TERM");
    assert_eq!(running.end().0.code(), Some(143));

    let mut running = Running::start(place.exo(&arguments));
    running.line("kvstore: up");
    running.signal("HUP");
    assert_eq!(running.end().0.code(), Some(129));
}

/// Each machine's lines have its number before them, and none outlives the command.
#[test]
fn several_machines_end_together() {
    let place = Place::new(&format!("echo $$ >> \"$W/ids\"\n{TALKS}"));
    let more = ["--accel", "tcg", "--instances", "3", "--verbose"];
    let mut running = Running::start(run(&place, &more));
    for number in 1..=3 {
        running.line(&format!("{number}| kvstore: up"));
    }
    running.signal("INT");
    let (status, text) = running.end();
    assert_eq!(status.code(), Some(130), "{text}");
    let port = |line: &str| -> Option<u16> {
        let (_, rest) = line.split_once("hostfwd=tcp:127.0.0.1:")?;
        rest.split('-').next()?.parse().ok()
    };
    let ports: Vec<_> = text.lines().filter_map(port).collect();
    assert_eq!(ports, [ports[0], ports[0] + 1, ports[0] + 2], "{text}");
    let ids = fs::read_to_string(place.path("ids")).unwrap();
    assert_eq!(ids.lines().count(), 3);
    for id in ids.lines() {
        assert!(!Path::new("/proc").join(id).exists(), "{id} is left");
    }
}

#[test]
fn what_cannot_be_asked_for_together_is_told() {
    let place = Place::new(TALKS);
    for (more, told) in [
        (&["--net", "tap:exo-absent"][..], "--port, --echo-port: with --net tap"),
        (&["--net", "bridge"], "one of user, passt, tap and tap:NAME"),
        (&["--instances", "2", "--hosted"], "cannot be used with"),
        (&["--instances", "0"], "0 is not in 1..=64"),
    ] {
        let (status, text) = Running::start(run(&place, more)).end();
        assert!(!status.success() && text.contains(told), "{text}");
    }
    // The process has a disk, too.
    let hosted = place.exo(&["run", "--hosted", "--port", "48123", "--disk", "/dev/null/x"]);
    let (status, text) = Running::start(hosted).end();
    assert!(!status.success() && text.contains("error: /dev/null/x"), "{text}");
    let tap = place.exo(&["run", "--net", "tap:exo-absent"]);
    let (_, text) = Running::start(tap).end();
    assert!(text.contains("sudo ip tuntap add exo-absent mode tap"), "{text}");
}

/// The arguments that a shell makes of a line which starts with `program`.
fn typed(program: &str, line: &str) -> Vec<Vec<u8>> {
    let script = format!("{program}() {{ printf '%s\\0' \"$@\"; }}\n{line}");
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{line}");
    output.stdout.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect()
}

fn after<'a>(arguments: &'a [Vec<u8>], option: &str) -> &'a Path {
    let at = arguments.iter().position(|argument| argument == option.as_bytes()).unwrap();
    Path::new(OsStr::from_bytes(&arguments[at + 1]))
}

#[test]
fn what_it_shows_can_be_typed() {
    let place = Place::with_target(TALKS, "a target, and it's \"odd\" $HOME");
    let kernel = place.target().join("guest/x86_64-unknown-linux-gnu/guest/exokernel");
    let mut running = Running::start(run(&place, &["--accel", "tcg", "--verbose", "--gdb"]));
    let qemu = typed("qemu-system-x86_64", &running.line("qemu-system-x86_64 "));
    let gdb = running.line("  cargo exo gdb ");
    running.signal("TERM");
    running.end();
    assert_eq!(after(&qemu, "-kernel"), kernel);
    let bundle = after(&qemu, "-initrd");
    assert!(fs::metadata(bundle).unwrap().len() > 0, "{}", bundle.display());
    assert!(gdb.trim().starts_with("cargo exo gdb --attach "), "{gdb}");
}

#[test]
fn a_debuggers_port_is_chosen() {
    let place = Place::new(TALKS);
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut running = Running::start(run(&place, &["--accel", "tcg", "--gdb", &port]));
    let (status, text) = running.end();
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.contains(&port) && text.contains("taken") && text.contains("--gdb"), "{text}");
    drop(taken);
    let mut running = Running::start(run(&place, &["--accel", "tcg", "--gdb", &port]));
    running.line(&format!("--attach {port}"));

    // Taken here or already: any other.
    let _usual = TcpListener::bind(("127.0.0.1", 1234));
    let mut running = Running::start(run(&place, &["--accel", "tcg", "--gdb"]));
    let line = running.line("--attach ");
    assert!(!line.ends_with(" 1234"), "{line}");
}

/// Under KVM does what the shell script `kvm` says, and notes that it was asked.
fn kvm(kvm: &str) -> Option<Place> {
    if OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
        eprintln!("skipped: there is no KVM for this user");
        return None;
    }
    let asked = "echo asked >> \"$W/log\"";
    let kvm = format!("case \"$*\" in *'-accel kvm'*) {asked}; {kvm};; esac\n{TALKS}");
    Some(Place::new(&kvm))
}

fn asked(place: &Place) -> usize {
    fs::read_to_string(place.path("log")).unwrap_or_default().lines().count()
}

#[test]
fn a_permission_may_be_given_later() {
    let denied = "[ -e \"$W/ok\" ] || { \
                  echo 'Could not access KVM kernel module: Permission denied' >&2; \
                  echo 'qemu: -accel kvm: failed to initialize kvm: Permission denied' >&2; \
                  exit 1; }";
    let Some(place) = kvm(denied) else { return };
    let once = || {
        let mut running = Running::start(run(&place, &[]));
        running.line("kvstore: up");
        running.signal("TERM");
        running.end().1
    };
    for times in 1..=2 {
        let text = once();
        assert!(text.contains("permission denied") && text.contains("using TCG"), "{text}");
        assert!(!text.contains("does not run"), "{text}");
        assert_eq!(asked(&place), times, "a refusal was remembered");
    }
    fs::write(place.path("ok"), "").unwrap();
    // The trial, and then the machine.
    assert!(!once().contains("TCG"));
    assert_eq!(asked(&place), 4);
    assert!(!once().contains("trying KVM"));
    assert_eq!(asked(&place), 5);
}

#[test]
fn a_kernel_that_dies_is_remembered() {
    let Some(place) = kvm("echo 'exo: oh'; exit 255") else { return };
    for tried in [true, false] {
        let mut running = Running::start(run(&place, &[]));
        running.line("kvstore: up");
        running.signal("TERM");
        let (_, text) = running.end();
        assert!(text.contains("KVM does not run this kernel here"), "{text}");
        assert_eq!(text.contains("trying KVM"), tried, "{text}");
    }
    assert_eq!(asked(&place), 1);
}

#[test]
fn a_trial_can_be_interrupted() {
    let Some(place) = kvm(SILENT) else { return };
    let mut running = Running::start(run(&place, &[]));
    running.line("trying KVM");
    running.signal("INT");
    let (status, text) = running.end();
    assert_eq!(status.code(), Some(130), "{text}");
    let left: Vec<PathBuf> =
        fs::read_dir(place.path("tmp")).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn kvm_that_says_nothing_is_hinted_at() {
    let place = Place::new(SILENT);
    let mut running = Running::start(run(&place, &["--accel", "kvm"]));
    running.line("--accel tcg");
}

#[test]
fn advice_stands_apart_from_what_failed() {
    let place = Place::new(SILENT);
    fs::remove_file(place.path("bin/qemu-system-x86_64")).unwrap();
    place
        .program("apt-get", "[ \"$1\" = --version ] && exit 0; echo 'E: no network' >&2; exit 100");
    // No other QEMU, and of everything else what this takes.
    for program in ["env", "sh"] {
        let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
        let found = String::from_utf8(found.unwrap().stdout).unwrap();
        std::os::unix::fs::symlink(found.trim(), place.path("bin").join(program)).unwrap();
    }
    let mut command = run(&place, &[]);
    command.env("PATH", place.path("bin"));
    let (status, text) = Running::start(command).end();
    assert_eq!(status.code(), Some(1), "{text}");
    let last = text.lines().last().unwrap().trim();
    assert!(last.ends_with("--no-install-recommends qemu-system-x86"), "{text}");
    assert!(last.starts_with("apt-get update") || last.starts_with("sudo apt-get"), "{text}");
}

/// Each way to say where to build; also relative, and from a folder within the tree.
#[test]
fn cargos_target_directory_is_ours() {
    let place = Place::new(SILENT);
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let from = tree.join("qemu/src");
    let up = "../".repeat(from.components().count() - 1);
    let target = place.target().canonicalize().unwrap();
    let relative = Path::new(&up).join(target.strip_prefix("/").unwrap());
    let home = place.path("home");
    fs::create_dir(&home).unwrap();
    let config = format!("[build]\ntarget-dir = {:?}\n", target.to_str().unwrap());
    fs::write(home.join("config.toml"), config).unwrap();
    for (variable, value) in [
        ("CARGO_TARGET_DIR", &target),
        ("CARGO_TARGET_DIR", &relative),
        ("CARGO_BUILD_TARGET_DIR", &target),
        ("CARGO_BUILD_TARGET_DIR", &relative),
        ("CARGO_HOME", &home),
    ] {
        let mut command = place.exo(&["build"]);
        command.env_remove("CARGO_TARGET_DIR").env_remove("CARGO_BUILD_TARGET_DIR");
        command.env(variable, value).current_dir(&from);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{variable}: {output:?}");
        for line in text.lines() {
            let path = Path::new(line).canonicalize().unwrap();
            assert!(path.starts_with(&target), "{variable}={}: {line}", value.display());
        }
        assert_eq!(text.lines().count(), 2, "{text}");
    }
}
