// Each invocation loads the rows of x that it multiplies.
struct Ids { @builtin(local_invocation_index) local: u32 }

fn windows_of(group: u32, row: u32, ids: Ids) -> array<Window, THREAD_M> {
  var windows: array<Window, THREAD_M>;
  for (var r = 0u; r < THREAD_M; r++) { windows[r] = window_at(group, row + r); }
  return windows;
}

fn x_fetch(windows: ptr<function, array<Window, THREAD_M>>, k: u32) -> array<vec4<f32>, THREAD_M> {
  var x: array<vec4<f32>, THREAD_M>;
  for (var r = 0u; r < THREAD_M; r++) { x[r] = x_k4((*windows)[r], k); }
  return x;
}

// The four k of row r.
fn x_row(x: ptr<function, array<vec4<f32>, THREAD_M>>, r: u32) -> vec4<f32> { return (*x)[r]; }
