//! What a filter cannot say, though pcap can, and what to write instead.

use alloc::format;
use core::ops::Range;

use dpf::MAX_FRAME;

use crate::error::Problem;

/// `or`, at `at`.
pub(crate) fn alternative(at: &Range<usize>) -> Problem {
    Problem::new(at, "`or` cannot be said in one filter")
        .instead("a filter is a conjunction: install one filter for each alternative")
}

/// `not`, at `at`.
pub(crate) fn negation(at: &Range<usize>) -> Problem {
    Problem::new(at, "`not` cannot be said in a filter")
        .instead("a filter is a conjunction without negation; install a filter for what is wanted")
}

/// What is said of an address or a port in either direction is two filters.
pub(crate) fn undirected(what: &str, at: &Range<usize>) -> Problem {
    let place = what.rsplit(' ').next().unwrap_or(what);
    let without = if what.contains(" or ") { "" } else { " without a direction" };
    let message = format!("`{what}`{without} means source or destination, which is two filters");
    Problem::new(at, message).instead(format!("write `src {place}` or `dst {place}`"))
}

/// The protocol behind an IPv6 header, as pcap has it.
pub(crate) fn ip6_protocol(number: u8, at: &Range<usize>) -> Problem {
    let message = "a protocol over IPv6 stands behind the header or behind that of a fragment, \
                   which is two filters";
    Problem::new(at, message)
        .instead(format!("write `ip6[6] = {number}` or `ip6[6] = 44 and ip6[40] = {number}`"))
}

pub(crate) fn too_long(at: &Range<usize>) -> Problem {
    let message = format!(
        "no packet is that long: the longest has {MAX_FRAME} bytes, its Ethernet header included"
    );
    Problem::new(at, message)
}

pub(crate) fn shorter(at: &Range<usize>) -> Problem {
    let message = "a filter cannot ask for a short packet, only for a long one";
    Problem::new(at, message).instead("write `len >= n`, or compare a length field: `ip[2:2] < n`")
}

pub(crate) fn ipv6(at: &Range<usize>) -> Problem {
    Problem::new(at, "addresses of IPv6 are not understood").instead(
        "compare their halves: `ip6[8:8]` and `ip6[16:8]` are the source, \
         `ip6[24:8]` and `ip6[32:8]` the destination",
    )
}
