// The tiles of conv_coop by eights: of x eight channels of a pixel, which lie side by side; of the weights, packed as f16 column by column
// (conv_pack_eights.wgsl), eight k of a column. Columns past the end repeat the last one: nobody stores what comes of them.

const W_RUNS: u32 = TILE_N * TILE_K / 8u;
const W_LOADS: u32 = (W_RUNS + WG_SIZE - 1u) / WG_SIZE;

fn put(to: u32, x: mat2x4<f16>) {
  for (var u = 0u; u < 4u; u++) {
    tiles[to + u] = x[0u][u];
    tiles[to + u + 4u] = x[1u][u];
  }
}

fn fill_tiles(at: Place, origins: ptr<function, array<Origin, X_LOADS>>, k0: u32, end: u32, local: u32) {
  var x: array<mat2x4<f16>, X_LOADS>;
  var w: array<mat2x4<f16>, W_LOADS>;
  for (var l = 0u; l < X_LOADS; l++) {
    let k = k0 + load_k(local, l);
    x[l] = mat2x4<f16>();
    if k < end {
      let tap = tap_at((*origins)[l], scratch[params.table_at + k / 4u]);
      if tap.inside { x[l] = x_eight(tap.i / 8u); }
    }
  }
  let first = params.weights_at + at.group * params.cols * (params.k / 8u);
  for (var l = 0u; l < W_LOADS; l++) {
    let k = k0 + load_k(local, l);
    w[l] = mat2x4<f16>();
    if k < end {
      let col = min(at.col + load_row(local, l), params.cols - 1u);
      let words = scratch[first + col * (params.k / 8u) + k / 8u];
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
