// What is written of a path: its nodes, and behind `count` of them one more token, then -1.
fn proposed_of(row: u32, node: u32) -> i32 { return proposed[params.proposed_offset + row * params.len + node]; }

fn store_node(row: u32, at: u32, node: u32) {
  path[params.path_offset + row * params.depth + at] = i32(node);
  tokens[params.tokens_offset + row * (params.depth + 1u) + at] = proposed_of(row, node);
}

fn store_end(row: u32, count: u32, token: u32) {
  let to = params.tokens_offset + row * (params.depth + 1u);
  tokens[to + count] = i32(token);
  for (var i = count; i < params.depth; i++) {
    tokens[to + i + 1u] = -1;
    path[params.path_offset + row * params.depth + i] = -1;
  }
  accepted[params.accepted_offset + row] = count;
}
