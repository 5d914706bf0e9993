// An interleaved pair lies in two chunks of one element: unweave takes chunks to pairs, weave pairs to chunks.
fn unweave(x: F, y: F) -> Pairs { return Pairs(x, y); }
fn weave(a: F, b: F) -> Pairs { return Pairs(a, b); }
