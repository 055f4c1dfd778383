// How a program that runs in the guest is linked. Included by build scripts:
// `include!("../boot/link.rs")`. On the host, where `cfg(exo_guest)` is not set,
// nothing of it applies.

/// Has the package's programs linked as applications, at the addresses that
/// `apps/app.ld` gives.
#[allow(dead_code)]
fn link_application() {
    link("../../apps/app.ld");
}

/// The same for an application that others visit: `apps/domain.ld`.
#[allow(dead_code)]
fn link_domain() {
    link("../../apps/domain.ld");
}

/// The same for a package outside of the tree, which is `tree`.
#[allow(dead_code)]
fn link_application_of(tree: &str) {
    link(&format!("{tree}/apps/app.ld"));
}

/// Has the package's programs linked as the kernel (`boot/kernel.ld`).
#[allow(dead_code)]
fn link_kernel() {
    link("../boot/kernel.ld");
}

/// Links without a C library, at the addresses that `script` gives.
fn link(script: &str) {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CARGO_CFG_EXO_GUEST");
    if std::env::var_os("CARGO_CFG_EXO_GUEST").is_none() {
        return;
    }
    let package = std::env::var("CARGO_MANIFEST_DIR").expect("cargo names the package");
    let script = std::path::Path::new(&package).join(script);
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
    // Two arguments, not `-Wl,-T,…`: that is split at commas, and a path may hold some.
    println!("cargo:rustc-link-arg-bins=-T");
    println!("cargo:rustc-link-arg-bins={}", script.display());
}
