fn indices_load(i: u32) -> u32 { return indices[i]; }
