// The target's own token at a place.
fn drawn_of(row: u32, place: u32) -> u32 { return drawn[params.drawn_offset + row * (params.len + 1u) + place]; }
