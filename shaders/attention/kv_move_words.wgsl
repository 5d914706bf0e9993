// Units that are whole words.
fn k_move(to: u32, from: u32) { k_cache[to] = k_cache[from]; }
fn v_move(to: u32, from: u32) { v_cache[to] = v_cache[from]; }
