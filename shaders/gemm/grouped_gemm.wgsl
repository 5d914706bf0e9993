// Which rows each tile of a grouped product has. Rows end by the running maximum of the offsets, each clamped to m:
// whatever they are, no row is of two groups. Rows before the first group and past the last are of none.
//
// One workgroup. Items are the offsets, and one for what follows them; item i ends a range of rows, which starts where item
// i - 1 ends: that before the first group, those of the groups, that past the last. An invocation has `each` neighbouring
// items; maxima and numbers of tiles are summed over the workgroup. Then all tiles look for their range.
//
// Bindings: 0 offsets, words; 1 scratch: vec4 [slots + items]: tiles (first row, end, group, 0), no rows where there are fewer
// tiles; ranges (first tile, first row, end, group). Without slots there are ranges only: what gradients need.
// Constants: ROWS of a tile. Params: items before `first` are of groups that another dispatch has.

const NONE: u32 = 0xffffffffu;

var<workgroup> sums: array<u32, WG_SIZE>;

// What the invocations before this one have: their largest, or their sum.
fn before(local: u32, own: u32, largest: bool) -> u32 {
  workgroupBarrier();
  sums[local] = own;
  workgroupBarrier();
  for (var step = 1u; step < WG_SIZE; step *= 2u) {
    var other = 0u;
    if local >= step { other = sums[local - step]; }
    workgroupBarrier();
    sums[local] = select(sums[local] + other, max(sums[local], other), largest);
    workgroupBarrier();
  }
  return select(0u, sums[max(local, 1u) - 1u], local > 0u);
}

// Where the rows of item i end, but for those before it.
fn end_of(i: u32) -> u32 {
  if i >= params.last { return select(0u, params.m, params.rest != 0u); }
  let offset = offsets[params.offset + i];
  if params.is_signed != 0u && (offset >> 31u) != 0u { return 0u; }
  return min(offset, params.m);
}

// Its group, or none.
fn group_of(i: u32) -> u32 { return select(NONE, i - params.first - 1u, i > params.first && i < params.last); }

// Tiles of the rows of item i.
fn tiles_of(i: u32, from_row: u32, to_row: u32) -> u32 {
  // Rows of groups that others have, and those before them.
  if i <= params.first && params.first > 0u { return 0u; }
  return (to_row - from_row + ROWS - 1u) / ROWS;
}

@compute @workgroup_size(WG_SIZE)
fn grouped_gemm(@builtin(local_invocation_index) local: u32) {
  let items = params.last + 1u;
  let from_item = min(local * params.each, items);
  let to_item = min(from_item + params.each, items);
  var largest = 0u;
  for (var i = from_item; i < to_item; i++) { largest = max(largest, end_of(i)); }
  let first_row = before(local, largest, true);
  var row = first_row;
  var count = 0u;
  for (var i = from_item; i < to_item; i++) {
    let to_row = max(row, end_of(i));
    count += tiles_of(i, row, to_row);
    row = to_row;
  }
  var tile = before(local, count, false);
  row = first_row;
  for (var i = from_item; i < to_item; i++) {
    let to_row = max(row, end_of(i));
    scratch[params.slots + i] = vec4<u32>(tile, row, to_row, group_of(i));
    tile += tiles_of(i, row, to_row);
    row = to_row;
  }
  storageBarrier();
  for (var slot = local; slot < params.slots; slot += WG_SIZE) {
    // The last range that starts with this tile or before.
    var low = 0u;
    var high = items - 1u;
    while low < high {
      let middle = (low + high + 1u) / 2u;
      if scratch[params.slots + middle].x <= slot { low = middle; } else { high = middle - 1u; }
    }
    let range = scratch[params.slots + low];
    let start = range.y + (slot - range.x) * ROWS;
    var found = vec4<u32>(0u);
    if start < range.z { found = vec4<u32>(start, min(start + ROWS, range.z), range.w, 0u); }
    scratch[slot] = found;
  }
}
