// The gradient of a bias by group: sums of x over the rows of each group, in their order. An invocation has four columns of a group.
// Ranges of rows are those that grouped_gemm.wgsl writes, clamped once more.
//
// Bindings: 0 x [m, cols] by strides; 1 row_ranges, vec4 (.., first row, end, ..): that of group g is number g + 1; 2 dbias, f32
// [groups, cols], written or added to. Loads: lora_rows4.wgsl, lora_rows1.wgsl.
@compute @workgroup_size(WG_SIZE)
fn grouped_gemm_backward_bias(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let fours = (params.cols + 3u) / 4u;
  let i = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  let group = i / fours;
  let col = i % fours * 4u;
  if group >= params.groups { return; }
  let range = row_ranges[group + 1u];
  let end = min(range.z, params.m);
  var sum = vec4<f32>(0.0);
  for (var row = range.y; row < end; row++) { sum += x_four(row, col); }
  let first = params.dbias_offset + group * params.cols + col;
  for (var u = 0u; u < 4u; u++) {
    if col + u < params.cols {
      var v = sum[u];
      if params.add != 0u { v += dbias[first + u]; }
      dbias[first + u] = v;
    }
  }
}
