//! Three stores as one: clients that choose a store by the key, and a proxy that does it for
//! clients that do not, go on when one of the three is gone.
//!
//! They are told of the stores by the very lines that `cargo exo run --instances 3` prints.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use exo_cmd::conform::clients::python_with;
use exo_cmd::lists::Lists;
use exo_cmd::machine::Machine;
use exo_cmd::manifest::Transport;
use exo_cmd::prerequisites::NUTCRACKER;
use machine_tests::{LONG, STORE, boot, manifest, needed, net_app, wait_until};

const KEYS: usize = 300;

/// Arguments: a package; a client as an expression; what `set` is told besides.
const SESSION: &str = r#"
import sys, time
package, client, options = sys.argv[1:4]
exec(f"import {package}")
c, options = eval(client), eval(options)
def get(key):
    try:
        value = c.get(key)
    except Exception:
        return None
    return value.decode() if isinstance(value, bytes) else value
def put(key, value):
    try:
        return c.set(key, value, **options)
    except Exception:
        return False
names = [f"{package}:{n}" for n in range(300)]
assert all(put(name, name) for name in names)
assert all(get(name) == name for name in names)
print("ready", flush=True)
sys.stdin.readline()
# One of the stores is gone: what the others have is found, and everything can be stored again.
kept, end = 0, time.time() + 100
while kept < len(names) // 3:
    assert time.time() < end, f"only {kept} are found"
    kept = sum(get(name) == name for name in names)
while not all(put(name, name + "!") for name in names):
    assert time.time() < end, "not all can be stored"
    time.sleep(0.2)
found = sum(get(name) == name + "!" for name in names)
assert found == len(names), f"only {found} are found of what was stored since"
print(f"{kept} of {len(names)} kept, all stored again")
"#;

/// A client in another process, which has stored its keys and waits.
struct Session {
    package: &'static str,
    process: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Session {
    fn start(package: &'static str, client: &str, options: &str) -> Option<Self> {
        let mut python = needed("s57_shards", python_with(package))?;
        python.args([SESSION, package, client, options]);
        python.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = python.spawn().expect("python starts");
        let said = BufReader::new(process.stdout.take().expect("a pipe"));
        let mut session = Self { package, process, said };
        assert_eq!(session.line(), "ready\n", "{package}");
        Some(session)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("a line");
        line
    }

    fn go_on(mut self) {
        self.process.stdin.take().expect("a pipe").write_all(b"\n").expect("told");
        let line = self.line();
        let status = self.process.wait().expect("it ends");
        assert!(status.success(), "{}: {line}", self.package);
        println!("{}: {line}", self.package);
    }
}

/// A proxy, and a connection to it.
struct Proxy {
    process: Child,
    _configuration: tempfile::NamedTempFile,
    stream: BufReader<TcpStream>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

impl Proxy {
    fn start(lists: &Lists) -> Option<Self> {
        let found = NUTCRACKER.find();
        let program = needed("s57_shards", found.ok_or_else(|| missing(NUTCRACKER.name)))?;
        let (listen, statistics) = (free_port(), free_port().to_string());
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, listen));
        let mut configuration = tempfile::NamedTempFile::new().expect("a file");
        configuration.write_all(lists.nutcracker(listen).as_bytes()).expect("written");
        let mut command = Command::new(program);
        command.arg("-c").arg(configuration.path()).args(["-s", &statistics]);
        let process = command.stderr(Stdio::null()).spawn().expect("nutcracker starts");
        let stream = wait_until("the proxy does not listen", || TcpStream::connect(listen).ok());
        stream.set_read_timeout(Some(LONG)).expect("a time");
        let stream = BufReader::new(stream);
        Some(Self { process, _configuration: configuration, stream })
    }

    fn ask(&mut self, request: &str) -> String {
        self.stream.get_mut().write_all(request.as_bytes()).expect("sent");
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("an answer");
        line
    }

    fn set(&mut self, key: usize, value: &str) -> bool {
        self.ask(&format!("set proxy:{key} 0 0 {}\r\n{value}\r\n", value.len())) == "STORED\r\n"
    }

    fn get(&mut self, key: usize) -> Option<String> {
        let line = self.ask(&format!("get proxy:{key}\r\n"));
        let length = line.strip_prefix("VALUE ")?.trim().rsplit(' ').next()?.parse().ok()?;
        let mut value = vec![0; length];
        self.stream.read_exact(&mut value).expect("a value");
        self.stream.read_exact(&mut [0; 7]).expect("its end");
        String::from_utf8(value).ok()
    }

    fn fill(&mut self) {
        assert!((0..KEYS).all(|key| self.set(key, "before")));
        assert!((0..KEYS).all(|key| self.get(key).as_deref() == Some("before")));
    }

    fn go_on(&mut self) {
        let kept = wait_until("little is found", || {
            let kept = (0..KEYS).filter(|&key| self.get(key).as_deref() == Some("before")).count();
            (kept >= KEYS / 3).then_some(kept)
        });
        wait_until("not all can be stored", || {
            std::thread::sleep(Duration::from_millis(200));
            (0..KEYS).all(|key| self.set(key, "after")).then_some(())
        });
        assert!((0..KEYS).all(|key| self.get(key).as_deref() == Some("after")));
        println!("nutcracker: {kept} of {KEYS} kept, all stored again");
    }
}

fn missing(program: &str) -> exo_cmd::Error {
    exo_cmd::Error::msg(format!("{program} is not installed"))
}

#[test]
fn clients_and_a_proxy_go_on_without_one_of_three_stores() {
    let mut machines: Vec<Machine> = (0..3)
        .map(|_| {
            let mut app = net_app("kvstore", STORE);
            app.frames = 8192;
            boot(manifest(vec![app]))
        })
        .collect();
    for machine in &machines {
        machine.store(LONG).expect("the store answers");
    }
    let at = |machine: &Machine| machine.store_address(Transport::Tcp).expect("TCP is forwarded");
    let lists = Lists::new(machines.iter().map(at).collect());

    let noreply = "{\"noreply\": False}";
    let sessions = [
        Session::start("pymemcache", &lists.pymemcache(), noreply),
        Session::start("pylibmc", &lists.pylibmc(), "{}"),
    ];
    let mut proxy = Proxy::start(&lists);
    if let Some(proxy) = &mut proxy {
        proxy.fill();
    }
    // Each store has some of the keys.
    for machine in &machines {
        let mut stream = TcpStream::connect(at(machine)).expect("a connection");
        stream.set_read_timeout(Some(LONG)).expect("a time");
        stream.write_all(b"stats\r\n").expect("sent");
        let rows = BufReader::new(stream).lines().map(|row| row.expect("a row"));
        let items = rows.take_while(|row| row != "END").find_map(|row| {
            row.strip_prefix("STAT curr_items ").and_then(|items| items.parse::<usize>().ok())
        });
        let any = sessions.iter().flatten().count() + usize::from(proxy.is_some()) > 0;
        assert!(!any || items.is_some_and(|items| items > KEYS / 20), "{items:?}");
    }
    drop(machines.remove(1));
    for session in sessions.into_iter().flatten() {
        session.go_on();
    }
    if let Some(proxy) = &mut proxy {
        proxy.go_on();
    }
    assert!(machines.iter().all(Machine::running));
}
