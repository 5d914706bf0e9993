// Vectors of codes, channels first: y[b, channel, s] is the sum over `terms` books of what the codes of
// position s hold for the channel.
//
// Bindings (group 0): as vq_lookup, but y is [batch, segments * cols, spatial] by strides.
//
// An invocation has a chunk of positions and CHANNELS channels: neighbours write side by side, and read
// where their codes are.

struct Channel { book: u32, col: u32, batch: u32 }
var<private> at: Channel;

fn value(s: u32) -> f32 {
  var v = 0.0;
  let row = at.batch * params.spatial + s;
  for (var term = 0u; term < params.terms; term++) {
    let book = at.book + term;
    let found = find_code(params.indices.x + row * params.indices.z + book * params.indices.w, false);
    let part = codebook_load(params.codebook.x + book * params.codebook.z + found.code * params.codebook.w + at.col);
    if term == 0u { v = select(part, 0.0, found.zero); } else { v += select(part, 0.0, found.zero); }
  }
  return v;
}

@compute @workgroup_size(WG_SIZE)
fn vq_lookup_planes(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let w = wg.y * params.grid_x + wg.x;
  let group = w / params.blocks;
  let b = group / params.groups;
  if b >= params.batch { return; }
  let c = (w % params.blocks) * WG_SIZE + local;
  let first = group % params.groups * CHANNELS;
  for (var channel = first; channel < min(first + CHANNELS, params.segments * params.cols); channel++) {
    at = Channel(channel / params.cols * params.terms, channel % params.cols, b);
    let y = params.y.x + b * params.y.z + channel * params.y.w;
    let phase = select(0u, y & 1u, VEC == 2u);
    if c < chunk_count(params.spatial, phase) {
      y_store(y, c, phase, params.spatial, value_chunk(0u, 1u, c, phase, params.spatial));
    }
  }
  // Each index once.
  if first == 0u {
    for (var s = c; s < params.spatial; s += params.blocks * WG_SIZE) {
      for (var book = 0u; book < params.segments * params.terms; book++) {
        _ = find_code(params.indices.x + (b * params.spatial + s) * params.indices.z + book * params.indices.w, true);
      }
    }
  }
}
