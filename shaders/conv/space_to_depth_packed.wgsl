// Blocks of packed patches: `params.rows` patches of pictures whose grids come from a buffer. A picture that is not whole blocks, or
// has more patches than are left, ends the sequence.

struct Block { live: bool, first: u32, width: u32 }

// The block of the invocation: the patch of its first element, and the width of its picture's grid.
var<private> block: Block;

fn find(site: u32) {
  let first = site * params.block_h * params.block_w;
  block = Block(false, first, 0u);
  var start = 0u;
  for (var i = 0u; i < params.pictures; i++) {
    let height = grids[params.grids + 2u * i];
    let width = grids[params.grids + 2u * i + 1u];
    if height == 0u || width == 0u { continue; }
    // So the product is at most what is left.
    if height % params.block_h != 0u || width % params.block_w != 0u || height > (params.rows - start) / width { return; }
    if first - start < height * width {
      let own = (first - start) / (params.block_h * params.block_w);
      let across = width / params.block_w;
      block = Block(true, start + own / across * params.block_h * width + own % across * params.block_w, width);
      return;
    }
    start += height * width;
  }
}

fn is_live() -> bool { return block.live; }

// What is behind the last picture is gone through as it lies.
fn wide_start(plane: u32, site: u32) -> u32 {
  let row = select(plane, plane / params.block_w * block.width + plane % params.block_w, block.live);
  return view_at(wide_view(), 0u, 0u, block.first + row);
}
