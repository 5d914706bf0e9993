// Adds up the sums of the parts in their order: an invocation has four columns of a row. Grid: all fours of all groups.
//
// Bindings: 5 scratch, [parts, groups, rows, cols4] vec4<f32>; 2 dweight, 3 dbias: conv_backward_put.wgsl.
#import conv_backward_put

@compute @workgroup_size(WG_SIZE)
fn conv_backward_join(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  let all = params.groups * params.rows * params.cols4;
  if i >= all { return; }
  var sum = scratch[i];
  for (var part = 1u; part < params.parts; part++) { sum += scratch[part * all + i]; }
  let col = i % params.cols4 * 4u;
  let row = i / params.cols4;
  put(row % params.rows, row / params.rows * params.cols + col, min(params.cols - col, 4u), sum);
}
