//! Boots a kernel of a few bytes: what the library says of a machine must be true
//! before anything it says of a real kernel means something.
//!
//! Without QEMU on the host these tests say so and pass.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use exo_cmd::Result;
use exo_cmd::machine::{Config, GuestExit, HostPorts, Machine, Network, STORE_PORT};
use exo_cmd::prerequisites::QEMU;

/// Far longer than any of this takes.
const LONG: Duration = Duration::from_secs(60);

/// What the kernel does when it has said its piece.
#[derive(Clone, Copy)]
enum End {
    Exit(u8),
    Halt,
    TripleFault,
}

/// An ELF file with a PVH note: 32-bit code that prints `text` and then ends so.
fn kernel(text: &str, end: End) -> Vec<u8> {
    const BASE: u32 = 0x10_0000;
    const NOTE_AT: u32 = 64 + 2 * 56;
    const CODE_AT: u32 = NOTE_AT + 20;

    let ending = match end {
        // mov dx, 0xf4; mov al, code; out dx, al
        End::Exit(code) => vec![0x66, 0xba, 0xf4, 0x00, 0xb0, code, 0xee],
        End::Halt => vec![],
        // ud2, with no handler and none for the failure to find one
        End::TripleFault => vec![0x0f, 0x0b],
    };
    // mov esi, text; next: lodsb; test al, al; jz end; mov dx, 0x3f8; out dx, al; jmp next
    let mut code = vec![0xbe, 0, 0, 0, 0, 0xac, 0x84, 0xc0, 0x74, 7];
    code.extend([0x66, 0xba, 0xf8, 0x03, 0xee, 0xeb, 0xf4]);
    code.extend(ending);
    // halt: hlt; jmp halt
    code.extend([0xf4, 0xeb, 0xfd]);
    let text_at = BASE + CODE_AT + code.len() as u32;
    code[1..5].copy_from_slice(&text_at.to_le_bytes());
    code.extend(text.bytes());
    code.push(0);

    let len = u64::from(CODE_AT) + code.len() as u64;
    let entry = BASE + CODE_AT;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for field in [u64::from(entry), 64, 0] {
        elf.extend(field.to_le_bytes());
    }
    for field in [0_u16, 0, 64, 56, 2, 0, 0, 0] {
        elf.extend(field.to_le_bytes());
    }
    for (kind, offset, len) in [(1_u32, 0, len), (4, u64::from(NOTE_AT), 20)] {
        elf.extend(kind.to_le_bytes());
        elf.extend(7_u32.to_le_bytes());
        let address = u64::from(BASE) + offset;
        for field in [offset, address, address, len, len, 4] {
            elf.extend(field.to_le_bytes());
        }
    }
    // The note: 32-bit entry point for a PVH loader.
    for field in [4_u32, 4, 18, u32::from_le_bytes(*b"Xen\0"), entry] {
        elf.extend(field.to_le_bytes());
    }
    elf.extend(code);
    elf
}

/// Boots such a kernel; nothing if there is no QEMU.
fn boot(
    dir: &Path,
    text: &str,
    end: End,
    change: impl FnOnce(&mut Config),
) -> Option<Result<Machine>> {
    if QEMU.find().is_none() {
        eprintln!("skipped: {} is missing", QEMU.name);
        return None;
    }
    let path = dir.join("kernel");
    fs::write(&path, kernel(text, end)).unwrap();
    let mut config = Config::named("default").unwrap();
    change(&mut config);
    Some(Machine::start(&config, &path, b"not a bundle, but nothing looks"))
}

#[test]
fn shows_the_console_and_the_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    for (code, expected) in
        [(0, GuestExit::Success), (3, GuestExit::Failure(3)), (0x7f, GuestExit::Panic)]
    {
        let text = "exo: hello\r\nexo: \x1b[31mbye\n";
        let Some(machine) = boot(dir.path(), text, End::Exit(code), |_| {}) else { return };
        let machine = machine.unwrap();
        assert_eq!(machine.wait_for_line("hello", LONG).unwrap(), "exo: hello");
        assert_eq!(machine.exit_status(LONG).unwrap(), expected);
        assert!(!machine.running());
        assert!(machine.wait_for_line("never", LONG).is_err());
        assert_eq!(machine.console().text(), "exo: hello\nexo: \u{fffd}[31mbye\n");
        assert_eq!(machine.exit_status(LONG).unwrap(), expected, "the second time");
    }
}

#[test]
fn tells_a_reset_from_an_exit() {
    let dir = tempfile::tempdir().unwrap();
    let Some(machine) = boot(dir.path(), "exo: oh\n", End::TripleFault, |_| {}) else { return };
    assert_eq!(machine.unwrap().exit_status(LONG).unwrap(), GuestExit::Reset);
}

#[test]
fn gives_up_waiting_but_keeps_the_machine() {
    let dir = tempfile::tempdir().unwrap();
    let Some(machine) = boot(dir.path(), "exo: up\n", End::Halt, |_| {}) else { return };
    let machine = machine.unwrap();
    machine.wait_for_line("exo: up", LONG).unwrap();
    let soon = Duration::from_millis(20);
    let error = machine.wait_for_line("down", soon).unwrap_err().to_string();
    assert!(error.contains("did not say \"down\"") && error.contains("exo: up"), "{error}");
    assert!(machine.exit_status(soon).is_err());
    assert!(machine.store(soon).is_err());
    assert!(machine.running());
}

#[test]
fn says_why_qemu_did_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let change = |config: &mut Config| config.extra = vec!["-no-such-option".into()];
    let Some(machine) = boot(dir.path(), "", End::Halt, change) else { return };
    let error = format!("{:#}", machine.unwrap().exit_status(LONG).unwrap_err());
    assert!(error.contains("no-such-option") && error.contains("refused to start"), "{error}");
}

/// As if another machine had been faster: QEMU's own words are about its options.
#[test]
fn a_port_that_is_taken_meanwhile_is_told_plainly() {
    let dir = tempfile::tempdir().unwrap();
    let udp = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let tcp = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = udp.local_addr().unwrap().port();
    // What has it answers as a store would.
    let other = udp.try_clone().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 2000];
        while let Ok((_, peer)) = other.recv_from(&mut buffer) {
            let answer = [&buffer[..2], b"\0\0\0\x01\0\0VERSION 1\r\n"].concat();
            other.send_to(&answer, peer).unwrap();
        }
    });
    let store = |config: &mut Config| {
        config.network = Network::User(HostPorts::Stated);
        for app in &mut config.manifest.apps {
            app.forward.retain_mut(|forward| {
                forward.host = port;
                forward.guest == STORE_PORT
            });
        }
    };
    let debugger = tcp.local_addr().unwrap().port();
    let gdb = |config: &mut Config| config.gdb = Some(debugger);
    let start = |change: &dyn Fn(&mut Config)| {
        let machine = boot(dir.path(), "", End::Halt, |config| change(config))?.unwrap();
        assert!(machine.store(LONG).is_err(), "taken for the store's answer");
        Some(format!("{:#}", machine.exit_status(LONG).unwrap_err()))
    };
    for (change, port, option) in
        [(&store as &dyn Fn(&mut Config), port, "--port"), (&gdb, debugger, "--gdb")]
    {
        let Some(error) = start(change) else { return };
        assert!(error.contains(&format!("port {port} ")), "{error}");
        assert!(error.contains("taken") && error.contains(option), "{error}");
        assert!(!error.contains("qemu") && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn has_a_socket_for_frames() {
    let dir = tempfile::tempdir().unwrap();
    let change = |config: &mut Config| config.network = Network::Frames;
    let Some(machine) = boot(dir.path(), "exo: up\n", End::Halt, change) else { return };
    let machine = machine.unwrap();
    let frames = machine.frames().unwrap();
    frames.send(&[0xff; 60]).unwrap();
    assert_eq!(frames.receive(Duration::from_millis(20)).unwrap(), None);
    assert_eq!(machine.forwards(), []);
    machine.wait_for_line("exo: up", LONG).unwrap();
}

#[test]
fn icount_machines_start() {
    let dir = tempfile::tempdir().unwrap();
    let change = |config: &mut Config| config.icount = true;
    let Some(machine) = boot(dir.path(), "exo: up\n", End::Exit(0), change) else { return };
    assert_eq!(machine.unwrap().exit_status(LONG).unwrap(), GuestExit::Success);
}

#[test]
fn ends_with_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let argument = pid_file.to_str().unwrap().to_owned();
    let change = |config: &mut Config| config.extra = vec!["-pidfile".into(), argument.into()];
    let Some(machine) = boot(dir.path(), "exo: up\n", End::Halt, change) else { return };
    let machine = machine.unwrap();
    machine.wait_for_line("exo: up", LONG).unwrap();
    let process = process(&pid_file);
    assert!(process.exists());
    drop(machine);
    assert!(!process.exists());
}

/// Where the owner below notes the process id of its machine; only it has this set.
const OWNED: &str = "EXO_TEST_PID_FILE";

#[test]
fn ends_when_its_owner_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    if let Some(pid_file) = std::env::var_os(OWNED) {
        // This is the owner, in a process of its own.
        let pid_file = pid_file.into_string().unwrap();
        let change = |config: &mut Config| config.extra = vec!["-pidfile".into(), pid_file.into()];
        let _machine = boot(dir.path(), "exo: up\n", End::Halt, change).unwrap().unwrap();
        thread::sleep(LONG);
        return;
    }
    if QEMU.find().is_none() {
        return;
    }
    let pid_file = dir.path().join("pid");
    let temporary = dir.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "machine::ends_when_its_owner_is_killed"])
        .env(OWNED, &pid_file)
        // Killed, it cannot tidy up.
        .env("TMPDIR", &temporary)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let started = wait_until(|| fs::read_to_string(&pid_file).is_ok_and(|pid| pid.ends_with('\n')));
    let process = started.then(|| process(&pid_file));
    owner.kill().unwrap();
    owner.wait().unwrap();
    let process = process.expect("the machine did not start");
    assert!(wait_until(|| !alive(&process)), "the machine outlived its owner");
    // The bundle has no name from the start; the directory below is the owner's own.
    let left = fs::read_dir(&temporary).unwrap().map(|file| file.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| !name.to_string_lossy().starts_with(".tmp")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The directory of a process whose id is in a file.
fn process(pid_file: &Path) -> PathBuf {
    Path::new("/proc").join(fs::read_to_string(pid_file).unwrap().trim())
}

/// Whether a process is there and is not a corpse that has not been waited for.
fn alive(process: &Path) -> bool {
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    !status.is_empty() && !status.contains("State:\tZ")
}

fn wait_until(mut done: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !done() {
        if start.elapsed() > LONG {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}
