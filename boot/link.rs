// How a program that runs in the guest is linked. Included by the build scripts
// of the applications: `include!("../../boot/link.rs")`.

/// Has the package's programs linked without a C library, at the addresses that
/// `app.ld` gives.
///
/// Does nothing on the host: only the `exo` command sets `cfg(exo_guest)`.
fn link_application() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CARGO_CFG_EXO_GUEST");
    if std::env::var_os("CARGO_CFG_EXO_GUEST").is_none() {
        return;
    }
    let package = std::env::var("CARGO_MANIFEST_DIR").expect("cargo names the package");
    let script = std::path::Path::new(&package).join("../../boot/app.ld");
    println!("cargo:rerun-if-changed={}", script.display());
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
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rustc-link-arg-bins=-Wl,-T,{}", script.display());
}
