//! The gradient of softmax and log-softmax over the last axis, from their results.
//!
//! With `s = scale * x + mask`, `y = softmax(s)` and the gradient `dy` of some loss, per row
//! `dx = scale * y * (dy - sum(y * dy))`; with `log`, where `y = log_softmax(s)`,
//! `dx = scale * (dy - exp(y) * sum(dy))` over what is visible. What a mask hid is told by `y`, which is 0 there
//! (minus infinity with `log`): its `dx` is 0 and its `dy` does not count, whatever stands there. So no mask is
//! bound, and `causal` only saves the look at it. The gradient of an additive mask is `dx` for a scale of 1.
//!
//! The algorithms are those of [`softmax`](crate::softmax), by the length of the row:
//! * [`Algorithm::Registers`]: the row stays in registers, `y` and `dy` are read once and `dx` written once.
//! * [`Algorithm::Online`]: one pass for the sum, one that writes.
//! * [`Algorithm::Split`]: few, very long rows; several workgroups per row, two steps, scratch.
//!
//! Sums are f32 whatever the dtypes.
//!
//! # Measured
//! On Mesa 26.2's lavapipe, 2 cores, against a vec4 copy in the same run (`loom bench`): 4096 x 4096 f32 18 ms, 97 % of
//! the copy, f16 21 ms, 41 %, log 22 ms, 79 %; 65536 x 64 6 ms, 72 %; 16 x 50257 1.2 ms, 71 %.

use crate::compose::{Shader, Storage, Tensor, write_flags};
use crate::dispatch::{Arg, check_all, fold, read_write};
use crate::kernels::{Pipeline, chosen};
use crate::layout::{View, check_rows, check_sizes, split_rows};
use crate::softmax::tile::{self, Rows, Tile};
use crate::{Binding, Caps, Dispatch, Dtype, Error, Kernels, Layout, Misfit, Result, caps::Class};

pub use crate::softmax::{Algorithm, Reduce};

const OP: &str = "softmax_backward";

/// What is computed. `y`, `dy` and `dx` are `[n0, n1, n2, cols]` with `rows = n0 * n1 * n2` and
/// `dims = [n1, n2]`; the default dims of `[1, 1]` make it `[rows, cols]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Problem {
    /// Rows, all outer axes together.
    pub rows: usize,
    /// Elements per row.
    pub cols: usize,
    /// Sizes of the two innermost row axes, for strided layouts and `causal`.
    pub dims: [usize; 2],
    /// Dtype of `y`.
    pub y: Dtype,
    /// Dtype of `dy`.
    pub dy: Dtype,
    /// Dtype of `dx`.
    pub dx: Dtype,
    /// Where the rows of `y` lie: strides of `n0, n1, n2`.
    pub y_layout: Layout<3>,
    pub dy_layout: Layout<3>,
    /// Where the rows of `dx` lie. Rows must not overlap.
    pub dx_layout: Layout<3>,
    /// What multiplied `x`.
    pub scale: f32,
    /// `y` is log-softmax.
    pub log: bool,
    /// Row `i` of axis `n2` saw columns `j <= i + cols - n2`: aligned to the bottom right.
    pub causal: bool,
}

impl Default for Problem {
    /// One row of one f32, unscaled: sizes are yours to set.
    fn default() -> Self {
        Problem {
            rows: 1,
            cols: 1,
            dims: [1, 1],
            y: Dtype::F32,
            dy: Dtype::F32,
            dx: Dtype::F32,
            y_layout: Layout::default(),
            dy_layout: Layout::default(),
            dx_layout: Layout::default(),
            scale: 1.0,
            log: false,
            causal: false,
        }
    }
}

/// How it is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Config {
    pub algorithm: Algorithm,
    /// Invocations per workgroup.
    pub wg_size: u32,
    /// Invocations per row, a power of two that divides `wg_size`.
    pub lanes: u32,
    /// `Registers`: chunks of `y` and of `dy` that an invocation can hold. Else: chunks taken at a time.
    pub keep: u32,
    pub reduce: Reduce,
    pub form: Form,
}

/// What the Problem, the device and the buffers decide of a Config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Form {
    /// Elements per chunk: 4, 2 (a word of packed 16-bit output) or 1.
    pub vec: u32,
    pub y: Storage,
    pub dy: Storage,
    pub dx: Storage,
    pub log: bool,
    /// Some elements of a chunk may be hidden by `causal`, or because they are not of the row.
    pub hides: bool,
    /// Words of a packed `dx` are shared by rows, or with what lies beside them.
    pub edge: bool,
    /// `y` is read from the binding of `dx`. This and what follows is set by `prepare`.
    pub y_in_place: bool,
    pub dy_in_place: bool,
    /// Inputs that lie in a buffer that is written.
    pub y_writable: bool,
    pub dy_writable: bool,
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params {
        rows: u32,
        cols: u32,
        n1: u32,
        n2: u32,
        y_offset: u32,
        y_s0: u32,
        y_s1: u32,
        y_s2: u32,
        dy_offset: u32,
        dy_s0: u32,
        dy_s1: u32,
        dy_s2: u32,
        dx_offset: u32,
        dx_s0: u32,
        dx_s1: u32,
        dx_s2: u32,
        causal: u32,
        grid_x: u32,
        parts: u32,
        part_chunks: u32,
        scale: f32,
    }
}

/// The views that a Problem's layouts resolve to.
struct Views {
    y: View<3>,
    dy: View<3>,
    dx: View<3>,
}

impl Problem {
    /// `[n0, n1, n2]`, whose product is `rows`.
    pub fn sizes(&self) -> [usize; 3] {
        split_rows(self.rows, self.dims)
    }

    fn views(&self) -> Result<Views> {
        let invalid = |arg, reason| Err(Error::InvalidProblem { op: OP, arg, reason });
        check_rows(OP, self.rows, self.dims)?;
        check_sizes(OP, [("rows", self.rows), ("cols", self.cols)])?;
        if !self.scale.is_finite() {
            return invalid("scale", format!("{} is not finite", self.scale));
        }
        let sizes = self.sizes();
        let y = self.y_layout.resolve(OP, "y", sizes, self.cols)?;
        let dy = self.dy_layout.resolve(OP, "dy", sizes, self.cols)?;
        let dx = self.dx_layout.resolve(OP, "dx", sizes, self.cols)?;
        if dx.overlaps_itself() {
            let reason =
                format!("rows overlap: strides {:?} for sizes {sizes:?} and {} columns", dx.strides, self.cols);
            return invalid("dx_layout", reason);
        }
        Ok(Views { y, dy, dx })
    }

    /// What tiles go by.
    fn rows_of(&self, form: &Form) -> Rows {
        Rows { rows: self.rows, chunks: tile::chunks(self.cols, form.vec), buffers: 3 }
    }

    /// The form of the Problem; `wish` may hold a dtype otherwise than is usual on this device.
    fn form(&self, caps: &Caps, views: &Views, wish: Option<Form>) -> Form {
        let storage = |wish, dtype| Storage::wished(wish, dtype, caps);
        let dx = storage(wish.map(|f| f.dx), self.dx);
        let vec = match dx {
            _ if [&views.y, &views.dy, &views.dx].iter().all(|view| view.multiple_of(4)) => 4,
            dx if dx.packed() => 2,
            _ => 1,
        };
        let edge = vec == 2 && !views.dx.multiple_of(2);
        Form {
            vec,
            y: storage(wish.map(|f| f.y), self.y),
            dy: storage(wish.map(|f| f.dy), self.dy),
            dx,
            log: self.log,
            hides: self.causal || edge,
            edge,
            y_in_place: false,
            dy_in_place: false,
            y_writable: false,
            dy_writable: false,
        }
    }
}

/// Measured on: Software, as softmax, whose tiles suit it, too. Discrete and Integrated are not measured yet: two
/// arrays are held, so that an invocation keeps half as much of a row as in softmax.
const TABLE: [tile::Row; 3] = [
    tile::Row {
        class: Class::Software,
        registers: &[(16, 1, 8), (256, 8, 8)],
        online: &[(64, 2, 8, 8), (0, 8, 8, 8)],
        split: (4, 8, 8),
    },
    tile::Row {
        class: Class::Integrated,
        registers: &[(1, 1, 128), (4, 2, 128), (16, 8, 128), (64, 32, 128), (1024, 128, 128), (2048, 256, 256)],
        online: &[(0, 256, 256, 4)],
        split: (64, 256, 4),
    },
    tile::Row {
        class: Class::Discrete,
        registers: &[(1, 1, 256), (4, 2, 256), (16, 8, 256), (64, 32, 256), (256, 64, 256), (2048, 256, 256)],
        online: &[(0, 256, 256, 4)],
        split: (256, 256, 4),
    },
];

/// The Config for this Problem on this device: the best of [`candidates`].
///
/// # Errors
/// Those of the Problem: sizes, layouts.
pub fn choose(caps: &Caps, problem: &Problem) -> Result<Config> {
    chosen(OP, caps, problem, candidates(caps, problem)?)
}

/// Every Config of the table that fits, the best first.
///
/// # Errors
/// Those of the Problem.
pub fn candidates(caps: &Caps, problem: &Problem) -> Result<Vec<Config>> {
    let form = problem.form(caps, &problem.views()?, None);
    let tiles = tile::candidates(OP, caps, &TABLE, &problem.rows_of(&form));
    let config =
        |Tile { algorithm, wg_size, lanes, keep, reduce }| Config { algorithm, wg_size, lanes, keep, reduce, form };
    Ok(tiles.into_iter().map(config).collect())
}

/// Bytes of scratch: a sum per part, for `Split`; else 0.
pub fn scratch_bytes(problem: &Problem, config: &Config) -> u64 {
    match config.algorithm {
        Algorithm::Split => problem.rows as u64 * config.tile().parts(&problem.rows_of(&config.form)).0 as u64 * 4,
        _ => 0,
    }
}

/// `registers wg8 lanes8 keep32 shuffle f32,f32>bf16x2 log`: what differs, in a line.
impl std::fmt::Display for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Config { algorithm, wg_size, lanes, keep, reduce, form } = self;
        let text = format!(
            "{algorithm:?} wg{wg_size} lanes{lanes} keep{keep} {reduce:?} {:?},{:?}>{:?}x{}",
            form.y, form.dy, form.dx, form.vec
        );
        f.write_str(&text.to_lowercase())?;
        write_flags(
            f,
            &[
                ("log", form.log),
                ("hides", form.hides),
                ("edge", form.edge),
                ("y_in_place", form.y_in_place),
                ("dy_in_place", form.dy_in_place),
                ("y_writable", form.y_writable),
                ("dy_writable", form.dy_writable),
            ],
        )
    }
}

impl Config {
    /// Whether the Config can run this Problem on this device.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn fits(&self, caps: &Caps, problem: &Problem) -> Result<(), Misfit> {
        self.tile().fits(caps, &problem.rows_of(&self.form))
    }

    fn tile(&self) -> Tile {
        let Config { algorithm, wg_size, lanes, keep, reduce, .. } = *self;
        Tile { algorithm, wg_size, lanes, keep, reduce }
    }

    /// The pipelines that it names, in the order in which they run.
    pub fn passes(&self) -> Vec<Pass> {
        let steps: &[_] = match self.algorithm {
            Algorithm::Registers => &["softmax_backward_registers"],
            Algorithm::Online => &["softmax_backward_online"],
            Algorithm::Split => &["softmax_backward_split_reduce", "softmax_backward_split_write"],
        };
        steps.iter().map(|&stem| Pass { stem, config: *self }).collect()
    }
}

/// One pipeline of a Config.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pass {
    stem: &'static str,
    config: Config,
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.config)
    }
}

const Y: u32 = 0;
const DY: u32 = 1;
const DX: u32 = 2;
const SCRATCH: u32 = 3;

impl Pipeline for Pass {
    fn shader(&self) -> Shader {
        let form = self.config.form;
        let writes = self.stem != "softmax_backward_split_reduce";
        let mut shader = self
            .config
            .tile()
            .shader(self.stem, form.vec)
            .params::<Params>()
            .flag("LOG", form.log)
            .flag("HIDES", form.hides);
        let dx = Tensor { binding: DX, name: "dx", storage: form.dx, writable: true, output: true, edge: form.edge };
        // The step that only sums binds dx where an input is read from it; its sum for log needs no weights, but
        // y tells what is hidden.
        shader = match writes || form.y_in_place || form.dy_in_place {
            true => shader.tensor(dx),
            false => shader.import("softmax_backward_dx_none"),
        };
        for (binding, name, storage, in_place, writable) in [
            (Y, "y", form.y, form.y_in_place, form.y_writable),
            (DY, "dy", form.dy, form.dy_in_place, form.dy_writable),
        ] {
            shader = match in_place {
                true => shader.tensor_in_place(name, dx),
                false => shader.tensor(Tensor { binding, name, storage, writable, output: false, edge: false }),
            };
        }
        match self.config.algorithm {
            Algorithm::Split => shader.buffer(SCRATCH, "scratch", "f32", true),
            _ => shader,
        }
    }
}

/// Which memory.
#[derive(Debug, Clone, Copy)]
pub struct Buffers<'a> {
    y: Binding<'a>,
    dy: Binding<'a>,
    dx: Binding<'a>,
    scratch: Option<Binding<'a>>,
}

impl<'a> Buffers<'a> {
    /// `y` and `dy` are read, `dx` written; it may be the view of either, where dtypes and layouts are equal.
    pub fn new(y: impl Into<Binding<'a>>, dy: impl Into<Binding<'a>>, dx: impl Into<Binding<'a>>) -> Self {
        Buffers { y: y.into(), dy: dy.into(), dx: dx.into(), scratch: None }
    }

    /// The result takes the place of `dy`.
    pub fn in_place(y: impl Into<Binding<'a>>, dy: impl Into<Binding<'a>>) -> Self {
        let dy = dy.into();
        Self::new(y, dy, dy)
    }

    /// The caller's scratch of [`scratch_bytes`]; without it, that of `Kernels` is used.
    pub fn scratch(mut self, scratch: impl Into<Binding<'a>>) -> Self {
        self.scratch = Some(scratch.into());
        self
    }
}

prepare_by!(plan);

fn plan(kernels: &Kernels, problem: &Problem, config: Option<&Config>, buffers: &Buffers) -> Result<Dispatch> {
    let caps = kernels.caps();
    let views = problem.views()?;
    let mut config = match config {
        Some(config) => Config { form: problem.form(&caps, &views, Some(config.form)), ..*config },
        None => choose(&caps, problem)?,
    };
    config.fits(&caps, problem).map_err(|misfit| misfit.error(OP))?;
    if problem.rows == 0 || problem.cols == 0 {
        return Ok(Dispatch::nothing(OP));
    }

    let bits = |dtype: Dtype| 8 * dtype.bytes();
    let mut args = vec![
        Arg::new(Y, "y", buffers.y, bits(problem.y), &views.y, false),
        Arg::new(DY, "dy", buffers.dy, bits(problem.dy), &views.dy, false),
        Arg::new(DX, "dx", buffers.dx, bits(problem.dx), &views.dx, true),
    ];
    let scratch_need = scratch_bytes(problem, &config);
    let pooled;
    if scratch_need > 0 {
        let binding = match buffers.scratch {
            Some(binding) => binding,
            None => {
                pooled = kernels.scratch(OP, scratch_need)?;
                Binding::from(&pooled)
            }
        };
        args.push(Arg::scratch(SCRATCH, binding, scratch_need));
    }
    let inputs = [(&views.y, problem.y), (&views.dy, problem.dy)];
    let same = |i: usize| {
        let (view, dtype) = inputs[i];
        dtype == problem.dx && view.same_rows(&views.dx) && args[i].same_first(&args[2])
    };
    let in_place = [same(0), same(1)];
    check_all(OP, &caps, &args, |i, j| {
        // Views that interleave share a bound range, which browsers refuse.
        let interleaved = |(view, dtype): (&View<3>, Dtype)| {
            let bound = caps.backend != wgpu::Backend::BrowserWebGpu && args[i].same_start(&args[2]);
            bound && dtype == problem.dx && view.interleaves(&views.dx)
        };
        i < 2 && j == 2 && (in_place[i] || interleaved(inputs[i]))
    })?;
    [config.form.y_in_place, config.form.dy_in_place] = in_place;
    config.form.y_writable = !in_place[0] && read_write(&args, Y);
    config.form.dy_writable = !in_place[1] && read_write(&args, DY);

    let (tile, rows) = (config.tile(), problem.rows_of(&config.form));
    let (parts, part_chunks) = tile.parts(&rows);
    let grid = fold(OP, &caps, tile.workgroups(&rows))?;
    // In place, an input is read through the binding of dx.
    let [y, dy, dx] =
        [if in_place[0] { &views.dx } else { &views.y }, if in_place[1] { &views.dx } else { &views.dy }, &views.dx];
    let params = Params {
        rows: problem.rows as u32,
        cols: problem.cols as u32,
        n1: problem.dims[0] as u32,
        n2: problem.dims[1] as u32,
        y_offset: y.offset as u32,
        y_s0: y.stride(0),
        y_s1: y.stride(1),
        y_s2: y.stride(2),
        dy_offset: dy.offset as u32,
        dy_s0: dy.stride(0),
        dy_s1: dy.stride(1),
        dy_s2: dy.stride(2),
        dx_offset: dx.offset as u32,
        dx_s0: dx.stride(0),
        dx_s1: dx.stride(1),
        dx_s2: dx.stride(2),
        causal: problem.causal.into(),
        grid_x: grid[0],
        parts,
        part_chunks,
        scale: problem.scale,
    };
    let mut passes = Vec::with_capacity(2);
    for pass in config.passes() {
        passes.push((kernels.pipeline(OP, &pass)?, grid));
    }
    Ok(Dispatch::new(OP, kernels, &args, &params, passes))
}
