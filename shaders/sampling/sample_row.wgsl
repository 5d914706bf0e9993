// What the steps of sample share: keys, settings, weights, and what stands in scratch.
//
// Bindings (group 0)
//   0 logits    [rows, vocab] by strides, any of the three dtypes
//   1 tokens    i32 [rows, history] by strides (where HISTORY)
//   2 settings  f32 [rows, 7] (where HAS_SETTINGS)
//   3 uniforms  f32 [rows] (where HAS_UNIFORMS)
//   4 step      u32 [1] (where HAS_STEP)
//   5 probs     f32 [rows, vocab] by strides
//   6 token     u32 [rows]
//   7 state     words, ROW_WORDS + 4 * parts per row
//   8 adjusted  words, [rows, stride]: counts of tokens, then logits after the penalties (where HISTORY)
//
// `x` are the logits, or where HISTORY those after the penalties.
//
// A logit is known by its key: words that compare as the numbers do. Filters are thresholds of keys. They are found eight bits at
// a time, from the highest: a step adds up, per value of those bits, how many tokens there are (top_k) or their weights (top_p), and
// the next one looks where the sum from the largest on reaches what is asked for. Sums are of whole numbers.

#import float
#import sampling_keys
#import sampling_part
#import sampling_units

// Of a row's words.
const TOP: u32 = 0u;         // the largest key
const FINAL: u32 = 1u;       // eight words, see Final
const RECORDS: u32 = 16u;    // of each of eight steps of a search: the bits found, and what is still to be reached
const COUNTS: u32 = 48u;     // of four steps, 256 words
const MASSES: u32 = 1072u;   // of four steps, 256 times three limbs
const TOTAL: u32 = 4144u;    // three limbs
const PARTS: u32 = 4148u;    // of each part four words
const_assert PARTS == ROW_WORDS;

struct Settings {
  repetition: f32,
  frequency: f32,
  presence: f32,
  scale: f32,   // log2(e) / temperature
  greedy: bool, // arg-max, no filter
  top_k: u32,   // 0: all
  top_p: f32,   // 1: all
  min_p: f32,   // 0: all
}

fn settings_of(row: u32) -> Settings {
  var s = Settings(params.repetition, params.frequency, params.presence, params.temperature, false, params.top_k,
    params.top_p, params.min_p);
  if HAS_SETTINGS {
    let at = params.settings_offset + 7u * row;
    let k = clamp(settings_load(at + 4u), 0.0, 16777216.0);
    s = Settings(settings_load(at), settings_load(at + 1u), settings_load(at + 2u), settings_load(at + 3u), false, u32(k),
      settings_load(at + 5u), settings_load(at + 6u));
  }
  s.repetition = select(1.0, s.repetition, s.repetition > 0.0);
  s.greedy = !(s.scale > 0x1p-100);
  s.scale = select(LOG2_E / s.scale, 0.0, s.greedy);
  s.top_k = select(s.top_k, 0u, s.greedy || s.top_k >= params.vocab);
  s.top_p = select(max(s.top_p, 0.0), 1.0, s.greedy || !(s.top_p < 1.0));
  s.min_p = select(s.min_p, 0.0, s.greedy || !(s.min_p > 0.0));
  return s;
}

// exp((logit - largest) / temperature)
fn weight_of(key: u32, top: f32, scale: f32) -> f32 { return exp2(max(value_of(key) - top, LOWEST) * scale); }

fn row_at(row: u32) -> u32 { return row * (ROW_WORDS + 4u * params.parts); }

fn x_base(row: u32) -> u32 { return params.x.x + row * params.x.w; }

fn word(at: u32) -> u32 { return atomicLoad(&state[at]); }
fn put(at: u32, value: u32) { atomicStore(&state[at], value); }
fn word64(at: u32) -> vec2<u32> { return vec2<u32>(word(at), word(at + 1u)); }
fn put64(at: u32, value: vec2<u32>) {
  put(at, value.x);
  put(at + 1u, value.y);
}

// Sums over workgroups, in limbs of 24 bits.
fn add_limbs(at: u32, v: vec2<u32>) {
  atomicAdd(&state[at], v.x & 0xffffffu);
  atomicAdd(&state[at + 1u], (v.x >> 24u) | ((v.y & 0xffffu) << 8u));
  atomicAdd(&state[at + 2u], v.y >> 16u);
}
fn limbs64(at: u32) -> vec2<u32> {
  let mid = word(at + 1u);
  return add64(add64(vec2<u32>(word(at), 0u), vec2<u32>(mid << 24u, mid >> 8u)), vec2<u32>(0u, word(at + 2u) << 16u));
}

// What is left of a row: keys above `key`, and of those equal to it the ones up to token `last`. Eight words from FINAL on.
//   0 key   1 limit   2, 3 left   4 last   5, 6 sum
// `limit` says how many of the equal ones stay: all, the first, or the fewest whose weights reach `left`.
const LIMIT_NONE: u32 = 0u;
const LIMIT_ONE: u32 = 1u;
const LIMIT_LEFT: u32 = 2u;

fn stays(key: u32, token: u32, least: u32, last: u32) -> bool { return key > least || (key == least && token <= last); }
