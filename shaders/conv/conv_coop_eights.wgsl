// The tiles of conv_coop by eights: of x eight channels of a pixel, which lie side by side; of the weights, packed as f16 column by column
// (conv_pack.wgsl), eight k of a column. Columns past the end repeat the last one: nobody stores what comes of them.
//
// Constant: ONE_TAP, where TILE_K divides the channels of a group. Then all k of a step are those of one tap, which is read once, and all are there.
// IN_EIGHTS: besides, a signed number tells where a window begins, before x or in it: it counts eights.

const W_RUNS: u32 = TILE_N * TILE_K / 8u;
const W_LOADS: u32 = (W_RUNS + WG_SIZE - 1u) / WG_SIZE;

// What an invocation loads: windows, which begin with the load's own channel where ONE_TAP; columns of weights, in eights, from k = 0 on.
struct Loads {
  origins: array<Origin, X_LOADS>,
  columns: array<u32, W_LOADS>,
}

fn loads_of(at: Place, phase: Phase, local: u32) -> Loads {
  var loads: Loads;
  for (var l = 0u; l < X_LOADS; l++) {
    loads.origins[l] = origin_of(phase, at.group, at.row + load_row(local, l));
    if ONE_TAP { loads.origins[l].base += load_k(local, l); }
    if IN_EIGHTS { loads.origins[l].base = bitcast<u32>(bitcast<i32>(loads.origins[l].base) >> 3u); }
  }
  let first = params.weights_at + at.group * params.cols * (params.k / 8u);
  for (var l = 0u; l < W_LOADS; l++) {
    let col = min(at.col + load_row(local, l), params.cols - 1u);
    loads.columns[l] = first + col * (params.k / 8u) + load_k(local, l) / 8u;
  }
  return loads;
}

// Eight elements as they are in words: what is moved by halves, compilers move half by half.
fn put(to: u32, words: vec4<u32>) {
  for (var u = 0u; u < 4u; u++) {
    let pair = vec2<f16>(unpack2x16float(words[u]));
    tiles[to + 2u * u] = pair.x;
    tiles[to + 2u * u + 1u] = pair.y;
  }
}

fn fill_tiles(at: Place, loads: Loads, k0: u32, end: u32, local: u32) {
  var x: array<vec4<u32>, X_LOADS>;
  var w: array<vec4<u32>, W_LOADS>;
  var entry = scratch[params.table_at + k0 / 4u];
  if IN_EIGHTS { entry.x /= 8u; }
  for (var l = 0u; l < X_LOADS; l++) {
    let k = k0 + load_k(local, l);
    x[l] = vec4<u32>(0u);
    if ONE_TAP || k < end {
      if !ONE_TAP { entry = scratch[params.table_at + k / 4u]; }
      let tap = tap_at(loads.origins[l], entry);
      // Without a branch, so that all loads are under way together.
      x[l] = select(vec4<u32>(0u), x_words(tap.i / select(8u, 1u, IN_EIGHTS), 0u, 0u), tap.inside);
    }
  }
  for (var l = 0u; l < W_LOADS; l++) {
    w[l] = vec4<u32>(0u);
    if ONE_TAP || k0 + load_k(local, l) < end { w[l] = scratch[loads.columns[l] + k0 / 8u]; }
  }
  for (var l = 0u; l < X_LOADS; l++) {
    if X_RUNS % WG_SIZE == 0u || local + l * WG_SIZE < X_RUNS { put(load_row(local, l) * K_ROW + load_k(local, l), x[l]); }
  }
  for (var l = 0u; l < W_LOADS; l++) {
    if W_RUNS % WG_SIZE == 0u || local + l * WG_SIZE < W_RUNS { put(W_TILE + load_row(local, l) * K_ROW + load_k(local, l), w[l]); }
  }
}
