//! Scalar quantisation: FSQ (Mentzer et al., "Finite Scalar Quantization", 2023), whose dimensions have a few levels
//! each, and LFQ (Yu et al., "Language Model Beats Diffusion", 2023), whose dimensions have signs. The codebook is
//! the product of all levels, and no table of it exists.
//!
//! FSQ rounds `tanh(z + shift) half - offset`. A digit changes where that crosses a half, so that encoding is a
//! comparison of `z` with thresholds, which are worked out in f64 on the host and rounded down: exact for
//! every f32, whatever a driver's `tanh` is.

use crate::compose::{Shader, Storage, Tensor, write_flags};
use crate::dispatch::{Arg, check_all, fold, given, read_write};
use crate::kernels::Pipeline;
use crate::layout::{View, check_sizes};
use crate::{Binding, Caps, Dispatch, Dtype, Error, ErrorKind, Kernels, Layout, Misfit, Result};

const OP: &str = "vq_scalar";

/// What is computed: indices and quantised vectors of vectors, or vectors of indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Problem<'a> {
    /// Vectors.
    pub n: usize,
    pub kind: Kind,
    /// Of each dimension: 2 each for LFQ, up to 1000 for FSQ, whose `half` is a thousandth too wide and would round
    /// past the last of more. Their product fits in 32 bits.
    pub levels: &'a [u32],
    pub direction: Direction,
    /// Dtype of vectors to encode.
    pub x: Dtype,
    pub x_layout: Layout<1>,
    /// Dtype of quantised vectors.
    pub y: Dtype,
    pub y_layout: Layout<1>,
    /// The first element of u32 indices `[n]`, of which the first dimension is the lowest digit.
    pub indices: usize,
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

impl Default for Problem<'_> {
    /// One vector of one dimension with two levels: sizes are yours to set.
    fn default() -> Self {
        let layout = Layout { offset: 0, strides: None };
        Problem {
            n: 1,
            kind: Kind::Fsq,
            levels: &[2],
            direction: Direction::Encode,
            x: Dtype::F32,
            x_layout: layout,
            y: Dtype::F32,
            y_layout: layout,
            indices: 0,
        }
    }
}

/// How it is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Config {
    /// Invocations per workgroup.
    pub wg_size: u32,
    pub form: Form,
}

/// What the Problem, the device and the buffers decide of a Config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Form {
    pub direction: Direction,
    /// Of what is encoded; without a say otherwise.
    pub x: Storage,
    pub y: Storage,
    /// Words of a packed output are shared by rows, or with what lies beside them.
    pub edge: bool,
    /// Inputs that lie in a buffer that is written; set by `prepare`.
    pub x_writable: bool,
    pub indices_writable: bool,
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params {
        n: u32,
        cols: u32,
        grid_x: u32,
        indices_offset: u32,
        x_offset: u32,
        x_s0: u32,
        y_offset: u32,
        y_s0: u32,
    }
}

struct Views {
    x: View<1>,
    y: View<1>,
    indices: View<1>,
}

impl Problem<'_> {
    fn views(&self) -> Result<Views> {
        let invalid = |arg, reason: String| Err(Error { op: OP, kind: ErrorKind::InvalidProblem { arg, reason } });
        let least = if self.kind == Kind::Lfq { 2..=2 } else { 2..=1000 };
        if self.levels.is_empty() {
            return invalid("levels", "there are none".into());
        }
        if let Some(bad) = self.levels.iter().find(|&levels| !least.contains(levels)) {
            return invalid("levels", format!("{bad} is not {} to {}", least.start(), least.end()));
        }
        if self.levels.iter().try_fold(1u64, |n, &l| n.checked_mul(l.into()).filter(|&n| n <= 1 << 32)).is_none() {
            return invalid("levels", format!("the product of {:?} is more than 2^32", self.levels));
        }
        check_sizes(OP, [("n", self.n)])?;
        let dims = self.levels.len();
        let x = self.x_layout.resolve(OP, "x", [self.n], dims)?;
        let y = self.y_layout.resolve(OP, "y", [self.n], dims)?;
        if y.overlaps_itself() {
            return invalid("y", format!("rows overlap: stride {:?} for {dims} elements", y.strides));
        }
        Ok(Views { x, y, indices: Layout::<1>::at(self.indices).resolve(OP, "indices", [self.n], 1)? })
    }

    fn form(&self, caps: &Caps, views: &Views) -> Form {
        let y = Storage::of(self.y, caps);
        Form {
            direction: self.direction,
            x: if self.direction == Direction::Encode { Storage::of(self.x, caps) } else { Storage::F32 },
            y,
            edge: y.packed() && !views.y.multiple_of(2),
            x_writable: false,
            indices_writable: false,
        }
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

    /// As `vq_scalar_table` has it.
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

/// The Config for this Problem on this device.
///
/// # Errors
/// Those of the Problem: levels and layouts.
pub fn choose(caps: &Caps, problem: &Problem) -> Result<Config> {
    let wg_size = caps.most_invocations().min(64);
    Ok(Config { wg_size, form: problem.form(caps, &problem.views()?) })
}

/// `wg64 encode f32>f32`: what differs, in a line.
impl std::fmt::Display for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Config { wg_size, form } = self;
        f.write_str(&format!("wg{wg_size} {:?} {:?}>{:?}", form.direction, form.x, form.y).to_lowercase())?;
        let Form { edge, x_writable, indices_writable, .. } = *form;
        write_flags(f, &[("edge", edge), ("x_writable", x_writable), ("indices_writable", indices_writable)])
    }
}

impl Config {
    /// Whether the Config can run on this device.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn fits(&self, caps: &Caps) -> Result<(), Misfit> {
        let limit = caps.most_invocations();
        match self.wg_size {
            0 => Err(Misfit::old("wg_size must be at least", 0, 1)),
            have if have > limit => Err(Misfit::old("wg_size must be at most", have, limit)),
            _ => Ok(()),
        }
    }

    /// The pipeline that it names.
    pub fn pass(&self) -> Pass {
        Pass { config: *self }
    }
}

/// The pipeline of a Config.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pass {
    config: Config,
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.config)
    }
}

const X: u32 = 0;
const INDICES: u32 = 1;
const Y: u32 = 2;
const TABLE: u32 = 3;

impl Pipeline for Pass {
    fn shader(&self) -> Shader {
        let Config { wg_size, form } = self.config;
        let encode = form.direction == Direction::Encode;
        let stem = if encode { "vq_scalar_encode" } else { "vq_scalar_decode" };
        let vec = 1 + u32::from(form.y.packed());
        let mut shader = Shader::new(stem, wg_size, 0, vec).params::<Params>();
        if encode {
            let (storage, writable) = (form.x, form.x_writable);
            shader = shader.tensor(Tensor { binding: X, name: "x", storage, writable, output: false, edge: false });
        }
        let y = Tensor { binding: Y, name: "y", storage: form.y, writable: true, output: true, edge: form.edge };
        shader
            .buffer(INDICES, "indices", "u32", encode || form.indices_writable)
            .tensor(y)
            .buffer(TABLE, "table", "u32", false)
            .gather("value")
    }
}

/// Which memory.
#[derive(Debug, Clone, Copy)]
pub struct Buffers<'a> {
    indices: Binding<'a>,
    y: Binding<'a>,
    x: Option<Binding<'a>>,
}

impl<'a> Buffers<'a> {
    /// Of decoding.
    pub fn new(indices: impl Into<Binding<'a>>, y: impl Into<Binding<'a>>) -> Self {
        Buffers { indices: indices.into(), y: y.into(), x: None }
    }

    /// What is encoded.
    pub fn x(mut self, x: impl Into<Binding<'a>>) -> Self {
        self.x = Some(x.into());
        self
    }
}

prepare_by!(plan, Problem<'_>);

fn plan(kernels: &Kernels, problem: &Problem, config: Option<&Config>, buffers: &Buffers) -> Result<Dispatch> {
    let caps = kernels.caps();
    let views = problem.views()?;
    let encode = problem.direction == Direction::Encode;
    given(OP, "x", encode, buffers.x.is_some())?;
    if problem.n == 0 {
        return Ok(Dispatch::nothing(OP));
    }
    let mut config = match config {
        Some(config) => Config { form: problem.form(&caps, &views), ..*config },
        None => choose(&caps, problem)?,
    };
    config.fits(&caps).map_err(|misfit| misfit.error(OP))?;
    let mut args = vec![
        Arg::new(INDICES, "indices", buffers.indices, 32, &views.indices, encode),
        Arg::new(Y, "y", buffers.y, 8 * problem.y.bytes(), &views.y, true),
    ];
    args.extend(buffers.x.map(|x| Arg::new(X, "x", x, 8 * problem.x.bytes(), &views.x, false)));
    check_all(OP, &caps, &args, |_, _| false)?;
    config.form.x_writable = read_write(&args, X);
    config.form.indices_writable = !encode && read_write(&args, INDICES);

    let grid = fold(OP, &caps, (problem.n as u64).div_ceil(config.wg_size.into()))?;
    let params = Params {
        n: problem.n as u32,
        cols: problem.levels.len() as u32,
        grid_x: grid[0],
        indices_offset: problem.indices as u32,
        x_offset: views.x.offset as u32,
        x_s0: views.x.stride(0),
        y_offset: views.y.offset as u32,
        y_s0: views.y.stride(0),
    };
    let words = problem.table();
    let elements = 0..words.len() as u64;
    let table = kernels.table_of(OP, words)?;
    args.push(Arg {
        slot: TABLE,
        name: "table",
        binding: Binding::from(&table),
        element_bits: 32,
        elements,
        writes: false,
    });
    let pass = kernels.pipeline(OP, &config.pass())?;
    Ok(Dispatch::new(OP, kernels, &args, &params, vec![(pass, grid)]))
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
