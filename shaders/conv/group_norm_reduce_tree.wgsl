// Joins those of a team, or of its invocations with the same chunks (from `first_step` on), through workgroup memory: each of them
// gets the same, joined in the order of lanes. Call it once, in uniform control flow.
var<workgroup> held: array<Acc, WG_SIZE>;

fn reduced(own: Acc, local: u32) -> Acc {
  held[local] = own;
  let lane = local % LANES;
  for (var step = params.first_step; step < LANES; step <<= 1u) {
    workgroupBarrier();
    if lane % (2u * step) < params.first_step { held[local] = joined(held[local], held[local + step]); }
  }
  workgroupBarrier();
  return held[local - lane + lane % params.first_step];
}
