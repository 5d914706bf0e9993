// How the invocations of an op on pictures share planes and pixels.
//
// A plane is what has one width and height: a channel of a picture, or where channels are last the picture. An invocation has chunk c of
// a site, a row or where channels are last a pixel's channels, in up to `planes_per` planes. Neighbours have neighbouring chunks, then
// neighbouring sites. Where a site lies: planes_rows.wgsl, planes_pixels.wgsl.
#import view

struct Walk { c: u32, site: u32, plane: u32, end: u32 }

// Without planes for an invocation that has none.
fn walk_of(wg: vec3<u32>, local: u32) -> Walk {
  let i = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  let site = i / params.chunks % params.sites;
  let group = i / params.chunks / params.sites;
  if group >= params.groups { return Walk(0u, 0u, 0u, 0u); }
  let plane = group * params.planes_per;
  return Walk(i % params.chunks, site, plane, min(plane + params.planes_per, params.planes));
}

// 1 if a row of the output that starts at this element begins in the upper half of a packed word.
fn phase_of(start: u32) -> u32 { return select(0u, start & 1u, VEC == 2u); }
