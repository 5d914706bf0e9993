// Where invocations find their rows and parts, and rows their elements.
#import view

// The row of an invocation, of LANES that share it; from params.rows on there is none.
fn row_of(wg: vec3<u32>, local: u32) -> u32 {
  return (wg.y * params.grid_x + wg.x) * (WG_SIZE / LANES) + local / LANES;
}

// The indices [i0, i1, i2] of a row.
fn axes_of(row: u32) -> vec3<u32> {
  let rest = row / params.n2;
  return vec3<u32>(rest / params.n1, rest % params.n1, row % params.n2);
}

fn start_of(view: vec4<u32>, i: vec3<u32>) -> u32 { return view_at(view, i.x, i.y, i.z); }
