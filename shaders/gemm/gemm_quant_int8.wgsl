// d = act(scale (tokens W^T) ..) with tokens of int8 and W packed as whole numbers: integer dots of four, whose sums over the STEP k that share
// scales of W are exact, are scaled in f32; the scale of a token is the epilogue's. An invocation has THREAD_M rows by four neighbouring
// rows of W; LANES of them share k.
//
// Binding 0: tokens [m, ceil(k / 4)], bytes in the order of k, zeros past k. Constants: as gemm_quant_rows.wgsl. Any number of rows.
#import gemm_tile

// Eight k of a token, zeros past its words.
fn token_words(row: u32, k: u32) -> vec2<u32> {
  let words = (params.k + 3u) / 4u;
  let i = min(row, params.m - 1u) * words;
  let w = k / 4u;
  if !TAIL { return vec2<u32>(tokens[i + w], tokens[i + w + 1u]); }
  return vec2<u32>(select(0u, tokens[i + min(w, words - 1u)], w < words),
    select(0u, tokens[i + min(w + 1u, words - 1u)], w + 1u < words));
}

// One in a function: in Metal naga 30 defines a factor twice that two of them have.
fn dot_one(w: u32, x: u32) -> i32 { return dot4I8Packed(w, x); }

fn dot_four(w: vec4<u32>, x: u32) -> vec4<i32> {
  return vec4<i32>(dot_one(w.x, x), dot_one(w.y, x), dot_one(w.z, x), dot_one(w.w, x));
}

alias Sums = array<vec4<f32>, THREAD_M>;

fn take(at: Place, sums: ptr<function, Sums>, row: u32, k0: u32) {
  let s = scale_at(row, k0, true);
  var dots: array<vec4<i32>, THREAD_M>;
  var alone: array<i32, THREAD_M>;
  for (var r = 0u; r < THREAD_M; r++) {
    dots[r] = vec4<i32>(0);
    alone[r] = 0;
  }
  for (var i = 0u; i < STEP / 8u; i++) {
    let w = bytes_at(row, k0 + 8u * i);
    for (var r = 0u; r < THREAD_M; r++) {
      let x = as_bytes(token_words(at.row + r, k0 + 8u * i));
      dots[r] += dot_four(w[0], x.x) + dot_four(w[1], x.y);
      if AFFINE { alone[r] += dot_one(0x01010101u, x.x) + dot_one(0x01010101u, x.y); }
    }
  }
  for (var r = 0u; r < THREAD_M; r++) {
    (*sums)[r] = fma(scale_of(s, 0u), vec4<f32>(dots[r]), (*sums)[r]);
    if AFFINE { (*sums)[r] = fma(scale_offset(s), vec4<f32>(f32(alone[r])), (*sums)[r]); }
  }
}

fn over_lanes(v: vec4<f32>, ids: Ids) -> vec4<f32> {
  return vec4<f32>(reduce_sum(v.x, ids), reduce_sum(v.y, ids), reduce_sum(v.z, ids), reduce_sum(v.w, ids));
}

@compute @workgroup_size(WG_SIZE)
fn gemm_quant_int8(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  let at = place(wg);
  if at.batch >= params.batches { return; } // uniform: a whole workgroup
  let lane = select(ids.invocation % LANES, 0u, LANES == 1u);
  let col = at.col + ids.invocation / LANES * 4u;
  let row = b_base(at) + four_from(col);
  let gate_row = b2_base(at) + four_from(col);

  var acc: Sums;
  var gate_acc: Sums;
  for (var r = 0u; r < THREAD_M; r++) {
    acc[r] = vec4<f32>(0.0);
    gate_acc[r] = vec4<f32>(0.0);
  }
  for (var k = STEP * lane; k < params.k; k += STEP * LANES) {
    take(at, &acc, row, k);
    if GATED { take(at, &gate_acc, gate_row, k); }
  }
  for (var r = 0u; r < THREAD_M; r++) {
    let sum = over_lanes(acc[r], ids);
    var gate_sum = vec4<f32>(0.0);
    if GATED { gate_sum = over_lanes(gate_acc[r], ids); }
    if lane == 0u { finish(at, at.row + r, col, 4u, sum, gate_sum); }
  }
}
