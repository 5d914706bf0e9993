// d = op(a) op(b) without workgroup memory: an invocation has THREAD_M rows and THREAD_N columns of d in
// registers, and takes 4 k at a time: THREAD_M + THREAD_N loads of vec4 for 4 * THREAD_M * THREAD_N products.
// Neighbours have neighbouring columns, so that what they load of a is the same for all (a scalar load on a
// CPU, a broadcast on a GPU). Caches do what workgroup memory would.
//
// Constants: TILE_M, TILE_N of a workgroup; THREAD_M, THREAD_N of an invocation; TRANS_A, TRANS_B where loads go
// by fours; GATED; RAGGED. Loads of a: gemm_direct_alone.wgsl, gemm_direct_shuffle.wgsl; of b: gemm_block.wgsl, gemm_packed.wgsl.
// Bindings and the epilogue: gemm_epilogue.wgsl.

const LANES_N: u32 = TILE_N / THREAD_N;
const VECS: u32 = THREAD_N / 4u;
const SUMS: u32 = THREAD_M * VECS;

fn multiply_add(acc: vec4<f32>, x: vec4<f32>, w: mat4x4<f32>) -> vec4<f32> {
  return fma(vec4<f32>(x.w), w[3], fma(vec4<f32>(x.z), w[2], fma(vec4<f32>(x.y), w[1], fma(vec4<f32>(x.x), w[0], acc))));
}

@compute @workgroup_size(WG_SIZE)
fn gemm_direct(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  b_start(ids.invocation);
  let at = place(wg);
  if at.batch >= params.batches { return; }
  // Where all invocations have the same rows, a constant 0 says so.
  let row = at.row + select(ids.invocation / LANES_N, 0u, LANES_N == WG_SIZE) * THREAD_M;
  let col = at.col + ids.invocation % LANES_N * 4u;
  let a0 = a_base(at);
  let b0 = b_base(at);
  let b20 = b2_base(at);

  var acc: array<vec4<f32>, SUMS>;
  var gate_acc: array<vec4<f32>, SUMS>;
  for (var i = 0u; i < SUMS; i++) {
    acc[i] = vec4<f32>(0.0);
    gate_acc[i] = vec4<f32>(0.0);
  }
  var k = at.k_first;
  for (; k + 4u <= at.k_end; k += 4u) {
    var x = a_fetch(a0, row, k, ids);
    for (var v = 0u; v < VECS; v++) {
      let w = b_block(b0, k, col + v * 4u * LANES_N);
      for (var r = 0u; r < THREAD_M; r++) { acc[r * VECS + v] = multiply_add(acc[r * VECS + v], a_row(&x, r), w); }
      if GATED {
        let gate_w = b2_block(b20, k, col + v * 4u * LANES_N);
        for (var r = 0u; r < THREAD_M; r++) {
          gate_acc[r * VECS + v] = multiply_add(gate_acc[r * VECS + v], a_row(&x, r), gate_w);
        }
      }
    }
  }
  // By fours k is a multiple of 4, but where it is RAGGED.
  if VEC == 1u || RAGGED {
    for (; k < at.k_end; k++) {
      for (var v = 0u; v < VECS; v++) {
        let w = b_n4(b0, k, col + v * 4u * LANES_N);
        var gate_w = vec4<f32>(0.0);
        if GATED { gate_w = b2_n4(b20, k, col + v * 4u * LANES_N); }
        for (var r = 0u; r < THREAD_M; r++) {
          var x = 0.0;
          if VEC == 1u { x = a_m4(a0, row + r, k).x; } else { x = a_m4(a0, row + r / 4u * 4u, k)[r % 4u]; }
          acc[r * VECS + v] += x * w;
          if GATED { gate_acc[r * VECS + v] += x * gate_w; }
        }
      }
    }
  }
  for (var r = 0u; r < THREAD_M; r++) {
    for (var v = 0u; v < VECS; v++) {
      finish(at, row + r, col + v * 4u * LANES_N, 4u, acc[r * VECS + v], gate_acc[r * VECS + v]);
    }
  }
}
