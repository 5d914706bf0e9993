// The element of a view (offset and three strides) at which row [i0, i1, i2] starts.
fn view_at(view: vec4<u32>, i0: u32, i1: u32, i2: u32) -> u32 {
  return view.x + i0 * view.y + i1 * view.z + i2 * view.w;
}
