// Channels last: a site is a pixel.
fn start_of(view: vec4<u32>, plane: u32, site: u32) -> u32 {
  return view_at(view, plane, site / params.columns, site % params.columns);
}
