// One table only.
fn row_table_chunk(base: u32, c: u32, phase: u32, cols: u32) -> V { return V(0.0); }
