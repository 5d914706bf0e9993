// What the steps of speculative_tree share.
//
// Bindings (group 0)
//   0 parents   i32 [len], or [batch, len]
//   1 proposed  i32 [batch, len]
//   2 drawn     u32 [batch, len + 1]
//   3 wanted    f32 [batch, len + 1, vocab] by strides
//   4 accepted  u32 [batch]
//   5 tokens    i32 [batch, depth + 1]
//   6 path      i32 [batch, depth]
//   7 state     words. 2 * parts per place: the entropy of each part, in units of 2^-40; then 4 per node: bits of its probability, 0 where
//               it does not stand; how deep it stands; of the product of the probabilities on its path the exponent and the fraction
//   8 draft     f32 [batch, len + 1, vocab] by strides
//   9 uniforms  f32 [batch, len + 1]
//
// Place 0 is the token before the tree, place i + 1 the one behind node i.

// The place that a node continues: that of its parent, or 0. A parent is before its child, whatever the buffer says.
fn place_of(row: u32, node: u32) -> u32 {
  let parent = u32(parents[params.parents_offset + row * params.parents_step + node]);
  return select(0u, parent + 1u, parent < node);
}
