// The sums of four rows of the gradient of the weights, those of a part.

// Rows from `row` on, of which `live` are there.
struct Four { row: u32, live: u32, part: u32 }

alias Start = u32;
fn start_of(phase: Phase, part: u32, row: u32) -> Start { return part; }

fn four_of(phase: Phase, start: ptr<function, Start>, row: u32) -> Four {
  return Four(row, min(params.rows - min(row, params.rows), 4u), *start);
}

fn finish(group: u32, four: Four, col: u32, sums: mat4x4<f32>) {
  if col >= params.cols { return; }
  var rows = sums;
  for (var r = 0u; r < four.live; r++) { finish_row(group, four.part, four.row + r, col, rows[r]); }
}
