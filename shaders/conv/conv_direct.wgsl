// A convolution as a product without workgroup memory: rows are the pixels of y, columns its channels, k taps and channels of x; of the
// gradient of the weights rows are taps and channels of x, k pixels (conv_backward_rows.wgsl).
// An invocation has THREAD_M rows and THREAD_N columns in registers, and takes 4 k at a time. Neighbours have neighbouring
// columns, so that what they load of x is the same for all; weights are packed (conv_pack.wgsl), so that columns are loaded by
// fours, whatever the checkpoint's layout. Nothing like im2col is stored: a table says where each k lies under a window.
//
// Constants: TILE_M, TILE_N of a workgroup; THREAD_M, THREAD_N of an invocation; MAPPED; FOURS where x is not read by fours.
// Loads of x: conv_direct_alone.wgsl, conv_direct_shuffle.wgsl. Bindings and the epilogue: conv_finish.wgsl.
#import conv_block

const LANES_N: u32 = TILE_N / THREAD_N;
const VECS: u32 = THREAD_N / 4u;
const SUMS: u32 = THREAD_M * VECS;

fn multiply_add(acc: vec4<f32>, x: vec4<f32>, w: mat4x4<f32>) -> vec4<f32> {
  return fma(vec4<f32>(x.w), w[3], fma(vec4<f32>(x.z), w[2], fma(vec4<f32>(x.y), w[1], fma(vec4<f32>(x.x), w[0], acc))));
}

@compute @workgroup_size(WG_SIZE)
fn conv_direct(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  let at = place(wg);
  if at.part >= params.parts { return; }
  let phase = phase_of(at.part);
  if at.row >= phase.rows { return; }
  // Where all invocations have the same rows, a constant 0 says so.
  let row = at.row + select(ids.invocation / LANES_N, 0u, LANES_N == WG_SIZE) * THREAD_M;
  let col = at.col + ids.invocation % LANES_N * 4u;
  var origins = origins_of(phase, at.group, row, ids);

  var acc: array<vec4<f32>, SUMS>;
  for (var i = 0u; i < SUMS; i++) { acc[i] = vec4<f32>(0.0); }
  k_begin(phase);
  for (var k = phase.first; k < phase.end; k += 4u) {
    k_enter(k);
    var x = x_fetch(&origins, k);
    for (var v = 0u; v < VECS; v++) {
      let w = w_block(at.group, k, col + v * 4u * LANES_N);
      for (var r = 0u; r < THREAD_M; r++) { acc[r * VECS + v] = multiply_add(acc[r * VECS + v], x_row(&x, r), w); }
    }
  }
  var start = start_of(phase, at.part, row);
  var four: Four;
  let blocks = THREAD_M / 4u * VECS + params.never;
  for (var i = 0u; i < blocks; i++) {
    if i % VECS == 0u { four = four_of(phase, &start, row + i / VECS * 4u); }
    finish(at.group, four, col + i % VECS * 4u * LANES_N, block_of(&acc, i));
  }
}
