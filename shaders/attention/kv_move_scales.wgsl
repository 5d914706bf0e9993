// Scales of codes.
fn k_scale_move(to: u32, source: u32) { k_scale[params.k_scale_offset + to] = k_scale[params.k_scale_offset + source]; }
fn v_scale_move(to: u32, source: u32) { v_scale[params.v_scale_offset + to] = v_scale[params.v_scale_offset + source]; }
