fn lane_of(v: V, lane: u32) -> f32 { return v[lane]; }
