//! The same expressions given to tcpdump, on random packets.
//!
//! Says so and passes if tcpdump is not installed. `TCPDUMP` names another one.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use dpf_text::parse;

/// Ours, and what says the same to tcpdump if that is not the same text: there, tcp and
/// udp are over IPv6 as well, and tags have more than one type.
const EXPRESSIONS: &[(&str, &str)] = &[
    ("ip", ""),
    ("arp", ""),
    ("ip6", ""),
    ("icmp", ""),
    ("ip and udp", ""),
    ("udp", "ip and udp"),
    ("tcp dst port 80", "ip and tcp dst port 80"),
    ("tcp src port 80", "ip and tcp src port 80"),
    ("udp dst portrange 8000-8100", "ip and udp dst portrange 8000-8100"),
    ("udp and src portrange 79-80", "ip and udp and src portrange 79-80"),
    ("ip and udp dst port 11211 and dst host 10.0.2.15", ""),
    ("ip src host 10.0.2.16", ""),
    ("ip and src 10.0.2.16 and udp", ""),
    ("ip dst net 10.0.2.0/24", ""),
    ("ip and dst net 10.0.0.0/8", ""),
    ("ip dst net 10.0.2.0 mask 255.255.254.0", ""),
    ("arp dst host 10.0.2.15", ""),
    ("arp src net 10.0.2.0/28", ""),
    ("ip proto 6", ""),
    ("ether proto 0x0806", ""),
    ("ether dst 52:54:00:12:34:56", ""),
    ("ether src 52:54:00:12:34:57 and ip", ""),
    ("ether broadcast", ""),
    ("ether multicast and arp", ""),
    ("ip[8] < 5", ""),
    ("ip[8] >= 64 and ip[8] <= 0x80", ""),
    ("ip[0] & 0xf > 5", ""),
    ("ip[6:2] & 0x1fff != 0", ""),
    ("ip[6:2] & 0x1fff = 0 and ip[2:2] < 0x100", ""),
    ("udp[4:2] > 100", ""),
    ("udp[4:2] > 100 and udp[2] = 0x1f", ""),
    ("ip and udp dst port 0120", ""),
    ("ip and tcp src port 0x50", ""),
    ("ip and udp dst portrange 0079-0100", ""),
    ("ip dst net 10.0.2.0/030", ""),
    ("ip dst host 010.0.002.015", ""),
    ("ip proto 021", ""),
    ("len >= 074", ""),
    ("greater 0x3c and ip", ""),
    ("ether[010:01] < 0100", ""),
    ("ip and udp src and dst port 80", ""),
    ("arp src and dst net 10.0.2.0/28", ""),
    ("ip multicast", ""),
    ("ip6 multicast", ""),
    ("ip6[6] = 17", ""),
    ("icmp6[icmp6type] = icmp6-echo", ""),
    ("(ip[6:2] & 0x1fff) = 0", ""),
    ("0 != ip[6:2] & 0x1fff", ""),
    ("(0xf & ip[0]) > 5 and 64 <= ip[8]", ""),
    ("60 <= len", ""),
    ("tcp[tcpflags] = tcp-syn|tcp-ack", ""),
    ("tcp[tcpflags] & (tcp-syn|tcp-ack|1 & 2) = tcp-syn|tcp-ack", ""),
    ("icmp[icmptype] = icmp-maskreply", ""),
    ("tcp[13] & 2 != 0", ""),
    ("tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn", ""),
    ("icmp[icmptype] = icmp-echo", ""),
    ("icmp[0] != 0", ""),
    ("ether[0] & 1 = 0 and ether[12:2] > 0x0800", ""),
    ("len >= 60", ""),
    ("greater 50 and ip", ""),
    ("vlan 5 and ip", "ether[12:2] = 0x8100 and vlan 5 and ip"),
    ("vlan and udp dst port 80", "ether[12:2] = 0x8100 and vlan and ip and udp dst port 80"),
    (
        "vlan 5 and arp dst host 10.0.2.15",
        "ether[12:2] = 0x8100 and vlan 5 and arp dst host 10.0.2.15",
    ),
    (
        "vlan and ip[8] > 64 and ether src 52:54:00:12:34:57",
        "ether[12:2] = 0x8100 and vlan and ip[8] > 64 and ether src 52:54:00:12:34:57",
    ),
];

/// xorshift64*, so that every run sees the same packets.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }

    fn of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// A packet with fields that often have the values that expressions ask for.
fn packet(random: &mut Random) -> Vec<u8> {
    let mut packet: Vec<u8> = (0..130).map(|_| random.below(256) as u8).collect();
    let station = [[0x52, 0x54, 0, 0x12, 0x34, 0x56], [0x52, 0x54, 0, 0x12, 0x34, 0x57], [0xff; 6]];
    packet[..6].copy_from_slice(&random.of(&station));
    packet[6..12].copy_from_slice(&random.of(&station));
    let mut at = 12;
    for _ in 0..random.of(&[0, 0, 0, 1, 1, 2]) {
        packet[at..at + 4].copy_from_slice(&[0x81, 0, random.of(&[0, 0xa0]), random.of(&[5, 6])]);
        at += 4;
    }
    packet[at..at + 2].copy_from_slice(&random.of(&[[8, 0], [8, 0], [8, 0], [8, 6], [0x86, 0xdd]]));
    let header = at + 2;
    let ip = packet[at + 1] == 0;
    let addresses = if ip { [12, 16] } else { [14, 24] };
    for at in addresses {
        packet[header + at..header + at + 3].copy_from_slice(&[10, 0, random.of(&[2, 2, 2, 3])]);
        packet[header + at + 3] = random.of(&[15, 16, 17]);
    }
    if ip {
        let words = random.of(&[5, 5, 5, 6, 7, 15, 0, 3]);
        packet[header] = random.of(&[0x40, 0x40, 0x40, 0x60]) | words;
        packet[header + 6] = random.of(&[0, 0, 0x40, 0x20, 0x01]);
        packet[header + 7] = random.of(&[0, 0, 0, 1]);
        packet[header + 9] = random.of(&[1, 6, 17, 17, 99]);
        let ports = header + 4 * usize::from(words);
        for at in [ports, ports + 2] {
            let port: u16 = random.of(&[53, 79, 80, 81, 7999, 8000, 8050, 8100, 8101, 11211]);
            packet[at..at + 2].copy_from_slice(&port.to_be_bytes());
        }
        if packet[header + 9] == 1 {
            packet[ports] = random.of(&[0, 8, 18]);
        }
        packet[ports + 4] = random.of(&[0, packet[ports + 4]]);
        packet[ports + 13] = random.of(&[2, 16, 18, packet[ports + 13]]);
        packet[header + 16] = random.of(&[10, 10, 10, 224]);
    } else if packet[at] == 0x86 {
        packet[header + 6] = random.of(&[17, 44, 58]);
        packet[header + 24] = random.of(&[0x20, 0xff]);
        packet[header + 40] = random.of(&[17, 128]);
    }
    let any = 14 + random.below(116);
    let length = random.of(&[130, 130, 130, any, 59, 60]);
    packet.truncate(length);
    packet
}

/// The packets in pcap's file format (Ethernet, microseconds), numbered by their times.
fn capture(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    let words = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, 1];
    words.iter().for_each(|word| file.extend(word.to_le_bytes()));
    for (number, packet) in (0u32..).zip(packets) {
        let length = packet.len() as u32;
        [number, 0, length, length].iter().for_each(|word| file.extend(word.to_le_bytes()));
        file.extend(packet);
    }
    file
}

/// The numbers of the packets in a capture.
fn numbers(file: &[u8]) -> BTreeSet<u32> {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes"));
    let mut numbers = BTreeSet::new();
    let mut at = 24;
    while at + 16 <= file.len() {
        numbers.insert(word(at));
        at += 16 + word(at + 8) as usize;
    }
    numbers
}

/// Which of the packets tcpdump takes.
fn tcpdump(program: &str, file: &[u8], expression: &str) -> BTreeSet<u32> {
    let mut child = Command::new(program)
        .args(["-n", "-r", "-", "-w", "-", expression])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it could be run before");
    let mut input = child.stdin.take().expect("it was asked for");
    let file = file.to_vec();
    let feed = std::thread::spawn(move || input.write_all(&file));
    let output = child.wait_with_output().expect("it ends");
    let _ = feed.join();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tcpdump does not take `{expression}`: {complaint}");
    numbers(&output.stdout)
}

#[test]
fn tcpdump_agrees() {
    let program = std::env::var("TCPDUMP").unwrap_or_else(|_| "tcpdump".to_owned());
    if Command::new(&program).arg("--version").output().is_err() {
        eprintln!("NOT COMPARED WITH LIBPCAP: `{program}` cannot be run (apt-get install tcpdump)");
        return;
    }
    let mut random = Random(0x1996_d9f1);
    let packets: Vec<_> = (0..4000).map(|_| packet(&mut random)).collect();
    let file = capture(&packets);
    for &(ours, theirs) in EXPRESSIONS {
        let filter = parse(ours).unwrap_or_else(|error| panic!("{error}"));
        let theirs = tcpdump(&program, &file, if theirs.is_empty() { ours } else { theirs });
        let taken = |&(_, packet): &(u32, &Vec<u8>)| filter.matches(packet);
        let ours_taken: BTreeSet<_> = (0..).zip(&packets).filter(taken).map(|(n, _)| n).collect();
        assert!(
            !ours_taken.is_empty() && ours_taken.len() < packets.len(),
            "`{ours}` tells nothing"
        );
        // The one difference: a header that claims to be shorter than a header is.
        let shifts = filter.steps().any(|step| matches!(step, dpf::Step::Shift(_)));
        let sound = |number: &u32| {
            let packet = &packets[*number as usize];
            let at = 14
                + 4 * packet[12..].chunks(4).take_while(|tag| tag.starts_with(&[0x81, 0])).count();
            !shifts || packet.get(at).is_some_and(|first| first & 15 >= 5)
        };
        let theirs: BTreeSet<_> = theirs.into_iter().filter(sound).collect();
        let differ: Vec<_> = ours_taken.symmetric_difference(&theirs).collect();
        let shown = differ.first().map(|&&number| &packets[number as usize]);
        assert!(differ.is_empty(), "`{ours}`: {} packets, the first {shown:02x?}", differ.len());
    }
}
