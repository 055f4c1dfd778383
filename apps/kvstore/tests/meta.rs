//! The meta commands, as the newest protocol text has them: also what the installed memcached
//! may not know yet. (What it knows is compared with it by `cargo exo conform`.)

mod common;

use common::{START, ask, config};
use kvstore::{Service, Time};

/// Sends each request; checks its answer.
fn check(cases: &[(&str, &str)]) {
    let mut memory = vec![0; 8 << 20];
    let mut service = Service::new(&mut memory, &config()).expect("a store");
    for (request, answer) in cases {
        let said = ask(&mut service, format!("{request}\r\n").as_bytes(), START);
        let said = String::from_utf8_lossy(&said).replace("\r\n", "|");
        assert_eq!(said, *answer, "{request:?}");
    }
}

#[test]
fn a_cas_id_of_the_clients_own() {
    check(&[
        ("ms a 1 E700 c\r\nx", "HD c700|"),
        ("mg a c v", "VA 1 c700|x|"),
        ("gets a", "VALUE a 0 1 700|x|END|"),
        ("ms a 1 C700 E5 c\r\ny", "HD c5|"),
        ("cas a 0 0 1 5\r\n9", "STORED|"),
        ("mg a c", "HD c1|"),
        ("ma a E900 c v", "VA 2 c900|10|"),
        ("ma a c v", "VA 2 c2|11|"),
        ("md a I E44", "HD|"),
        ("mg a c", "HD c44 X W|"),
        ("mg new N30 E77 c t", "HD c77 t30 W|"),
        ("ma number N0 J5 E8 c v", "VA 1 c8|5|"),
        // A flush counts what was stored, not what clients call it.
        ("flush_all", "OK|"),
        ("ms a 1 E1 c\r\nz", "HD c1|"),
        ("mg a v c", "VA 1 c1|z|"),
    ]);
}

#[test]
fn a_get_that_compares() {
    check(&[
        ("ms a 3 E7\r\nabc", "HD|"),
        ("mg a C7 v c s", "HD c7 s3|"),
        ("mg a C6 v c s", "VA 3 c7 s3|abc|"),
        ("mg a C7 c T30", "HD c7|"),
        ("mg a t", "HD t30|"),
    ]);
}

#[test]
fn a_tombstone() {
    check(&[
        ("ms a 3 F9 T100\r\nabc", "HD|"),
        ("md a x", "HD|"),
        ("mg a v s f c t", "VA 0 s0 f0 c1 t-1||"),
        ("ms a 3\r\nabc", "HD|"),
        ("md a x I T30 q", ""),
        ("mg a v t c", "VA 0 t30 c3 X W||"),
        ("mg a v", "VA 0 Z X||"),
        ("md absent x", "NF|"),
    ]);
}

#[test]
fn an_append_that_makes_the_item_and_tells_its_size() {
    check(&[
        ("ms a 2 MA s\r\nxy", "NS s2|"),
        ("ms a 2 MA N30 s c\r\nxy", "HD s2 c1|"),
        ("ms a 3 MA N90 s\r\n123", "HD s5|"),
        ("ms a 1 MP s T5\r\n-", "HD s6|"),
        ("mg a v t", "VA 6 t30|-xy123|"),
        ("ms b 1 MP N0 k Oq\r\n-", "HD kb Oq|"),
        ("ms a 1 MA C999\r\n-", "EX|"),
    ]);
}

#[test]
fn out_of_date_and_won() {
    check(&[
        ("set a 0 0 1\r\nx", "STORED|"),
        ("md a I T60", "HD|"),
        ("mg a v c", "VA 1 c2 X W|x|"),
        ("mg a v c", "VA 1 c2 Z X|x|"),
        // An older version may still be stored: it stays out of date, and won.
        ("ms a 1 C1 I\r\ny", "HD|"),
        ("mg a v t", "VA 1 t60 Z X|y|"),
        ("ms a 1 C1\r\nz", "EX|"),
        ("ms a 1 C3\r\nz", "HD|"),
        ("mg a v", "VA 1|z|"),
        ("mg b N30 v t k O1", "VA 0 t30 kb O1 W||"),
        ("mg b N30 v", "VA 0 Z||"),
        ("ms c 1 T20\r\nx", "HD|"),
        ("mg c R10 t", "HD t20|"),
        ("mg c R30 t", "HD t20 W|"),
        ("mg c R30 t", "HD t20 Z|"),
    ]);
}

#[test]
fn keys_of_any_bytes_in_base64() {
    check(&[
        ("ms AAog 2 b k c\r\nhi", "HD kAAog b c1|"),
        ("mg AAog b v k", "VA 2 kAAog b|hi|"),
        ("mg AAog v", "EN|"),
        ("ma Cg== b N0 J4 v k", "VA 1 kCg== b|4|"),
        ("me Cg== b", "ME Cg== exp=-1 la=0 cas=2 fetch=no cls=1 size=31|"),
        ("md AAog b k O7", "HD kAAog b O7|"),
        ("mg AAog b", "EN|"),
        ("mg AAog b q", ""),
    ]);
}

#[test]
fn when_an_item_was_used() {
    let mut memory = vec![0; 8 << 20];
    let mut service = Service::new(&mut memory, &config()).expect("a store");
    let mut at = |seconds, request: &str| {
        let now = Time { unix: START.unix + seconds, uptime: START.uptime + seconds as u32 };
        let said = ask(&mut service, format!("{request}\r\n").as_bytes(), now);
        String::from_utf8_lossy(&said).replace("\r\n", "|")
    };
    assert_eq!(at(0, "set a 0 0 1\r\nx"), "STORED|");
    assert_eq!(at(5, "mg a h l u"), "HD h0 l5|");
    assert_eq!(at(7, "mg a h l"), "HD h0 l7|");
    assert_eq!(at(9, "mg a h l u"), "HD h1 l2|");
    assert_eq!(at(9, "get a"), "VALUE a 0 1|x|END|");
    assert_eq!(at(12, "mg a h l t"), "HD h1 l3 t-1|");
    assert_eq!(at(20, "ms a 1 T100\r\ny"), "HD|");
    assert_eq!(at(50, "mg a t h l"), "HD t70 h0 l30|");
    assert_eq!(at(121, "mg a t"), "EN|");
}
