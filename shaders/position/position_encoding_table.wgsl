// A row of a table; positions below and beyond take the first and the last one.
fn table_row(at: u32, count: u32) -> u32 {
  let negative = at >= 0x80000000u && params.signed != 0u;
  return select(min(at, count - 1u), 0u, negative) * params.dim;
}

fn encoding_of(c: u32, phase: u32) -> V {
  var v = table_chunk(params.table_offset + table_row(place.x, params.max_col), c, phase, params.dim);
  if HAS_ROWS {
    v += row_table_chunk(params.row_table_offset + table_row(place.y, params.max_row), c, phase, params.dim);
  }
  return v;
}
