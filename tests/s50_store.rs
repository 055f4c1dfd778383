//! A client that others have written is served: the crate `memcache`, over TCP.

use std::collections::HashMap;
use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use exo_cmd::client::{Assembly, Client as Datagrams};
use exo_cmd::machine::{Config, Machine};
use machine_tests::{LONG, boot};
use memcache::Client;

/// The tree's default machine, with a store that answers.
fn machine() -> Machine {
    let machine = boot(Config::named("default").expect("boot/manifests/default.toml").manifest);
    machine.store(LONG).expect("the store answers");
    machine
}

/// That crate's client.
fn client(machine: &Machine) -> Client {
    let port = machine.tcp_port().expect("TCP is forwarded");
    let url = format!("memcache://127.0.0.1:{port}?protocol=ascii");
    let builder = Client::builder().add_server(url).expect("a URL").with_max_pool_size(1);
    builder.with_read_timeout(Duration::from_secs(60)).build().expect("a client")
}

#[test]
fn a_client_stores_and_finds_thousands_of_keys() {
    let machine = machine();
    let client = client(&machine);
    let value = |key: u32| format!("value {key} {}", "x".repeat(key as usize % 900));
    for key in 0..4000_u32 {
        client.set(&format!("key-{key}"), value(key), 0).expect("stored");
    }
    for key in (0..4000_u32).rev() {
        let found: Option<String> = client.get(&format!("key-{key}")).expect("an answer");
        assert_eq!(found, Some(value(key)));
    }
    for key in (0..4000_u32).step_by(3) {
        assert!(client.delete(&format!("key-{key}")).expect("an answer"));
    }
    for key in 0..4000_u32 {
        let found: Option<String> = client.get(&format!("key-{key}")).expect("an answer");
        assert_eq!(found, (key % 3 != 0).then(|| value(key)));
    }
}

#[test]
fn two_clients_see_each_other() {
    let machine = machine();
    thread::scope(|scope| {
        for own in 0..2_u32 {
            let client = client(&machine);
            scope.spawn(move || {
                for key in 0..1500_u32 {
                    let name = format!("{own}-{key}");
                    client.set(&name, key * 2 + own, 0).expect("stored");
                    let found: Option<u32> = client.get(&name).expect("an answer");
                    assert_eq!(found, Some(key * 2 + own));
                }
            });
        }
    });
    let client = client(&machine);
    for own in 0..2_u32 {
        for key in (0..1500_u32).step_by(7) {
            let found: Option<u32> = client.get(&format!("{own}-{key}")).expect("an answer");
            assert_eq!(found, Some(key * 2 + own));
        }
    }
}

#[test]
fn every_command_of_the_client_works() {
    let machine = machine();
    let client = client(&machine);
    assert_eq!(client.version().expect("an answer").len(), 1);
    client.flush().expect("flushed");

    client.add("fresh", "1", 0).expect("added");
    // This client does not tell whether it was stored; what is there does.
    client.add("fresh", "2", 0).expect("an answer");
    assert_eq!(client.get::<String>("fresh").expect("an answer").as_deref(), Some("1"));
    client.replace("fresh", "3", 0).expect("replaced");
    client.replace("absent", "4", 0).expect("an answer");
    assert_eq!(client.get::<String>("absent").expect("an answer"), None);
    client.append("fresh", "+").expect("appended");
    client.prepend("fresh", "-").expect("prepended");
    assert_eq!(client.get::<String>("fresh").expect("an answer").as_deref(), Some("-3+"));

    client.set("number", "41", 0).expect("stored");
    assert_eq!(client.increment("number", 1).expect("counted"), 42);
    assert_eq!(client.decrement("number", 50).expect("counted"), 0);
    assert!(client.increment("absent", 1).is_err());
    client.set("number", u64::MAX.to_string(), 0).expect("stored");
    assert_eq!(client.increment("number", 2).expect("counted"), 1);

    assert!(client.touch("fresh", 100).expect("touched"));
    assert!(!client.touch("absent", 100).expect("an answer"));

    let found: HashMap<String, (Vec<u8>, u32, Option<u64>)> =
        client.gets(&["fresh", "absent", "number"]).expect("an answer");
    assert_eq!(found.len(), 2);
    let id = found["fresh"].2.expect("an id");
    assert!(client.cas("fresh", "new", 0, id).expect("an answer"));
    assert!(!client.cas("fresh", "newer", 0, id).expect("an answer"));
    assert_eq!(client.get::<String>("fresh").expect("an answer").as_deref(), Some("new"));

    let longest = "k".repeat(250);
    client.set(&longest, "long", 0).expect("stored");
    assert_eq!(client.get::<String>(&longest).expect("an answer").as_deref(), Some("long"));
    assert!(client.set(&"k".repeat(251), "longer", 0).is_err());

    let stats = machine.store_client().expect("a store").stats().expect("an answer");
    let items =
        stats.iter().find(|(name, _)| name == "curr_items").map(|(_, value)| value.as_str());
    assert_eq!(items, Some("3"), "{stats:?}");
    assert!(client.delete("fresh").expect("an answer"));
    assert!(!client.delete("fresh").expect("an answer"));
    client.flush().expect("flushed");
    assert_eq!(client.get::<String>("number").expect("an answer"), None);
}

/// The longest value that one datagram can show, and the next.
#[test]
fn an_answer_may_fill_its_frame() {
    let machine = machine();
    let mut store = machine.store_client().expect("a store");
    (store.timeout, store.attempts) = (Duration::from_secs(20), 1);
    for len in [1441, 1442] {
        let value = "x".repeat(len);
        let stored = store.ask_once(format!("set k 0 0 {len}\r\n{value}\r\n").as_bytes());
        assert_eq!(stored.expect("an answer"), b"STORED\r\n");
        let whole = format!("VALUE k 0 {len}\r\n{value}\r\nEND\r\n");
        assert_eq!(store.ask_once(b"get k\r\n").expect("an answer"), whole.as_bytes());
    }
}

/// Through the machine's rings, which have fewer slots than the longest has datagrams.
#[test]
fn long_values_come_and_go_in_datagrams() {
    let machine = machine();
    let port = machine.udp_port().expect("UDP is forwarded");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.connect(("127.0.0.1", port)).expect("an address");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a time");
    let mut asked = 0_u16;
    // UDP may lose a datagram: all of it is asked again.
    let mut ask = |text: &[u8]| {
        (0..20).find_map(|_| {
            asked += 1;
            let parts: Vec<_> = text.chunks(1464).collect();
            for (number, part) in parts.iter().enumerate() {
                let fields = [asked, number as u16, parts.len() as u16, 0].map(u16::to_be_bytes);
                socket.send(&[fields.as_flattened(), part].concat()).expect("sent");
            }
            let mut assembly = Assembly::new(asked);
            let mut buffer = [0; 2048];
            loop {
                let len = socket.recv(&mut buffer).ok()?;
                if let Some(answer) = assembly.accept(&buffer[..len]).expect("an answer") {
                    return Some(answer);
                }
            }
        })
    };
    for len in [10, 1_500, 20_000, 69_000] {
        let value: Vec<u8> = (0..len).map(|at| b'a' + (at % 26) as u8).collect();
        let set = [format!("set k 0 0 {len}\r\n").as_bytes(), &value, b"\r\n"].concat();
        assert_eq!(ask(&set).expect("an answer"), b"STORED\r\n");
        let whole = [format!("VALUE k 0 {len}\r\n").as_bytes(), &value, b"\r\nEND\r\n"].concat();
        assert!(ask(b"get k\r\n").expect("an answer") == whole, "{len}");
    }
    // The longest come over connections, but go in datagrams.
    let client = client(&machine);
    let value: String = (0..400_000).map(|at| char::from(b'a' + (at % 26) as u8)).collect();
    client.set("long", &value, 0).expect("stored");
    let whole = format!("VALUE long 0 400000\r\n{value}\r\nEND\r\n");
    assert!(ask(b"get long\r\n").expect("an answer") == whole.as_bytes());
}

/// What a source that has not connected is sent in a second, in answers of several datagrams; connected, it is sent more.
#[test]
fn a_source_has_a_budget() {
    let mut manifest = Config::named("default").expect("boot/manifests/default.toml").manifest;
    let store = manifest.apps.iter_mut().find(|app| app.image == "kvstore").expect("a store");
    store.args.push("udp-kib=8".into());
    let machine = boot(manifest);
    machine.store(LONG).expect("the store answers");
    let mut store = machine.store_client().expect("a store");
    (store.timeout, store.attempts) = (Duration::from_millis(500), 1);
    let set = format!("set k 0 0 1400\r\n{}\r\n", "x".repeat(1400));
    while store.ask_once(set.as_bytes()).is_err() {}
    // Two answers of two datagrams fit into a second's bytes; however slow the host is, not all are sent.
    let answered = |store: &mut Datagrams| {
        let answers = (0..40).filter(|_| store.ask_once(b"get k k\r\n").is_ok());
        answers.count()
    };
    let before = answered(&mut store);
    assert!(before < 40, "{before}");
    let connected = client(&machine);
    connected.version().expect("an answer");
    assert!(answered(&mut store) > 35);
}
