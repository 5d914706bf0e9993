// Channels last, those of an element side by side: a site is a block, a plane an element of the blocks of a picture. So a run of channels is
// a row of both: of the wide picture a pixel, of the deep one a part of a pixel.

fn wide_view() -> vec4<u32> { return select(params.x, params.y, params.inverse != 0u); }
fn deep_view() -> vec4<u32> { return select(params.y, params.x, params.inverse != 0u); }

fn deep_start(plane: u32, site: u32) -> u32 {
  let elements = params.block_h * params.block_w;
  return view_at(deep_view(), plane / elements, site / params.columns, site % params.columns)
    + plane % elements * params.inner;
}

fn start_of_y(plane: u32, site: u32) -> u32 {
  if params.inverse != 0u { return wide_start(plane, site); }
  return deep_start(plane, site);
}

fn moved(plane: u32, site: u32, c: u32, phase: u32) -> V {
  if !is_live() { return V(0.0); }
  if params.inverse != 0u { return x_chunk(deep_start(plane, site), c, phase, params.inner); }
  return x_chunk(wide_start(plane, site), c, phase, params.inner);
}
