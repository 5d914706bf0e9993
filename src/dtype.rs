//! Value types of tensors, and how a shader stores them.

use std::fmt;

/// The type of a tensor's values. Kernels accumulate in f32 whatever they read and write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Dtype {
    /// IEEE binary32.
    #[default]
    F32,
    /// IEEE binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
}

impl Dtype {
    /// All of them.
    pub const ALL: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::Bf16];

    /// Bytes of one element.
    pub const fn bytes(self) -> u64 {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
        }
    }

    /// The unit of the numerics rule for an output of this type: 2^-23, 2^-10, 2^-7.
    pub const fn eps(self) -> f64 {
        match self {
            Dtype::F32 => 1.0 / (1u64 << 23) as f64,
            Dtype::F16 => 1.0 / 1024.0,
            Dtype::Bf16 => 1.0 / 128.0,
        }
    }

    /// The distance of two subnormal neighbours, below which no kernel can round.
    pub fn subnormal_step(self) -> f64 {
        match self {
            Dtype::F32 => 2f64.powi(-149),
            Dtype::F16 => 2f64.powi(-24),
            Dtype::Bf16 => 2f64.powi(-133),
        }
    }

    /// The smallest number of full precision; those below it are subnormal.
    pub fn smallest_normal(self) -> f64 {
        match self {
            Dtype::F32 | Dtype::Bf16 => 2f64.powi(-126),
            Dtype::F16 => 2f64.powi(-14),
        }
    }

    /// The magnitude from which a value rounds to infinity.
    pub fn overflow(self) -> f64 {
        match self {
            Dtype::F32 => f32::MAX as f64 + 2f64.powi(103),
            Dtype::F16 => 65520.0,
            Dtype::Bf16 => (2.0 - 2f64.powi(-8)) * 2f64.powi(127),
        }
    }

    /// `value` rounded to the nearest of this type (ties to even, overflow to infinity).
    pub fn round(self, value: f64) -> f64 {
        match self {
            Dtype::F32 => value as f32 as f64,
            Dtype::F16 => half::f16::from_f64(value).to_f64(),
            Dtype::Bf16 => half::bf16::from_f64(value).to_f64(),
        }
    }

    /// `values` as the bytes of a buffer: little-endian, padded with zeros to a multiple of 4.
    pub fn encode(self, values: &[f64]) -> Vec<u8> {
        let mut bytes: Vec<u8> = match self {
            Dtype::F32 => values.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect(),
            Dtype::F16 => values.iter().flat_map(|&v| half::f16::from_f64(v).to_le_bytes()).collect(),
            Dtype::Bf16 => values.iter().flat_map(|&v| half::bf16::from_f64(v).to_le_bytes()).collect(),
        };
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// The values that `bytes` hold; a trailing part of an element is ignored.
    pub fn decode(self, bytes: &[u8]) -> Vec<f64> {
        match self {
            Dtype::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]) as f64).collect(),
            Dtype::F16 => bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f64()).collect(),
            Dtype::Bf16 => bytes.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f64()).collect(),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::Bf16 => "bf16",
        })
    }
}

impl std::str::FromStr for Dtype {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "f32" => Ok(Dtype::F32),
            "f16" => Ok(Dtype::F16),
            "bf16" => Ok(Dtype::Bf16),
            _ => Err(format!("`{s}` is not a dtype: expected f32, f16 or bf16")),
        }
    }
}

/// A host type that tensors of values can hold.
pub trait Element: bytemuck::Pod + fmt::Debug + Send + Sync {
    /// Its dtype.
    const DTYPE: Dtype;
}

impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;
}

impl Element for half::f16 {
    const DTYPE: Dtype = Dtype::F16;
}

impl Element for half::bf16 {
    const DTYPE: Dtype = Dtype::Bf16;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_meets_the_thresholds() {
        for dtype in Dtype::ALL {
            let limit = dtype.overflow();
            assert_eq!(dtype.round(limit), f64::INFINITY, "{dtype}");
            // `half` rounds by way of f32, which is exact enough a little away from the tie.
            assert!(dtype.round(limit * (1.0 - 1e-6)).is_finite(), "{dtype}");
            assert_eq!(dtype.round(dtype.subnormal_step()), dtype.subnormal_step());
            assert_eq!(dtype.decode(&dtype.encode(&[1.5, -2.0, 0.25])), {
                let mut v = vec![1.5, -2.0, 0.25];
                v.resize(if dtype == Dtype::F32 { 3 } else { 4 }, 0.0);
                v
            });
        }
    }
}
