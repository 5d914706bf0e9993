// Bucket d has the places from `begin` to `end`; the last one is that of elements out of range.
fn run_store(d: u32, begin: u32, end: u32) {
  offsets[params.offsets_offset + d] = begin;
  if d < params.codes { count_store(d, end - begin); }
}
