// First of two steps for few, very long rows: the row is split into `parts` of `part_chunks` chunks, so that more
// workgroups than rows are busy. Workgroup w = y * grid_x + x has part w % parts of row w / parts, and leaves the row's
// pivot and the part's count, means, m2 and product in parts[6 * w ..].
#import norm_backward_row
#import norm_backward_part

@compute @workgroup_size(WG_SIZE)
fn norm_backward_split_reduce(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  let w = wg.y * params.grid_x + wg.x;
  if w >= params.rows * params.parts { return; } // uniform: a whole workgroup
  let r = row_at(w / params.parts);
  let first = (w % params.parts) * params.part_chunks;
  let own = part_moments(r, ids.invocation, first, min(first + params.part_chunks, r.chunks));
  var count = 0.0;
  if LAYER { count = reduce_sum(h_sum(own.count), ids); }
  let m = gathered(own, max(count, 1.0), ids);
  if ids.invocation == 0u {
    parts[6u * w] = r.pivot;
    parts[6u * w + 1u] = count;
    for (var i = 0u; i < 4u; i++) { parts[6u * w + 2u + i] = m[i]; }
  }
}
