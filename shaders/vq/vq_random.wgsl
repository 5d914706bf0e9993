// A counter-based generator: a word per counter and key (Jarzynski and Olano, "Hash Functions for GPU
// Rendering", 2020: PCG's output function as a hash), twice.
fn pcg(v: u32) -> u32 {
  let state = v * 747796405u + 2891336453u;
  let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
  return (word >> 22u) ^ word;
}

fn random_word(counter: u32, key: u32) -> u32 { return pcg(counter ^ pcg(key)); }

// The vector that replaces code k: each code draws from a share of its own, so that no two draw the same.
fn random_row(k: u32, counter: u32) -> u32 {
  let share = max(params.n / params.num_codes, 1u);
  return (k * share + random_word(counter, params.seed) % share) % params.n;
}
