//! Links the kernel for the guest.

include!("../boot/link.rs");

fn main() {
    link_kernel();
}
