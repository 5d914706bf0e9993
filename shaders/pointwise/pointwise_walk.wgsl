// How the invocations of an op on elements share rows and columns.
//
// An invocation has COLUMNS chunks of each row of a block of `block_rows`: c, c + lanes, .., so that neighbours have neighbouring
// chunks; or where ADJACENT c, c + 1, ... Of `groups` runs of COLUMNS * lanes chunks, workgroup w = y * grid_x + x has run w % groups, and
// blocks from (w / groups) * (WG_SIZE / lanes).
#import view

struct Walk {
  c: u32,       // the first chunk; `chunk_at` has the others
  block: u32,
  row: u32,
  end: u32,     // one past the last row
  i: vec3<u32>, // the row's [i0, i1, i2]
}

// Without rows for an invocation that has none.
fn walk_of(wg: vec3<u32>, local: u32) -> Walk {
  let w = wg.y * params.grid_x + wg.x;
  let lanes = params.lanes;
  let near = select(1u, COLUMNS, ADJACENT);
  if ONE_ROW {
    let has = w < params.groups && local < lanes;
    return Walk(w * lanes * COLUMNS + local * near, select(1u, 0u, has), 0u, select(0u, 1u, has), vec3<u32>(0u));
  }
  let c = (w % params.groups) * lanes * COLUMNS + local % lanes * near;
  let block = (w / params.groups) * (WG_SIZE / lanes) + local / lanes;
  if block >= params.blocks { return Walk(c, block, 0u, 0u, vec3<u32>(0u)); }
  let row = block * params.block_rows;
  let rest = row / params.n2;
  let i = vec3<u32>(rest / params.n1, rest % params.n1, row % params.n2);
  return Walk(c, block, row, min(row + params.block_rows, params.rows), i);
}

fn chunk_at(at: Walk, k: u32) -> u32 { return at.c + k * select(params.lanes, 1u, ADJACENT); }

// Where ONE_ROW, a loop over rows breaks at its end, for drivers to see that it is none.
fn next_row(at: Walk) -> Walk {
  var i = at.i;
  i.z++;
  if i.z == params.n2 {
    i.z = 0u;
    i.y++;
    if i.y == params.n1 {
      i.y = 0u;
      i.x++;
    }
  }
  return Walk(at.c, at.block, at.row + 1u, at.end, i);
}

fn start_of(view: vec4<u32>, i: vec3<u32>) -> u32 { return view_at(view, i.x, i.y, i.z); }

// 1 if a row of the output that starts at this element begins in the upper half of a packed word.
fn phase_of(start: u32) -> u32 { return select(0u, start & 1u, VEC == 2u); }
