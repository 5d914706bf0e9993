// The gradient of snake by what it was given: dx = dy (1 + sin(2 alpha x)).
//
// Bindings (group 0): those of snake_backward_sums.wgsl, x and dy absent in place, and
//   9 dx     [a0, a1, a2, cols] by strides
#import group_norm_walk
#import snake_slopes

@compute @workgroup_size(WG_SIZE)
fn snake_backward_apply(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let item = item_of(wg, local);
  for (var l = item; l.line < l.end; l = next_line(l)) {
    let i = l.low + l.at;
    let x = start_of(params.x, i);
    let dy = start_of(params.dy, i);
    let dx = start_of(params.dx, i);
    let phase = phase_of(dx);
    let c_end = min(l.c_end, chunk_count(params.cols, phase));
    for (var c = l.c; c < c_end; c += params.across) {
      let slopes = snake_slopes(four_of(x_chunk(x, c, phase, params.cols)), four_of(alpha_at(i, c, phase)));
      dx_store(dx, c, phase, params.cols, dy_chunk(dy, c, phase, params.cols) * chunk_of(slopes.x));
    }
  }
}
