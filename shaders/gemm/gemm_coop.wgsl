// d = op(a) op(b) by cooperative matrices of SIZE x SIZE: f16 in, f32 sums. A workgroup has TILE_M x TILE_N of d, in
// blocks of THREAD_M x THREAD_N, and takes TILE_K of k at a time through workgroup memory; a subgroup has a block, of
// ROWS x COLS matrices. The tile of b is stored column by column, so that the right-hand matrices are loaded by runs of
// k, as the left-hand ones are (row by row, RDNA3 loads them two bytes at a time).
//
// Sums go through workgroup memory, too: only there is it known which element is where. A patch has two matrices of a
// block side by side: neighbours in d, or where GATED the two products. Where STRAIGHT there is nothing to do to
// them: tiles that lie wholly in d are stored as they are, matrix by matrix.
//
// Where a workgroup has fewer subgroups than blocks, because they are wider than expected, each takes one block after the
// other: slower, and right at any width.
//
// Constants: TILE_M, TILE_N, TILE_K, THREAD_M, THREAD_N, SIZE; TRANS_A, TRANS_B; GATED; STRAIGHT. Types: LEFT, RIGHT,
// PRODUCT. How the tiles are filled: gemm_coop_whole.wgsl, gemm_coop_guarded.wgsl. Bindings and the epilogue:
// gemm_epilogue.wgsl.

const ROWS: u32 = THREAD_M / SIZE;
const COLS: u32 = THREAD_N / SIZE;
const MATRICES: u32 = ROWS * COLS;
const BLOCKS_N: u32 = TILE_N / THREAD_N;
const BLOCKS: u32 = TILE_M / THREAD_M * BLOCKS_N;
const PRODUCTS: u32 = select(1u, 2u, GATED);
const K_ROW: u32 = TILE_K + 8u;  // apart by 16 bytes, so that neighbouring rows are in other banks
const B_TILE: u32 = TILE_M * K_ROW;
const GATE_TILE: u32 = B_TILE + TILE_N * K_ROW;
// Columns of d that a patch has, and its rows in memory, apart by 16 bytes.
const WIDE: u32 = 2u * SIZE / PRODUCTS;
const PATCH_ROW: u32 = 2u * SIZE + 4u;
const PATCH: u32 = SIZE * PATCH_ROW;

// Rows of a, columns of b, and where GATED those of b2, each of K_ROW.
var<workgroup> tiles: array<f16, (TILE_M + PRODUCTS * TILE_N) * K_ROW>;
var<workgroup> patches: array<f32, BLOCKS * PATCH>;

// Four sums of a patch.
fn patch_four(p: u32) -> vec4<f32> { return vec4<f32>(patches[p], patches[p + 1u], patches[p + 2u], patches[p + 3u]); }

// Stores what the patches hold: rows from i and columns from j on of the blocks from `first` on, one per subgroup.
fn store_patches(at: Place, first: u32, blocks: u32, i: u32, j: u32, local: u32) {
  for (var e = local; e < blocks * SIZE * (WIDE / 4u); e += WG_SIZE) {
    let slot = e / (SIZE * (WIDE / 4u));
    let row = e / (WIDE / 4u) % SIZE;
    let col = e % (WIDE / 4u) * 4u;
    let block = first + slot;
    let p = slot * PATCH + row * PATCH_ROW + col;
    var gate_sum = vec4<f32>(0.0);
    if GATED { gate_sum = patch_four(p + SIZE); }
    if block < BLOCKS {
      let to = vec2<u32>(at.row + block / BLOCKS_N * THREAD_M + i + row, at.col + block % BLOCKS_N * THREAD_N + j + col);
      finish(at, to.x, to.y, 4u, patch_four(p), gate_sum);
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
  b_start(local);
  var at = place(wg);
  // A workgroup past the end works on the first batch and stores nothing: matrices need control flow that is
  // uniform to see, and a return would not be.
  if at.batch >= params.batches {
    at.b0 = 0u;
    at.b1 = 0u;
    at.row = params.m;
  }
  let loads = loads_of(at, local);
  let subgroups = clamp(num_subgroups, 1u, BLOCKS);
  let own = min(subgroup, BLOCKS - 1u) * PATCH;
  for (var first = 0u; first < BLOCKS; first += subgroups) {
    // Those past the last block repeat it.
    let block = min(first + subgroup, BLOCKS - 1u);
    let row = block / BLOCKS_N * THREAD_M;
    let col = block % BLOCKS_N * THREAD_N;
    let x0 = row * K_ROW;
    let w0 = B_TILE + col * K_ROW;
    var acc: array<PRODUCT, MATRICES>;
    var gate_acc: array<PRODUCT, select(1u, MATRICES, GATED)>;
    for (var o = 0u; o < MATRICES; o++) {
      acc[o] = PRODUCT();
      if GATED { gate_acc[o] = PRODUCT(); }
    }
    for (var k0 = at.k_first; k0 < at.k_end; k0 += TILE_K) {
      fill_tiles(at, loads, k0, local);
      workgroupBarrier();
      for (var k = 0u; k < TILE_K; k += SIZE) {
        var x: array<LEFT, ROWS>;
        for (var i = 0u; i < ROWS; i++) { x[i] = coopLoadT<LEFT>(&tiles[x0 + i * SIZE * K_ROW + k], K_ROW); }
        for (var j = 0u; j < COLS; j++) {
          let w = coopLoad<RIGHT>(&tiles[w0 + j * SIZE * K_ROW + k], K_ROW);
          for (var i = 0u; i < ROWS; i++) { acc[i * COLS + j] = coopMultiplyAdd(x[i], w, acc[i * COLS + j]); }
          if GATED {
            let v = coopLoad<RIGHT>(&tiles[w0 + (TILE_N + j * SIZE) * K_ROW + k], K_ROW);
            for (var i = 0u; i < ROWS; i++) {
              gate_acc[i * COLS + j] = coopMultiplyAdd(x[i], v, gate_acc[i * COLS + j]);
            }
          }
        }
      }
      workgroupBarrier();
    }
    if STRAIGHT && at.row + TILE_M <= rows_end(at) && at.col + TILE_N <= params.n {
      for (var o = 0u; o < MATRICES; o++) { store_straight(at, row + o / COLS * SIZE, col + o % COLS * SIZE, acc[o]); }
    } else {
      for (var p = 0u; p < MATRICES; p += 2u / PRODUCTS) {
        // Only indices that are constant keep the sums in registers.
        for (var o = 0u; o < MATRICES; o++) {
          if o == p { coopStoreT(acc[o], &patches[own], PATCH_ROW); }
          if GATED {
            if o == p { coopStoreT(gate_acc[o], &patches[own + SIZE], PATCH_ROW); }
          } else if o == p + 1u {
            coopStoreT(acc[o], &patches[own + SIZE], PATCH_ROW);
          }
        }
        workgroupBarrier();
        store_patches(at, first, subgroups, p / COLS * SIZE, p % COLS * SIZE, local);
        workgroupBarrier();
      }
    }
  }
}
