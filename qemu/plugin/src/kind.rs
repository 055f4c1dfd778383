//! The instructions that are counted apart (SDM vol. 2, chapters 2 and 3).

/// What an instruction is, as far as counting goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// `hlt`
    Halt,
    /// `syscall`
    Call,
    /// `iretq`
    InterruptReturn,
    /// A string instruction with a repeat prefix: executed once for each round.
    Repeated,
    Other,
}

impl Kind {
    /// The kind of the instruction with these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0xf4] => Self::Halt,
            [0x0f, 0x05] => Self::Call,
            [0x48, 0xcf] => Self::InterruptReturn,
            _ if is_repeated(bytes) => Self::Repeated,
            _ => Self::Other,
        }
    }
}

/// Legacy prefixes in any order, a REX prefix at most, and then `ins`, `outs`, `movs`,
/// `cmps`, `stos`, `lods` or `scas`.
fn is_repeated(bytes: &[u8]) -> bool {
    let is_prefix =
        |byte: &u8| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3);
    let prefixes = bytes.iter().take_while(|byte| is_prefix(byte)).count();
    let (prefixes, rest) = bytes.split_at(prefixes);
    let opcode = match rest {
        [0x40..=0x4f, opcode] | [opcode] => *opcode,
        _ => return false,
    };
    let repeats = prefixes.iter().any(|byte| matches!(byte, 0xf2 | 0xf3));
    repeats && matches!(opcode, 0x6c..=0x6f | 0xa4..=0xa7 | 0xaa..=0xaf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_repeated_instructions_from_others() {
        for bytes in [
            &[0xf3, 0xa4][..],               // rep movsb
            &[0xf3, 0x48, 0xa5],             // rep movsq
            &[0xf3, 0x48, 0xab],             // rep stosq
            &[0x66, 0xf3, 0xa5],             // rep movsw
            &[0xf2, 0xae],                   // repne scasb
            &[0x67, 0xf3, 0x66, 0x48, 0x6d], // whatever the order
        ] {
            assert_eq!(Kind::of(bytes), Kind::Repeated, "{bytes:x?}");
        }
        for bytes in [
            &[0xa4][..],               // movsb
            &[0xf3, 0x90],             // pause
            &[0xf3, 0xc3],             // rep ret
            &[0xf3, 0x0f, 0x6f, 0xa5], // movdqu
            &[0x48, 0xa5],
            &[],
        ] {
            assert_eq!(Kind::of(bytes), Kind::Other, "{bytes:x?}");
        }
        assert_eq!(Kind::of(&[0x48, 0xcf]), Kind::InterruptReturn);
    }
}
