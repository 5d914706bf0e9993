// What a token is drawn from: max(target - draft, 0) of a place, or target where that is 0 throughout or there is no draft.
#import sampling_units
#import speculative_verify_rows

struct Drawn {
  target_base: u32,
  draft_base: u32,
  has_draft: bool,
}

fn drawn_of(row: u32) -> Drawn {
  // The place is below params.len or that.
  let place = min(word(row_at(row) + PLACE), params.len);
  return Drawn(target_at(row, place), draft_at(row, min(place, max(params.len, 1u) - 1u)), place < params.len);
}

fn target_of(d: Drawn, c: u32) -> V { return wanted_chunk(d.target_base, c, 0u, params.vocab); }
fn draft_of(d: Drawn, c: u32) -> V {
  if !d.has_draft { return V(0.0); }
  return draft_chunk(d.draft_base, c, 0u, params.vocab);
}

// max(target - draft, 0)
fn residual(wanted: f32, draft: f32) -> f32 { return shown(shown(wanted) - shown(draft)); }

// Whether the residual counts, and the power of two that brings the largest weight of the row to between a half and 1.
struct Scale {
  residual: bool,
  factor: f32,
}

fn scale_of(row: u32) -> Scale {
  let residual = word(row_at(row) + RESIDUAL);
  let largest = select(word(row_at(row) + TARGET), residual, residual > 0u);
  return Scale(residual > 0u, bitcast<f32>((253u - clamp(largest >> 23u, 1u, 252u)) << 23u));
}

fn units_at(s: Scale, wanted: f32, draft: f32) -> vec2<u32> {
  let weight = select(shown(wanted), residual(wanted, draft), s.residual);
  return select(units_of(weight * s.factor), vec2<u32>(0u), weight == 0.0);
}
