fn distance_store(i: u32, d: f32) { distance[params.distance_offset + i] = d; }
