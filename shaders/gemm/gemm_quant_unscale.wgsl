// Tokens of e4m3 as f32, each times the scale of its token and 128 of k: y [m, 4 ceil(k / 4)].
//
// Bindings: 0 tokens [m, ceil(k / 4)], bytes in the order of k; 1 scales f32 [m, ceil(k / 128)]; 2 y. An invocation has a word.
#import e4m3

@compute @workgroup_size(WG_SIZE)
fn gemm_quant_unscale(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let words = (params.k + 3u) / 4u;
  let i = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  if i >= params.m * words { return; }
  let s = scales[i / words * ((params.k + 127u) / 128u) + i % words / 32u];
  y[i] = s * e4m3_of(vec4<u32>(tokens[i]) >> vec4<u32>(0u, 8u, 16u, 24u));
}
