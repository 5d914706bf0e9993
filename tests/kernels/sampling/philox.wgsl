// Four words per counter and key.
@group(0) @binding(0) var<storage, read> given: array<u32>;
@group(0) @binding(1) var<storage, read_write> words: array<u32>;

@compute @workgroup_size(1)
fn main(@builtin(workgroup_id) wg: vec3<u32>) {
  let at = 6u * wg.x;
  let counter = vec4<u32>(given[at], given[at + 1u], given[at + 2u], given[at + 3u]);
  let out = philox(counter, vec2<u32>(given[at + 4u], given[at + 5u]));
  for (var i = 0u; i < 4u; i++) { words[4u * wg.x + i] = out[i]; }
}
