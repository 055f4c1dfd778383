//! What requests do over time, and what replies look like: the parts the oracle
//! cannot be asked about, since they need a clock that is set, or a small buffer.

mod common;

use common::{START, ask, config, datagram};
use kvstore::{MAX_DATAGRAM, MIN_REPLY, Service, Time};

fn with_service(test: impl FnOnce(&mut Service<'_>)) {
    let mut memory = vec![0xa5; 4 << 20];
    test(&mut Service::new(&mut memory, &config()).unwrap());
}

/// The clock `seconds` after the start.
fn after(seconds: u32) -> Time {
    Time { unix: START.unix + u64::from(seconds), uptime: START.uptime + seconds }
}

fn says(service: &mut Service<'_>, at: u32, request: &str, answer: &str) {
    let got = ask(service, request.as_bytes(), after(at));
    assert_eq!(String::from_utf8_lossy(&got), answer, "{request:?} after {at} s");
}

#[test]
fn expiry_is_relative_up_to_thirty_days_and_absolute_beyond() {
    with_service(|s| {
        let month = 30 * 24 * 60 * 60;
        let unix = START.unix;
        let set = |key: &str, exptime: u64| format!("set {key} 0 {exptime} 1\r\n1\r\n");
        says(s, 0, &set("rel", 10), "STORED\r\n");
        says(s, 0, &set("month", month), "STORED\r\n");
        says(s, 0, &set("abs", unix + 20), "STORED\r\n");
        // One second more than a month is a date in 1970.
        says(s, 0, &set("past", month + 1), "STORED\r\n");
        says(s, 0, "get past\r\n", "END\r\n");
        says(s, 9, "get rel\r\n", "VALUE rel 0 1\r\n1\r\nEND\r\n");
        says(s, 10, "get rel\r\n", "END\r\n");
        says(s, 19, "get abs\r\n", "VALUE abs 0 1\r\n1\r\nEND\r\n");
        says(s, 20, "get abs\r\n", "END\r\n");
        says(s, month as u32 - 1, "get month\r\n", "VALUE month 0 1\r\n1\r\nEND\r\n");
        says(s, month as u32, "get month\r\n", "END\r\n");
        let stats = s.engine().stats();
        assert_eq!((stats.get_expired, stats.get_misses, stats.get_hits), (4, 4, 3));
    });
}

#[test]
fn an_expired_item_is_gone_for_every_command() {
    with_service(|s| {
        for (request, answer) in [
            ("gets k", "END\r\n"),
            ("gat 100 k", "END\r\n"),
            ("touch k 100", "NOT_FOUND\r\n"),
            ("delete k", "NOT_FOUND\r\n"),
            ("incr k 1", "NOT_FOUND\r\n"),
            ("replace k 0 0 1\r\n2", "NOT_STORED\r\n"),
            ("append k 0 0 1\r\n2", "NOT_STORED\r\n"),
            ("cas k 0 0 1 1\r\n2", "NOT_FOUND\r\n"),
            ("add k 0 0 1\r\n2", "STORED\r\n"),
        ] {
            says(s, 0, "set k 0 -1 1\r\n1\r\n", "STORED\r\n");
            says(s, 0, &format!("{request}\r\n"), answer);
        }
    });
}

#[test]
fn touch_and_gat_give_a_new_time() {
    with_service(|s| {
        says(s, 0, "set k 0 10 1\r\n1\r\n", "STORED\r\n");
        says(s, 9, "touch k 10\r\n", "TOUCHED\r\n");
        says(s, 18, "gat 10 k\r\n", "VALUE k 0 1\r\n1\r\nEND\r\n");
        says(s, 27, "gats 0 k\r\n", "VALUE k 0 1 1\r\n1\r\nEND\r\n");
        says(s, 100_000, "get k\r\n", "VALUE k 0 1\r\n1\r\nEND\r\n");
        // Changing the value keeps the time.
        says(s, 100_000, "touch k 10\r\n", "TOUCHED\r\n");
        says(s, 100_001, "incr k 1\r\n", "2\r\n");
        says(s, 100_001, "append k 0 0 1\r\n0\r\n", "STORED\r\n");
        says(s, 100_009, "get k\r\n", "VALUE k 0 2\r\n20\r\nEND\r\n");
        says(s, 100_010, "get k\r\n", "END\r\n");
    });
}

#[test]
fn flush_all_with_a_delay() {
    with_service(|s| {
        says(s, 0, "set a 0 0 1\r\n1\r\n", "STORED\r\n");
        says(s, 0, "flush_all 10\r\n", "OK\r\n");
        says(s, 9, "set b 0 0 1\r\n1\r\n", "STORED\r\n");
        says(s, 9, "get a b\r\n", "VALUE a 0 1\r\n1\r\nVALUE b 0 1\r\n1\r\nEND\r\n");
        says(s, 10, "get a b\r\n", "END\r\n");
        says(s, 10, "set a 0 0 1\r\n2\r\n", "STORED\r\n");
        says(s, 1000, "get a\r\n", "VALUE a 0 1\r\n2\r\nEND\r\n");
        // A date that has passed means now.
        says(s, 1000, &format!("flush_all {}\r\n", START.unix - 5), "OK\r\n");
        says(s, 1000, "get a\r\n", "END\r\n");
        assert_eq!(s.engine().stats().cmd_flush, 2);
    });
}

#[test]
fn requests_in_one_datagram_are_answered_in_one_in_order() {
    with_service(|s| {
        says(
            s,
            0,
            "set a 1 0 1\r\nx\r\nget a\r\nset b 0 0 1 noreply\r\ny\r\ngets b\r\nfoo\r\ndelete a\r\nget a b\r\n",
            "STORED\r\nVALUE a 1 1\r\nx\r\nEND\r\nVALUE b 0 1 2\r\ny\r\nEND\r\nERROR\r\nDELETED\r\n\
             VALUE b 0 1\r\ny\r\nEND\r\n",
        );
        says(s, 0, "set a 0 0 1 noreply\r\nx\r\ndelete a noreply\r\nincr b 1 noreply\r\n", "");
        // What is not ended is not a request.
        says(s, 0, "get b\r\nget b", "VALUE b 0 1\r\ny\r\nEND\r\n");
    });
}

#[test]
fn the_length_of_a_number_never_shrinks() {
    with_service(|s| {
        says(s, 0, "set n 0 0 3\r\n100\r\n", "STORED\r\n");
        says(s, 0, "decr n 1\r\n", "99\r\n");
        says(s, 0, "get n\r\n", "VALUE n 0 3\r\n99 \r\nEND\r\n");
        says(s, 0, "decr n 1000\r\n", "0\r\n");
        says(s, 0, "incr n 18446744073709551615\r\n", "18446744073709551615\r\n");
        says(s, 0, "incr n 2\r\n", "1\r\n");
        says(s, 0, "gets n\r\n", "VALUE n 0 20 5\r\n1                   \r\nEND\r\n");
    });
}

#[test]
fn an_answer_that_does_not_fit_becomes_an_error() {
    with_service(|s| {
        let mut reply = [0; MAX_DATAGRAM];
        let mut answer = |s: &mut Service<'_>, request: &str| {
            let len = s.answer(&datagram(request.as_bytes()), START, &mut reply);
            String::from_utf8(reply[8..len.unwrap()].to_vec()).unwrap()
        };
        let set = |key: &str, len: usize| format!("set {key} 0 0 {len}\r\n{}\r\n", "x".repeat(len));
        for (key, len) in
            [("small", 3), ("half", 600), ("fits", 1300), ("large", 1440), ("huge", 60_000)]
        {
            assert_eq!(answer(s, &set(key, len)), "STORED\r\n");
        }
        assert!(answer(s, "get fits\r\n").ends_with("END\r\n"));
        for request in [
            "get large\r\n",
            "gets large\r\n",
            "gat 0 large\r\n",
            "get huge\r\n",
            "get half half half\r\n",
        ] {
            assert_eq!(answer(s, request), "SERVER_ERROR reply too large\r\n", "{request}");
        }
        // The others in the datagram are answered as ever.
        assert_eq!(
            answer(s, "get small\r\nget huge\r\nget small\r\n"),
            "VALUE small 0 3\r\nxxx\r\nEND\r\nSERVER_ERROR reply too large\r\nVALUE small 0 3\r\nxxx\r\nEND\r\n"
        );
        // Where there is no room for another answer, the rest is not carried out.
        let many = format!("{}delete small\r\n", "get half\r\n".repeat(10));
        let got = answer(s, &many);
        assert!(got.ends_with("SERVER_ERROR reply too large\r\n"), "{got}");
        assert_eq!(answer(s, "delete small\r\n"), "DELETED\r\n");
    });
}

/// To the byte: with flags 0, key and value together may have 1442.
#[test]
fn a_reply_may_fill_its_datagram() {
    with_service(|s| {
        let mut reply = [0; MAX_DATAGRAM];
        let mut answer = |s: &mut Service<'_>, request: &str| {
            let len = s.answer(&datagram(request.as_bytes()), START, &mut reply).unwrap();
            (len, String::from_utf8(reply[8..len].to_vec()).unwrap())
        };
        for len in 1300..=1446 {
            let value = "x".repeat(len);
            let set = format!("set k 0 0 {len}\r\n{value}\r\n");
            assert!(set.len() + 8 <= MAX_DATAGRAM);
            assert_eq!(answer(s, &set).1, "STORED\r\n");
            let whole = format!("VALUE k 0 {len}\r\n{value}\r\nEND\r\n");
            let too_large = "SERVER_ERROR reply too large\r\n".to_owned();
            for request in ["get k\r\n", "get  k\r\n", "get none k\r\n", "gat 0 k\r\n"] {
                let (sent, text) = answer(s, request);
                assert_eq!(text, if len <= 1441 { &whole } else { &too_large }[..], "{request}");
                assert!(len != 1441 || sent == MAX_DATAGRAM);
            }
            // One that follows has room for its own error at least.
            let (_, text) = answer(s, "get k\r\nget k\r\n");
            let first = if len <= 1441 - too_large.len() { whole } else { too_large.clone() };
            assert_eq!(text, format!("{first}{too_large}"));
        }
    });
}

#[test]
fn no_reply_is_longer_than_its_buffer_whatever_that_is() {
    with_service(|s| {
        let set = |key: &str, len: usize| format!("set {key} 0 0 {len}\r\n{}\r\n", "x".repeat(len));
        ask(s, set("a", 30).as_bytes(), START);
        ask(s, set("b", 300).as_bytes(), START);
        for len in 0..1500 {
            for request in [
                "get a\r\n",
                "get a b a\r\n",
                "gets b a\r\n",
                "stats\r\n",
                "delete x 5\r\nincr a 1\r\n",
                "stats\r\nstats\r\nstats\r\n",
                "get a\r\nget b\r\nget nothing\r\nversion\r\nget a\r\nget a\r\n",
            ] {
                let asked = request.matches('\n').count();
                // Longer than said, to see what is written behind the end.
                let mut reply = vec![0xee; 1600];
                let answer = s.answer(&datagram(request.as_bytes()), START, &mut reply[..len]);
                assert!(reply[len..].iter().all(|&byte| byte == 0xee));
                match answer {
                    None => assert!(len < MIN_REPLY),
                    Some(n) => {
                        assert!(len >= MIN_REPLY && n <= len && reply[..n].ends_with(b"\r\n"));
                        // Every request has its answer, or the last line says why not.
                        let text = String::from_utf8_lossy(&reply[8..n]);
                        let part =
                            |l: &&str| !["VALUE ", "STAT ", "x"].iter().any(|p| l.starts_with(p));
                        let answers = text.lines().filter(part).count();
                        let cut = text.ends_with("SERVER_ERROR reply too large\r\n");
                        assert!(answers == asked || cut && answers < asked, "{request}: {text}");
                    }
                }
            }
        }
    });
}

#[test]
fn with_too_small_a_buffer_nothing_is_done() {
    with_service(|s| {
        let request = datagram(b"set k 0 0 1\r\n1\r\n");
        assert_eq!(s.answer(&request, START, &mut [0; MIN_REPLY - 1]), None);
        says(s, 0, "get k\r\n", "END\r\n");
        assert!(s.answer(&request, START, &mut [0; MIN_REPLY]).is_some());
        says(s, 0, "get k\r\n", "VALUE k 0 1\r\n1\r\nEND\r\n");
    });
}

#[test]
fn stats_fit_a_datagram_and_can_be_reset() {
    with_service(|s| {
        says(s, 0, "set a 0 0 1\r\n1\r\nget a b\r\n", "STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n");
        let mut reply = [0; MAX_DATAGRAM];
        let len = s.answer(&datagram(b"stats\r\n"), after(5), &mut reply).unwrap();
        let text = std::str::from_utf8(&reply[8..len]).unwrap();
        for line in [
            "STAT uptime 105",
            "STAT time 1700000005",
            "STAT cmd_get 2",
            "STAT get_hits 1",
            "STAT get_misses 1",
            "STAT curr_items 1",
            "STAT limit_maxbytes 4194304",
            "STAT pointer_size 64",
        ] {
            assert!(text.contains(&format!("{line}\r\n")), "{line} in {text}");
        }
        assert!(text.ends_with("\r\nEND\r\n"));
        says(s, 5, "stats reset\r\n", "RESET\r\n");
        let text = ask(s, b"stats\r\n", after(5));
        let text = std::str::from_utf8(&text).unwrap();
        assert!(text.contains("STAT cmd_get 0\r\n") && text.contains("STAT curr_items 1\r\n"));
        says(s, 5, "stats nonsense\r\n", "ERROR\r\n");
    });
}

#[test]
fn memory_is_bounded_and_reusable() {
    let mut memory = vec![0; 2 << 20];
    for _ in 0..2 {
        // The same memory again, full of what was there before.
        let mut s = Service::new(&mut memory, &config()).unwrap();
        says(&mut s, 0, "get 7\r\n", "END\r\n");
        for n in 0..50_000 {
            says(&mut s, 0, &format!("set {n} 0 0 4\r\nabcd\r\n"), "STORED\r\n");
            says(&mut s, 0, &format!("get {n}\r\n"), &format!("VALUE {n} 0 4\r\nabcd\r\nEND\r\n"));
        }
        assert!(s.engine().stats().evictions > 0);
        assert!(s.engine().usage().bytes < 2 << 20);
    }
}
