// Whether subnormal numbers of f32, and halves packed in words, are kept: as what is read, what is written, what lies
// between, and as an exponential.
//
//   0 given  f32: 2^-130, 2^-126, 0.5, 2^24; then a word of halves: 2^-16, 2^-14
//   1 found  f32: what became of them
@group(0) @binding(0) var<storage, read> given: array<u32>;
@group(0) @binding(1) var<storage, read_write> found: array<f32>;

@compute @workgroup_size(1)
fn flush() {
  let tiny = bitcast<f32>(given[0]);
  let least = bitcast<f32>(given[1]);
  let half = bitcast<f32>(given[2]);
  let large = bitcast<f32>(given[3]);
  found[0] = tiny * large;
  found[1] = least * half;
  found[2] = (least * half) * large;
  found[3] = tiny + tiny;
  found[4] = unpack2x16float(given[4]).x * large;
  found[5] = exp2(-260.0 * half);
}
