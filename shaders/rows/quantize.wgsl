// Activations in 8 bits: a scale per line, or per 128 of a line, and codes of 8 bits, four in a word.
//
// Bindings (group 0)
//   0 x       [rows, cols] by strides
//   1 codes   u32 [lines, words]: byte i % 4 of word i / 4 is the code of element i of the line, 0 past its end
//   2 scales  u32 [lines, groups]: bits of f32
//
// A line is a row, or where COLUMNS a column, and has `len` elements. LANES invocations have a group of a line: they find its largest
// magnitude, then write its words. Neighbours have neighbouring groups, or where COLUMNS neighbouring lines.
// A group that holds an infinity or NaN has the scale NaN and codes 0; one whose scale were subnormal has 0 and 0.

#import codes8

const INFINITE: u32 = 0x7f800000u;
const NAN: u32 = 0x7fc00000u;
const LEAST: u32 = 0x00800000u; // 2^-126

// The scale of a group by its largest magnitude, which is finite.
fn scale_of(largest: f32) -> u32 {
  if !E4M3 { return bitcast<u32>(largest * 0x1.020408p-7); }  // 1 / 127
  if params.power_of_two == 0u { return bitcast<u32>(largest * 0x1.24924ap-9); }  // 1 / 448
  // m 2^e over 1.75 2^8: the next power of two is 2^(e - 8), or where m is more than 1.75 one more.
  let bits = bitcast<u32>(largest);
  let exponent = (bits >> 23u) + select(0u, 1u, (bits & 0x7fffffu) > 0x600000u);
  return select(exponent - 8u, 0u, exponent <= 8u) << 23u;
}

// 1 / scale; that of a power of two is exact.
fn inverse_of(scale: u32) -> f32 {
  if E4M3 && params.power_of_two != 0u { return bitcast<f32>((254u << 23u) - scale); }
  return 1.0 / bitcast<f32>(scale);
}

@compute @workgroup_size(WG_SIZE)
fn quantize(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids) {
  let item = (wg.y * params.grid_x + wg.x) * (WG_SIZE / LANES) + ids.invocation / LANES;
  let lane = ids.invocation % LANES;
  let live = item < params.items;
  // Past the last item, that one again: all take part in the reductions.
  let i = min(item, params.items - 1u);
  var line = i / params.groups;
  var group = i % params.groups;
  if COLUMNS {
    line = i % params.lines;
    group = i / params.lines;
  }
  let base = params.x.x + line * params.x.y;
  let first = group * params.group_words;
  let end = min(first + params.group_words, params.words);

  var bits = 0u;
  for (var w = first + lane; w < end; w += LANES) {
    let four = bitcast<vec4<u32>>(four_of(base, w)) & vec4<u32>(0x7fffffffu);
    bits = max(max(bits, max(four.x, four.y)), max(four.z, four.w));
  }
  let largest = reduce_max(bitcast<f32>(min(bits, INFINITE - 1u)), ids);
  let bad = reduce_max(select(0.0, 1.0, bits >= INFINITE), ids) > 0.0;
  if !live { return; }
  var scale = scale_of(largest);
  let none = bad || scale < LEAST;
  scale = select(select(scale, 0u, scale < LEAST), NAN, bad);
  let inverse = inverse_of(select(scale, LEAST, none));
  if lane == 0u { scales[params.scales_offset + line * params.groups + group] = scale; }
  for (var w = first + lane; w < end; w += LANES) {
    let four = four_of(base, w) * inverse;
    var code: vec4<u32>;
    if E4M3 { code = e4m3_codes(four); } else { code = int8_codes(four); }
    let word = code.x | (code.y << 8u) | (code.z << 16u) | (code.w << 24u);
    codes[params.codes_offset + line * params.words + w] = select(word, 0u, none);
  }
}
