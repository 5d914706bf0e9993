// How teams of LANES neighbouring invocations share a tensor [a0, a1, a2, cols] by strides: its lines are those of `cols` elements.
//
// The outer axes are divided in boxes of box_0 x box_1 x box_2 lines, and a box in parts of `part_lines` lines by `part_chunks` chunks. A team
// has an item: item i has part i % chunk_parts of the chunks, then a part of the lines, then a box, boxes_1 and boxes_2 of which lie along
// the last two axes. In a team `across` neighbours have neighbouring chunks, and the next ones those of the next line.
#import view

struct Item {
  number: u32,       // of the box
  part: u32,         // of its lines
  piece: u32,        // of the chunks
  lane: u32,
  live: bool,        // there is such an item
  low: vec3<u32>,    // the first line of the box
  first: vec3<u32>,  // that of the part, from there
  at: vec3<u32>,     // that of the invocation, from there
  step: vec3<u32>,   // to its next line
  line: u32,         // the same, counted
  lines: u32,        // from one to the next
  end: u32,          // one past the last
  c: u32,            // the first chunk of the invocation
  c_end: u32,
}

fn axes_in_box(line: u32) -> vec3<u32> {
  let rest = line / params.box_2;
  return vec3<u32>(rest / params.box_1, rest % params.box_1, line % params.box_2);
}

// Without lines for an invocation that has none.
fn item_of(wg: vec3<u32>, local: u32) -> Item {
  let team = (wg.y * params.grid_x + wg.x) * (WG_SIZE / LANES) + local / LANES;
  let item = min(team, params.items - 1u);
  let piece = item % params.chunk_parts;
  let rest = item / params.chunk_parts;
  let part = rest % params.line_parts;
  let number = rest / params.line_parts;
  let boxes = number / params.boxes_2;
  let low = vec3<u32>(
    boxes / params.boxes_1 * params.box_0,
    boxes % params.boxes_1 * params.box_1,
    number % params.boxes_2 * params.box_2,
  );
  let lane = local % LANES;
  let first = part * params.part_lines;
  let lines = LANES / params.across;
  let line = first + lane / params.across;
  // Of LANES that `across` does not divide the last have nothing.
  let busy = team < params.items && lane / params.across < lines;
  let end = select(0u, min(first + params.part_lines, params.lines), busy);
  let c = piece * params.part_chunks;
  return Item(number, part, piece, lane, team < params.items, low, axes_in_box(first), axes_in_box(line), axes_in_box(lines),
    line, lines, end, c + lane % params.across, c + params.part_chunks);
}

// Without a division: software drivers take one lane by lane.
fn next_line(item: Item) -> Item {
  var own = item;
  own.line += own.lines;
  own.at += own.step;
  if own.at.z >= params.box_2 {
    own.at.z -= params.box_2;
    own.at.y += 1u;
  }
  if own.at.y >= params.box_1 {
    own.at.y -= params.box_1;
    own.at.x += 1u;
  }
  return own;
}

fn start_of(view: vec4<u32>, i: vec3<u32>) -> u32 { return view_at(view, i.x, i.y, i.z); }

// 1 if a line of the output that starts at this element begins in the upper half of a packed word.
fn phase_of(start: u32) -> u32 { return select(0u, start & 1u, VEC == 2u); }
