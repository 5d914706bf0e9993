// The log-sum-exp of a row, natural logarithm.
fn lse_store(row: u32, value: f32) { lse[params.lse_offset + row] = value; }
