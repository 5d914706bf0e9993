// y = scale * x + encoding of the token's position, for tokens [batch, rows, cols] of `dim` elements each.
//
// Bindings (group 0)
//   0 x          [batch, rows, cols, dim] by strides (absent in place)
//   1 y          the same shape, own strides
//   2 positions  u32 or i32 [axes, batch, rows * cols] by strides (where HAS_POSITIONS)
//   3 waves      per element of a token a 62-bit fraction of a turn per position, upper and lower word; of the two
//                bits below, COSINE: it starts a quarter turn ahead, SECOND: it goes by the second position
//   3 table, 4 row_table  [max_position, dim], instead of waves (row_table where HAS_ROWS)
//
// An invocation has one chunk of one token in up to `batches_per` batches, so that an encoding is computed once
// for all of them. Neighbours have neighbouring chunks, then neighbouring tokens.
//
// Angles are exact at any position: the product of a position and a fraction of a turn, modulo one turn, is
// integer arithmetic. WGSL's own sin and cos are not used.

#import view

// Where the token is, for encoding(): by column (or along a sequence), and by row.
var<private> place: vec2<u32>;

@compute @workgroup_size(WG_SIZE)
fn position_encoding(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  let c = i % params.chunks;
  let token = i / params.chunks % params.tokens;
  let group = i / params.chunks / params.tokens;
  if group >= params.groups { return; }
  let row = token / params.cols;
  let col = token % params.cols;
  var b = group * params.batches_per;
  let end = min(b + params.batches_per, params.batches);

  place = vec2<u32>(params.first_col + col, params.first_row + row);
  if HAS_POSITIONS {
    let at = params.positions.x + b * params.positions.w + token;
    place = vec2<u32>(positions_load(at), positions_load(at + params.positions.z));
  }
  var x = view_at(params.x, b, row, col);
  var y = view_at(params.y, b, row, col);
  // Rows of packed outputs whose words are shared start in either half, by batch: so does the encoding's chunk.
  let even = select(0u, y & 1u, VEC == 2u);
  var added = encoding_of(c, even);
  for (; b < end; b++) {
    let phase = select(0u, y & 1u, VEC == 2u);
    if phase != even { added = encoding_of(c, phase); }
    if c < chunk_count(params.dim, phase) {
      y_store(y, c, phase, params.dim, params.scale * x_chunk(x, c, phase, params.dim) + added);
    }
    x += params.x.y;
    y += params.y.y;
  }
}
