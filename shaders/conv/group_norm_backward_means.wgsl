// Means over a set, of g n and of g.
fn means_store(s: u32, slope: f32, mean: f32) {
  means_of_sets[s] = slope;
  means_of_sets[params.outputs + s] = mean;
}
