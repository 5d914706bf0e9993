// Where the run of each bucket begins in the sorted elements.
//
// Bindings (group 0)
//   0 indices  keys u32, i32 or u16 [n, segments] by strides
//   1 order    u32 [total]
//   2 offsets  u32 [codes + 1], written
//   3 counts   u32 [codes], written (where COUNT)
//
// An invocation has a bucket, and halves the places in which its run may begin.
#import counting_sort_bucket

// The first place of a bucket of at least b.
fn begin_of(b: u32) -> u32 {
  var low = 0u;
  var high = params.total;
  while low < high {
    let middle = low + (high - low) / 2u;
    if bucket(min(order[params.order_offset + middle], params.total - 1u)) < b { low = middle + 1u; } else { high = middle; }
  }
  return low;
}

@compute @workgroup_size(WG_SIZE)
fn counting_sort_offsets(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let b = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  if b > params.codes { return; }
  let begin = begin_of(b);
  offsets[params.offsets_offset + b] = begin;
  if COUNT && b < params.codes { count_store(b, begin_of(b + 1u) - begin); }
}
