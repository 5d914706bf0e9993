// Indices out of range are counted; the order of integer sums does not matter.
fn note_bad() { atomicAdd(&bad[params.bad_offset], 1u); }
