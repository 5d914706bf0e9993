// How many elements of each part have each digit.
//
// Bindings (group 0)
//   0 indices     keys u32, i32 or u16 [n, segments] by strides
//   4 table       u32 [parts / SIDE, digits, SIDE], zeros before
//   5 from_order  u32 [total] (where it is not the first pass)
//
// An invocation has a part: a run of elements, which it takes in order.
#import counting_sort_bucket
#import counting_sort_cell

@compute @workgroup_size(WG_SIZE)
fn counting_sort_count_runs(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let part = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  if part >= params.parts { return; }
  let begin = min(part * params.part, params.total);
  let end = min(begin + params.part, params.total);
  for (var i = begin; i < end; i++) { table[cell(digit(element(i)), part)] += 1u; }
}
