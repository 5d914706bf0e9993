//! [`Dice`]: any value of any type that Problems are made of, mostly an ordinary one.

use tileloom::{Dtype, Layout};

use tileloom::verify::random::Random;

/// What a case is drawn by.
pub struct Dice {
    random: Random,
    /// One field in so many is drawn anew.
    rate: usize,
    /// One size in so many is absurd; 0: none.
    absurd: usize,
    /// Ordinary sizes are the first so many of [`SIZES`].
    sizes: usize,
}

/// Sizes that calls have, and those around tiles.
const SIZES: [usize; 32] = [
    0,
    1,
    1,
    1,
    1,
    2,
    2,
    3,
    4,
    4,
    5,
    7,
    8,
    8,
    12,
    16,
    17,
    31,
    32,
    33,
    64,
    65,
    100,
    128,
    255,
    256,
    257,
    576,
    1024,
    4097,
    65_536,
    1 << 20,
];

impl Dice {
    /// Those of case `case` of a run with this seed.
    pub fn of(seed: u64, case: u64) -> Dice {
        let mut random = Random::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ case);
        let rate = [1, 2, 4, 8][random.below(4)];
        // Where a usize is narrow, absurd sizes are what the run is about.
        let absurd = [0, if usize::BITS < 64 { 3 } else { 0 }, 16, 3][random.below(4)];
        Dice { random, rate, absurd, sizes: SIZES.len() }
    }

    /// From now on sizes are those of calls that a driver on the CPU runs in milliseconds.
    pub fn small(&mut self) {
        (self.absurd, self.sizes) = (0, 22);
    }

    /// From now on one field in sixteen is drawn anew, and sizes are often absurd, where they are not small.
    pub fn rarely(&mut self) {
        self.rate = 16;
        if self.sizes == SIZES.len() {
            self.absurd = 3;
        }
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.random.below(n)
    }

    pub fn word(&mut self) -> u64 {
        self.random.word()
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn of_these<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }

    /// Whether to draw a field anew.
    pub fn varies(&mut self) -> bool {
        let rate = self.rate;
        self.one_in(rate)
    }

    /// A size, an offset or a stride.
    pub fn size(&mut self) -> usize {
        let absurd = self.absurd;
        match absurd > 0 && self.one_in(absurd) {
            false => SIZES[self.below(self.sizes)],
            true => match self.below(4) {
                0 => usize::MAX - self.of_these(&SIZES),
                1 => (usize::MAX >> self.below(usize::BITS as usize)).wrapping_add(self.below(2)),
                2 => 1usize.rotate_right(self.below(40) as u32 + 1),
                _ => self.word() as usize >> self.below(usize::BITS as usize),
            },
        }
    }

    /// The same of bytes.
    pub fn bytes(&mut self) -> u64 {
        match self.below(8) {
            0 => u64::MAX - 4 * self.below(512) as u64,
            1 => u64::MAX >> self.below(64),
            2 => (self.size() as u64).saturating_mul(4),
            3 => 256 * self.below(64) as u64,
            _ => 0,
        }
    }
}

/// A type of which there are any values.
pub trait Vary: Sized {
    fn any(dice: &mut Dice) -> Self;

    /// Draws it anew, or some fields of it.
    fn vary(&mut self, dice: &mut Dice) {
        *self = Self::any(dice);
    }
}

/// A struct: what `base` gives, with some fields drawn anew. Every field must be named.
#[macro_export]
macro_rules! fields {
    ($ty:ty = $base:expr; $path:path { $($field:ident),+ $(,)? }) => {
        impl $crate::dice::Vary for $ty {
            fn any(dice: &mut $crate::dice::Dice) -> Self {
                let mut all: $ty = $base;
                $crate::dice::Vary::vary(&mut all, dice);
                all
            }

            fn vary(&mut self, dice: &mut $crate::dice::Dice) {
                let $path { $($field),+ } = self;
                $(if dice.varies() { $crate::dice::Vary::vary($field, dice); })+
            }
        }
    };
}

/// One of several values.
#[macro_export]
macro_rules! one_of {
    ($ty:ty: |$dice:ident| $($value:expr),+ $(,)?) => {
        impl $crate::dice::Vary for $ty {
            fn any(dice: &mut $crate::dice::Dice) -> Self {
                let values: &[fn(&mut $crate::dice::Dice) -> $ty] = &[$(|$dice| {
                    let _ = &$dice;
                    $value
                }),+];
                values[dice.below(values.len())](dice)
            }
        }
    };
}

impl Vary for usize {
    fn any(dice: &mut Dice) -> Self {
        dice.size()
    }
}

impl Vary for u32 {
    fn any(dice: &mut Dice) -> Self {
        dice.size() as u32
    }
}

impl Vary for i64 {
    fn any(dice: &mut Dice) -> Self {
        let of = dice.size() as i64;
        dice.of_these(&[0, of, of.wrapping_neg(), i64::MIN, i64::MAX, 1 << 32, -(1 << 31)])
    }
}

impl Vary for bool {
    fn any(dice: &mut Dice) -> Self {
        dice.one_in(2)
    }
}

impl Vary for f32 {
    fn any(dice: &mut Dice) -> Self {
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, 1e-40, -1.0, -0.0, 1e30];
        match dice.one_in(4) {
            true => dice.of_these(&odd),
            false => dice.of_these(&[0.0, 0.5, 1.0, 2.0, 1e-5]),
        }
    }
}

impl Vary for f64 {
    fn any(dice: &mut Dice) -> Self {
        let odd = [f64::NAN, f64::INFINITY, -1.0, 65_536.0, 65_537.0, 1e-320, 0.0];
        if dice.one_in(8) { dice.of_these(&odd) } else { dice.of_these(&[1.0, 0.1, 0.01]) }
    }
}

impl<T: Vary> Vary for Option<T> {
    fn any(dice: &mut Dice) -> Self {
        if dice.one_in(2) { Some(T::any(dice)) } else { None }
    }
}

impl<T: Vary, const N: usize> Vary for [T; N] {
    fn any(dice: &mut Dice) -> Self {
        std::array::from_fn(|_| T::any(dice))
    }
}

impl<const N: usize> Vary for Layout<N> {
    fn any(dice: &mut Dice) -> Self {
        let offset = if dice.one_in(2) { 0 } else { dice.size() };
        Layout { offset, strides: if dice.one_in(2) { None } else { Some(Vary::any(dice)) } }
    }
}

one_of!(Dtype: |d| Dtype::F32, Dtype::F16, Dtype::Bf16);
