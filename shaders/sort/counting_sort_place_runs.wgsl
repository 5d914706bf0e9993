// Each element goes to its place.
//
// Bindings (group 0)
//   0 indices     keys u32, i32 or u16 [n, segments] by strides
//   1 or 5 order  u32 [total], written
//   4 table       u32 [parts / SIDE, digits, SIDE]: the place of the next element of the part with the digit
//   5 or 1 from_order  u32 [total] (where it is not the first pass)
//
// An invocation has a part, and takes its elements in order: equal digits stay in theirs.
#import counting_sort_bucket
#import counting_sort_cell

@compute @workgroup_size(WG_SIZE)
fn counting_sort_place_runs(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let part = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  if part >= params.parts { return; }
  let begin = min(part * params.part, params.total);
  let end = min(begin + params.part, params.total);
  for (var i = begin; i < end; i++) {
    let e = element(i);
    let at = cell(digit(e), part);
    let place = table[at];
    table[at] = place + 1u;
    order[params.order_offset + min(place, params.total - 1u)] = e;
  }
}
