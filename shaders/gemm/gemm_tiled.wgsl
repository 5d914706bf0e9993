// d = op(a) op(b) through workgroup memory: a workgroup has TILE_M x TILE_N of d and takes TILE_K of k at a time; an
// invocation has THREAD_M x THREAD_N of it in registers. Both tiles are stored k by k as f32, so that an
// invocation reads runs of rows and of columns; a is padded by 4, which keeps the writes of its transpose apart.
// With STAGES 2 the next tiles are loaded while these are worked on, for one barrier instead of two.
//
// Constants: TILE_M, TILE_N, TILE_K, THREAD_M, THREAD_N, STAGES; TRANS_A, TRANS_B where loads go by fours; GATED.
// Bindings and the epilogue: gemm_epilogue.wgsl.

const LANES_N: u32 = TILE_N / THREAD_N;
const VECS: u32 = THREAD_N / 4u;
const SUMS: u32 = THREAD_M * VECS;
const A_ROW: u32 = TILE_M + 4u;
const A_TILE: u32 = TILE_K * A_ROW;
const B_ROW: u32 = TILE_N + 4u;
const B_TILE: u32 = TILE_K * B_ROW;

var<workgroup> a_tile: array<f32, STAGES * A_TILE>;
var<workgroup> b_tile: array<f32, STAGES * B_TILE>;
// Of b2, where GATED.
var<workgroup> gate_tile: array<f32, select(1u, STAGES * B_TILE, GATED)>;

// Loads the tiles that start at k0 into buffer `stage`, with zeros from `k_end` on.
fn load_tiles(at: Place, k0: u32, stage: u32, local: u32) {
  let a0 = a_base(at);
  let b0 = b_base(at);
  let b20 = b2_base(at);
  for (var i = local; i < TILE_M * TILE_K / 4u; i += WG_SIZE) {
    if TRANS_A {
      let row = i % (TILE_M / 4u) * 4u;
      let k = i / (TILE_M / 4u);
      var x = vec4<f32>(0.0);
      if k0 + k < at.k_end { x = a_m4(a0, at.row + row, k0 + k); }
      let to = stage * A_TILE + k * A_ROW + row;
      a_tile[to] = x.x;
      a_tile[to + 1u] = x.y;
      a_tile[to + 2u] = x.z;
      a_tile[to + 3u] = x.w;
    } else {
      let k = i % (TILE_K / 4u) * 4u;
      let row = i / (TILE_K / 4u);
      var x = vec4<f32>(0.0);
      if k0 + k + 4u <= at.k_end {
        x = a_k4(a0, at.row + row, k0 + k);
      } else if VEC == 1u {
        if k0 + k < at.k_end { x.x = a_m4(a0, at.row + row, k0 + k).x; }
        if k0 + k + 1u < at.k_end { x.y = a_m4(a0, at.row + row, k0 + k + 1u).x; }
        if k0 + k + 2u < at.k_end { x.z = a_m4(a0, at.row + row, k0 + k + 2u).x; }
      }
      let to = stage * A_TILE + k * A_ROW + row;
      a_tile[to] = x.x;
      a_tile[to + A_ROW] = x.y;
      a_tile[to + 2u * A_ROW] = x.z;
      a_tile[to + 3u * A_ROW] = x.w;
    }
  }
  for (var i = local; i < TILE_N * TILE_K / 4u; i += WG_SIZE) {
    if TRANS_B {
      let k = i % (TILE_K / 4u) * 4u;
      let col = i / (TILE_K / 4u);
      var w = vec4<f32>(0.0);
      var gate_w = vec4<f32>(0.0);
      if k0 + k < at.k_end {
        w = b_k4(b0, k0 + k, at.col + col);
        if GATED { gate_w = b2_k4(b20, k0 + k, at.col + col); }
      }
      let to = stage * B_TILE + k * B_ROW + col;
      for (var u = 0u; u < 4u; u++) {
        b_tile[to + u * B_ROW] = w[u];
        if GATED { gate_tile[to + u * B_ROW] = gate_w[u]; }
      }
    } else {
      let col = i % (TILE_N / 4u) * 4u;
      let k = i / (TILE_N / 4u);
      var w = vec4<f32>(0.0);
      var gate_w = vec4<f32>(0.0);
      if k0 + k < at.k_end {
        w = b_n4(b0, k0 + k, at.col + col);
        if GATED { gate_w = b2_n4(b20, k0 + k, at.col + col); }
      }
      let to = stage * B_TILE + k * B_ROW + col;
      for (var u = 0u; u < 4u; u++) {
        b_tile[to + u] = w[u];
        if GATED { gate_tile[to + u] = gate_w[u]; }
      }
    }
  }
}

@compute @workgroup_size(WG_SIZE)
fn gemm_tiled(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  b_start(local);
  let at = place(wg);
  if at.batch >= params.batches { return; } // uniform: a whole workgroup
  let row = local / LANES_N * THREAD_M;
  let col = local % LANES_N * 4u;

  var acc: array<vec4<f32>, SUMS>;
  var gate_acc: array<vec4<f32>, SUMS>;
  for (var i = 0u; i < SUMS; i++) {
    acc[i] = vec4<f32>(0.0);
    gate_acc[i] = vec4<f32>(0.0);
  }
  var stage = 0u;
  if STAGES == 2u { load_tiles(at, at.k_first, 0u, local); }
  for (var k0 = at.k_first; k0 < at.k_end; k0 += TILE_K) {
    if STAGES == 1u { load_tiles(at, k0, 0u, local); }
    workgroupBarrier();
    if STAGES == 2u && k0 + TILE_K < at.k_end { load_tiles(at, k0 + TILE_K, 1u - stage, local); }
    for (var k = 0u; k < TILE_K; k++) {
      let a0 = stage * A_TILE + k * A_ROW + row;
      for (var v = 0u; v < VECS; v++) {
        let b0 = stage * B_TILE + k * B_ROW + col + v * 4u * LANES_N;
        let w = vec4<f32>(b_tile[b0], b_tile[b0 + 1u], b_tile[b0 + 2u], b_tile[b0 + 3u]);
        for (var r = 0u; r < THREAD_M; r++) { acc[r * VECS + v] = fma(vec4<f32>(a_tile[a0 + r]), w, acc[r * VECS + v]); }
        if GATED {
          let gate_w = vec4<f32>(gate_tile[b0], gate_tile[b0 + 1u], gate_tile[b0 + 2u], gate_tile[b0 + 3u]);
          for (var r = 0u; r < THREAD_M; r++) {
            gate_acc[r * VECS + v] = fma(vec4<f32>(a_tile[a0 + r]), gate_w, gate_acc[r * VECS + v]);
          }
        }
      }
    }
    if STAGES == 1u { workgroupBarrier(); } else { stage = 1u - stage; }
  }
  for (var i = 0u; i < SUMS; i++) {
    // The loop is long: where it is not unrolled, only indices that are constant keep the sums in registers.
    var sum = acc[0];
    var gate_sum = gate_acc[0];
    for (var o = 1u; o < SUMS; o++) {
      if o == i {
        sum = acc[o];
        gate_sum = gate_acc[o];
      }
    }
    finish(at, at.row + row + i / VECS, at.col + col + i % VECS * 4u * LANES_N, 4u, sum, gate_sum);
  }
}
