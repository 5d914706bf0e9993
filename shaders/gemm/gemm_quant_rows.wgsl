// d = act(a W^T ..) of at most THREAD_M rows, W packed: each weight is read and decoded once, whatever the rows. A group of LANES
// invocations has four neighbouring rows of W (columns of d), whose words are one load of 16 bytes where they lie side by side; a lane takes
// STEP k at a time, which share their scales, and multiplies them by all rows of a. Where scales have no offset, the products of a
// step are scaled together; so are they where ZEROED, the scales' zero times the sum of a's step less. The sums of lanes are added in
// a fixed order.
//
// Constants: THREAD_M, TILE_M = THREAD_M, TILE_N = 4 WG_SIZE / LANES, LANES, STEP; TAIL: k has no whole number of steps; GATED.
// Decoders: weights.wgsl. Bindings and the epilogue: gemm_epilogue.wgsl.

// Four k of a row of a, zeros from k_end on.
fn x_four(at: Place, base: u32, row: u32, k: u32, guarded: bool) -> vec4<f32> {
  if !guarded { return a_k4(base, row, k); }
  var x = vec4<f32>(0.0);
  if k + 4u <= at.k_end {
    x = a_k4(base, row, k);
  } else if VEC == 1u {
    if k < at.k_end { x.x = a_m4(base, row, k).x; }
    if k + 1u < at.k_end { x.y = a_m4(base, row, k + 1u).x; }
    if k + 2u < at.k_end { x.z = a_m4(base, row, k + 2u).x; }
  }
  return x;
}

// Columns whose loop has constant bounds: compilers unroll it.
const RUN: u32 = min(STEP, 32u);

alias Sums = array<vec4<f32>, THREAD_M>;

fn code_value(c: Codes, s: Scale, j: u32) -> vec4<f32> {
  if SCALED || ZEROED { return code_of(c, j) * code_unit(j); }
  return weight(c, s, j);
}

// RUN k of four rows of weights from `row` on.
fn take_run(at: Place, own: ptr<function, Sums>, alone: ptr<function, array<f32, THREAD_M>>, base: u32, row: u32, k1: u32, s: Scale, guarded: bool) {
  for (var i = 0u; i < RUN / 8u; i++) {
    let k = k1 + 8u * i;
    let c = codes_at(row, k, true);
    var step = s;
    if FLAT { step = scale_at(row, k, true); }
    let w0 = code_value(c, step, 0u);
    let w1 = code_value(c, step, 1u);
    let w2 = code_value(c, step, 2u);
    let w3 = code_value(c, step, 3u);
    let w4 = code_value(c, step, 4u);
    let w5 = code_value(c, step, 5u);
    let w6 = code_value(c, step, 6u);
    let w7 = code_value(c, step, 7u);
    for (var r = 0u; r < THREAD_M; r++) {
      let x = x_four(at, base, at.row + r, k, guarded);
      let y = x_four(at, base, at.row + r, k + 4u, guarded);
      (*own)[r] = fma(w0, vec4<f32>(x.x), (*own)[r]);
      (*own)[r] = fma(w1, vec4<f32>(x.y), (*own)[r]);
      (*own)[r] = fma(w2, vec4<f32>(x.z), (*own)[r]);
      (*own)[r] = fma(w3, vec4<f32>(x.w), (*own)[r]);
      (*own)[r] = fma(w4, vec4<f32>(y.x), (*own)[r]);
      (*own)[r] = fma(w5, vec4<f32>(y.y), (*own)[r]);
      (*own)[r] = fma(w6, vec4<f32>(y.z), (*own)[r]);
      (*own)[r] = fma(w7, vec4<f32>(y.w), (*own)[r]);
      if ZEROED {
        // In the order of the products: where all codes are ZERO, the sums differ by that factor, to the bit.
        (*alone)[r] = ((((((((*alone)[r] + x.x) + x.y) + x.z) + x.w) + y.x) + y.y) + y.z) + y.w;
      }
    }
  }
}

// STEP k of four rows of weights from `row` on.
fn take(at: Place, sums: ptr<function, Sums>, base: u32, row: u32, k0: u32, guarded: bool) {
  let s = scale_at(row, k0, true);
  var own: Sums;
  var alone: array<f32, THREAD_M>;
  for (var r = 0u; r < THREAD_M; r++) {
    own[r] = select((*sums)[r], vec4<f32>(0.0), SCALED || ZEROED);
    alone[r] = 0.0;
  }
  if STEP == RUN {
    take_run(at, &own, &alone, base, row, k0, s, guarded);
  } else {
    let end = select(k0 + STEP, min(k0 + STEP, at.k_end), guarded);
    for (var k = k0; k < end; k += RUN) { take_run(at, &own, &alone, base, row, k, s, guarded); }
  }
  for (var r = 0u; r < THREAD_M; r++) {
    if ZEROED { own[r] -= vec4<f32>(f32(ZERO) * alone[r]); }
    if SCALED || ZEROED { (*sums)[r] = fma(scale_of(s, 0u), own[r], (*sums)[r]); } else { (*sums)[r] = own[r]; }
  }
}

fn over_lanes(v: vec4<f32>, ids: Ids) -> vec4<f32> {
  return vec4<f32>(reduce_sum(v.x, ids), reduce_sum(v.y, ids), reduce_sum(v.z, ids), reduce_sum(v.w, ids));
}

@compute @workgroup_size(WG_SIZE)
fn gemm_quant_rows(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  b_start(ids.invocation);
  let at = place(wg);
  if at.batch >= params.batches { return; } // uniform: a whole workgroup
  // Without lanes a constant 0 says that all have the same k.
  let lane = select(ids.invocation % LANES, 0u, LANES == 1u);
  let col = at.col + ids.invocation / LANES * 4u;
  let a0 = a_base(at);
  let row = b_base(at) + four_from(col);
  let gate_row = b2_base(at) + four_from(col);

  var acc: Sums;
  var gate_acc: Sums;
  for (var r = 0u; r < THREAD_M; r++) {
    acc[r] = vec4<f32>(0.0);
    gate_acc[r] = vec4<f32>(0.0);
  }
  var k = at.k_first + STEP * lane;
  for (; k + STEP <= at.k_end; k += STEP * LANES) {
    take(at, &acc, a0, row, k, false);
    if GATED { take(at, &gate_acc, a0, gate_row, k, false); }
  }
  if TAIL && k < at.k_end {
    take(at, &acc, a0, row, k, true);
    if GATED { take(at, &gate_acc, a0, gate_row, k, true); }
  }
  for (var r = 0u; r < THREAD_M; r++) {
    let sum = over_lanes(acc[r], ids);
    var gate_sum = vec4<f32>(0.0);
    if GATED { gate_sum = over_lanes(gate_acc[r], ids); }
    if lane == 0u { finish(at, at.row + r, col, 4u, sum, gate_sum); }
  }
}
