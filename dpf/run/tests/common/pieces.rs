//! All code of an arena, checked piece by piece.

use dpf::Store;
use dpf_run::Arena;

use super::decode::{World, check};

/// What surrounds each piece.
pub(crate) fn world(arena: &Arena) -> World {
    let table = arena.parts().1.buckets();
    World {
        entries: arena.pieces().iter().map(|piece| piece.address).collect(),
        table: table.address,
        bits: table.bits,
    }
}

/// Every piece keeps within its bounds.
pub(crate) fn check_arena(arena: &Arena) {
    let world = world(arena);
    for piece in arena.pieces() {
        check(&piece.bytes, piece.address, &world, false);
    }
}
