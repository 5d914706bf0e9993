// Counts become places within their digit: how many elements of the parts before have it.
//
// Bindings (group 0)
//   4 table  u32 [digits, parts], then the sums of digits [digits], written
//
// A workgroup has a digit, an invocation neighbouring parts.
#import scan

@compute @workgroup_size(WG_SIZE)
fn counting_sort_scan_tiles(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let digit = wg.y * params.grid_x + wg.x;
  if digit >= params.digits { return; } // uniform: a whole workgroup
  let each = (params.parts + WG_SIZE - 1u) / WG_SIZE;
  let first = min(local * each, params.parts);
  let end = min(first + each, params.parts);
  let row = digit * params.parts;
  var sum = 0u;
  for (var part = first; part < end; part++) { sum += table[row + part]; }
  let sums = scan_sums(sum, local);
  var at = sums.x;
  for (var part = first; part < end; part++) {
    let count = table[row + part];
    table[row + part] = at;
    at += count;
  }
  if local == 0u { table[params.digits * params.parts + digit] = sums.y; }
}
