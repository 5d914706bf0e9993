// The tiles of conv_coop by fours: of x four k of a pixel, of any layout; of the weights, packed as f32, four columns of a k.

const W_FOURS: u32 = TILE_N * TILE_K / 4u;

struct Loads { origins: array<Origin, X_LOADS> }

fn loads_of(at: Place, phase: Phase, local: u32) -> Loads {
  var loads: Loads;
  for (var l = 0u; l < X_LOADS; l++) { loads.origins[l] = origin_of(phase, at.group, at.row + load_row(local, l)); }
  return loads;
}

fn fill_tiles(at: Place, loads: Loads, k0: u32, end: u32, local: u32) {
  for (var l = 0u; l < X_LOADS; l++) {
    if X_RUNS % WG_SIZE == 0u || local + l * WG_SIZE < X_RUNS {
      let k = load_k(local, l);
      var x = vec4<f32>(0.0);
      if k0 + k < end { x = x_k4(loads.origins[l], k0 + k); }
      let to = load_row(local, l) * K_ROW + k;
      for (var u = 0u; u < 4u; u++) { tiles[to + u] = f16(x[u]); }
    }
  }
  for (var i = local; i < W_FOURS; i += WG_SIZE) {
    let k = i / (TILE_N / 4u);
    let col = i % (TILE_N / 4u) * 4u;
    var w = vec4<f32>(0.0);
    if k0 + k < end { w = w_four(at.group, k0 + k, at.col + col); }
    let to = W_TILE + col * K_ROW + k;
    for (var u = 0u; u < 4u; u++) { tiles[to + u * K_ROW] = f16(w[u]); }
  }
}
