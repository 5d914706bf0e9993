// Code indices of 32 bits; a negative one is past every codebook.
fn code_index(i: u32) -> u32 { return indices[i]; }
