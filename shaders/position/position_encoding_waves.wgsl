// The sinus of each element's angle.
alias F = f32;
alias U = u32;
alias I = i32;
#import rope_turn

fn wave(i: u32) -> f32 {
  let turns = waves[i];
  let at = select(place.x, place.y, (turns.y & 2u) != 0u);
  let lower = turns.y & 0xfffffffcu;
  // The 96-bit product modulo 2^64; a negative position is its word less 2^32.
  let negative = at >= 0x80000000u && (params.flags & SIGNED) != 0u;
  let upper = turns.x * at + multiply_high(lower, at) - select(0u, lower, negative);
  return sincos_turn(upper + ((turns.y & 1u) << 30u), lower * at).sin;
}

fn encoding_of(c: u32, phase: u32) -> V { return wave_chunk(0u, 1u, c, phase, params.dim); }
