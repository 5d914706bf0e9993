// What a dimension's digits mean: 4 words per dimension, the number of its levels, the weight of its digit in an
// index, where its thresholds stand and where its values; then those, as f32.
struct Levels { count: u32, weight: u32, thresholds: u32, values: u32 }

fn levels(d: u32) -> Levels { return Levels(table[4u * d], table[4u * d + 1u], table[4u * d + 2u], table[4u * d + 3u]); }

fn level_value(l: Levels, digit: u32) -> f32 { return bitcast<f32>(table[l.values + min(digit, l.count - 1u)]); }
