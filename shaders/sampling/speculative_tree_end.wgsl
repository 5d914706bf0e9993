// What is written of a path of `count` nodes, besides these: behind them the token drawn at its end, then -1.
fn proposed_of(row: u32, node: u32) -> i32 { return proposed[params.proposed_offset + row * params.len + node]; }
fn drawn_of(row: u32, place: u32) -> u32 { return drawn[params.drawn_offset + row * (params.len + 1u) + place]; }

fn store_node(row: u32, at: u32, node: u32) {
  path[params.path_offset + row * params.depth + at] = i32(node);
  tokens[params.tokens_offset + row * (params.depth + 1u) + at] = proposed_of(row, node);
}

fn store_end(row: u32, count: u32, place: u32) {
  let to = params.tokens_offset + row * (params.depth + 1u);
  tokens[to + count] = i32(drawn_of(row, place));
  for (var i = count; i < params.depth; i++) {
    tokens[to + i + 1u] = -1;
    path[params.path_offset + row * params.depth + i] = -1;
  }
  accepted[params.accepted_offset + row] = count;
}
