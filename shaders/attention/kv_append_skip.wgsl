// Counts a token whose slot does not exist.
fn skip() { atomicAdd(&skipped[params.skipped_offset], 1u); }
