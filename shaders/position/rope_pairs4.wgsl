// Four interleaved pairs lie in two chunks of four elements: unweave takes chunks to pairs, weave pairs to chunks.
fn unweave(x: F, y: F) -> Pairs { return Pairs(F(x.xz, y.xz), F(x.yw, y.yw)); }
fn weave(a: F, b: F) -> Pairs { return Pairs(F(a.x, b.x, a.y, b.y), F(a.z, b.z, a.w, b.w)); }
