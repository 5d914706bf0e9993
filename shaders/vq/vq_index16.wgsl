// Code indices of 16 bits, two in a word.
fn code_index(i: u32) -> u32 { return (indices[i >> 1u] >> ((i & 1u) * 16u)) & 0xffffu; }
