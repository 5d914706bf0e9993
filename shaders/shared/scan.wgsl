// Sums over a workgroup, in order. Called in uniform control flow.
var<workgroup> scanned: array<u32, 2u * WG_SIZE>;

// The sum of `v` over the invocations before, and over all.
fn scan_sums(v: u32, local: u32) -> vec2<u32> {
  var side = 0u;
  scanned[local] = v;
  workgroupBarrier();
  for (var step = 1u; step < WG_SIZE; step <<= 1u) {
    var sum = scanned[side + local];
    if local >= step { sum += scanned[side + local - step]; }
    side = WG_SIZE - side;
    scanned[side + local] = sum;
    workgroupBarrier();
  }
  let sums = vec2<u32>(scanned[side + local] - v, scanned[side + WG_SIZE - 1u]);
  workgroupBarrier(); // the next scan writes the same memory
  return sums;
}
