//! How programs of the guest are linked (`boot/link.rs`), below a folder whose name would be
//! taken apart if it were quoted badly.

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn links_below_any_folder() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("a,b 'c\" $d");
    let boot = Path::new(env!("CARGO_MANIFEST_DIR")).join("../boot");
    for folder in ["boot", "exo/src"] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    fs::copy(boot.join("link.rs"), tree.join("boot/link.rs")).unwrap();
    let write = |name: &str, text: &str| fs::write(tree.join(name), text).unwrap();
    write("boot/kernel.ld", "ENTRY(_start) SECTIONS { . = 0x123000; .text : { KEEP(*(.text*)) } }");
    write(
        "exo/Cargo.toml",
        "[package]\nname = \"linked\"\nedition = \"2024\"\n[workspace]\n\
         [profile.dev]\npanic = \"abort\"\n",
    );
    write("exo/build.rs", "include!(\"../boot/link.rs\");\nfn main() { link_kernel(); }\n");
    write(
        "exo/src/main.rs",
        "#![no_std]\n#![no_main]\n#[unsafe(no_mangle)]\nextern \"C\" fn _start() -> ! { loop {} }\n\
         #[panic_handler]\nfn panic(_: &core::panic::PanicInfo<'_>) -> ! { loop {} }\n",
    );
    let target = dir.path().join("target");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--offline", "--target", "x86_64-unknown-linux-gnu", "--target-dir"]);
    cargo.arg(&target).current_dir(tree.join("exo")).env("RUSTFLAGS", "--cfg exo_guest");
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let elf = fs::read(target.join("x86_64-unknown-linux-gnu/debug/linked")).unwrap();
    let entry = u64::from_le_bytes(elf[24..32].try_into().unwrap());
    assert_eq!(entry & !0xfff, 0x12_3000, "linked by another script");
}
