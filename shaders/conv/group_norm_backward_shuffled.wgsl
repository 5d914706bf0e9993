// The sums of the invocation whose number differs by this bit.
fn shuffled(a: Acc, bit: u32) -> Acc { return Acc(subgroupShuffleXor(a.gn, bit), subgroupShuffleXor(a.g, bit)); }
