//! All code of an arena, followed from its entry.

use dpf::Store;
use dpf_run::Arena;

use super::decode::{World, check_all};

pub(crate) fn check_arena(arena: &Arena) {
    let table = arena.parts().1.buckets();
    let world = World {
        entries: arena.pieces().iter().map(|piece| piece.address).collect(),
        nodes: arena.nodes(),
        distance: table.distance,
        bits: table.bits,
    };
    check_all(&arena.pieces(), arena.entry(), &world);
}
