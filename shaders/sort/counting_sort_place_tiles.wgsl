// Each element goes to its place.
//
// Bindings (group 0)
//   0 indices     keys u32, i32 or u16 [n, segments] by strides
//   1 or 5 order  u32 [total], written
//   2 offsets     u32 [codes + 1] (where OFFSETS)
//   3 counts      u32 [codes] (where COUNT)
//   4 table       u32 [digits, parts]: places within a digit, then the sums of digits [digits]
//   5 or 1 from_order  u32 [total] (where it is not the first pass)
//
// A workgroup has a part, and takes WG_SIZE elements at a time. Each sets its bit in the mask of its digit; the bits before
// its own tell how many of the tile stand before it. No width of a subgroup is taken for granted.
#import counting_sort_bucket
#import scan

const WORDS: u32 = (WG_SIZE + 31u) / 32u;
const EACH: u32 = (DIGITS + WG_SIZE - 1u) / WG_SIZE;
// Where the next element of a digit goes.
var<workgroup> next: array<u32, DIGITS>;
var<workgroup> masks: array<atomic<u32>, DIGITS * WORDS>;

@compute @workgroup_size(WG_SIZE)
fn counting_sort_place_tiles(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let part = wg.y * params.grid_x + wg.x;
  if part >= params.parts { return; } // uniform: a whole workgroup
  let sums = params.digits * params.parts;
  var own = 0u;
  for (var d = local * EACH; d < min(local * EACH + EACH, params.digits); d++) { own += table[sums + d]; }
  var at = scan_sums(own, local).x;
  for (var d = local * EACH; d < min(local * EACH + EACH, params.digits); d++) {
    next[d] = at + table[d * params.parts + part];
    let end = at + table[sums + d];
    if part == 0u { run_store(d, at, end); }
    at = end;
  }
  for (var i = local; i < DIGITS * WORDS; i += WG_SIZE) { atomicStore(&masks[i], 0u); }
  workgroupBarrier();

  let begin = min(part * params.part, params.total);
  let end = min(begin + params.part, params.total);
  let word = local / 32u;
  let bit = 1u << (local % 32u);
  for (var tile = begin; tile < end; tile += WG_SIZE) {
    let i = tile + local;
    let live = i < end;
    var e = 0u;
    var mask = 0u;
    if live {
      e = element(i);
      mask = min(digit(e), DIGITS - 1u) * WORDS;
      atomicOr(&masks[mask + word], bit);
    }
    workgroupBarrier();
    var before = 0u;
    var all = 0u;
    if live {
      for (var w = 0u; w < WORDS; w++) {
        let bits = atomicLoad(&masks[mask + w]);
        all += countOneBits(bits);
        before += select(countOneBits(bits & select(0u, bit - 1u, w == word)), countOneBits(bits), w < word);
      }
      order[params.order_offset + min(next[mask / WORDS] + before, params.total - 1u)] = e;
    }
    workgroupBarrier();
    if live {
      // The last one of its digit counts for all.
      if before + 1u == all { next[mask / WORDS] += all; }
      atomicStore(&masks[mask + word], 0u);
    }
    workgroupBarrier();
  }
}
