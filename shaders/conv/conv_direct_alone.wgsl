// Each invocation loads the rows of x that it multiplies.
struct Ids { @builtin(local_invocation_index) invocation: u32 }

fn origins_of(phase: Phase, group: u32, row: u32, ids: Ids) -> array<Origin, THREAD_M> {
  var origins: array<Origin, THREAD_M>;
  for (var r = 0u; r < THREAD_M; r++) { origins[r] = origin_of(phase, group, row + r); }
  return origins;
}

fn x_fetch(origins: ptr<function, array<Origin, THREAD_M>>, k: u32) -> array<vec4<f32>, THREAD_M> {
  var x: array<vec4<f32>, THREAD_M>;
  for (var r = 0u; r < THREAD_M; r++) { x[r] = x_k4((*origins)[r], k); }
  return x;
}

// The four k of row r.
fn x_row(x: ptr<function, array<vec4<f32>, THREAD_M>>, r: u32) -> vec4<f32> { return (*x)[r]; }
