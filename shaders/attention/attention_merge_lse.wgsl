fn merged_lse_store(row: u32, value: f32) { lse_out[params.lse_out_offset + row] = value; }
