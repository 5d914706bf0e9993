//! Joins partial results of attention: splits of the keys, a shared prefix (cascade), shards on other devices (ring
//! attention; Liu et al., 2023).
//!
//! `o = sum_s w_s o_s / sum w` and `lse = max lse + ln(sum w)`, where `w_s = exp(lse_s - max lse)`. A part with an
//! LSE of minus infinity is the identity: its `o` is not looked at. Sums are f32 whatever the dtypes.

use crate::compose::{Shader, Storage, Tensor, write_flags};
use crate::dispatch::{Arg, check_all, fold, given, read_write};
use crate::kernels::Pipeline;
use crate::layout::{View, check_rows, check_sizes, split_rows};
use crate::{Binding, Caps, Dispatch, Dtype, Error, ErrorKind, Kernels, Layout, Misfit, Result, caps::Class};

const OP: &str = "attention_merge";

/// What is computed: `o [splits, rows, dim]` and `lse [splits, rows]` to `[rows, dim]` and `[rows]`, where
/// `rows = n0 * n1 * n2` and `dims = [n1, n2]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Problem {
    pub splits: usize,
    /// Rows of the result: queries of all heads and batches.
    pub rows: usize,
    /// Elements per row.
    pub dim: usize,
    /// Sizes of the two innermost row axes, for `out_layout`.
    pub dims: [usize; 2],
    /// Dtype of the parts.
    pub x: Dtype,
    /// Dtype of the result.
    pub y: Dtype,
    /// Where the parts lie: strides of split and row.
    pub o_layout: Layout<2>,
    /// The element at which `lse`, contiguous f32, starts.
    pub lse: usize,
    /// Where the result lies: strides of `n0, n1, n2`. Rows must not overlap.
    pub out_layout: Layout<3>,
    /// Write the joint log-sum-exp, f32 `[rows]`, from this element of its binding.
    pub lse_out: Option<usize>,
}

impl Default for Problem {
    /// One part of one row of one f32: sizes are yours to set.
    fn default() -> Self {
        Problem {
            splits: 1,
            rows: 1,
            dim: 1,
            dims: [1, 1],
            x: Dtype::F32,
            y: Dtype::F32,
            o_layout: Layout::default(),
            lse: 0,
            out_layout: Layout::default(),
            lse_out: None,
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
    /// Elements per chunk: 4 or 1.
    pub vec: u32,
    pub x: Storage,
    pub y: Storage,
    pub lse: bool,
    /// Words of a packed output are shared by rows, or with what lies beside them.
    pub edge: bool,
    /// Inputs that lie in a buffer that is written. Set by `prepare`.
    pub o_writable: bool,
    pub lse_writable: bool,
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params {
        splits: u32,
        rows: u32,
        dim: u32,
        chunks: u32,
        n1: u32,
        n2: u32,
        o_offset: u32,
        o_s0: u32,
        o_s1: u32,
        lse_offset: u32,
        out_offset: u32,
        out_s0: u32,
        out_s1: u32,
        out_s2: u32,
        lse_out_offset: u32,
        grid_x: u32,
        neg_inf: f32,
    }
}

struct Views {
    o: View<2>,
    lse: View<2>,
    out: View<3>,
}

impl Problem {
    /// `[n0, n1, n2]`, whose product is `rows`.
    pub fn sizes(&self) -> [usize; 3] {
        split_rows(self.rows, self.dims)
    }

    fn views(&self) -> Result<Views> {
        let invalid = |arg, reason| Err(Error { op: OP, kind: ErrorKind::InvalidProblem { arg, reason } });
        check_rows(OP, self.rows, self.dims)?;
        check_sizes(OP, [("splits", self.splits), ("rows", self.rows), ("dim", self.dim)])?;
        let o = self.o_layout.resolve(OP, "o", [self.splits, self.rows], self.dim)?;
        let lse = Layout::at(self.lse).resolve(OP, "lse", [self.splits, self.rows], 1)?;
        let out = self.out_layout.resolve(OP, "o_out", self.sizes(), self.dim)?;
        if out.overlaps_itself() {
            return invalid("out_layout", format!("rows overlap: strides {:?} for sizes {:?}", out.strides, out.sizes));
        }
        if let Some(offset) = self.lse_out {
            Layout::<1>::at(offset).resolve(OP, "lse_out", [self.rows], 1)?;
        }
        Ok(Views { o, lse, out })
    }

    fn form(&self, caps: &Caps, views: &Views, wish: Option<Form>) -> Form {
        let storage = |wish, dtype| Storage::wished(wish, dtype, caps);
        let (x, y) = (storage(wish.map(|f| f.x), self.x), storage(wish.map(|f| f.y), self.y));
        let vec = if views.o.multiple_of(4) && views.out.multiple_of(4) { 4 } else { 1 };
        let (lse, edge) = (self.lse_out.is_some(), vec == 1 && y.packed());
        Form { vec, x, y, lse, edge, o_writable: false, lse_writable: false }
    }
}

/// The Config for this Problem on this device.
///
/// # Errors
/// Those of the Problem: sizes, layouts.
pub fn choose(caps: &Caps, problem: &Problem) -> Result<Config> {
    let most = caps.most_invocations();
    // A kernel of loads and few sums: the size hardly counts.
    let wg_size = if caps.class() == Class::Software { 8 } else { 128 };
    let config = Config { wg_size: wg_size.min(most), form: problem.form(caps, &problem.views()?, None) };
    crate::kernels::print_choice(OP, problem, &config);
    Ok(config)
}

/// `wg8 f32>f16packedx4 lse`: what differs, in a line.
impl std::fmt::Display for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Config { wg_size, form } = self;
        f.write_str(&format!("wg{wg_size} {:?}>{:?}x{}", form.x, form.y, form.vec).to_lowercase())?;
        write_flags(
            f,
            &[
                ("lse", form.lse),
                ("edge", form.edge),
                ("o_writable", form.o_writable),
                ("lse_writable", form.lse_writable),
            ],
        )
    }
}

/// Rounds of an invocation's loops.
pub(crate) fn rounds(splits: u64) -> u64 {
    2 * splits + 4
}

impl Config {
    /// Whether the Config can run on this device.
    ///
    /// # Errors
    /// What does not fit.
    pub fn fits(&self, caps: &Caps) -> Result<(), Misfit> {
        let most = caps.most_invocations();
        match self.wg_size == 0 || self.wg_size > most {
            true => Err(Misfit::old("wg_size must be at least 1 and at most", self.wg_size, most)),
            false => Ok(()),
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

const O: u32 = 0;
const LSE: u32 = 1;
const O_OUT: u32 = 2;
const LSE_OUT: u32 = 3;

impl Pipeline for Pass {
    fn shader(&self) -> Shader {
        let Config { wg_size, form } = self.config;
        let o =
            Tensor { binding: O, name: "o", storage: form.x, writable: form.o_writable, output: false, edge: false };
        let o_out =
            Tensor { binding: O_OUT, name: "o_out", storage: form.y, writable: true, output: true, edge: form.edge };
        let shader = Shader::new("attention_merge", wg_size, 0, if form.edge { 2 } else { form.vec })
            .params::<Params>()
            .tensor(o)
            .tensor(o_out)
            .buffer(LSE, "lse", "f32", form.lse_writable)
            .import(if form.edge { "attention_merge_halves" } else { "attention_merge_chunks" });
        match form.lse {
            true => shader.buffer(LSE_OUT, "lse_out", "f32", true).import("attention_merge_lse"),
            false => shader.import("attention_merge_lse_none"),
        }
    }
}

/// Which memory.
#[derive(Debug, Clone, Copy)]
pub struct Buffers<'a> {
    o: Binding<'a>,
    lse: Binding<'a>,
    o_out: Binding<'a>,
    lse_out: Option<Binding<'a>>,
}

impl<'a> Buffers<'a> {
    /// `o` and `lse` of the parts are read, `o_out` is written.
    pub fn new(o: impl Into<Binding<'a>>, lse: impl Into<Binding<'a>>, o_out: impl Into<Binding<'a>>) -> Self {
        Buffers { o: o.into(), lse: lse.into(), o_out: o_out.into(), lse_out: None }
    }

    /// The joint log-sum-exp that the Problem asks for.
    pub fn lse_out(mut self, lse_out: impl Into<Binding<'a>>) -> Self {
        self.lse_out = Some(lse_out.into());
        self
    }
}

prepare_by!(plan);

pub(crate) fn plan(
    kernels: &Kernels,
    problem: &Problem,
    config: Option<&Config>,
    buffers: &Buffers,
) -> Result<Dispatch> {
    let caps = kernels.caps();
    let views = problem.views()?;
    given(OP, "lse_out", problem.lse_out.is_some(), buffers.lse_out.is_some())?;
    let mut config = match config {
        Some(config) => Config { form: problem.form(&caps, &views, Some(config.form)), ..*config },
        None => choose(&caps, problem)?,
    };
    let looped = caps.check_rounds(rounds(problem.splits as u64));
    config.fits(&caps).and(looped).map_err(|misfit| misfit.error(OP))?;
    if problem.rows == 0 || problem.dim == 0 {
        return Ok(Dispatch::nothing(OP));
    }
    if problem.splits == 0 {
        return Err(Error {
            op: OP,
            kind: ErrorKind::InvalidProblem { arg: "splits", reason: "there is nothing to join".into() },
        });
    }

    let bits = |dtype: Dtype| 8 * dtype.bytes();
    let mut args = vec![
        Arg::new(O, "o", buffers.o, bits(problem.x), &views.o, false),
        Arg::new(LSE, "lse", buffers.lse, 32, &views.lse, false),
        Arg::new(O_OUT, "o_out", buffers.o_out, bits(problem.y), &views.out, true),
    ];
    if let (Some(offset), Some(binding)) = (problem.lse_out, buffers.lse_out) {
        let elements = offset as u64..(offset + problem.rows) as u64;
        args.push(Arg { slot: LSE_OUT, name: "lse_out", binding, element_bits: 32, elements, writes: true });
    }
    check_all(OP, &caps, &args, |_, _| false)?;
    config.form.o_writable = read_write(&args, O);
    config.form.lse_writable = read_write(&args, LSE);

    let chunks = problem.dim as u32 / config.form.vec;
    let invocations = problem.rows as u64 * u64::from(chunks);
    if invocations > u64::from(u32::MAX) {
        return Err(Error { op: OP, kind: ErrorKind::IndexOverflow { arg: "o_out", last: u128::from(invocations) } });
    }
    let grid = fold(OP, &caps, invocations.div_ceil(config.wg_size.into()))?;
    let params = Params {
        splits: problem.splits as u32,
        rows: problem.rows as u32,
        dim: problem.dim as u32,
        chunks,
        n1: problem.dims[0] as u32,
        n2: problem.dims[1] as u32,
        o_offset: views.o.offset as u32,
        o_s0: views.o.stride(0),
        o_s1: views.o.stride(1),
        lse_offset: problem.lse as u32,
        out_offset: views.out.offset as u32,
        out_s0: views.out.stride(0),
        out_s1: views.out.stride(1),
        out_s2: views.out.stride(2),
        lse_out_offset: problem.lse_out.unwrap_or(0) as u32,
        grid_x: grid[0],
        neg_inf: f32::NEG_INFINITY,
    };
    let pass = kernels.pipeline(OP, &config.pass())?;
    Ok(Dispatch::new(OP, kernels, &args, &params, vec![(pass, grid)]))
}
