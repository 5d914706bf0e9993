// Blocks of pictures of one size.
fn find(site: u32) {}

fn is_live() -> bool { return true; }

fn wide_start(plane: u32, site: u32) -> u32 {
  let elements = params.block_h * params.block_w;
  let element = plane % elements;
  let row = site / params.columns * params.block_h + element / params.block_w;
  let column = site % params.columns * params.block_w + element % params.block_w;
  return view_at(wide_view(), plane / elements, row, column);
}
