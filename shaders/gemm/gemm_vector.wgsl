// d = op(a) op(b) with at most THREAD_M rows (SWAP: columns). The weights are the operand that is not small: b, or a where
// SWAP. They are read once: their columns (SWAP: the rows of a) go by fours to groups of LANES invocations, which share k.
// Where GATED, b and b2 are read side by side.
//
// With ALONG_K the weights are stored along k, and neighbours have neighbouring k; else neighbours have neighbouring
// columns, THREAD_N of them each, so that a row of weights is read in runs long enough for memory. The sums of a
// group's lanes are added through workgroup memory, in order.
//
// Constants: THREAD_M, THREAD_N, LANES, ALONG_K, SWAP, GATED. Bindings and the epilogue: gemm_epilogue.wgsl.
#import gemm_tile

const GROUPS: u32 = WG_SIZE / LANES;
const VECS: u32 = THREAD_N / 4u;
const SUMS: u32 = THREAD_M * VECS;
const STEP: u32 = 4u * GROUPS;  // from a vec4 of columns to the next

var<workgroup> sums: array<vec4<f32>, WG_SIZE>;

// Four k from l of row (SWAP: column) i of the small operand.
fn x_k4(base: u32, i: u32, l: u32) -> vec4<f32> {
  if SWAP {
    if TRANS_B || VEC == 1u { return b_k4(base, l, i); }
    let at = base + l * params.b.w + min(i, params.n - 1u);
    return vec4<f32>(b_at(at), b_at(at + params.b.w), b_at(at + 2u * params.b.w), b_at(at + 3u * params.b.w));
  }
  if !TRANS_A || VEC == 1u { return a_k4(base, i, l); }
  let at = base + l * params.a.w + min(i, params.m - 1u);
  return vec4<f32>(a_at(at), a_at(at + params.a.w), a_at(at + 2u * params.a.w), a_at(at + 3u * params.a.w));
}

// The same of b2, where b and b2 are the small operands.
fn x2_k4(base: u32, i: u32, l: u32) -> vec4<f32> {
  if TRANS_B || VEC == 1u { return b2_k4(base, l, i); }
  let at = base + l * params.b2.w + min(i, params.n - 1u);
  return vec4<f32>(b2_at(at), b2_at(at + params.b2.w), b2_at(at + 2u * params.b2.w), b2_at(at + 3u * params.b2.w));
}

// Four columns of the weights from j, four k from l. ALONG_K: result[c] holds four k of column j + c, else result[u] four
// columns at k = l + u.
fn w_block(base: u32, l: u32, j: u32) -> mat4x4<f32> {
  if !ALONG_K { return mat4x4<f32>(w_n4(base, l, j), w_n4(base, l + 1u, j), w_n4(base, l + 2u, j), w_n4(base, l + 3u, j)); }
  if SWAP { return mat4x4<f32>(a_k4(base, j, l), a_k4(base, j + 1u, l), a_k4(base, j + 2u, l), a_k4(base, j + 3u, l)); }
  return mat4x4<f32>(b_k4(base, l, j), b_k4(base, l, j + 1u), b_k4(base, l, j + 2u), b_k4(base, l, j + 3u));
}
fn w2_block(base: u32, l: u32, j: u32) -> mat4x4<f32> {
  if ALONG_K { return mat4x4<f32>(b2_k4(base, l, j), b2_k4(base, l, j + 1u), b2_k4(base, l, j + 2u), b2_k4(base, l, j + 3u)); }
  return mat4x4<f32>(b2_n4(base, l, j), b2_n4(base, l + 1u, j), b2_n4(base, l + 2u, j), b2_n4(base, l + 3u, j));
}

// s plus four k of x times those of w: a sum for each of four columns.
fn step(s: vec4<f32>, x: vec4<f32>, w: mat4x4<f32>) -> vec4<f32> {
  if ALONG_K { return s + vec4<f32>(dot(w[0], x), dot(w[1], x), dot(w[2], x), dot(w[3], x)); }
  return fma(w[3], vec4<f32>(x.w), fma(w[2], vec4<f32>(x.z), fma(w[1], vec4<f32>(x.y), fma(w[0], vec4<f32>(x.x), s))));
}

// Four columns of the weights at one l.
fn w_n4(base: u32, l: u32, j: u32) -> vec4<f32> {
  if SWAP { return a_m4(base, j, l); }
  return b_n4(base, l, j);
}

// One k of row (SWAP: column) i of the small operand.
fn x_one(base: u32, i: u32, l: u32) -> f32 {
  if SWAP { return b_n4(base, l, i).x; }
  return a_m4(base, i, l).x;
}

// The sum over LANES of a group, valid in lane 0.
fn over_lanes(own: vec4<f32>, local: u32, lane: u32) -> vec4<f32> {
  var sum = own;
  if LANES > 1u {
    workgroupBarrier();
    sums[local] = own;
    workgroupBarrier();
    if lane == 0u {
      for (var o = 1u; o < LANES; o++) { sum += sums[local + o * select(GROUPS, 1u, ALONG_K)]; }
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
  let small = select(at.row, at.col, SWAP);
  let j = select(at.col, at.row, SWAP) + 4u * group;
  let x0 = select(a_base(at), b_base(at), SWAP);
  let w0 = select(b_base(at), a_base(at), SWAP);

  let b20 = b2_base(at);

  var s: array<vec4<f32>, SUMS>;
  var s2: array<vec4<f32>, SUMS>;
  for (var i = 0u; i < SUMS; i++) {
    s[i] = vec4<f32>(0.0);
    s2[i] = vec4<f32>(0.0);
  }
  var l = at.first + 4u * lane;
  for (; l + 4u <= at.end; l += 4u * LANES) {
    var x: array<vec4<f32>, THREAD_M>;
    var x2: array<vec4<f32>, THREAD_M>;
    for (var r = 0u; r < THREAD_M; r++) {
      x[r] = x_k4(x0, small + r, l);
      if GATED && SWAP { x2[r] = x2_k4(b20, small + r, l); } else { x2[r] = x[r]; }
    }
    for (var v = 0u; v < VECS; v++) {
      let w = w_block(w0, l, j + v * STEP);
      for (var r = 0u; r < THREAD_M; r++) { s[r * VECS + v] = step(s[r * VECS + v], x[r], w); }
      if GATED {
        var w2 = w;
        if !SWAP { w2 = w2_block(b20, l, j + v * STEP); }
        for (var r = 0u; r < THREAD_M; r++) { s2[r * VECS + v] = step(s2[r * VECS + v], x2[r], w2); }
      }
    }
  }
  if VEC == 1u {
    for (; l < at.end; l++) { // at most 3, of one lane
      for (var v = 0u; v < VECS; v++) {
        let w = w_n4(w0, l, j + v * STEP);
        for (var r = 0u; r < THREAD_M; r++) {
          let x = x_one(x0, small + r, l);
          s[r * VECS + v] += w * x;
          if GATED && SWAP { s2[r * VECS + v] += w * b2_n4(b20, l, small + r).x; }
          if GATED && !SWAP { s2[r * VECS + v] += b2_n4(b20, l, j + v * STEP) * x; }
        }
      }
    }
  }

  for (var i = 0u; i < SUMS; i++) {
    let r = small + i / VECS;
    let col = j + i % VECS * STEP;
    let sum = over_lanes(s[i], local, lane);
    var sum2 = vec4<f32>(0.0);
    if GATED { sum2 = over_lanes(s2[i], local, lane); }
    if lane == 0u {
      if SWAP {
        for (var o = 0u; o < 4u; o++) { finish(at, col + o, r, 1u, vec4<f32>(sum[o]), vec4<f32>(sum2[o])); }
      } else {
        finish(at, r, col, 4u, sum, sum2);
      }
    }
  }
}
