// Loads of right by fours of 16 bits.
#import pack

fn right_four(i: u32, live: u32) -> vec4<f32> {
  let w = right[i / 4u];
  if params.c_kind == KIND_BF16 { return vec4<f32>(unpack_bf16(w.x), unpack_bf16(w.y)); }
  return vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y));
}
fn right_columns(row: u32, cols: vec4<u32>) -> vec4<f32> { return right_four(row + cols.x, 4u); }
