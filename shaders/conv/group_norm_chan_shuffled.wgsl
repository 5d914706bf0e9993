// The moments of the invocation whose number differs by this bit.
fn shuffled(a: Acc, bit: u32) -> Acc {
  return Acc(subgroupShuffleXor(a.n, bit), subgroupShuffleXor(a.pivot, bit), subgroupShuffleXor(a.mean, bit),
    subgroupShuffleXor(a.m2, bit));
}
