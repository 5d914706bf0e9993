//! Scalar quantisation: FSQ (Mentzer et al., "Finite Scalar Quantization", 2023), whose dimensions have a few levels
//! each, and LFQ (Yu et al., "Language Model Beats Diffusion", 2023), whose dimensions have signs. The codebook is
//! the product of all levels, and no table of it exists.
//!
//! FSQ rounds `tanh(z + shift) half - offset`. A digit changes where that crosses a half, so that encoding is a
//! comparison of `z` with thresholds, which are worked out in f64 on the host and rounded down: exact for
//! every f32, whatever a driver's `tanh` is.

use crate::ops::prelude::*;

pub use crate::ops::pointwise::Config;

defaults! {
    /// What is computed: indices and quantised vectors of vectors, or vectors of indices.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Problem<'a> {
        /// Vectors.
        pub n: usize = 1,
        /// What a level stands for.
        pub kind: Kind = Kind::Fsq,
        /// Of each dimension: 2 each for LFQ, up to 1000 for FSQ, whose `half` is a thousandth too wide and would round
        /// past the last of more. Their product fits in 32 bits.
        pub levels: &'a [u32] = &[2],
        /// Which way.
        pub direction: Direction = Direction::Encode,
        /// Dtype of vectors to encode.
        pub x: Dtype = Dtype::F32,
        /// Strides of vectors to encode.
        pub x_layout: Layout<1> = Layout::default(),
        /// Dtype of quantised vectors.
        pub y: Dtype = Dtype::F32,
        /// Strides of quantised vectors. Rows must not overlap.
        pub y_layout: Layout<1> = Layout::default(),
        /// The first element of u32 indices `[n]`, of which the first dimension is the lowest digit.
        pub indices: usize = 0,
    }
}

/// What a level stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Kind {
    /// Levels of a bounded element, -1 to 1.
    #[default]
    Fsq,
    /// Signs: -1 or 1.
    Lfq,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// `x` to indices and `y`.
    #[default]
    Encode,
    /// Indices to `y`.
    Decode,
}

/// What follows from the Problem and its views.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    /// Of what is encoded.
    x: Option<Storage>,
    y: Storage,
    /// Words of a packed output are shared by rows, or with what lies beside them.
    edge: bool,
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params;
    fn of(p: &Problem, views: &Views, grid: [u32; 3]) {
        x: Strides = views.x.map_or([0; 4], |x| x.params()),
        y: Strides = views.y.params(),
        n: u32 = p.n as u32,
        cols: u32 = p.levels.len() as u32,
        grid_x: u32 = grid[0],
        indices_offset: u32 = p.indices as u32,
    }
}

/// The views that a Problem's layouts resolve to.
pub(crate) struct Views {
    /// Of what is encoded.
    x: Option<View<1>>,
    y: View<1>,
    indices: View<1>,
}

impl Problem<'_> {
    fn encodes(&self) -> bool {
        self.direction == Direction::Encode
    }

    fn has_f16(&self) -> bool {
        self.y == Dtype::F16 || (self.encodes() && self.x == Dtype::F16)
    }

    fn pass(&self, views: &Views, config: &Config, writable: Slots) -> Pass<Config, Form> {
        let y = Storage::held(self.y, config.native_f16);
        let x = views.x.map(|_| Storage::held(self.x, config.native_f16));
        let form = Form { x, y, edge: y.packed() && !views.y.multiple_of(2) };
        let stem = if self.encodes() { "vq_scalar_encode" } else { "vq_scalar_decode" };
        Pass { stem, config: *config, form, writable }
    }

    /// Thresholds between the digits of a dimension: each the largest f32 that does not exceed the exact one.
    fn thresholds(&self, levels: u32) -> Vec<f32> {
        if self.kind == Kind::Lfq {
            return vec![0.0];
        }
        let half = f64::from(levels - 1) * (1.0 + 1e-3) / 2.0;
        let offset = if levels.is_multiple_of(2) { 0.5 } else { 0.0 };
        let shift = (offset / half).atanh();
        let between = (1..levels).map(|digit| f64::from(digit) - f64::from(levels / 2) - 0.5);
        between
            .map(|edge| {
                let exact = ((edge + offset) / half).atanh() - shift;
                let near = exact as f32;
                if f64::from(near) > exact { near.next_down() } else { near }
            })
            .collect()
    }

    /// What digits mean, as `vq_scalar_table` reads it.
    fn table(&self) -> Vec<u32> {
        let mut words = Vec::new();
        let mut tail = Vec::new();
        let mut weight = 1u32;
        for &levels in self.levels {
            let at = (4 * self.levels.len() + tail.len()) as u32;
            words.extend([levels, weight, at, at + levels - 1]);
            tail.extend(self.thresholds(levels));
            let value = |digit| crate::reference::vq_scalar::value(self.kind, levels, digit) as f32;
            tail.extend((0..levels).map(value));
            weight = weight.wrapping_mul(levels);
        }
        words.extend(tail.into_iter().map(f32::to_bits));
        words
    }
}

slots!(X, INDICES, Y, TABLE);

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Form { x, y, edge } = self.form;
        let shader = self.begin(self.config.wg_size, 0, 1 + u32::from(y.packed())).params::<Params>();
        let shader = match x {
            Some(x) => shader.input(X, "x", x).writes(INDICES, "indices", "u32"),
            None => shader.reads(INDICES, "indices", "u32"),
        };
        shader.output(Y, "y", y, edge).reads(TABLE, "table", "u32").gather("value")
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `indices` are written where vectors are encoded, else read; `y` is written.
        indices, y;
        /// What is encoded.
        x,
    }
}

functions!("vq_scalar", Problem<'_>);

impl Plan for Problem<'_> {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        let range = if self.kind == Kind::Lfq { 2..=2 } else { 2..=1000 };
        if self.levels.is_empty() {
            return Err(ErrorKind::invalid("levels", "there are none"));
        }
        if let Some(bad) = self.levels.iter().find(|&levels| !range.contains(levels)) {
            let reason = format!("{bad} is not {} to {}", range.start(), range.end());
            return Err(ErrorKind::invalid("levels", reason));
        }
        if self.levels.iter().try_fold(1u64, |n, &l| n.checked_mul(l.into()).filter(|&n| n <= 1 << 32)).is_none() {
            let reason = format!("the product of {:?} is more than 2^32", self.levels);
            return Err(ErrorKind::invalid("levels", reason));
        }
        sizes_fit([("n", self.n)])?;
        let dims = self.levels.len();
        Ok(Views {
            x: self.encodes().then(|| self.x_layout.view("x", [self.n], dims)).transpose()?,
            y: self.y_layout.view("y", [self.n], dims)?.apart("y_layout")?,
            indices: Layout::at(self.indices).view("indices", [self.n], 1)?,
        })
    }

    fn list(&self, _views: &Views, caps: &Caps) -> Vec<Config> {
        vec![Config::of(caps, self.has_f16())]
    }

    fn check(&self, _views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        config.check(caps, self.has_f16())
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        vec![self.pass(views, config, writable).shader()]
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        args.read(X, "x", buffers.x, views.x.map(|x| x.of(self.x)))?;
        args.write(Y, "y", buffers.y, views.y.of(self.y))?;
        match self.direction {
            Direction::Encode => args.write(INDICES, "indices", buffers.indices, views.indices.of(WORD))?,
            Direction::Decode => args.read(INDICES, "indices", buffers.indices, views.indices.of(WORD))?,
        }
        if self.n == 0 {
            return Ok(Dispatch::default());
        }
        args.table(TABLE, "table", &self.table())?;
        args.check()?;

        let grid = args.fold((self.n as u64).div_ceil(config.wg_size.into()))?;
        args.dispatch(&[self.pass(views, config, args.writable())], &Params::of(self, views, grid), grid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::vq_scalar::digit;

    #[test]
    fn thresholds_agree_with_the_formula_beside_them() {
        for levels in [2, 3, 5, 8, 64, 1000] {
            let problem = Problem::default();
            let all = problem.thresholds(levels);
            assert_eq!(all.len() as u32, levels - 1);
            for (below, &edge) in all.iter().enumerate() {
                // tanh itself is rounded where it is steep or flat: a little away from the edge.
                let step = f64::from(edge.abs().max(1e-3)) * 1e-6;
                assert_eq!(digit(Kind::Fsq, levels, f64::from(edge) - step), below as u32, "{levels} levels");
                assert_eq!(digit(Kind::Fsq, levels, f64::from(edge) + step), below as u32 + 1, "{levels} levels");
            }
        }
    }
}
