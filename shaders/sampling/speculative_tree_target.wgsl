// Probabilities of the target: what is negative, not a number or below 2^-126 is 0, what is above 1 is that.
fn probability(v: f32) -> f32 {
  let bits = bitcast<u32>(v);
  return bitcast<f32>(select(min(bits, 0x3f800000u), 0u, bits < 0x00800000u || bits > 0x7f800000u));
}

fn target_at(row: u32, place: u32) -> u32 { return params.wanted.x + row * params.wanted.z + place * params.wanted.w; }
