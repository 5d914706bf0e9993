// The code in place of an index that none of `count` codes has: the first, or where the nearest is asked for the last; a negative index is
// nearest to the first.
fn code_instead(index: u32, count: u32) -> u32 {
  let signed = params.out_of_range == OUT_OF_RANGE_NEAREST_SIGNED;
  let last = params.out_of_range == OUT_OF_RANGE_NEAREST || (signed && index < 0x80000000u);
  return select(0u, count - 1u, last);
}
