//! Frequencies of rotary embeddings, and their scalings in the words of Hugging Face's `rope_scaling`.

use std::f64::consts::TAU;

use crate::error::Checked;
use crate::{ErrorKind, Result};

/// One angle per position for each pair, in radians, and a factor for cos and sin.
#[derive(Debug, Clone, PartialEq)]
pub struct Frequencies {
    /// Radians per position, one per pair, from 0 to 65,536.
    pub per_pair: Vec<f64>,
    /// Multiplies cos and sin (YaRN's mscale, LongRoPE's attention factor); 1 without.
    pub attention_factor: f64,
}

/// How frequencies are stretched for contexts longer than trained; fields bear Hugging Face's names.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Scaling {
    /// As trained.
    #[default]
    None,
    /// All frequencies divided by one factor (Chen et al., 2023).
    Linear {
        /// Divides every frequency.
        factor: f64,
    },
    /// The base grows with the sequence's length past the trained one (dynamic NTK).
    Dynamic {
        /// How fast the base grows.
        factor: f64,
        /// The trained length.
        max_position_embeddings: f64,
    },
    /// Low frequencies divided, high ones kept, and a factor for cos and sin (Peng et al., 2023).
    Yarn(Yarn),
    /// Low frequencies divided, high ones kept, by wavelength (Llama 3.1).
    Llama3 {
        /// Divides low frequencies.
        factor: f64,
        /// Turns within the trained length up to which a frequency is divided.
        low_freq_factor: f64,
        /// Turns within the trained length from which a frequency is kept.
        high_freq_factor: f64,
        /// The trained length.
        original_max_position_embeddings: f64,
    },
    /// A divisor per pair, one list up to the trained length and one past it (Ding et al., 2024).
    LongRope {
        /// Divisors up to the trained length.
        short_factor: Vec<f64>,
        /// Divisors past the trained length.
        long_factor: Vec<f64>,
        /// The trained length.
        original_max_position_embeddings: f64,
        /// The new length over the trained one.
        factor: f64,
        /// Without, sqrt(1 + ln factor / ln original).
        attention_factor: Option<f64>,
    },
}

/// YaRN's numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Yarn {
    /// Divides low frequencies.
    pub factor: f64,
    /// The trained length.
    pub original_max_position_embeddings: f64,
    /// Turns within the trained length from which a frequency is kept.
    pub beta_fast: f64,
    /// Turns within the trained length up to which a frequency is divided by the whole factor.
    pub beta_slow: f64,
    /// Round the ends of the ramp to whole pairs.
    pub truncate: bool,
    /// Without, it follows from `factor`, `mscale` and `mscale_all_dim`.
    pub attention_factor: Option<f64>,
    /// Weight of the logarithm in the attention factor.
    pub mscale: Option<f64>,
    /// The same in the divisor of that factor.
    pub mscale_all_dim: Option<f64>,
}

impl Yarn {
    /// The defaults of Hugging Face.
    pub const fn new(factor: f64, original_max_position_embeddings: f64) -> Yarn {
        Yarn {
            factor,
            original_max_position_embeddings,
            beta_fast: 32.0,
            beta_slow: 1.0,
            truncate: true,
            attention_factor: None,
            mscale: None,
            mscale_all_dim: None,
        }
    }

    fn attention_factor(&self) -> f64 {
        let mscale = |weight: f64| if self.factor <= 1.0 { 1.0 } else { 0.1 * weight * self.factor.ln() + 1.0 };
        let own = || match (self.mscale, self.mscale_all_dim) {
            (Some(one), Some(all)) if one != 0.0 && all != 0.0 => mscale(one) / mscale(all),
            _ => mscale(1.0),
        };
        self.attention_factor.unwrap_or_else(own)
    }

    /// For pair `i`, 0 where its frequency is kept and 1 where it is divided by `factor`.
    fn ramp(&self, rotary_dim: f64, base: f64) -> impl Fn(usize) -> f64 {
        // The pair that makes so many turns within the original length.
        let pair =
            |turns: f64| rotary_dim * (self.original_max_position_embeddings / (turns * TAU)).ln() / (2.0 * base.ln());
        let (mut low, mut high) = (pair(self.beta_fast), pair(self.beta_slow));
        if self.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(rotary_dim - 1.0));
        if low == high {
            high += 0.001;
        }
        move |i| ((i as f64 - low) / (high - low)).clamp(0.0, 1.0)
    }
}

impl Frequencies {
    /// `base^(-2i / rotary_dim)` for each pair `i`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidProblem`] for an odd `rotary_dim` or a base that is not positive.
    pub fn new(rotary_dim: usize, base: f64) -> Result<Frequencies> {
        Self::scaled(rotary_dim, base, &Scaling::None, 0)
    }

    /// With a scaling; `seq_len` is the length that [`Scaling::Dynamic`] and [`Scaling::LongRope`] go by.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidProblem`] for what [`new`](Self::new) refuses, numbers that are not finite or
    /// positive, and lists of another length than `rotary_dim / 2`.
    pub fn scaled(rotary_dim: usize, base: f64, scaling: &Scaling, seq_len: usize) -> Result<Frequencies> {
        Self::by(rotary_dim, base, scaling, seq_len).map_err(|kind| kind.of("rope"))
    }

    fn by(rotary_dim: usize, base: f64, scaling: &Scaling, seq_len: usize) -> Checked<Frequencies> {
        if rotary_dim < 2 || !rotary_dim.is_multiple_of(2) {
            return Err(ErrorKind::invalid("rotary_dim", format!("{rotary_dim} is not an even number from 2 on")));
        }
        let (half, dim) = (rotary_dim / 2, rotary_dim as f64);
        let powers = |base: f64| (0..half).map(move |i| base.powf(-2.0 * i as f64 / dim));
        positive("base", base)?;
        let mut attention_factor = 1.0;
        let per_pair: Vec<f64> = match scaling {
            Scaling::None => powers(base).collect(),
            Scaling::Linear { factor } => {
                let factor = positive("factor", *factor)?;
                powers(base).map(|f| f / factor).collect()
            }
            Scaling::Dynamic { factor, max_position_embeddings } => {
                let length = positive("max_position_embeddings", *max_position_embeddings)?;
                let factor = positive("factor", *factor)?;
                let stretch = factor * (seq_len as f64).max(length) / length - (factor - 1.0);
                // One pair has frequency 1 whatever the base.
                let base = if half > 1 { base * stretch.powf(dim / (dim - 2.0)) } else { base };
                powers(base).collect()
            }
            Scaling::Yarn(yarn) => {
                let factor = positive("factor", yarn.factor)?;
                positive("original_max_position_embeddings", yarn.original_max_position_embeddings)?;
                positive("beta_fast", yarn.beta_fast)?;
                positive("beta_slow", yarn.beta_slow)?;
                if base == 1.0 {
                    return Err(ErrorKind::invalid("base", "1 has no wavelengths to go by"));
                }
                attention_factor = yarn.attention_factor();
                let ramp = yarn.ramp(dim, base);
                powers(base).enumerate().map(|(i, f)| f / factor * ramp(i) + f * (1.0 - ramp(i))).collect()
            }
            Scaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                let factor = positive("factor", *factor)?;
                let low = positive("low_freq_factor", *low_freq_factor)?;
                let high = positive("high_freq_factor", *high_freq_factor)?;
                let length = positive("original_max_position_embeddings", *original_max_position_embeddings)?;
                if high <= low {
                    let reason = format!("{high} is not more than low_freq_factor, {low}");
                    return Err(ErrorKind::invalid("high_freq_factor", reason));
                }
                let scale = |f: f64| {
                    let turns = length * f / TAU;
                    let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    (1.0 - kept) * f / factor + kept * f
                };
                powers(base).map(scale).collect()
            }
            Scaling::LongRope {
                short_factor,
                long_factor,
                original_max_position_embeddings,
                factor,
                attention_factor: given,
            } => {
                let length = positive("original_max_position_embeddings", *original_max_position_embeddings)?;
                let factor = positive("factor", *factor)?;
                let derived = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / length.ln()).sqrt() };
                attention_factor = given.unwrap_or(derived);
                let long = seq_len as f64 > length;
                let (arg, list) = if long { ("long_factor", long_factor) } else { ("short_factor", short_factor) };
                let plain = Frequencies { per_pair: powers(base).collect(), attention_factor: 1.0 };
                plain.divided_by(arg, list)?.per_pair
            }
        };
        let frequencies = Frequencies { per_pair, attention_factor };
        frequencies.check()?;
        Ok(frequencies)
    }

    /// For [`Axes::Axial`](crate::rope::Axes::Axial): pairs 2i and 2i + 1 both at `base^(-4i / rotary_dim)`.
    ///
    /// # Errors
    /// As [`new`](Self::new), and for a `rotary_dim` that is not a multiple of 4.
    pub fn axial(rotary_dim: usize, base: f64) -> Result<Frequencies> {
        if !rotary_dim.is_multiple_of(4) {
            let reason = format!("{rotary_dim} is not a multiple of 4, as two axes need");
            return Err(ErrorKind::invalid("rotary_dim", reason).of("rope"));
        }
        Ok(Self::new(rotary_dim / 2, base)?.twice())
    }

    /// Each frequency twice, for the two axes of [`Axes::Axial`](crate::rope::Axes::Axial).
    pub fn twice(self) -> Frequencies {
        Frequencies { per_pair: self.per_pair.into_iter().flat_map(|f| [f, f]).collect(), ..self }
    }

    /// Each frequency divided by its factor (`rope_freqs` of llama.cpp).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidProblem`] for a list of another length, or factors that are not positive.
    pub fn with_factors(self, factors: &[f64]) -> Result<Frequencies> {
        self.divided_by("freq_factors", factors).map_err(|kind| kind.of("rope"))
    }

    fn divided_by(mut self, arg: &'static str, factors: &[f64]) -> Checked<Frequencies> {
        if factors.len() != self.per_pair.len() {
            let reason = format!("{} factors for {} pairs", factors.len(), self.per_pair.len());
            return Err(ErrorKind::invalid(arg, reason));
        }
        for (frequency, factor) in self.per_pair.iter_mut().zip(factors) {
            *frequency /= positive(arg, *factor)?;
        }
        Ok(self)
    }

    pub(super) fn check(&self) -> Checked {
        self.per_pair.iter().try_for_each(|&f| check_frequency("frequencies", f))?;
        match (self.attention_factor as f32).is_finite() {
            true => Ok(()),
            false => {
                let reason = format!("the attention factor, {}, is not finite", self.attention_factor);
                Err(ErrorKind::invalid("frequencies", reason))
            }
        }
    }
}

fn positive(arg: &'static str, value: f64) -> Checked<f64> {
    match value > 0.0 && value.is_finite() {
        true => Ok(value),
        false => Err(ErrorKind::invalid(arg, format!("{value} is not a positive number"))),
    }
}

/// Refuses a frequency whose turns per position do not fit in 64 bits.
pub(super) fn check_frequency(arg: &'static str, frequency: f64) -> Checked {
    match (0.0..=65_536.0).contains(&frequency) {
        true => Ok(()),
        false => Err(ErrorKind::invalid(arg, format!("{frequency} is not within 0 and 65,536 radians per position"))),
    }
}

/// `frequency / 2 pi` modulo 1 as a 64-bit fraction, to the nearest: exact to its last bit for every f64.
pub(in crate::ops) fn turns(frequency: f64) -> u64 {
    // 1 / 2 pi = 0x0.28be60db9391054a7f09d5f47d4d3770...
    const INVERSE: [u128; 2] = [0x28be_60db_9391_054a, 0x7f09_d5f4_7d4d_3770];
    let bits = frequency.to_bits();
    let (exponent, fraction) = ((bits >> 52) as i32 & 0x7ff, bits & ((1 << 52) - 1));
    if exponent == 0 {
        return 0; // zero, and subnormals, which are far below 2^-64
    }
    // frequency = mantissa * 2^-shift, and the product has 64 bits behind the point before the shift.
    let (mantissa, shift) = (u128::from(fraction | 1 << 52), 1075 - exponent);
    let product = mantissa * INVERSE[0] + ((mantissa * INVERSE[1]) >> 64);
    match shift {
        1..=127 => ((product + (1 << (shift - 1))) >> shift) as u64,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn turns_are_exact() {
        // By hand: 1 / 2 pi, a power of two of it, 2 pi itself (less than half an ulp from one turn), 0.
        assert_eq!(turns(1.0), 0x28be_60db_9391_054a);
        assert_eq!(turns(0.5), 0x145f_306d_c9c8_82a5);
        assert_eq!(turns(4.0), 0xa2f9_836e_4e44_152a);
        // 8 / 2 pi is 1 turn and 0.2732: modulo one turn.
        assert_eq!(turns(8.0), 0x45f3_06dc_9c88_2a54);
        assert_eq!(turns(0.0), 0);
        // f64's 2 pi is 2.449e-16 short of 2 pi (Kahan): 3.898e-17 turns, 719 units of 2^-64.
        assert_eq!(turns(TAU).wrapping_neg(), 719);
        assert_eq!(turns(1e-30), 0);
        for i in 1..100 {
            let f = 1e4f64.powf(-f64::from(i) / 100.0);
            assert_relative_eq!(turns(f) as f64 / 2f64.powi(64), f / TAU, max_relative = 1e-15);
        }
    }

    fn of(rotary_dim: usize, base: f64, scaling: Scaling, seq_len: usize) -> Frequencies {
        Frequencies::scaled(rotary_dim, base, &scaling, seq_len).unwrap()
    }

    #[track_caller]
    fn near(have: &[f64], want: &[f64]) {
        assert_eq!(have.len(), want.len());
        for (have, want) in have.iter().zip(want) {
            assert_relative_eq!(*have, *want, max_relative = 1e-6);
        }
    }

    #[test]
    fn plain_and_linear() {
        near(&of(4, 10_000.0, Scaling::None, 0).per_pair, &[1.0, 0.01]);
        near(&of(8, 10_000.0, Scaling::Linear { factor: 4.0 }, 0).per_pair, &[0.25, 0.025, 0.0025, 0.00025]);
        near(&Frequencies::axial(8, 10_000.0).unwrap().per_pair, &[1.0, 1.0, 0.01, 0.01]);
        let divided = Frequencies::new(4, 10_000.0).unwrap().with_factors(&[2.0, 0.5]).unwrap();
        near(&divided.per_pair, &[0.5, 0.02]);
    }

    #[test]
    fn dynamic_ntk() {
        // Twice the length with factor 2: the base grows by (2 * 2 - 1)^(4 / 2) = 9.
        let scaling = Scaling::Dynamic { factor: 2.0, max_position_embeddings: 2048.0 };
        near(&of(4, 10_000.0, scaling.clone(), 4096).per_pair, &[1.0, 1.0 / 300.0]);
        near(&of(4, 10_000.0, scaling, 100).per_pair, &[1.0, 0.01]);
    }

    #[test]
    fn llama3() {
        // Base 10^4, 8 dimensions, frequencies 1, 0.1, 0.01, 0.001; 8192 positions make 1303.8, 130.38, 13.038
        // and 1.3038 turns of them. Kept from 4 turns on, divided by 8 up to 1, between by how far it is:
        // (1.303797 - 1) / 3 = 0.1012657; (1 - 0.1012657) * 0.001 / 8 + 0.1012657 * 0.001 = 2.136075e-4.
        let scaling = Scaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192.0,
        };
        near(&of(8, 10_000.0, scaling.clone(), 0).per_pair, &[1.0, 0.1, 0.01, 2.136_075e-4]);
        // Llama 3.1 8B: base 500,000, 128 dimensions; the slowest pair is divided whole.
        let f = of(128, 500_000.0, scaling, 0).per_pair;
        assert_relative_eq!(f[63], 500_000f64.powf(-126.0 / 128.0) / 8.0, max_relative = 1e-12);
        assert_relative_eq!(f[1], 500_000f64.powf(-2.0 / 128.0), max_relative = 1e-12);
    }

    #[test]
    fn yarn() {
        // Base 10^4, 8 dimensions, 2048 positions: a pair makes 32 turns at 8 ln(2048 / 64 pi) / (2 ln 10^4) =
        // 1.0080, and 1 turn at 2.5132; rounded, the ramp goes from 1 to 3: 0, 0, 1/2, 1.
        let f = of(8, 10_000.0, Scaling::Yarn(Yarn::new(4.0, 2048.0)), 0);
        near(&f.per_pair, &[1.0, 0.1, 0.01 * 0.625, 0.001 * 0.25]);
        // 0.1 ln 4 + 1
        assert_relative_eq!(f.attention_factor, 1.138_629_436, max_relative = 1e-9);
        // DeepSeek-V3: mscale and mscale_all_dim are both 1, so that their quotient is 1.
        let deepseek = Yarn { mscale: Some(1.0), mscale_all_dim: Some(1.0), ..Yarn::new(40.0, 4096.0) };
        assert_eq!(of(64, 10_000.0, Scaling::Yarn(deepseek), 0).attention_factor, 1.0);
        // gpt-oss does not round the ramp: (2 - 1.00799) / (2.51315 - 1.00799) = 0.659072.
        let smooth = Yarn { truncate: false, ..Yarn::new(4.0, 2048.0) };
        let f = of(8, 10_000.0, Scaling::Yarn(smooth), 0).per_pair;
        assert_relative_eq!(f[2], 0.01 * (1.0 - 0.75 * 0.659_07), max_relative = 1e-4);
    }

    #[test]
    fn long_rope() {
        let scaling = Scaling::LongRope {
            short_factor: vec![1.0, 2.0],
            long_factor: vec![4.0, 5.0],
            original_max_position_embeddings: 4096.0,
            factor: 32.0,
            attention_factor: None,
        };
        let short = of(4, 10_000.0, scaling.clone(), 4096);
        near(&short.per_pair, &[1.0, 0.005]);
        // Phi-3-mini-128k: sqrt(1 + ln 32 / ln 4096) = sqrt(17 / 12).
        assert_relative_eq!(short.attention_factor, 1.190_238_071, max_relative = 1e-9);
        near(&of(4, 10_000.0, scaling, 4097).per_pair, &[0.25, 0.002]);
    }

    #[test]
    fn nonsense_is_refused() {
        let text = |result: Result<Frequencies>| result.unwrap_err().to_string();
        assert!(text(Frequencies::new(5, 1e4)).contains("rotary_dim: 5"));
        assert!(text(Frequencies::new(4, -1.0)).contains("base: -1 is not a positive number"));
        assert!(text(Frequencies::axial(6, 1e4)).contains("a multiple of 4"));
        assert!(text(Frequencies::scaled(4, 1e4, &Scaling::Linear { factor: 0.0 }, 0)).contains("factor: 0"));
        assert!(text(Frequencies::new(4, 1e4).unwrap().with_factors(&[1.0])).contains("1 factors for 2 pairs"));
        assert!(text(Frequencies::new(256, 1e-9)).contains("radians per position"));
    }
}
