// Whether the element of a chunk is kept, of a row whose first is element `first`.
fn kept_of(first: u32, c: u32, phase: u32) -> Live { return is_kept(first + c); }
