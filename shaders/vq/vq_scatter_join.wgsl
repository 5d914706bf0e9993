// Sums of long runs: what vq_scatter_sum left of their blocks is added, block by block.
//
// Bindings (group 0)
//   2 sums     f32 [books, num_codes, cols]
//   4 scratch  u32: elements sorted by code [total], where the runs of codes begin [codes + 1], and f32 [blocks, cols]
//
// LANES invocations have a block; those of the last block of a run do it.
#import vq_scatter_run

@compute @workgroup_size(WG_SIZE)
fn vq_scatter_join(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let block = (wg.y * params.grid_x + wg.x) * (WG_SIZE / LANES) + local / LANES + 1u;
  let lane = local % LANES;
  if block > params.joins { return; }
  let begin = block << params.block_bits;
  let code = code_at(begin);
  let run = run_of(code);
  if run.x >= begin || run.y <= begin || run.y > (block + 1u) << params.block_bits { return; }
  let at = params.sums_offset + code * params.cols;
  let chunks = chunk_count(params.cols, 0u);
  for (var c = lane; c < chunks; c += LANES) {
    var sum = sums_chunk(at, c, 0u, params.cols);
    for (var b = run.x >> params.block_bits; b < block; b++) { sum += partial_load(b, c); }
    sums_store(at, c, 0u, params.cols, sum);
  }
}
