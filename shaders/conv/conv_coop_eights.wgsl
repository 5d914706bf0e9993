// The tiles of conv_coop by eights: of x eight channels of a pixel, which lie side by side; of the weights, packed as f16 column by column
// (conv_pack.wgsl), eight k of a column. Columns past the end repeat the last one: nobody stores what comes of them.
//
// Constant: ONE_TAP, where TILE_K divides the channels of a group. Then all k of a step are those of one tap, which is read once, and all are there.

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
  }
  let first = params.weights_at + at.group * params.cols * (params.k / 8u);
  for (var l = 0u; l < W_LOADS; l++) {
    let col = min(at.col + load_row(local, l), params.cols - 1u);
    loads.columns[l] = first + col * (params.k / 8u) + load_k(local, l) / 8u;
  }
  return loads;
}

fn put(to: u32, x: mat2x4<f16>) {
  for (var u = 0u; u < 4u; u++) {
    tiles[to + u] = x[0u][u];
    tiles[to + u + 4u] = x[1u][u];
  }
}

fn fill_tiles(at: Place, loads: Loads, k0: u32, end: u32, local: u32) {
  var x: array<mat2x4<f16>, X_LOADS>;
  var w: array<mat2x4<f16>, W_LOADS>;
  var entry = scratch[params.table_at + k0 / 4u];
  for (var l = 0u; l < X_LOADS; l++) {
    let k = k0 + load_k(local, l);
    x[l] = mat2x4<f16>();
    if ONE_TAP || k < end {
      if !ONE_TAP { entry = scratch[params.table_at + k / 4u]; }
      let tap = tap_at(loads.origins[l], entry);
      if tap.inside { x[l] = x_eight(tap.i / 8u); }
    }
  }
  for (var l = 0u; l < W_LOADS; l++) {
    w[l] = mat2x4<f16>();
    if ONE_TAP || k0 + load_k(local, l) < end {
      let words = scratch[loads.columns[l] + k0 / 8u];
      let a = vec2<f16>(unpack2x16float(words.x));
      let b = vec2<f16>(unpack2x16float(words.y));
      let c = vec2<f16>(unpack2x16float(words.z));
      let d = vec2<f16>(unpack2x16float(words.w));
      w[l] = mat2x4<f16>(vec4<f16>(a, b), vec4<f16>(c, d));
    }
  }
  for (var l = 0u; l < X_LOADS; l++) {
    if X_RUNS % WG_SIZE == 0u || local + l * WG_SIZE < X_RUNS { put(load_row(local, l) * K_ROW + load_k(local, l), x[l]); }
  }
  for (var l = 0u; l < W_LOADS; l++) {
    if W_RUNS % WG_SIZE == 0u || local + l * WG_SIZE < W_RUNS { put(W_TILE + load_row(local, l) * K_ROW + load_k(local, l), w[l]); }
  }
}
