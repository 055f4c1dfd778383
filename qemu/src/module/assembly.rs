//! The compiler's assembler text, made fit for Linux's ring 0, and checked.
//!
//! rustc aims at programs in ring 3, and at neither of two things that Linux asks of all its
//! code: that returns and indirect jumps go through *thunks* (routines that the kernel
//! makes safe against the processor's speculation, or plain, as it was booted), and that
//! nothing goes through a global offset table, which a module does not have. Both are a
//! matter of single instructions, and changed here, one line of text at a time.
//!
//! What cannot be changed afterwards is refused: vector and floating-point registers, which
//! belong to the program that was interrupted; memory below the stack pointer, which an
//! interrupt overwrites; and frames that are large for a kernel's stack.

use std::collections::BTreeSet;

use anyhow::{Result, bail, ensure};

/// The largest stack frame of a function, in bytes: that of which Linux warns in its own
/// code. Its stacks have 16 KiB.
const LARGEST_FRAME: u32 = 2048;

/// The function that makes the store has it on its stack before it is moved to its place.
/// It runs once, called by the loader with most of a stack free.
const CONSTRUCTOR: (&str, u32) = ("exo_store_new", 10 << 10);

/// Rewrites a whole text (AT&T syntax, as rustc prints it).
///
/// # Errors
/// The first line that has what a module of Linux may not have.
pub(super) fn adapt(text: &str) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    for (number, function) in functions(text) {
        let uses_r11 = function.iter().any(|line| line.contains("%r11"));
        check_frame(&function)?;
        for (offset, line) in function.iter().enumerate() {
            let line = match adapt_line(line, uses_r11).and_then(|line| check(&line).map(|()| line))
            {
                Ok(line) => line,
                Err(error) => bail!("line {}: {error}: {}", number + offset, line.trim()),
            };
            out.push_str(&line);
            out.push('\n');
        }
    }
    Ok(out)
}

/// The names that a text makes known to others.
pub(super) fn globals(text: &str) -> BTreeSet<&str> {
    text.lines().filter_map(|line| line.trim().strip_prefix(".globl\t")).collect()
}

/// The lines of a text in groups, each with the number of its first line. A group begins
/// where a section does, and each function has a section of its own.
fn functions(text: &str) -> Vec<(usize, Vec<&str>)> {
    let mut groups = vec![(1, Vec::new())];
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with(".section") {
            groups.push((index + 1, Vec::new()));
        }
        if let Some((_, group)) = groups.last_mut() {
            group.push(line);
        }
    }
    groups
}

fn adapt_line(line: &str, uses_r11: bool) -> Result<String> {
    let words = line.trim();
    if let Some(section) = words.strip_prefix(".section") {
        return Ok(adapt_section(line, section.trim()));
    }
    let (mnemonic, operands) = words.split_once('\t').unwrap_or((words, ""));
    let through_table =
        |operand: &str| operand.strip_suffix("@GOTPCREL(%rip)").map(ToOwned::to_owned);
    Ok(match (mnemonic, operands.strip_prefix('*')) {
        ("ret" | "retq", _) => {
            ensure!(operands.is_empty(), "a return that takes arguments away");
            "\tjmp\t__x86_return_thunk".to_owned()
        }
        ("call" | "callq" | "jmp" | "jmpq", Some(target)) => {
            let plain = if mnemonic.starts_with("call") { "call" } else { "jmp" };
            if let Some(symbol) = through_table(target) {
                format!("\t{plain}\t{symbol}")
            } else if let Some(register) = target.strip_prefix('%') {
                format!("\t{plain}\t__x86_indirect_thunk_{register}")
            } else {
                // By the calling convention r11 carries nothing into a function; but this
                // may be a jump within one.
                ensure!(
                    plain == "call" || !uses_r11,
                    "a jump through memory in a function that uses r11"
                );
                format!("\tmovq\t{target}, %r11\n\t{plain}\t__x86_indirect_thunk_r11")
            }
        }
        // The assembler knows no jmpq to a symbol.
        ("jmpq", None) => format!("\tjmp\t{operands}"),
        ("movq", None) => match operands.split_once(", ") {
            Some((source, target)) if through_table(source).is_some() => {
                let symbol = through_table(source).unwrap_or_default();
                format!("\tleaq\t{symbol}(%rip), {target}")
            }
            _ => line.to_owned(),
        },
        _ => line.to_owned(),
    })
}

/// All code into `.text`, all constants into `.rodata`: a section for each function would
/// be a section of the module for each.
fn adapt_section(line: &str, section: &str) -> String {
    let (name, rest) = section.split_once(',').unwrap_or((section, ""));
    // In quotes if there are unusual characters in it.
    let name = name.trim_matches('"');
    let kind = [".text.unlikely", ".text"].into_iter().find(|kind| name.starts_with(kind));
    match kind {
        Some(kind) => format!("\t.section\t{kind},{rest}"),
        // Sections whose constants may be merged keep their names: they differ in kind.
        None if name.starts_with(".rodata.") && rest.starts_with("\"a\",") => {
            format!("\t.section\t.rodata,{rest}")
        }
        None => line.to_owned(),
    }
}

/// Refuses what may not be left.
fn check(line: &str) -> Result<()> {
    let line = line.trim();
    if line.starts_with(['.', '#']) || line.ends_with(':') {
        return Ok(());
    }
    ensure!(!line.contains("@GOT"), "needs a global offset table");
    let vector = ["%xmm", "%ymm", "%zmm", "%mm", "%st"].into_iter().find(|r| line.contains(r));
    ensure!(vector.is_none(), "uses a vector or floating-point register");
    ensure!(!below_stack(line), "uses memory below the stack pointer");
    Ok(())
}

/// Refuses a function that takes too much of the stack. Large frames are taken in steps.
fn check_frame(function: &[&str]) -> Result<()> {
    let steps = function.iter().filter_map(|line| {
        let size = line.trim().strip_prefix("subq\t$")?.strip_suffix(", %rsp")?;
        Some(size.parse().unwrap_or(u32::MAX))
    });
    let frame = steps.fold(0, u32::saturating_add);
    let name = function.iter().find_map(|line| line.strip_suffix(':')).unwrap_or("the first lines");
    let most = if name == CONSTRUCTOR.0 { CONSTRUCTOR.1 } else { LARGEST_FRAME };
    ensure!(frame <= most, "{name}: a stack frame of {frame} bytes, more than {most}");
    Ok(())
}

/// Whether an operand is at a negative distance from rsp.
fn below_stack(line: &str) -> bool {
    let before = line.split("(%rsp").collect::<Vec<_>>();
    let places = before.len() - 1;
    before.into_iter().take(places).any(|text| {
        let start = text.rfind([' ', '\t', ',', '*']).map_or(0, |at| at + 1);
        text[start..].starts_with('-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapted(line: &str) -> String {
        let text = adapt(&format!("\t{line}\n")).unwrap();
        text.trim_end().replace("\n\t", "; ").trim().to_owned()
    }

    #[test]
    fn what_linux_wants_otherwise_is_changed() {
        for (line, wanted) in [
            ("retq", "jmp\t__x86_return_thunk"),
            ("callq\t*memcpy@GOTPCREL(%rip)", "call\tmemcpy"),
            ("jmpq\t*memset@GOTPCREL(%rip)", "jmp\tmemset"),
            ("movq\tmemcpy@GOTPCREL(%rip), %r14", "leaq\tmemcpy(%rip), %r14"),
            ("callq\t*%r14", "call\t__x86_indirect_thunk_r14"),
            ("jmpq\t*%rax", "jmp\t__x86_indirect_thunk_rax"),
            ("callq\t*24(%r14)", "movq\t24(%r14), %r11; call\t__x86_indirect_thunk_r11"),
            (
                "jmpq\t*.LJTI7_0(,%rax,8)",
                "movq\t.LJTI7_0(,%rax,8), %r11; jmp\t__x86_indirect_thunk_r11",
            ),
            ("jmpq\tthere", "jmp\tthere"),
            ("jmp\t.LBB0_1", "jmp\t.LBB0_1"),
            ("callq\tthere", "callq\tthere"),
            ("movq\t8(%rsp), %rax", "movq\t8(%rsp), %rax"),
            (".section\t.text.f,\"ax\",@progbits", ".section\t.text,\"ax\",@progbits"),
            (
                ".section\t.text.unlikely.f,\"ax\",@progbits",
                ".section\t.text.unlikely,\"ax\",@progbits",
            ),
            (".section\t\".text.a$b\",\"ax\",@progbits", ".section\t.text,\"ax\",@progbits"),
            (".section\t.rodata..L1,\"a\",@progbits", ".section\t.rodata,\"a\",@progbits"),
            (
                ".section\t.rodata.cst8,\"aM\",@progbits,8",
                ".section\t.rodata.cst8,\"aM\",@progbits,8",
            ),
        ] {
            assert_eq!(adapted(line), wanted);
        }
    }

    #[test]
    fn what_linux_cannot_bear_is_refused() {
        for (line, why) in [
            ("cmpq\tf@GOTPCREL(%rip), %rax", "offset table"),
            ("movups\t(%rsi), %xmm0", "vector"),
            ("vmovdqu\t(%rsi), %ymm3", "vector"),
            ("fstp\t%st(1)", "vector"),
            ("movq\t%rax, -8(%rsp)", "below the stack pointer"),
            ("leaq\t-128(%rsp,%rcx), %rax", "below the stack pointer"),
            ("movq\t-16(%rsp), %rax", "below the stack pointer"),
            ("retq\t$8", "arguments"),
        ] {
            let error = adapt(&format!("\tnop\n\t{line}\n")).unwrap_err().to_string();
            assert!(error.starts_with("line 2: ") && error.contains(why), "{line}: {error}");
        }
        assert!(adapt("\tmovq\t-8(%rbp), %rax\n").is_ok());
    }

    #[test]
    fn large_frames_are_refused_however_they_are_taken() {
        let section = "\t.section\t.text.f,\"ax\",@progbits\n";
        let function = |name: &str, sizes: &[u64]| {
            let steps = sizes.iter().map(|size| format!("\tsubq\t${size}, %rsp\n"));
            adapt(&format!("{section}{name}:\n{}", steps.collect::<String>()))
        };
        assert!(function("f", &[2048]).is_ok());
        for sizes in [&[2056][..], &[1024, 1032], &[4096], &[1 << 32]] {
            let error = function("f", sizes).unwrap_err().to_string();
            assert!(error.starts_with("f: a stack frame"), "{error}");
        }
        assert!(function("exo_store_new", &[4096, 4096]).is_ok());
        assert!(function("exo_store_new", &[4096, 4096, 4096]).is_err());
    }

    #[test]
    fn a_register_in_use_is_not_taken() {
        let section = "\t.section\t.text.f,\"ax\",@progbits\n";
        let jump = "\tjmpq\t*8(%rax)\n";
        assert!(adapt(&format!("{section}{jump}")).is_ok());
        assert!(adapt(&format!("{section}\tmovl\t%r11d, %eax\n{jump}")).is_err());
        assert!(adapt(&format!("\tmovl\t%r11d, %eax\n{section}{jump}")).is_ok());
    }

    #[test]
    fn globals_are_found() {
        let text = "\t.globl\tb\nb:\n\t.globl\ta\n\t.local\tc\n";
        assert_eq!(globals(text).into_iter().collect::<Vec<_>>(), ["a", "b"]);
    }
}
