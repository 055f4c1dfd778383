//! Several stores as one: what clients and proxies are told of them.
//!
//! A store knows of no other. Which one has a key is decided by whatever asks, by consistent hashing
//! (ketama), so that all must have the same list; when one of the stores is gone, its keys are looked
//! for at the others. Written here in the forms that are common.

use std::net::SocketAddr;

/// The stores, in the order in which all name them.
#[derive(Clone, Debug)]
pub struct Lists(Vec<SocketAddr>);

impl Lists {
    /// Those at these addresses.
    #[must_use]
    pub fn new(stores: Vec<SocketAddr>) -> Self {
        Self(stores)
    }

    /// The addresses, with commas.
    #[must_use]
    pub fn plain(&self) -> String {
        self.each(SocketAddr::to_string).join(",")
    }

    /// A client of the Python package `pylibmc`, which is libmemcached.
    #[must_use]
    pub fn pylibmc(&self) -> String {
        format!(
            "pylibmc.Client([{}], behaviors={{\"ketama\": True, \"remove_failed\": 1, \
             \"retry_timeout\": 1}})",
            self.quoted()
        )
    }

    /// A client of the Python package `pymemcache`.
    #[must_use]
    pub fn pymemcache(&self) -> String {
        format!(
            "pymemcache.HashClient([{}], timeout=2, connect_timeout=2, retry_attempts=0, \
             ignore_exc=True)",
            self.quoted()
        )
    }

    /// The configuration of the proxy `nutcracker` (twemproxy), which listens at `listen`.
    #[must_use]
    pub fn nutcracker(&self, listen: SocketAddr) -> String {
        let servers: String = self.0.iter().map(|store| format!("    - {store}:1\n")).collect();
        format!(
            "exo:\n  listen: {listen}\n  hash: fnv1a_64\n  distribution: ketama\n  timeout: 1000\n  \
             auto_eject_hosts: true\n  server_failure_limit: 1\n  server_retry_timeout: 30000\n  \
             servers:\n{servers}"
        )
    }

    fn quoted(&self) -> String {
        self.each(|store| format!("\"{store}\"")).join(", ")
    }

    fn each(&self, form: impl FnMut(&SocketAddr) -> String) -> Vec<String> {
        self.0.iter().map(form).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_have_all_stores_in_one_order() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let lists = Lists::new((11211..11214).map(at).collect());
        assert_eq!(lists.plain(), "127.0.0.1:11211,127.0.0.1:11212,127.0.0.1:11213");
        let quoted = "[\"127.0.0.1:11211\", \"127.0.0.1:11212\", \"127.0.0.1:11213\"]";
        assert!(lists.pylibmc().contains(quoted) && lists.pymemcache().contains(quoted));
        let proxy = lists.nutcracker(at(22121));
        assert!(proxy.contains("  listen: 127.0.0.1:22121\n"), "{proxy}");
        let servers = "  servers:\n    - 127.0.0.1:11211:1\n    - 127.0.0.1:11212:1\n";
        assert!(proxy.contains(servers), "{proxy}");
    }
}
