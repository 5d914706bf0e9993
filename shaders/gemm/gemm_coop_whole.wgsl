// The tiles of gemm_coop where a and b are read by eights. A tile that has all of its k is filled without a test or a
// clamp; with TAIL the last one may lack some, which are zeros. Rows and columns past the end repeat the last ones: nobody
// stores what comes of them.

fn b_start(local: u32) {}

const A_LOADS: u32 = (TILE_M * TILE_K / 8u + WG_SIZE - 1u) / WG_SIZE;
const B_LOADS: u32 = (TILE_N * TILE_K / 8u + WG_SIZE - 1u) / WG_SIZE;

// What an invocation loads: each load at k_first, in eights; elements from one k to the next.
struct Loads {
  a: array<u32, A_LOADS>,
  b: array<u32, B_LOADS>,
  a_step: u32,
  b_step: u32,
  gate: u32,  // from an element of b to that of b2
}

// Runs of eight along k, or across it, of a tile's rows or columns.
fn along_k(i: u32) -> vec2<u32> { return vec2<u32>(i / (TILE_K / 8u), i % (TILE_K / 8u) * 8u); }
fn across_k(i: u32, size: u32) -> vec2<u32> { return vec2<u32>(i % (size / 8u) * 8u, i / (size / 8u)); }

fn a_run(i: u32) -> vec2<u32> {
  if TRANS_A { return across_k(i, TILE_M); }
  return along_k(i);
}
fn b_run(i: u32) -> vec2<u32> {
  if TRANS_B { return along_k(i); }
  return across_k(i, TILE_N);
}

// Which run load l is of; those past the last repeat it.
fn a_place(local: u32, l: u32) -> u32 { return min(local + l * WG_SIZE, TILE_M * TILE_K / 8u - 1u); }
fn b_place(local: u32, l: u32) -> u32 { return min(local + l * WG_SIZE, TILE_N * TILE_K / 8u - 1u); }

fn loads_of(at: Place, local: u32) -> Loads {
  var loads: Loads;
  let a0 = a_base(at);
  let b0 = b_base(at);
  for (var l = 0u; l < A_LOADS; l++) {
    let run = a_run(a_place(local, l)) + vec2<u32>(at.row, at.k_first);
    if TRANS_A {
      loads.a[l] = (a0 + run.y * params.a.w + min(run.x, params.m - 8u)) / 8u;
    } else {
      loads.a[l] = (a0 + min(run.x, params.m - 1u) * params.a.w + run.y) / 8u;
    }
  }
  for (var l = 0u; l < B_LOADS; l++) {
    let run = b_run(b_place(local, l)) + vec2<u32>(at.col, at.k_first);
    if TRANS_B {
      loads.b[l] = (b0 + min(run.x, params.n - 1u) * params.b.w + run.y) / 8u;
    } else {
      loads.b[l] = (b0 + run.y * params.b.w + min(run.x, params.n - 8u)) / 8u;
    }
  }
  loads.a_step = select(1u, params.a.w, TRANS_A);
  loads.b_step = select(params.b.w, 1u, TRANS_B);
  if GATED { loads.gate = b2_base(at) / 8u - b0 / 8u; }
  return loads;
}

fn put_along(to: u32, x: mat2x4<f16>) {
  for (var u = 0u; u < 4u; u++) {
    tiles[to + u] = x[0u][u];
    tiles[to + u + 4u] = x[1u][u];
  }
}

fn put_across(to: u32, x: mat2x4<f16>) {
  for (var u = 0u; u < 4u; u++) {
    tiles[to + u * K_ROW] = x[0u][u];
    tiles[to + (u + 4u) * K_ROW] = x[1u][u];
  }
}

fn fill_tiles(at: Place, loads: Loads, k0: u32, local: u32) {
  if TAIL && at.k_end - k0 < TILE_K { fill(at, loads, k0, local, true); } else { fill(at, loads, k0, local, false); }
}

// With `guarded`, runs from k_end on are zeros: one along k is a multiple of 8, as k is where it is stored along rows.
fn fill(at: Place, loads: Loads, k0: u32, local: u32, guarded: bool) {
  var x: array<mat2x4<f16>, A_LOADS>;
  var w: array<mat2x4<f16>, B_LOADS>;
  var v: array<mat2x4<f16>, B_LOADS>;
  let k = k0 - at.k_first;
  let a0 = k * loads.a_step / 8u;
  let b0 = k * loads.b_step / 8u;
  for (var l = 0u; l < A_LOADS; l++) {
    x[l] = mat2x4<f16>();
    if !guarded || k0 + a_run(a_place(local, l)).y < at.k_end { x[l] = a_eight(loads.a[l] + a0); }
  }
  for (var l = 0u; l < B_LOADS; l++) {
    w[l] = mat2x4<f16>();
    v[l] = mat2x4<f16>();
    if !guarded || k0 + b_run(b_place(local, l)).y < at.k_end {
      w[l] = b_eight(loads.b[l] + b0);
      if GATED { v[l] = b2_eight(loads.b[l] + b0 + loads.gate); }
    }
  }
  for (var l = 0u; l < A_LOADS; l++) {
    let i = local + l * WG_SIZE;
    let run = a_run(i);
    if A_LOADS * WG_SIZE * 8u == TILE_M * TILE_K || i * 8u < TILE_M * TILE_K {
      if TRANS_A { put_across(run.x * K_ROW + run.y, x[l]); } else { put_along(run.x * K_ROW + run.y, x[l]); }
    }
  }
  for (var l = 0u; l < B_LOADS; l++) {
    let i = local + l * WG_SIZE;
    let run = b_run(i);
    let to = B_TILE + run.x * K_ROW + run.y;
    if B_LOADS * WG_SIZE * 8u == TILE_N * TILE_K || i * 8u < TILE_N * TILE_K {
      if TRANS_B { put_along(to, w[l]); } else { put_across(to, w[l]); }
      if GATED {
        if TRANS_B { put_along(to + TILE_N * K_ROW, v[l]); } else { put_across(to + TILE_N * K_ROW, v[l]); }
      }
    }
  }
}
