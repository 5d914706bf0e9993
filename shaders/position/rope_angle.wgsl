// The angles of pairs: positions, and the table of pairs or the tables of cos and sin, as rope.wgsl has them. Bits of params.flags: SIGNED, SEVERAL_AXES.
#import rope_turn

// The position of each pair of the item. Any value is safe: fractions wrap, tables are clamped.
fn token_positions(b: u32, s: u32, item: u32) -> U {
  if !HAS_POSITIONS { return U(params.first_position + s); }
  let at = params.first_position + b * params.positions_step + s;
  if (params.flags & SEVERAL_AXES) == 0u { return U(positions_load(at)); }
  return positions_load_each(at + pairs[3u * item + 2u]);
}

// cos and sin of the angle of each pair, times their factors (attention scaling; the inverse has a negative
// sin_factor).
fn angle(item: u32, position: U) -> SinCos {
  let upper = pairs[3u * item];
  let lower = pairs[3u * item + 1u];
  let negative = (position >= U(0x80000000u)) & (U(params.flags & SIGNED) != U(0u));
  var turn: SinCos;
  if HAS_COS_TABLE {
    let row = min(select(position, U(0u), negative), U(params.max_pos - 1u)) * (params.pair_items * PAIRS);
    turn = SinCos(sin_table_load_each(lower + row), cos_table_load_each(upper + row));
  } else {
    // The 96-bit product modulo 2^64; a negative position is its word less 2^32.
    let high = upper * position + multiply_high(lower, position) - select(U(0u), lower, negative);
    turn = sincos_turn(high, lower * position);
  }
  return SinCos(turn.sin * params.sin_factor, turn.cos * params.cos_factor);
}
