fn distance_store(i: u32, d: f32) {}
