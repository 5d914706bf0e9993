// Moves the running statistics of a channel towards those of this batch; its variance, without bias, is of scaled values.
fn running_store(s: u32, mean: f32, scaled: f32) {
  let variance = (scaled / params.scale) / params.scale;
  let at_mean = params.mean_at + s;
  running_mean[at_mean] = (1.0 - params.momentum) * running_mean[at_mean] + params.momentum * mean;
  let at_variance = params.variance_at + s;
  running_variance[at_variance] = (1.0 - params.momentum) * running_variance[at_variance] + params.momentum * variance;
}
