// d = op(a) op(b) by cooperative matrices of SIZE x SIZE: f16 in, f32 sums. A workgroup has TILE_M x TILE_N of d, in
// four blocks of 2 x 2 matrices, and takes TILE_K of k at a time through workgroup memory; a subgroup has a block.
// The tile of b is stored column by column, so that the right-hand matrices are loaded by runs of k, as the
// left-hand ones are (row by row, RDNA3 loads them two bytes at a time). Sums go through workgroup memory, too: only
// there is it known which element is where.
//
// Where a workgroup has fewer subgroups than four, because they are wider than expected, each takes one block
// after the other: slower, and right at any width.
//
// Constants: TILE_M, TILE_N, TILE_K, SIZE; TRANS_A, TRANS_B; GATED. Types: LEFT, RIGHT, PRODUCT.
// Bindings and the epilogue: gemm_epilogue.wgsl.
#import gemm_tile

const BLOCKS: u32 = 4u;
const BLOCK: u32 = 2u * SIZE;
const BLOCKS_N: u32 = TILE_N / BLOCK;
const K_ROW: u32 = TILE_K + 8u;  // apart by 16 bytes, so that neighbouring rows are in other banks
const PATCH: u32 = SIZE * SIZE;

var<workgroup> a_tile: array<f16, TILE_M * K_ROW>;
var<workgroup> b_tile: array<f16, TILE_N * K_ROW>;
var<workgroup> patches: array<f32, BLOCKS * PATCH>;
// Of b2, where GATED.
var<workgroup> gate_tile: array<f16, select(1u, TILE_N * K_ROW, GATED)>;
var<workgroup> gate_patches: array<f32, select(1u, BLOCKS * PATCH, GATED)>;

fn load_tiles(at: Place, k0: u32, local: u32) {
  let a0 = a_base(at);
  let b0 = b_base(at);
  let b20 = b2_base(at);
  for (var i = local; i < TILE_M * TILE_K / 4u; i += WG_SIZE) {
    var x = vec4<f32>(0.0);
    if TRANS_A {
      let row = i % (TILE_M / 4u) * 4u;
      let k = i / (TILE_M / 4u);
      if k0 + k < at.k_end { x = a_m4(a0, at.row + row, k0 + k); }
      for (var u = 0u; u < 4u; u++) { a_tile[(row + u) * K_ROW + k] = f16(x[u]); }
    } else {
      let k = i % (TILE_K / 4u) * 4u;
      let row = i / (TILE_K / 4u);
      if k0 + k < at.k_end { x = a_k4(a0, at.row + row, k0 + k); }
      for (var u = 0u; u < 4u; u++) { a_tile[row * K_ROW + k + u] = f16(x[u]); }
    }
  }
  for (var i = local; i < TILE_N * TILE_K / 4u; i += WG_SIZE) {
    var w = vec4<f32>(0.0);
    var gate_w = vec4<f32>(0.0);
    if TRANS_B {
      let k = i % (TILE_K / 4u) * 4u;
      let col = i / (TILE_K / 4u);
      if k0 + k < at.k_end {
        w = b_k4(b0, k0 + k, at.col + col);
        if GATED { gate_w = b2_k4(b20, k0 + k, at.col + col); }
      }
      for (var u = 0u; u < 4u; u++) {
        b_tile[col * K_ROW + k + u] = f16(w[u]);
        if GATED { gate_tile[col * K_ROW + k + u] = f16(gate_w[u]); }
      }
    } else {
      let col = i % (TILE_N / 4u) * 4u;
      let k = i / (TILE_N / 4u);
      if k0 + k < at.k_end {
        w = b_n4(b0, k0 + k, at.col + col);
        if GATED { gate_w = b2_n4(b20, k0 + k, at.col + col); }
      }
      for (var u = 0u; u < 4u; u++) {
        b_tile[(col + u) * K_ROW + k] = f16(w[u]);
        if GATED { gate_tile[(col + u) * K_ROW + k] = f16(gate_w[u]); }
      }
    }
  }
}

// Stores what the patches hold: of matrix (i, j) of the blocks from `first` on, one per subgroup.
fn store(at: Place, first: u32, subgroups: u32, i: u32, j: u32, local: u32) {
  for (var e = local; e < min(subgroups, BLOCKS) * PATCH / 4u; e += WG_SIZE) {
    let block = first + e / (PATCH / 4u);
    let row = e % (PATCH / 4u) / (SIZE / 4u);
    let col = e % (SIZE / 4u) * 4u;
    let p = 4u * e;
    if block < BLOCKS {
      var gate_v = vec4<f32>(0.0);
      if GATED { gate_v = vec4<f32>(gate_patches[p], gate_patches[p + 1u], gate_patches[p + 2u], gate_patches[p + 3u]); }
      finish(at, at.row + block / BLOCKS_N * BLOCK + i * SIZE + row, at.col + block % BLOCKS_N * BLOCK + j * SIZE + col, 4u,
        vec4<f32>(patches[p], patches[p + 1u], patches[p + 2u], patches[p + 3u]), gate_v);
    }
  }
}

@compute @workgroup_size(WG_SIZE)
fn gemm_coop(
  @builtin(workgroup_id) wg: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(num_subgroups) num_subgroups: u32,
) {
  var at = place(wg);
  // A workgroup past the end works on the first batch and stores nothing: matrices need control flow that is
  // uniform to see, and a return would not be.
  if at.batch >= params.batches {
    at.b0 = 0u;
    at.b1 = 0u;
    at.row = params.m;
  }
  let subgroups = clamp(num_subgroups, 1u, BLOCKS);
  let own = min(subgroup, BLOCKS - 1u) * PATCH;
  for (var first = 0u; first < BLOCKS; first += subgroups) {
    // Those past the last block repeat it.
    let block = min(first + subgroup, BLOCKS - 1u);
    let row = block / BLOCKS_N * BLOCK;
    let col = block % BLOCKS_N * BLOCK;
    for (var e = local; e < BLOCKS * PATCH; e += WG_SIZE) { patches[e] = 0.0; }
    workgroupBarrier();
    let zero = coopLoadT<PRODUCT>(&patches[own], SIZE);
    var acc00 = zero;
    var acc01 = zero;
    var acc10 = zero;
    var acc11 = zero;
    var gate_acc00 = zero;
    var gate_acc01 = zero;
    var gate_acc10 = zero;
    var gate_acc11 = zero;
    for (var k0 = at.k_first; k0 < at.k_end; k0 += TILE_K) {
      load_tiles(at, k0, local);
      workgroupBarrier();
      for (var k = 0u; k < TILE_K; k += SIZE) {
        let x0 = coopLoadT<LEFT>(&a_tile[row * K_ROW + k], K_ROW);
        let x1 = coopLoadT<LEFT>(&a_tile[(row + SIZE) * K_ROW + k], K_ROW);
        let w0 = coopLoad<RIGHT>(&b_tile[col * K_ROW + k], K_ROW);
        let w1 = coopLoad<RIGHT>(&b_tile[(col + SIZE) * K_ROW + k], K_ROW);
        acc00 = coopMultiplyAdd(x0, w0, acc00);
        acc01 = coopMultiplyAdd(x0, w1, acc01);
        acc10 = coopMultiplyAdd(x1, w0, acc10);
        acc11 = coopMultiplyAdd(x1, w1, acc11);
        if GATED {
          let v0 = coopLoad<RIGHT>(&gate_tile[col * K_ROW + k], K_ROW);
          let v1 = coopLoad<RIGHT>(&gate_tile[(col + SIZE) * K_ROW + k], K_ROW);
          gate_acc00 = coopMultiplyAdd(x0, v0, gate_acc00);
          gate_acc01 = coopMultiplyAdd(x0, v1, gate_acc01);
          gate_acc10 = coopMultiplyAdd(x1, v0, gate_acc10);
          gate_acc11 = coopMultiplyAdd(x1, v1, gate_acc11);
        }
      }
      workgroupBarrier();
    }
    coopStoreT(acc00, &patches[own], SIZE);
    if GATED { coopStoreT(gate_acc00, &gate_patches[own], SIZE); }
    workgroupBarrier();
    store(at, first, subgroups, 0u, 0u, local);
    workgroupBarrier();
    coopStoreT(acc01, &patches[own], SIZE);
    if GATED { coopStoreT(gate_acc01, &gate_patches[own], SIZE); }
    workgroupBarrier();
    store(at, first, subgroups, 0u, 1u, local);
    workgroupBarrier();
    coopStoreT(acc10, &patches[own], SIZE);
    if GATED { coopStoreT(gate_acc10, &gate_patches[own], SIZE); }
    workgroupBarrier();
    store(at, first, subgroups, 1u, 0u, local);
    workgroupBarrier();
    coopStoreT(acc11, &patches[own], SIZE);
    if GATED { coopStoreT(gate_acc11, &gate_patches[own], SIZE); }
    workgroupBarrier();
    store(at, first, subgroups, 1u, 1u, local);
    workgroupBarrier();
  }
}
