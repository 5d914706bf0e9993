// y = a x + b z. What is multiplied by 0 does not show.
//
// Bindings (group 0): those of pointwise_pair.wgsl, z being the other input, and
//   3 factors  f32 (where HAS_FACTORS)
#import pointwise_pair

var<private> a: f32;
var<private> b: f32;

fn factor(read: u32, at: u32, value: f32) -> f32 {
  if HAS_FACTORS && read != 0u { return factors_load(at); }
  return value;
}

fn times(a: f32, v: V) -> V { return select(a * v, V(0.0), a == 0.0); }

fn value_of(row: u32, c: u32, phase: u32, x: V, z: V) -> V {
  let v = times(a, x);
  if HAS_OTHER { return v + times(b, z); }
  return v;
}

@compute @workgroup_size(WG_SIZE)
fn axpby(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  a = factor(params.a_read, params.a_at, params.a);
  b = factor(params.b_read, params.b_at, params.b);
  each_chunk(wg, local);
}
