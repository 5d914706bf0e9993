// Vectors summed by code: sums[book, code] is the sum of x[i] over the positions i whose index is the code,
// in order of i, and counts[book, code] how many they are. The gradient of vq_lookup, and what codebooks learn
// from.
//
// Bindings (group 0)
//   0 indices  u32, i32 or u16 [n, books] by strides
//   1 x        [batch, spatial, channels] or [batch, channels, spatial] by strides
//   2 sums     f32 [books, num_codes, cols]
//   3 counts   u32 [books, num_codes] (where COUNT)
//
// LANES invocations own a code: they read all indices of its book and add what is theirs, so that no sum is
// shared and no order is left to chance. Indices are read by a whole workgroup at once. A run adds the positions from
// `begin` up to `n`: the first one begins at 0, and with it the sums.
#import view

@compute @workgroup_size(WG_SIZE)
fn vq_scatter(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let w = wg.y * params.grid_x + wg.x;
  let book = w / params.blocks;
  if book >= params.books { return; }
  let code = w % params.blocks * (WG_SIZE / LANES) + local / LANES;
  let lane = local % LANES;
  if code >= params.num_codes { return; }
  // A word that no index has: the past-the-end ones go to code 0 where the Problem says so.
  let other = select(0xffffffffu, params.num_codes, code == 0u && params.out_of_range == OUT_OF_RANGE_FIRST);

  let at = params.sums_offset + (book * params.num_codes + code) * params.cols;
  let chunks = chunk_count(params.cols, 0u);
  var count = 0u;
  if params.begin == 0u {
    for (var c = lane; c < chunks; c += LANES) { sums_store(at, c, 0u, params.cols, V(0.0)); }
  } else {
    count = counts_load(params.counts_offset + book * params.num_codes + code);
  }
  let index = params.indices.x + book * params.indices.w;
  for (var quad = params.begin; quad < params.n; quad += 4u) {
    // Most indices are of other codes: four are told at once.
    let at_quad = index + min(vec4<u32>(quad) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.n - 1u)) * params.indices.z;
    let named = min(
      vec4<u32>(code_index(at_quad.x), code_index(at_quad.y), code_index(at_quad.z), code_index(at_quad.w)),
      vec4<u32>(params.num_codes),
    );
    let mine = (named == vec4<u32>(code)) | (named == vec4<u32>(other));
    if !any(mine) { continue; }
    for (var i = quad; i < min(quad + 4u, params.n); i++) {
      if !mine[i - quad] { continue; }
      count++;
      let x = view_at(params.x, i / params.spatial, i % params.spatial, book);
      for (var c = lane; c < chunks; c += LANES) {
        sums_store(at, c, 0u, params.cols, sums_chunk(at, c, 0u, params.cols) + x_part(x, c));
      }
    }
  }
  if COUNT && lane == 0u { counts_store(params.counts_offset + book * params.num_codes + code, count); }
}
