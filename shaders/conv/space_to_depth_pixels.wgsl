// Channels last, those of an element apart: a site is a pixel of y.
#import planes_pixels

// What channel() reads: the picture, row and column of y.
var<private> pixel: vec3<u32>;

fn find(site: u32) {}

fn start_of_y(plane: u32, site: u32) -> u32 { return start_of(params.y, plane, site); }

fn channel(j: u32) -> f32 {
  let block = vec2<u32>(params.block_h, params.block_w);
  let elements = block.x * block.y;
  if params.inverse == 0u {
    let element = j % elements;
    let row = pixel.y * block.x + element / block.y;
    return x_load(view_at(params.x, pixel.x, row, pixel.z * block.y + element % block.y) + j / elements);
  }
  let own = pixel.yz % block;
  let source = pixel.yz / block;
  return x_load(view_at(params.x, pixel.x, source.x, source.y) + j * elements + own.x * block.y + own.y);
}

fn moved(plane: u32, site: u32, c: u32, phase: u32) -> V {
  pixel = vec3<u32>(plane, site / params.columns, site % params.columns);
  return channel_chunk(0u, 1u, c, phase, params.inner);
}
