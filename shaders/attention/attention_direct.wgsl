// k and v are read where they lie.

fn stage(s: Sequence, first: u32, last: u32, ids: Ids) {}
fn staged_place(s: Sequence, u: u32, key: u32) -> Place { return place(s, key); }
fn k_fetch(t: u32, p: Place, ids: Ids) {}
fn v_fetch(t: u32, p: Place, ids: Ids) {}
fn k_at(t: u32, p: Place, c: u32) -> vec4<f32> { return k4(p.k, c); }
fn v_at(t: u32, p: Place, c: u32) -> vec4<f32> { return v4(p.v, c); }
