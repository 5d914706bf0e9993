// A chunk's moments as those of all its elements, and one of its elements.
fn across(a: Acc) -> Acc { return a; }
fn pick(v: V, k: u32) -> f32 { return v; }
