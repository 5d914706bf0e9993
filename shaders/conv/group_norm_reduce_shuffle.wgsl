// Joins those of a team, or of its invocations with the same chunks (from `first_step` on), within a subgroup: each of them gets
// the same, joined in the order of lanes. LANES is at most the smallest subgroup size, which is trusted.
fn reduced(own: Acc, local: u32) -> Acc {
  var all = own;
  for (var step = params.first_step; step < LANES; step <<= 1u) {
    let other = shuffled(all, step);
    if (local & step) == 0u { all = joined(all, other); } else { all = joined(other, all); }
  }
  return all;
}
