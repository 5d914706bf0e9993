// Sums of numbers of 64 bits over a workgroup, in order. Called in uniform control flow.
#import fixed

var<workgroup> scanned64: array<vec2<u32>, 2u * WG_SIZE>;

struct Sums64 {
  before: vec2<u32>, // over the invocations before
  all: vec2<u32>,
}

fn scan64(v: vec2<u32>, local: u32) -> Sums64 {
  var side = 0u;
  scanned64[local] = v;
  workgroupBarrier();
  for (var step = 1u; step < WG_SIZE; step <<= 1u) {
    var sum = scanned64[side + local];
    if local >= step { sum = add64(sum, scanned64[side + local - step]); }
    side = WG_SIZE - side;
    scanned64[side + local] = sum;
    workgroupBarrier();
  }
  let sums = Sums64(sub64(scanned64[side + local], v), scanned64[side + WG_SIZE - 1u]);
  workgroupBarrier(); // the next scan writes the same memory
  return sums;
}
