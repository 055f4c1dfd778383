//! Links the program for the guest.

include!("../../boot/link.rs");

fn main() {
    link_application();
}
