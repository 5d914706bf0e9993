// A convolution as a product through workgroup memory: rows are the pixels of y, columns its channels, k taps and channels of x; of the
// gradient of the weights rows are taps and channels of x, k pixels (conv_backward_rows.wgsl).
// A workgroup has TILE_M x TILE_N of y and takes TILE_K of k at a time; an invocation has THREAD_M x THREAD_N of it in
// registers, rows and columns by fours. Where channels are last, neighbours load neighbouring k and store neighbouring
// columns; else they load and store neighbouring pixels. Each invocation loads the same rows for every k, so that their windows
// are found once. The tile of x is stored k by k, padded by 4.
//
// Constants: TILE_M, TILE_N, TILE_K, THREAD_M, THREAD_N; CHANNELS_LAST; MAPPED; FOURS where x is not read by fours.
// Bindings and the epilogue: conv_finish.wgsl.
#import conv_block

const LANES_M: u32 = TILE_M / THREAD_M;
const LANES_N: u32 = TILE_N / THREAD_N;
const QUADS: u32 = THREAD_M / 4u;
const VECS: u32 = THREAD_N / 4u;
const SUMS: u32 = THREAD_M * VECS;
const X_ROW: u32 = TILE_M + 4u;
const X_FOURS: u32 = TILE_M * TILE_K / 4u;
const X_LOADS: u32 = (X_FOURS + WG_SIZE - 1u) / WG_SIZE;
const W_ROW: u32 = TILE_N / 4u;

var<workgroup> x_tile: array<f32, TILE_K * X_ROW>;
var<workgroup> w_tile: array<vec4<f32>, TILE_K * W_ROW>;

// The row and the four k of a load.
fn load_row(i: u32) -> u32 { return select(i % TILE_M, i / (TILE_K / 4u), CHANNELS_LAST); }
fn load_k(i: u32) -> u32 { return select(i / TILE_M, i % (TILE_K / 4u), CHANNELS_LAST) * 4u; }

@compute @workgroup_size(WG_SIZE)
fn conv_tiled(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let at = place(wg);
  if at.part >= params.parts { return; } // uniform: a whole workgroup
  let phase = phase_of(at.part);
  if at.row >= phase.rows { return; }
  let m = select(local % LANES_M, local / LANES_N, CHANNELS_LAST);
  let n = select(local / LANES_M, local % LANES_N, CHANNELS_LAST);
  var origins: array<Origin, X_LOADS>;
  for (var l = 0u; l < X_LOADS; l++) { origins[l] = origin_of(phase, at.group, at.row + load_row(local + l * WG_SIZE)); }

  var acc: array<vec4<f32>, SUMS>;
  for (var i = 0u; i < SUMS; i++) { acc[i] = vec4<f32>(0.0); }
  for (var k0 = phase.first; k0 < phase.end; k0 += TILE_K) {
    for (var l = 0u; l < X_LOADS; l++) {
      let i = local + l * WG_SIZE;
      if i < X_FOURS {
        let k = load_k(i);
        var x = vec4<f32>(0.0);
        if k0 + k < phase.end { x = x_k4(origins[l], k0 + k); }
        let to = k * X_ROW + load_row(i);
        x_tile[to] = x.x;
        x_tile[to + X_ROW] = x.y;
        x_tile[to + 2u * X_ROW] = x.z;
        x_tile[to + 3u * X_ROW] = x.w;
      }
    }
    for (var i = local; i < TILE_K * W_ROW; i += WG_SIZE) {
      let k = k0 + i / W_ROW;
      var w = vec4<f32>(0.0);
      if k < phase.end { w = w_four(at.group, k, at.col + i % W_ROW * 4u); }
      w_tile[i] = w;
    }
    workgroupBarrier();
    for (var k = 0u; k < TILE_K; k++) {
      for (var q = 0u; q < QUADS; q++) {
        let x0 = k * X_ROW + (q * LANES_M + m) * 4u;
        let x = vec4<f32>(x_tile[x0], x_tile[x0 + 1u], x_tile[x0 + 2u], x_tile[x0 + 3u]);
        for (var v = 0u; v < VECS; v++) {
          let w = w_tile[k * W_ROW + v * LANES_N + n];
          for (var u = 0u; u < 4u; u++) {
            let i = (q * 4u + u) * VECS + v;
            acc[i] = fma(vec4<f32>(x[u]), w, acc[i]);
          }
        }
      }
    }
    workgroupBarrier();
  }
  let blocks = QUADS * VECS + params.never;
  for (var i = 0u; i < blocks; i++) {
    let row = at.row + (i / VECS * LANES_M + m) * 4u;
    var start = start_of(phase, at.part, row);
    finish(at.group, four_of(phase, &start, row), at.col + (i % VECS * LANES_N + n) * 4u, block_of(&acc, i));
  }
}
