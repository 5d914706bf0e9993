// Channels first: a site is a row of a channel of y.
#import planes_rows

// What column() reads. Column j of y is first + j / width * step + j % width * apart of x.
struct Columns { first: u32, width: u32, step: u32, apart: u32 }
var<private> columns: Columns;

fn find(site: u32) {}

fn start_of_y(plane: u32, site: u32) -> u32 { return start_of(params.y, plane, site); }

fn column(j: u32) -> f32 {
  return x_load(columns.first + j / columns.width * columns.step + j % columns.width * columns.apart);
}

fn moved(plane: u32, site: u32, c: u32, phase: u32) -> V {
  let picture = plane / params.channels;
  let channel = plane % params.channels;
  let elements = params.block_h * params.block_w;
  if params.inverse == 0u {
    // y is deep: which element of a block, of which channel.
    let wide = params.channels / elements;
    var element = channel / wide;
    var first = channel % wide;
    if params.crd != 0u {
      element = channel % elements;
      first = channel / elements;
    }
    let row = site * params.block_h + element / params.block_w;
    columns = Columns(view_at(params.x, picture, first, row) + element % params.block_w, 1u, params.block_w, 0u);
  } else {
    let element = site % params.block_h * params.block_w;
    // Of the first channel of the row's elements, the distance of neighbours.
    var first = element * params.channels + channel;
    var apart = params.channels * params.x_channel;
    if params.crd != 0u {
      first = channel * elements + element;
      apart = params.x_channel;
    }
    columns = Columns(view_at(params.x, picture, first, site / params.block_h), params.block_w, 1u, apart);
  }
  return column_chunk(0u, 1u, c, phase, params.inner);
}
