// dq has a walk of its own.
fn keep_ds(u: u32, g: ptr<function, array<f32, SCORES>>, ids: Ids) {}
fn add_dq(walk: Walk, own: ptr<function, Owned>, first: i32, ids: Ids) {}
