// Codes of 4 bits that are places in TABLE: eight in a word. The table lies in workgroup memory: indexed by what a buffer holds, it would
// be copied to memory of the invocation's own.
struct Codes { w: vec4<u32> }

var<workgroup> weights_table: array<f32, 16>;

// Before anything is decoded, in uniform control flow.
fn weights_start(local: u32) {
  if local == 0u {
    weights_table[0] = TABLE[0];
    weights_table[1] = TABLE[1];
    weights_table[2] = TABLE[2];
    weights_table[3] = TABLE[3];
    weights_table[4] = TABLE[4];
    weights_table[5] = TABLE[5];
    weights_table[6] = TABLE[6];
    weights_table[7] = TABLE[7];
    weights_table[8] = TABLE[8];
    weights_table[9] = TABLE[9];
    weights_table[10] = TABLE[10];
    weights_table[11] = TABLE[11];
    weights_table[12] = TABLE[12];
    weights_table[13] = TABLE[13];
    weights_table[14] = TABLE[14];
    weights_table[15] = TABLE[15];
  }
  workgroupBarrier();
}

fn codes_at(row: u32, k: u32, four: bool) -> Codes { return Codes(code_words(row, k / 8u, four) >> vec4<u32>((k & 4u) * 4u)); }
fn code_of(c: Codes, j: u32) -> vec4<f32> {
  let i = (c.w >> vec4<u32>(4u * j)) & vec4<u32>(15u);
  return vec4<f32>(weights_table[i.x], weights_table[i.y], weights_table[i.z], weights_table[i.w]);
}
fn code_unit(j: u32) -> f32 { return 1.0; }
