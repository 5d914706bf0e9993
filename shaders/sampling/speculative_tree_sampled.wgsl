// The path of nodes that were drawn from a draft, by recursive rejection: at a place each child in turn stands with the share of its token in what is left of
// the target over that in the draft; one that does not takes the draft off what is left. With what is left in all brought to 1 before each, that is
// max(target - factor * draft, 0), `factor` being the sum of what was left before each child. A workgroup has a batch.
#import sampling_units
#import scan64
#import share64
#import speculative_tree_nodes
#import speculative_tree_target
#import speculative_tree_end

const PASSES: u32 = 0u; // it is no child of the place, or no token
const STANDS: u32 = 1u;
const FAILS: u32 = 2u;

var<workgroup> verdict: u32;
var<workgroup> token: u32;

struct Place {
  wanted: u32, // elements
  draft: u32,
  factor: f32,
}

fn place_at(row: u32, place: u32, factor: f32) -> Place {
  let draft = params.draft.x + row * params.draft.z + place * params.draft.w;
  return Place(target_at(row, place), draft, factor);
}

fn uniform_of(row: u32, i: u32) -> f32 { return probability(uniforms[params.uniform_offset + row * (params.len + 1u) + i]); }

// What is left of a token.
fn left(p: Place, wanted: f32, draft: f32) -> f32 { return probability(probability(wanted) - p.factor * probability(draft)); }

fn units_left(p: Place, wanted: f32, draft: f32) -> vec2<u32> {
  let v = left(p, wanted, draft);
  return select(units_of(v), vec2<u32>(0u), v == 0.0);
}

// The sum of what is left of some chunks.
fn sum_left(p: Place, first: u32, end: u32, step: u32) -> vec2<u32> {
  var sum = vec2<u32>(0u);
  for (var c = first; c < end; c += step) {
    let wanted = wanted_chunk(p.wanted, c, 0u, params.vocab);
    let draft = draft_chunk(p.draft, c, 0u, params.vocab);
    for (var j = 0u; j < VEC; j++) { sum = add64(sum, units_left(p, lane_of(wanted, j), lane_of(draft, j))); }
  }
  return sum;
}

fn wanted_of(p: Place, i: u32) -> f32 { return lane_of(wanted_chunk(p.wanted, i / VEC, 0u, params.vocab), i % VEC); }
fn draft_of(p: Place, i: u32) -> f32 { return lane_of(draft_chunk(p.draft, i / VEC, 0u, params.vocab), i % VEC); }

// What becomes of a node, where so much is left in all.
fn verdict_of(row: u32, node: u32, p: Place, all: f32) -> u32 {
  let proposed = proposed_of(row, node);
  if proposed < 0 || u32(proposed) >= params.vocab { return PASSES; }
  let draft = probability(draft_of(p, u32(proposed)));
  let stands = draft > 0.0 && uniform_of(row, node) * draft * all < left(p, wanted_of(p, u32(proposed)), draft);
  return select(FAILS, STANDS, stands);
}

@compute @workgroup_size(WG_SIZE)
fn speculative_tree_sampled(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row = wg.y * params.grid_x + wg.x;
  if row >= params.rows { return; }
  let chunks = chunk_count(params.vocab, 0u);
  var place = 0u;
  var count = 0u;
  var p = place_at(row, place, 0.0);
  var all = 1.0;
  for (var node = 0u; node < params.len; node++) {
    if local == 0u {
      verdict = PASSES;
      if count < params.depth && place_of(row, node) == place { verdict = verdict_of(row, node, p, all); }
    }
    let found = workgroupUniformLoad(&verdict);
    if found == STANDS {
      if local == 0u { store_node(row, count, node); }
      count++;
      place = node + 1u;
      p = place_at(row, place, 0.0);
      all = 1.0;
    }
    if found == FAILS {
      p.factor += all;
      all = f32_of64(scan64(sum_left(p, local, chunks, WG_SIZE), local).all) * 0x1p-40;
    }
  }
  // The token behind the path: of neighbouring chunks each has a run.
  let each = (chunks + WG_SIZE - 1u) / WG_SIZE;
  let first = min(local * each, chunks);
  let end = min(first + each, chunks);
  var own = sum_left(p, first, end, 1u);
  var sums = scan64(own, local);
  if local == 0u {
    token = 0u;
    verdict = sums.all.x | sums.all.y;
  }
  if workgroupUniformLoad(&verdict) == 0u {
    // Nothing is left: it is the target's.
    p.factor = 0.0;
    own = sum_left(p, first, end, 1u);
    sums = scan64(own, local);
  }
  let goal = share64(sums.all, min(uniform_of(row, params.len), 0x1.fffffep-1)).xy;
  if !less64(goal, sums.before) && less64(goal, add64(sums.before, own)) {
    var before = sums.before;
    for (var i = VEC * first; i < VEC * end; i++) {
      before = add64(before, units_left(p, wanted_of(p, i), draft_of(p, i)));
      if less64(goal, before) {
        token = i;
        break;
      }
    }
  }
  workgroupBarrier();
  if local == 0u { store_end(row, count, token); }
}
