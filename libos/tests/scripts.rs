//! Packet scripts: each file in `scripts/` is a story with times, told to the real stack in
//! simulated time.
//!
//! The notation is close to packetdrill's. A line is a time (`0.5` since the beginning, `+0.5`
//! since the line before), `<` for a segment that comes or `>` for one that must leave then, and
//! the segment: control bits (`S` `F` `R` `P`, `.` for an acknowledgement), `first:end(length)`,
//! and as wanted `ack N`, `win N`, `<options>`, `"data"`. Numbers count from each side's first.
//! What an expected segment does not mention may be anything; what is sent and not expected is
//! an error. `flood N` sends N SYNs from other ports.
//!
//! The service speaks lines: `echo TEXT` is answered with TEXT, `send N` with N bytes, `close`
//! by closing.

mod script;

use std::path::Path;

#[test]
fn every_script_is_followed() {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut files: Vec<_> = std::fs::read_dir(place).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 12, "{files:?}");
    let failures: Vec<_> = files.iter().filter_map(|file| script::run(file).err()).collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn a_wrong_expectation_is_noticed() {
    let dir = std::env::temp_dir().join(format!("exo-script-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let tell = |text: &str| {
        let file = dir.join("wrong.pkt");
        std::fs::write(&file, text).unwrap();
        script::run(&file)
    };
    let syn = "0.0 < S 0:0(0) win 1000 <mss 1460>\n";
    assert_eq!(tell(&format!("{syn}+0 > S. 0:0(0) ack 1\n")), Ok(()));
    for wrong in [
        "",
        "+0 > S. 0:0(0) ack 2\n",
        "+0 > S. 0:0(0) ack 1 win 5\n",
        "+0 > S 0:0(0)\n",
        "+0.5 > S. 0:0(0) ack 1\n",
        "+0 > S. 0:0(0) ack 1 <mss 1459>\n",
        "+0 > S. 0:0(0) ack 1\n+0 > . 1:1(0) ack 1\n",
        "+0 what is this\n",
    ] {
        assert!(tell(&format!("{syn}{wrong}")).is_err(), "{wrong:?}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
