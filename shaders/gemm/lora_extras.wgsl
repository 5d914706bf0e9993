// The epilogue of lora, before the activation: bias, and t[row] B^T of the row's adapter. Bindings 4 right (the B of all
// adapters), 7 lora_t (what lora_down.wgsl has written: t [m], each its adapter, then quads of ranks). Params: c is the view of
// right (offset, strides of adapters, of nothing and of its rows), scale holds ranks and the quads of a row of t.
//
// Constants: ALONG_RANK: right is stored [n, r], else [r, n]. Loads: lora_right_*.wgsl.
#import gemm_values

fn product_factor(row: u32, cols: vec4<u32>) -> vec4<f32> { return vec4<f32>(1.0); }

fn low_rank(row: u32, cols: vec4<u32>) -> vec4<f32> {
  let ranks = params.scale.x;
  let quads = params.scale.y;
  let base = row * quads;
  let adapter = lora_t[base].x;
  // A row of no adapter.
  if adapter == 0xffffffffu { return vec4<f32>(0.0); }
  let first = view_at(params.c, adapter, 0u, 0u);
  var sum = vec4<f32>(0.0);
  for (var q = 1u; q < quads; q++) {
    let t = bitcast<vec4<f32>>(lora_t[base + q]);
    let j = 4u * q - 4u;
    if ALONG_RANK {
      let i = vec4<u32>(first + j) + cols * params.c.w;
      let live = ranks - j;
      sum += vec4<f32>(dot(t, right_four(i.x, live)), dot(t, right_four(i.y, live)), dot(t, right_four(i.z, live)),
        dot(t, right_four(i.w, live)));
    } else {
      for (var u = 0u; u < 4u; u++) {
        // Ranks past the last are 0 in t, and not loaded.
        if j + u < ranks {
          sum = fma(vec4<f32>(t[u]), right_columns(first + (j + u) * params.c.w, cols), sum);
        }
      }
    }
  }
  return sum;
}

fn c_and_bias(at: Place, row: u32, cols: vec4<u32>) -> vec4<f32> {
  var sum = low_rank(row, cols);
  if params.bias_kind != KIND_NONE { sum += bias_of(0u, row, cols); }
  return sum;
}

fn gate_bias(row: u32, cols: vec4<u32>) -> vec4<f32> { return vec4<f32>(0.0); }
