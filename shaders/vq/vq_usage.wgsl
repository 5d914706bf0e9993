fn count_use(i: u32) { atomicAdd(&usage[params.usage_offset + i], 1u); }
