// d = op(a) op(b) with at most THREAD_M rows, or columns. The operand that is not small is called the weights, the other one
// x: where d has few rows (gemm_vector_rows.wgsl), x is a and the weights are b; where it has few columns
// (gemm_vector_columns.wgsl), x is b and the weights are a. Here their names are those of few rows.
//
// The weights are read once: their columns go by fours to groups of LANES invocations, which share k. With ALONG_K the weights
// are stored along k, and neighbours have neighbouring k; else neighbours have neighbouring columns, THREAD_N of them
// each, so that a row of weights is read in runs long enough for memory. The sums of a group's lanes are added through
// workgroup memory, in order. Where GATED, both products are summed side by side.
//
// Constants: THREAD_M, THREAD_N, LANES, ALONG_K, GATED. Bindings and the epilogue: gemm_epilogue.wgsl.

const GROUPS: u32 = WG_SIZE / LANES;
const VECS: u32 = THREAD_N / 4u;
const SUMS: u32 = THREAD_M * VECS;
const STEP: u32 = 4u * GROUPS;  // from a vec4 of columns to the next

var<workgroup> lane_sums: array<vec4<f32>, WG_SIZE>;

// Four columns of the weights from j, four k from k on. ALONG_K: result[c] holds four k of column j + c, else result[u] four
// columns at k + u.
fn weights_block(base: u32, k: u32, j: u32) -> mat4x4<f32> {
  if ALONG_K {
    return mat4x4<f32>(weights_k4(base, k, j), weights_k4(base, k, j + 1u), weights_k4(base, k, j + 2u),
      weights_k4(base, k, j + 3u));
  }
  return mat4x4<f32>(weights_n4(base, k, j), weights_n4(base, k + 1u, j), weights_n4(base, k + 2u, j),
    weights_n4(base, k + 3u, j));
}

// acc plus four k of x times those of w: a sum for each of four columns.
fn multiply_add(acc: vec4<f32>, x: vec4<f32>, w: mat4x4<f32>) -> vec4<f32> {
  if ALONG_K { return acc + vec4<f32>(dot(w[0], x), dot(w[1], x), dot(w[2], x), dot(w[3], x)); }
  return fma(w[3], vec4<f32>(x.w), fma(w[2], vec4<f32>(x.z), fma(w[1], vec4<f32>(x.y), fma(w[0], vec4<f32>(x.x), acc))));
}

// The sum over LANES of a group, valid in lane 0.
fn over_lanes(own: vec4<f32>, local: u32, lane: u32) -> vec4<f32> {
  var sum = own;
  if LANES > 1u {
    workgroupBarrier();
    lane_sums[local] = own;
    workgroupBarrier();
    if lane == 0u {
      for (var o = 1u; o < LANES; o++) { sum += lane_sums[local + o * select(GROUPS, 1u, ALONG_K)]; }
    }
  }
  return sum;
}

@compute @workgroup_size(WG_SIZE)
fn gemm_vector(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let at = place(wg);
  if at.batch >= params.batches { return; } // uniform: a whole workgroup
  // Without lanes a constant 0 says that all have the same k.
  var lane = select(local / GROUPS, 0u, LANES == 1u);
  var group = local % GROUPS;
  if ALONG_K {
    lane = local % LANES;
    group = local / LANES;
  }
  let row = x_first(at);
  let col = weights_first(at) + 4u * group;
  let x0 = x_base(at);
  let w0 = weights_base(at);
  let b20 = b2_base(at);

  var acc: array<vec4<f32>, SUMS>;
  var gate_acc: array<vec4<f32>, SUMS>;
  for (var i = 0u; i < SUMS; i++) {
    acc[i] = vec4<f32>(0.0);
    gate_acc[i] = vec4<f32>(0.0);
  }
  var k = at.k_first + 4u * lane;
  for (; k + 4u <= at.k_end; k += 4u * LANES) {
    var x: array<vec4<f32>, THREAD_M>;
    var gate_x: array<vec4<f32>, THREAD_M>;
    for (var r = 0u; r < THREAD_M; r++) {
      x[r] = x_k4(x0, row + r, k);
      if GATED { gate_x[r] = gate_x_k4(x[r], b20, row + r, k); }
    }
    for (var v = 0u; v < VECS; v++) {
      let w = weights_block(w0, k, col + v * STEP);
      for (var r = 0u; r < THREAD_M; r++) { acc[r * VECS + v] = multiply_add(acc[r * VECS + v], x[r], w); }
      if GATED {
        let gate_w = gate_weights(w, b20, k, col + v * STEP);
        for (var r = 0u; r < THREAD_M; r++) {
          gate_acc[r * VECS + v] = multiply_add(gate_acc[r * VECS + v], gate_x[r], gate_w);
        }
      }
    }
  }
  if VEC == 1u {
    for (; k < at.k_end; k++) { // at most 3, of one lane
      for (var v = 0u; v < VECS; v++) {
        let w = weights_n4(w0, k, col + v * STEP);
        for (var r = 0u; r < THREAD_M; r++) {
          let x = x_k1(x0, row + r, k);
          acc[r * VECS + v] += w * x;
          if GATED {
            gate_acc[r * VECS + v] += gate_weights_n4(w, b20, k, col + v * STEP) * gate_x_k1(x, b20, row + r, k);
          }
        }
      }
    }
  }

  for (var i = 0u; i < SUMS; i++) {
    let sum = over_lanes(acc[i], local, lane);
    var gate_sum = vec4<f32>(0.0);
    if GATED { gate_sum = over_lanes(gate_acc[i], local, lane); }
    if lane == 0u { store_sums(at, row + i / VECS, col + i % VECS * STEP, sum, gate_sum); }
  }
}
