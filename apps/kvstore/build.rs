//! Links the program for the guest.

include!("../../boot/link.rs");

fn main() {
    // Clients on the same machine may visit it.
    link_domain();
}
