// Sorted elements in scratch: where the run of each code lies.

// The places of a code's elements, from x on and below y.
fn run_of(code: u32) -> vec2<u32> {
  let at = params.offsets_offset + code;
  return min(vec2<u32>(scratch[at], scratch[at + 1u]), vec2<u32>(params.total));
}

// The code whose run holds a place; the last one, where that of no code does.
fn code_at(place: u32) -> u32 {
  var low = 0u;
  var high = params.codes - 1u;
  while low < high {
    let middle = low + (high - low + 1u) / 2u;
    if scratch[params.offsets_offset + middle] <= place { low = middle; } else { high = middle - 1u; }
  }
  return low;
}
