// Two interleaved pairs lie in two chunks of two elements: unweave takes chunks to pairs, weave pairs to chunks.
fn unweave(x: F, y: F) -> Pairs { return Pairs(F(x.x, y.x), F(x.y, y.y)); }
fn weave(a: F, b: F) -> Pairs { return Pairs(F(a.x, b.x), F(a.y, b.y)); }
