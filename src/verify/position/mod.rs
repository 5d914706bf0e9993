//! How a call of position is made and judged.

pub mod position_encoding;
pub mod rope;

use crate::rope::Frequencies;
use crate::verify::call::Values;
use crate::verify::image::Number;
use crate::verify::random::Random;

/// Of base 10,000.
pub fn frequencies(rotary_dim: usize) -> Frequencies {
    Frequencies::new(rotary_dim, 10_000.0).expect("an even number")
}

/// How positions are stored.
pub fn words(signed: bool) -> Number {
    if signed { Number::I32 } else { Number::U32 }
}

/// Positions of every magnitude, of both signs where they have one; for tables of `rows` rows, some outside of them and
/// some as far out as 32 bits go.
pub fn random_positions(signed: bool, rows: Option<usize>, len: usize, random: &mut Random) -> Vec<f64> {
    let mut one = |i: usize| {
        let reach = rows.map_or([1 << 20, 1 << 24, u32::MAX as usize][i % 3], |rows| 2 * rows);
        let shift = if signed { reach as i64 / 2 } else { 0 };
        match (rows, i % 5) {
            (Some(_), 0) if signed => i32::MIN.into(),
            (Some(_), 1) => if signed { i32::MAX as u32 } else { u32::MAX }.into(),
            _ => random.below(reach) as i64 - shift,
        }
    };
    (0..len).map(|i| one(i) as f64).collect()
}

/// The positions among the values, as the references take them.
pub fn positions_of(values: &Values) -> Option<Vec<i64>> {
    values.get("positions").map(|all| all.iter().map(|&p| p as i64).collect())
}
