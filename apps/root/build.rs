//! Links the guest program.

include!("../../boot/link.rs");

fn main() {
    link_application();
}
