// Units that are whole words.
fn k_move(to: u32, source: u32) { k_cache[to] = k_cache[source]; }
fn v_move(to: u32, source: u32) { v_cache[to] = v_cache[source]; }
