// d = op(a) op(b) with at most THREAD_M rows (SWAP: columns): the other operand, the weights, is read once. Its
// columns (SWAP: the rows of a) go by fours to groups of LANES invocations that share k.
//
// With ALONG_K the weights are stored along k, and neighbours have neighbouring k; else neighbours have neighbouring
// columns, THREAD_N of them each, so that a row of weights is read in runs long enough for memory. The lanes of a group add up through workgroup memory, in order.
//
// Constants: THREAD_M, THREAD_N, LANES, ALONG_K, SWAP. Bindings and the epilogue: gemm_epilogue.wgsl.
#import gemm_place

const GROUPS: u32 = WG_SIZE / LANES;
const VECS: u32 = THREAD_N / 4u;
const SUMS: u32 = THREAD_M * VECS;
const STEP: u32 = 4u * GROUPS;  // from a vec4 of columns to the next

var<workgroup> sums: array<vec4<f32>, WG_SIZE>;

// k from l of row i of the small operand.
fn x_k4(base: u32, i: u32, l: u32) -> vec4<f32> {
  if SWAP {
    if TRANS_B || VEC == 1u { return b_k4(base, l, i); }
    let at = base + l * params.b_ld + min(i, params.n - 1u);
    return vec4<f32>(b_at(at), b_at(at + params.b_ld), b_at(at + 2u * params.b_ld), b_at(at + 3u * params.b_ld));
  }
  if !TRANS_A || VEC == 1u { return a_k4(base, i, l); }
  let at = base + l * params.a_ld + min(i, params.m - 1u);
  return vec4<f32>(a_at(at), a_at(at + params.a_ld), a_at(at + 2u * params.a_ld), a_at(at + 3u * params.a_ld));
}

// k from l of column j of the weights; four of its columns at one l.
fn w_k4(base: u32, l: u32, j: u32) -> vec4<f32> {
  if SWAP { return a_k4(base, j, l); }
  return b_k4(base, l, j);
}
fn w_n4(base: u32, l: u32, j: u32) -> vec4<f32> {
  if SWAP { return a_m4(base, j, l); }
  return b_n4(base, l, j);
}

fn x_one(base: u32, i: u32, l: u32) -> f32 {
  if SWAP { return b_n4(base, l, i).x; }
  return a_m4(base, i, l).x;
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

  var s: array<vec4<f32>, SUMS>;
  for (var i = 0u; i < SUMS; i++) { s[i] = vec4<f32>(0.0); }
  var l = at.first + 4u * lane;
  for (; l + 4u <= at.end; l += 4u * LANES) {
    if ALONG_K {
      let p = w_k4(w0, l, j);
      let q = w_k4(w0, l, j + 1u);
      let t = w_k4(w0, l, j + 2u);
      let u = w_k4(w0, l, j + 3u);
      for (var r = 0u; r < THREAD_M; r++) {
        let x = x_k4(x0, small + r, l);
        s[r] += vec4<f32>(dot(p, x), dot(q, x), dot(t, x), dot(u, x));
      }
    } else {
      var x: array<vec4<f32>, THREAD_M>;
      for (var r = 0u; r < THREAD_M; r++) { x[r] = x_k4(x0, small + r, l); }
      for (var v = 0u; v < VECS; v++) {
        let p = w_n4(w0, l, j + v * STEP);
        let q = w_n4(w0, l + 1u, j + v * STEP);
        let t = w_n4(w0, l + 2u, j + v * STEP);
        let u = w_n4(w0, l + 3u, j + v * STEP);
        for (var r = 0u; r < THREAD_M; r++) {
          let y = fma(q, vec4<f32>(x[r].y), fma(p, vec4<f32>(x[r].x), s[r * VECS + v]));
          s[r * VECS + v] = fma(u, vec4<f32>(x[r].w), fma(t, vec4<f32>(x[r].z), y));
        }
      }
    }
  }
  if VEC == 1u {
    for (; l < at.end; l++) { // at most 3, of one lane
      for (var v = 0u; v < VECS; v++) {
        let w = w_n4(w0, l, j + v * STEP);
        for (var r = 0u; r < THREAD_M; r++) { s[r * VECS + v] += w * x_one(x0, small + r, l); }
      }
    }
  }

  for (var i = 0u; i < SUMS; i++) {
    var sum = s[i];
    let r = i / VECS;
    let col = j + i % VECS * STEP;
    if LANES > 1u {
      workgroupBarrier();
      sums[local] = sum;
      workgroupBarrier();
      if lane == 0u {
        for (var o = 1u; o < LANES; o++) { sum += sums[local + o * select(GROUPS, 1u, ALONG_K)]; }
      }
    }
    if lane == 0u {
      if SWAP {
        for (var o = 0u; o < 4u; o++) { finish(at, col + o, small + r, 1u, vec4<f32>(sum[o]), vec4<f32>(0.0)); }
      } else {
        finish(at, small + r, col, 4u, sum, vec4<f32>(0.0));
      }
    }
  }
}
