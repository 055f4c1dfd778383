//! The code of merged filters, as text.

use std::fmt::Write;

use dpf_run::{Arena, Piece};
use iced_x86::{Decoder, DecoderOptions, FlowControl, Formatter, Instruction, IntelFormatter};

/// All code, in pieces as the owners of the filters brought room for them. Where a piece
/// goes on in another, that is named; other addresses count from the piece's start.
pub(super) fn listing(arena: &Arena) -> String {
    let mut pieces = arena.pieces();
    // The one that a packet comes to first is shown first.
    pieces.sort_by_key(|piece| (Some(piece.address) != arena.entry(), piece.address));
    let bytes: usize = pieces.iter().map(|piece| piece.bytes.len()).sum();
    let mut out = format!(
        "code: {} pieces, {bytes} bytes; rdi: frame, rsi: its length, rdx: rank of the best so \
         far, rcx: nodes\n",
        pieces.len()
    );
    for (number, piece) in pieces.iter().enumerate() {
        _ = writeln!(out, "piece {number}, {} bytes", piece.bytes.len());
        for instruction in Decoder::with_ip(64, &piece.bytes, piece.address, DecoderOptions::NONE) {
            let offset = instruction.ip() - piece.address;
            _ = writeln!(out, "  {offset:02x}  {}", text(&instruction, piece, &pieces));
        }
    }
    out
}

fn text(instruction: &Instruction, piece: &Piece, pieces: &[Piece]) -> String {
    let mut formatter = IntelFormatter::new();
    let mut text = String::new();
    let jumps = matches!(
        instruction.flow_control(),
        FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch | FlowControl::Call
    );
    if !jumps {
        formatter.format(instruction, &mut text);
        return text;
    }
    formatter.format_mnemonic(instruction, &mut text);
    let target = instruction.near_branch_target();
    let within = target.wrapping_sub(piece.address);
    let to = pieces.iter().position(|other| other.address == target);
    _ = match to {
        Some(number) => write!(text, " piece {number}"),
        None if within <= piece.bytes.len() as u64 => write!(text, " +{within:02x}"),
        None => write!(text, " {target:#x}"),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use dpf::Tag;

    #[test]
    fn code_is_decoded_to_its_end() {
        let mut arena = Arena::new(2);
        for (port, tag) in [(53, 1), (80, 2)] {
            let filter = dpf::packet::udp_to([10, 0, 2, 15], port);
            arena.install(&filter, Tag(tag)).unwrap();
        }
        let text = listing(&arena);
        assert!(text.starts_with("code: "), "{text}");
        assert!(text.contains("\npiece 0, ") && text.contains(" piece 1\n"), "{text}");
        assert!(text.trim_end().ends_with("ret") || text.contains("  ret"), "{text}");
        assert!(!text.contains("(bad)"), "{text}");
    }
}
