// Moves the running sums, and the codes with them: code = sum / count, the count smoothed (Laplace). A code
// whose running count is below the least one is replaced by a vector of the batch.
//
// Bindings (group 0)
//   1 sums        f32 [books, num_codes, cols], of this batch
//   2 ema_counts  f32 [books, num_codes], as moved by vq_train_counts
//   3 ema_sums    f32 [books, num_codes, cols]
//   4 codebook    f32 [books, num_codes, cols]
//   5 x           [n, books, cols] by strides
//   6 stats       f32 [books, 2]
//
// An invocation has a code.
#import view
#import vq_random

@compute @workgroup_size(WG_SIZE)
fn vq_train_update(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  if i >= params.books * params.num_codes { return; }
  let book = i / params.num_codes;
  let at = i * params.cols;
  let count = ema_counts[i];
  if count < params.least && params.n > 0u {
    let row = random_row(i % params.num_codes, i);
    let start = view_at(params.x, 0u, row, book);
    for (var d = 0u; d < params.cols; d++) {
      let v = x_load(start + d);
      codebook[at + d] = v;
      ema_sums[at + d] = v * params.least;
    }
    ema_counts[i] = params.least;
    return;
  }
  let total = stats[2u * book];
  var smoothed = 0.0;
  if total > 0.0 { smoothed = (count + params.epsilon) / (total + f32(params.num_codes) * params.epsilon) * total; }
  for (var d = 0u; d < params.cols; d++) {
    let kept = select(params.decay * ema_sums[at + d], 0.0, params.decay == 0.0);
    let moved = kept + params.gain * sums[at + d];
    ema_sums[at + d] = moved;
    if smoothed > 0.0 { codebook[at + d] = moved / smoothed; }
  }
}
