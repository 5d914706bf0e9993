// Elements of a matrix of packed weights (src/weights/mod.rs), decoded, whatever its format: this is a parameter, so that what decodes an element
// is the same for all invocations, and one pipeline reads every format. Four codes from a multiple of 4 on share their words and their scale.
//
// Buffers: codes and scales, u32. params.words: words of a row of codes, of scales, words in front of the scales, K / 8. Whoever imports this
// says first_row(), the row with which the binding of codes begins, and code_columns(), k.

// The values of codes that are places: iq4_nl, e2m1, nf4.
var<workgroup> table: array<f32, 48>;

// Before anything is decoded, in uniform control flow.
fn fill_table(local: u32) {
  var tables = TABLES;
  for (var i = local; i < 48u; i += WG_SIZE) { table[i] = tables[i]; }
  workgroupBarrier();
}

// Values are s (c - z), or with an offset s c + o.
struct Scale { s: f32, o: f32, z: f32 }

fn place(row: u32, words: u32, word: u32) -> u32 {
  return (row / params.interleave * words + word) * params.interleave + row % params.interleave;
}
fn code_word(row: u32, word: u32) -> u32 { return codes[place(row - first_row(), params.words.x, word)]; }
fn scale_word(row: u32, word: u32) -> u32 { return scales[params.words.z + place(row, params.words.y, word)]; }

// f16 number i of a row's scales, counted from `word`.
fn half_at(row: u32, word: u32, i: u32) -> f32 {
  return unpack2x16float(scale_word(row, word + (i >> 1u)) >> (16u * (i & 1u))).x;
}
fn byte_at(row: u32, word: u32, i: u32) -> u32 { return (scale_word(row, word + (i >> 2u)) >> (8u * (i & 3u))) & 255u; }

// Byte i of GGML's twelve of 6-bit scales and minima, which lie behind word `at`.
fn k_byte(row: u32, at: u32, i: u32) -> u32 { return byte_at(row, at + 1u, i); }

// What decodes packed column p, which is column c.
fn scale_at(row: u32, p: u32, c: u32) -> Scale {
  let g = p / params.group;
  switch params.scales {
    case SCALES_HALF_LESS_8: { return Scale(half_at(row, 0u, g), 0.0, 8.0); }
    case SCALES_HALF_LESS_16: { return Scale(half_at(row, 0u, g), 0.0, 16.0); }
    case SCALES_HALF: { return Scale(half_at(row, 0u, g), 0.0, 0.0); }
    case SCALES_HALF_OFFSET: {
      let both = unpack2x16float(scale_word(row, g));
      return Scale(both.x, both.y, 0.0);
    }
    case SCALES_HALF_ZERO: { return Scale(half_at(row, 0u, g), 0.0, f32(byte_at(row, params.second, g))); }
    case SCALES_FLOAT: { return Scale(bitcast<f32>(scale_word(row, g)), 0.0, 0.0); }
    case SCALES_EXPONENT: {
      let e = byte_at(row, 0u, g);
      // 2^(e - 128), which is subnormal below 2^-126.
      return Scale(bitcast<f32>(select((max(e, 1u) - 1u) << 23u, 0x00200000u << (e & 1u), e < 2u)), 0.0, 0.0);
    }
    case SCALES_K: {
      let at = p / 256u * 4u;
      let j = p / 32u % 8u;
      let both = unpack2x16float(scale_word(row, at));
      var s = k_byte(row, at, j) & 63u;
      var m = k_byte(row, at, j + 4u) & 63u;
      if j >= 4u {
        let low = k_byte(row, at, j + 4u);
        s = (low & 15u) | ((k_byte(row, at, j - 4u) >> 6u) << 4u);
        m = (low >> 4u) | ((k_byte(row, at, j) >> 6u) << 4u);
      }
      return Scale(both.x * f32(s), -(both.y * f32(m)), 0.0);
    }
    case SCALES_K6: {
      let s = bitcast<i32>(byte_at(row, p / 256u * 4u, p / 16u % 16u) << 24u) >> 24u;
      return Scale(half_at(row, params.second, p / 256u) * f32(s), 0.0, 32.0);
    }
    case SCALES_BLOCK: {
      return Scale(bitcast<f32>(scales[row / 128u * ((code_columns() + 127u) / 128u) + c / 128u]), 0.0, 0.0);
    }
    default: { return Scale(bitcast<f32>(scales[(row * code_columns() + c) / 64u]), 0.0, 0.0); }
  }
}

fn e4m3(bits: vec4<u32>) -> vec4<f32> {
  let magnitude = (bits & vec4<u32>(0x7fu)) << vec4<u32>(20u);
  // The exponent 120 higher, and that of subnormal numbers 121, less the one that leads there.
  let small = bitcast<vec4<u32>>(bitcast<vec4<f32>>(magnitude + vec4<u32>(0x3c800000u)) - vec4<f32>(0.015625));
  var found = select(magnitude + vec4<u32>(0x3c000000u), small, magnitude < vec4<u32>(0x00800000u));
  found = select(found, vec4<u32>(0x7fc00000u), magnitude == vec4<u32>(0x07f00000u));
  return bitcast<vec4<f32>>(found | ((bits & vec4<u32>(0x80u)) << vec4<u32>(24u)));
}

// The numbers of packed columns p to p + 3, p a multiple of 4.
fn numbers(row: u32, p: u32) -> vec4<f32> {
  if params.code == CODE_INT8 || params.code == CODE_E4M3 {
    let word = vec4<u32>(code_word(row, p >> 2u));
    if params.code == CODE_E4M3 { return e4m3(word >> vec4<u32>(0u, 8u, 16u, 24u)); }
    return vec4<f32>(bitcast<vec4<i32>>(word << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
  }
  var c = (vec4<u32>(code_word(row, p >> 3u) >> (4u * (p & 4u))) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u);
  switch params.code {
    case CODE_BITS4: {}
    case CODE_BITS5: {
      let high = code_word(row, params.words.w + (p >> 5u)) >> (p & 31u);
      c |= ((vec4<u32>(high) >> vec4<u32>(0u, 1u, 2u, 3u)) & vec4<u32>(1u)) << vec4<u32>(4u);
    }
    case CODE_BITS6: {
      let high = code_word(row, params.words.w + (p >> 4u)) >> (2u * (p & 15u));
      c |= ((vec4<u32>(high) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(3u)) << vec4<u32>(4u);
    }
    default: {
      let at = c + vec4<u32>(16u * (params.code - CODE_IQ4_NL));
      return vec4<f32>(table[at.x], table[at.y], table[at.z], table[at.w]);
    }
  }
  return vec4<f32>(c);
}

fn decoded(s: Scale, c: vec4<f32>) -> vec4<f32> {
  if params.scales == SCALES_HALF_OFFSET || params.scales == SCALES_K { return s.s * c + s.o; }
  return s.s * (c - s.z);
}

// The row that is read.
var<private> of_row: u32;

// Where column c is packed: where columns have an order, places follow the columns of the places.
fn packed_column(c: u32) -> u32 {
  if params.order > 0u { return min(scales[params.order + c], params.order - 1u); }
  return c;
}

// The four columns around packed column p, by the scale of p, which is column c.
fn around(c: u32, p: u32) -> vec4<f32> { return decoded(scale_at(of_row, p, c), numbers(of_row, p & 0xfffffffcu)); }

fn value(c: u32) -> f32 {
  let p = packed_column(c);
  return around(c, p)[p & 3u];
}
