// The same of native halves.
//
//   0 given  2^-16, 2^-14, 0.5, 1024
//   1 found  what became of them
enable f16;
@group(0) @binding(0) var<storage, read> given: array<f16>;
@group(0) @binding(1) var<storage, read_write> found: array<f16>;

@compute @workgroup_size(1)
fn flush() {
  found[0] = given[0] * given[3];
  found[1] = given[1] * given[2];
  found[2] = (given[1] * given[2]) * given[3];
  found[3] = given[0] + given[0];
  found[4] = f16(f32(given[0]) * f32(given[3]));
  found[5] = f16(f32(given[1]) * f32(given[2]));
}
