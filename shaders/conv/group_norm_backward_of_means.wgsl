// Means over a set, of g n and of g.
fn slope_of(s: u32) -> f32 { return means_of_sets[s]; }
fn center_of(s: u32) -> f32 { return means_of_sets[params.sets + s]; }
