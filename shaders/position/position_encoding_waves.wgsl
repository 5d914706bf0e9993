// The sine of each element's angle. F, U and I are scalars.
#import rope_turn

fn wave(i: u32) -> f32 {
  let turns = waves[i];
  let at = select(place.x, place.y, (turns.y & SECOND) != 0u);
  let lower = turns.y & ~(COSINE | SECOND);
  // The 96-bit product modulo 2^64; a negative position is its word less 2^32.
  let negative = at >= 0x80000000u && params.signed != 0u;
  let upper = turns.x * at + multiply_high(lower, at) - select(0u, lower, negative);
  return sincos_turn(upper + select(0u, 0x40000000u, (turns.y & COSINE) != 0u), lower * at).sin;
}

fn encoding_of(c: u32, phase: u32) -> V { return wave_chunk(0u, 1u, c, phase, params.dim); }
