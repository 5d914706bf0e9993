// The sum of all squared distances that vq_assign_finish has left in scratch, by one workgroup in one order.
//
// Bindings (group 0)
//   2 scratch  as vq_assign_finish
//   7 loss     f32

var<workgroup> part: array<f32, WG_SIZE>;

@compute @workgroup_size(WG_SIZE)
fn vq_assign_loss(@builtin(local_invocation_index) local: u32) {
  var sum = 0.0;
  for (var i = local; i < params.count; i += WG_SIZE) { sum += bitcast<f32>(scratch[params.loss_offset + i]); }
  part[local] = sum;
  workgroupBarrier();
  if local != 0u { return; }
  for (var i = 1u; i < WG_SIZE; i++) { sum += part[i]; }
  loss[params.to] = sum;
}
