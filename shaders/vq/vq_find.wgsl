// A code that is in the book, whatever the index says.
struct Found { code: u32, zero: bool }

fn find_code(i: u32, count: bool) -> Found {
  let code = code_index(i);
  if code < params.num_codes { return Found(code, false); }
  if count { note_bad(); }
  return Found(code_instead(code, params.num_codes), params.out_of_range == OUT_OF_RANGE_ZERO);
}
