// How many elements of each part have each digit.
//
// Bindings (group 0)
//   0 indices     keys u32, i32 or u16 [n, segments] by strides
//   4 table       u32 [digits, parts], written
//   5 or 1 from_order  u32 [total] (where it is not the first pass)
//
// A workgroup has a part, and counts in its memory; the order of integer sums does not matter.
#import counting_sort_bucket

var<workgroup> found: array<atomic<u32>, DIGITS>;

@compute @workgroup_size(WG_SIZE)
fn counting_sort_count_tiles(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let part = wg.y * params.grid_x + wg.x;
  if part >= params.parts { return; } // uniform: a whole workgroup
  for (var d = local; d < DIGITS; d += WG_SIZE) { atomicStore(&found[d], 0u); }
  workgroupBarrier();
  let begin = min(part * params.part, params.total);
  let end = min(begin + params.part, params.total);
  for (var i = begin + local; i < end; i += WG_SIZE) { atomicAdd(&found[min(digit(element(i)), DIGITS - 1u)], 1u); }
  workgroupBarrier();
  for (var d = local; d < params.digits; d += WG_SIZE) { table[d * params.parts + part] = atomicLoad(&found[d]); }
}
