//! What others have published, with the conditions that they give; none was measured here.

/// A published figure.
pub(super) struct Published {
    /// System, venue and year.
    pub(super) source: &'static str,
    pub(super) figure: &'static str,
    pub(super) conditions: &'static str,
    /// What of this report it may be held against.
    pub(super) beside: &'static str,
}

/// In the order of the questions that they answer.
pub(super) const PUBLISHED: [Published; 9] = [
    Published {
        source: "Unbuckle (dissertation, 2014)",
        figure: "kernel module against the same code in a process: up to 40 % more throughput, 25 % \
                 less latency; about 3 times memcached; 1.9 million small requests a second",
        conditions: "10 GbE",
        beside: "process against module",
    },
    Published {
        source: "Hippos (2014)",
        figure: "memcached as a module: up to 590 % more throughput",
        conditions: "10 GbE, netfilter, socket buffers used again",
        beside: "memcached against module",
    },
    Published {
        source: "BMC (NSDI 2021)",
        figure: "GETs answered in XDP: up to 18 times memcached",
        conditions: "UDP",
        beside: "a cache in XDP, if it is a row",
    },
    Published {
        source: "Arrakis (OSDI 2014)",
        figure: "UDP echo, time in software: 0.38 µs native, 1.44 µs through POSIX calls; Linux 3.36 µs \
                 (6.19 µs from idle)",
        conditions: "10 GbE",
        beside: "the echo floors",
    },
    Published {
        source: "IX (OSDI 2014)",
        figure: "memcached: up to 3.6 times Linux's throughput, less than half the tail latency",
        conditions: "10 and 40 GbE",
        beside: "memcached against exo",
    },
    Published {
        source: "EbbRT (OSDI 2016)",
        figure: "memcached: 2.08 times Linux's throughput",
        conditions: "in a virtual machine",
        beside: "memcached against exo",
    },
    Published {
        source: "Unikraft (EuroSys 2021)",
        figure: "UDP key-value store: 6.0 million requests a second; Linux guest 105,000, batched \
                 276,000",
        conditions: "KVM, raw network device",
        beside: "process against exo",
    },
    Published {
        source: "MICA (NSDI 2014)",
        figure: "65 to 77 million operations a second, about 4.8 million a core",
        conditions: "16 cores, UDP, each core its own partition",
        beside: "exo",
    },
    Published {
        source: "tidwall/cache-benchmarks (raw data)",
        figure: "memcached 1.6.38: 14,172 instructions per operation, pipeline of 1; 5,776, of 50",
        conditions: "arm64, Unix sockets, kernel included, one thread",
        beside: "memcached",
    },
];
