// t[i] = scale x[i] L: each row by the left factor of its own adapter, into scratch. A workgroup has ROWS rows and RANKS ranks,
// and its invocations share k. For each adapter that its rows name, in the order of the rows, it goes through k for all of them, and
// keeps the sums of those that name it: neighbours of one adapter read its factor once, and no control flow differs
// within the workgroup. Then the sums of the invocations are added in their order.
//
// Bindings: 0 x [m, k] by strides, 1 left [adapters, r, k], or unless ALONG_K [adapters, k, r], 2 adapter, words, where HAS_ADAPTER,
// 3 scratch [m, 1 + quads], vec4: the adapter of a row (0xffffffff: none), then its t by four ranks, 0 past the last.
// Constants: ROWS, RANKS, ALONG_K. Loads: lora_load4.wgsl, lora_load1.wgsl.
#import view

const NONE: u32 = 0xffffffffu;
const VECS: u32 = RANKS / 4u;
const SUMS: u32 = ROWS * VECS;

var<workgroup> sums: array<vec4<f32>, SUMS * WG_SIZE>;

fn adapter_of(row: u32) -> u32 {
  if !HAS_ADAPTER { return 0u; }
  // A negative one is a large one.
  let one = adapter_load(params.adapter + min(row, params.m - 1u));
  return select(NONE, one, one < params.adapters);
}

// Four k of four ranks from j on; one column per rank, or unless ALONG_K per k.
fn left_block(base: u32, k: u32, j: u32) -> mat4x4<f32> {
  if ALONG_K {
    return mat4x4<f32>(left_k4(base, k, j), left_k4(base, k, j + 1u), left_k4(base, k, j + 2u), left_k4(base, k, j + 3u));
  }
  return mat4x4<f32>(left_j4(base, k, j), left_j4(base, k + 1u, j), left_j4(base, k + 2u, j), left_j4(base, k + 3u, j));
}

fn multiply_add(acc: vec4<f32>, x: vec4<f32>, w: mat4x4<f32>) -> vec4<f32> {
  if ALONG_K { return acc + vec4<f32>(dot(w[0], x), dot(w[1], x), dot(w[2], x), dot(w[3], x)); }
  return fma(w[3], vec4<f32>(x.w), fma(w[2], vec4<f32>(x.z), fma(w[1], vec4<f32>(x.y), fma(w[0], vec4<f32>(x.x), acc))));
}

@compute @workgroup_size(WG_SIZE)
fn lora_down(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let w = wg.y * params.grid_x + wg.x;
  let blocks = (params.quads + VECS - 1u) / VECS;
  let row = w / blocks * ROWS;
  let quad = w % blocks * VECS;
  if row >= params.m { return; } // uniform: a whole workgroup
  var own: array<u32, ROWS>;
  var kept: array<vec4<f32>, SUMS>;
  for (var r = 0u; r < ROWS; r++) { own[r] = adapter_of(row + r); }
  for (var i = 0u; i < SUMS; i++) { kept[i] = vec4<f32>(0.0); }
  for (var leader = 0u; leader < ROWS; leader++) {
    // By constant indices: others keep the array in memory.
    var which = NONE;
    for (var r = 0u; r < ROWS; r++) { which = select(which, own[r], r == leader); }
    var done = which == NONE;
    for (var r = 0u; r < ROWS; r++) { done = done || (r < leader && own[r] == which); }
    if !done {
      let base = view_at(params.left, which, 0u, 0u);
      var acc: array<vec4<f32>, SUMS>;
      for (var i = 0u; i < SUMS; i++) { acc[i] = vec4<f32>(0.0); }
      var k = 4u * local;
      for (; k + 4u <= params.k; k += 4u * WG_SIZE) {
        var x: array<vec4<f32>, ROWS>;
        for (var r = 0u; r < ROWS; r++) { x[r] = x_k4(row + r, k); }
        for (var v = 0u; v < VECS; v++) {
          let block = left_block(base, k, 4u * (quad + v));
          for (var r = 0u; r < ROWS; r++) { acc[r * VECS + v] = multiply_add(acc[r * VECS + v], x[r], block); }
        }
      }
      if VEC == 1u {
        for (; k < params.k; k++) { // at most 3, of one invocation
          for (var v = 0u; v < VECS; v++) {
            let ranks = left_j4(base, k, 4u * (quad + v));
            for (var r = 0u; r < ROWS; r++) { acc[r * VECS + v] += x_k1(row + r, k) * ranks; }
          }
        }
      }
      for (var i = 0u; i < SUMS; i++) { kept[i] = select(kept[i], acc[i], own[i / VECS] == which); }
    }
  }
  for (var i = 0u; i < SUMS; i++) { sums[i * WG_SIZE + local] = kept[i]; }
  workgroupBarrier();
  for (var i = local; i < SUMS; i += WG_SIZE) {
    var sum = vec4<f32>(0.0);
    for (var l = 0u; l < WG_SIZE; l++) { sum += sums[i * WG_SIZE + l]; }
    let r = row + i / VECS;
    let q = quad + i % VECS;
    if r < params.m && q < params.quads {
      let live = vec4<u32>(4u * q) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.ranks);
      let to = r * (params.quads + 1u);
      scratch[to + 1u + q] = bitcast<vec4<u32>>(select(vec4<f32>(0.0), params.scale * sum, live));
      if q == 0u { scratch[to] = vec4<u32>(adapter_of(r), 0u, 0u, 0u); }
    }
  }
}
