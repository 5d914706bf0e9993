// The tiles of gemm_coop by fours, of any k: zeros from k_end on. Rows and columns past the end repeat the last ones.

// Nothing is known ahead.
struct Loads {
  none: u32,
}

fn loads_of(at: Place, local: u32) -> Loads { return Loads(); }

fn put_along(to: u32, x: vec4<f32>) {
  for (var u = 0u; u < 4u; u++) { tiles[to + u] = f16(x[u]); }
}

fn put_across(to: u32, x: vec4<f32>) {
  for (var u = 0u; u < 4u; u++) { tiles[to + u * K_ROW] = f16(x[u]); }
}

fn fill_tiles(at: Place, loads: Loads, k0: u32, local: u32) {
  let a0 = a_base(at);
  let b0 = b_base(at);
  let b20 = b2_base(at);
  for (var i = local; i < TILE_M * TILE_K / 4u; i += WG_SIZE) {
    var x = vec4<f32>(0.0);
    if TRANS_A {
      let row = i % (TILE_M / 4u) * 4u;
      let k = i / (TILE_M / 4u);
      if k0 + k < at.k_end { x = a_m4(a0, at.row + row, k0 + k); }
      put_across(row * K_ROW + k, x);
    } else {
      let k = i % (TILE_K / 4u) * 4u;
      let row = i / (TILE_K / 4u);
      if k0 + k < at.k_end { x = a_k4(a0, at.row + row, k0 + k); }
      put_along(row * K_ROW + k, x);
    }
  }
  for (var i = local; i < TILE_N * TILE_K / 4u; i += WG_SIZE) {
    var w = vec4<f32>(0.0);
    var v = vec4<f32>(0.0);
    if TRANS_B {
      let k = i % (TILE_K / 4u) * 4u;
      let col = i / (TILE_K / 4u);
      if k0 + k < at.k_end {
        w = b_k4(b0, k0 + k, at.col + col);
        if GATED { v = b2_k4(b20, k0 + k, at.col + col); }
      }
      put_along(B_TILE + col * K_ROW + k, w);
      if GATED { put_along(GATE_TILE + col * K_ROW + k, v); }
    } else {
      let col = i % (TILE_N / 4u) * 4u;
      let k = i / (TILE_N / 4u);
      if k0 + k < at.k_end {
        w = b_n4(b0, k0 + k, at.col + col);
        if GATED { v = b2_n4(b20, k0 + k, at.col + col); }
      }
      put_across(B_TILE + col * K_ROW + k, w);
      if GATED { put_across(GATE_TILE + col * K_ROW + k, v); }
    }
  }
}
