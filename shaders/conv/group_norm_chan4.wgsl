// A chunk's moments as those of all its elements, and one of its elements.
fn across(a: Acc) -> Acc {
  let half = joined(a, Acc(a.n, a.pivot.zwxy, a.mean.zwxy, a.m2.zwxy));
  let all = joined(half, Acc(half.n, half.pivot.yxwz, half.mean.yxwz, half.m2.yxwz));
  return Acc(all.n, all.pivot.xxxx, all.mean.xxxx, all.m2.xxxx);
}
fn pick(v: V, k: u32) -> f32 { return v[k]; }
