// A convolution as a product by cooperative matrices of SIZE x SIZE: f16 in, f32 sums. Rows are the pixels of y, columns its channels, k
// taps and channels of x. A workgroup has TILE_M x TILE_N of y, in blocks of THREAD_M x THREAD_N, and takes TILE_K of k at a time
// through workgroup memory; a subgroup has a block, of ROWS x COLS matrices. Windows of the rows that an invocation loads are
// found once. The tile of the weights is stored column by column, so that all matrices are loaded by runs of k. How the tiles are
// filled: conv_coop_eights.wgsl, conv_coop_fours.wgsl.
//
// Sums go through workgroup memory, too: only there is it known which element is where. A patch has two matrices of a block side by
// side. Where a workgroup has fewer subgroups than blocks, because they are wider than expected, each takes one block after the other.
//
// Constants: TILE_M, TILE_N, TILE_K, THREAD_M, THREAD_N, SIZE; RUN, elements of x that are loaded at a time; CHANNELS_LAST; MAPPED.
// Types: LEFT, RIGHT, PRODUCT. Bindings and the epilogue: conv_finish.wgsl.

const ROWS: u32 = THREAD_M / SIZE;
const COLS: u32 = THREAD_N / SIZE;
const MATRICES: u32 = ROWS * COLS;
const BLOCKS_N: u32 = TILE_N / THREAD_N;
const BLOCKS: u32 = TILE_M / THREAD_M * BLOCKS_N;
const K_ROW: u32 = TILE_K + 8u; // apart by 16 bytes, so that neighbouring rows are in other banks
const W_TILE: u32 = TILE_M * K_ROW;
const X_RUNS: u32 = TILE_M * TILE_K / RUN;
const X_LOADS: u32 = (X_RUNS + WG_SIZE - 1u) / WG_SIZE;
const K_RUNS: u32 = TILE_K / RUN;
const PATCH_ROW: u32 = 2u * SIZE + 4u;
const PATCH: u32 = SIZE * PATCH_ROW;
// Fours of rows, and of columns, of a patch.
const PATCH_M: u32 = SIZE / 4u;
const PATCH_N: u32 = SIZE / 2u;

// Rows of x, then columns of the weights, each of K_ROW.
var<workgroup> tiles: array<f16, (TILE_M + TILE_N) * K_ROW>;
var<workgroup> patches: array<f32, BLOCKS * PATCH>;

// The row and the run of k of load l. With channels last neighbours have neighbouring k, where it divides a workgroup the same in all loads.
fn load_row(local: u32, l: u32) -> u32 {
  let i = local + l * WG_SIZE;
  return select(i % TILE_M, i / K_RUNS, CHANNELS_LAST);
}
fn load_k(local: u32, l: u32) -> u32 {
  let i = local + l * WG_SIZE;
  return select(i / TILE_M, select(i, local, WG_SIZE % K_RUNS == 0u) % K_RUNS, CHANNELS_LAST) * RUN;
}

fn patch_four(p: u32) -> vec4<f32> { return vec4<f32>(patches[p], patches[p + 1u], patches[p + 2u], patches[p + 3u]); }

// Stores what the patches hold: rows from i and columns from j on of the blocks from `first` on, one per subgroup.
fn store_patches(at: Place, phase: Phase, first: u32, blocks: u32, i: u32, j: u32, local: u32) {
  for (var e = local; e < blocks * PATCH_M * PATCH_N; e += WG_SIZE) {
    let block = first + e / (PATCH_M * PATCH_N);
    let row = select(e % PATCH_M, e / PATCH_N % PATCH_M, CHANNELS_LAST) * 4u;
    let col = select(e / PATCH_M % PATCH_N, e % PATCH_N, CHANNELS_LAST) * 4u;
    let p = e / (PATCH_M * PATCH_N) * PATCH + row * PATCH_ROW + col;
    if block < BLOCKS {
      let to = at.row + block / BLOCKS_N * THREAD_M + i + row;
      var start = start_of(phase, 0u, to);
      let sums = mat4x4<f32>(patch_four(p), patch_four(p + PATCH_ROW), patch_four(p + 2u * PATCH_ROW), patch_four(p + 3u * PATCH_ROW));
      finish(at.group, four_of(phase, &start, to), at.col + block % BLOCKS_N * THREAD_N + j + col, sums);
    }
  }
}

@compute @workgroup_size(WG_SIZE)
fn conv_coop(
  @builtin(workgroup_id) wg: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(num_subgroups) num_subgroups: u32,
) {
  var at = place(wg);
  let phase = phase_of(0u);
  // A workgroup past the end works on the last pixel and stores nothing: matrices need control flow that is uniform to see.
  if at.part >= params.parts { at.row = phase.rows; }
  let loads = loads_of(at, phase, local);

  let subgroups = clamp(num_subgroups, 1u, BLOCKS);
  let own = min(subgroup, BLOCKS - 1u) * PATCH;
  for (var first = 0u; first < BLOCKS; first += subgroups) {
    // Those past the last block repeat it.
    let block = min(first + subgroup, BLOCKS - 1u);
    let x0 = block / BLOCKS_N * THREAD_M * K_ROW;
    let w0 = W_TILE + block % BLOCKS_N * THREAD_N * K_ROW;
    var acc: array<PRODUCT, MATRICES>;
    for (var o = 0u; o < MATRICES; o++) { acc[o] = PRODUCT(); }
    for (var k0 = phase.first; k0 < phase.end; k0 += TILE_K) {
      fill_tiles(at, loads, k0, phase.end, local);
      workgroupBarrier();
      for (var k = 0u; k < TILE_K; k += SIZE) {
        var x: array<LEFT, ROWS>;
        for (var i = 0u; i < ROWS; i++) { x[i] = coopLoadT<LEFT>(&tiles[x0 + i * SIZE * K_ROW + k], K_ROW); }
        for (var j = 0u; j < COLS; j++) {
          let w = coopLoad<RIGHT>(&tiles[w0 + j * SIZE * K_ROW + k], K_ROW);
          for (var i = 0u; i < ROWS; i++) { acc[i * COLS + j] = coopMultiplyAdd(x[i], w, acc[i * COLS + j]); }
        }
      }
      workgroupBarrier();
    }
    for (var p = 0u; p < MATRICES; p += 2u) {
      // Only indices that are constant keep the sums in registers.
      for (var o = 0u; o < MATRICES; o++) {
        if o == p { coopStoreT(acc[o], &patches[own], PATCH_ROW); }
        if o == p + 1u { coopStoreT(acc[o], &patches[own + SIZE], PATCH_ROW); }
      }
      workgroupBarrier();
      store_patches(at, phase, first, subgroups, p / COLS * SIZE, p % COLS * SIZE, local);
      workgroupBarrier();
    }
  }
}
