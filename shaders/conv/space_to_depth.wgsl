// Blocks of pixels to channels, or back: elements are moved.
//
// Bindings (group 0)
//   0 x      by strides
//   1 y      by strides
//   2 grids  u32 [pictures, 2] (of packed patches)
//
// `moved` gives a chunk of what goes to y, and `start_of_y` where: space_to_depth_rows.wgsl, _pixels.wgsl, _runs.wgsl.
#import planes_walk

@compute @workgroup_size(WG_SIZE)
fn space_to_depth(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let at = walk_of(wg, local);
  if at.plane >= at.end { return; }
  find(at.site);
  for (var plane = at.plane; plane < at.end; plane++) {
    let y = start_of_y(plane, at.site);
    let phase = phase_of(y);
    if at.c < chunk_count(params.inner, phase) {
      y_store(y, at.c, phase, params.inner, moved(plane, at.site, at.c, phase));
    }
  }
}
