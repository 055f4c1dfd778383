//! Links the kernel's binary at its address, when it is built for the guest.

fn main() {
    println!("cargo:rerun-if-changed=../boot/kernel.ld");
    if std::env::var_os("CARGO_CFG_EXO_GUEST").is_none() {
        return;
    }
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    for argument in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
        "-Wl,-z,max-page-size=4096",
        "-Wl,-z,noexecstack",
        "-Wl,-z,norelro",
        "-Wl,--gc-sections",
        &format!("-Wl,-T,{root}/../boot/kernel.ld"),
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
