// Each invocation loads the rows of a that it multiplies.
struct Ids { @builtin(local_invocation_index) invocation: u32 }

fn a_fetch(base: u32, row: u32, k: u32, ids: Ids) -> array<vec4<f32>, THREAD_M> {
  var x: array<vec4<f32>, THREAD_M>;
  if TRANS_A {
    for (var r = 0u; r < THREAD_M; r += 4u) {
      let t = transpose(mat4x4<f32>(a_m4(base, row + r, k), a_m4(base, row + r, k + 1u), a_m4(base, row + r, k + 2u),
        a_m4(base, row + r, k + 3u)));
      x[r] = t[0];
      x[r + 1u] = t[1];
      x[r + 2u] = t[2];
      x[r + 3u] = t[3];
    }
  } else {
    for (var r = 0u; r < THREAD_M; r++) { x[r] = a_k4(base, row + r, k); }
  }
  return x;
}

// The four k of row r.
fn a_row(x: ptr<function, array<vec4<f32>, THREAD_M>>, r: u32) -> vec4<f32> { return (*x)[r]; }
