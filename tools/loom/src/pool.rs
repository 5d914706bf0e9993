//! Input sets of benchmarks: random values that cost nothing to make.

use tileloom::Dtype;

use crate::random::Random;

/// Random values that input sets are cut from, each set at a place of its own.
pub struct Pool {
    seed: u64,
    values: Vec<f64>,
    encoded: [Vec<u8>; 3],
}

/// A prime, so that sets differ, and rows of one set, too.
const POOL: usize = 1_048_573;

impl Pool {
    /// Normal values of spread 3.
    pub fn new(seed: u64) -> Pool {
        let mut random = Random::new(seed);
        let values: Vec<f64> = (0..POOL).map(|_| 3.0 * random.normal()).collect();
        let encoded = Dtype::ALL.map(|dtype| {
            let mut bytes = dtype.encode(&values);
            bytes.truncate(POOL * dtype.bytes() as usize); // `encode` pads to words
            bytes
        });
        Pool { seed, values, encoded }
    }

    /// What it was made of.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Of the random values of argument `set`, which are not cut from it.
    pub fn random(&self, set: usize) -> Random {
        Random::new(self.seed.rotate_left(32) ^ set as u64)
    }

    fn start(set: usize) -> usize {
        set.wrapping_mul(777_767) % POOL
    }

    /// `elements` of input set `set` as the bytes of a buffer, padded to words.
    pub fn bytes(&self, dtype: Dtype, elements: usize, set: usize) -> Vec<u8> {
        let width = dtype.bytes() as usize;
        let source = &self.encoded[Dtype::ALL.iter().position(|&d| d == dtype).unwrap_or(0)];
        let need = elements * width;
        let mut bytes = Vec::with_capacity(need.next_multiple_of(4));
        bytes.extend_from_slice(
            &source[Self::start(set) * width..][..need.min(source.len() - Self::start(set) * width)],
        );
        while bytes.len() < need {
            bytes.extend_from_slice(&source[..source.len().min(need - bytes.len())]);
        }
        bytes.resize(need.next_multiple_of(4), 0);
        bytes
    }

    /// The same as numbers.
    pub fn values(&self, dtype: Dtype, elements: usize, set: usize) -> Vec<f64> {
        self.values.iter().cycle().skip(Self::start(set)).take(elements).map(|&v| dtype.round(v)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_gives_the_same_as_bytes_and_as_values() {
        let pool = Pool::new(3);
        for dtype in Dtype::ALL {
            for (elements, set) in [(7, 0), (1000, 5), (POOL + 11, 2), (2 * POOL + 3, 1)] {
                let bytes = pool.bytes(dtype, elements, set);
                assert_eq!(bytes.len() % 4, 0);
                assert_eq!(dtype.decode(&bytes)[..elements], pool.values(dtype, elements, set));
            }
        }
        assert_ne!(pool.values(Dtype::F32, 8, 0), pool.values(Dtype::F32, 8, 1));
        let drawn = |seed, set| Pool::new(seed).random(set).normal();
        assert!(drawn(3, 1) == drawn(3, 1) && drawn(3, 1) != drawn(3, 2) && drawn(3, 1) != drawn(4, 1));
    }
}
