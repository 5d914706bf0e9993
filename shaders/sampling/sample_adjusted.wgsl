fn count_of(at: u32) -> u32 { return adjusted[at]; }
fn adjust(at: u32, bits: u32) { adjusted[at] = bits; }
