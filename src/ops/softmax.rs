//! Softmax over the last axis, fused: scale, mask, causal mask, softmax or log-softmax, log-sum-exp.
//!
//! With `s = scale * x + mask`, per row: `y = exp(s - max s) / sum exp(s - max s)`, or
//! `y = s - lse` with `log`, where `lse = max s + ln sum exp(s - max s)`. A score is hidden by an
//! additive mask of minus infinity, by a boolean mask or by `causal`; a row with nothing visible gives
//! 0 (minus infinity with `log`) and an `lse` of minus infinity. Sums are f32 whatever the dtypes.
//!
//! # Algorithms
//! * [`Algorithm::Registers`]: the row stays in registers, `x` is read once and `y` written once.
//! * [`Algorithm::Online`]: rows too long for that; one pass for the maximum and the sum (Milakov and
//!   Gimelshein, 2018), one that writes.
//! * [`Algorithm::Split`]: few, very long rows; several workgroups per row, two steps, scratch.
//!
//! # Measured
//! On Mesa 26.2's lavapipe, 2 cores, 4096 x 4096 f32 unless said otherwise, against a vec4 copy in the same run
//! (`loom bench`; all figures in `benches/results/`): 50 to 57 % of the copy. What it took, in order:
//! * no barrier: a row by shuffles within one subgroup 40 ms, by a tree in workgroup memory 126 ms;
//! * nothing hidden, no select per element; blocks of `keep` chunks without a check each: 40 to 29 ms;
//! * two lanes per row rather than eight: 29 to 23 ms (four rows stream side by side, and share a workgroup);
//! * rows of a few hundred elements in registers, one lane per row up to 64: 65536 x 64 from 10.9 to 5.6 ms;
//! * f16 packed by integer arithmetic instead of `pack2x16float`: 44 to 26 ms; native f16 took 94 ms there;
//! * the kind of mask as a constant instead of a branch: 128 x 512 x 512 from 71 to 51 ms.
//!
//! Mesa turns f16 and masked rows into arithmetic: they take the time of f32 for half the bytes.

use crate::compose::{Shader, Storage, Tensor, write_flags};
use crate::dispatch::{Arg, check_all, fold, given, read_write};
use crate::kernels::{Pipeline, chosen};
use crate::layout::{View, check_rows, check_sizes, split_rows};
use crate::{Binding, Caps, Dispatch, Dtype, Error, Kernels, Layout, Misfit, Result, caps::Class};

pub(super) mod tile;

use tile::{Rows, Tile};

const OP: &str = "softmax";

/// What is computed. `x` and `y` are `[n0, n1, n2, cols]` with `rows = n0 * n1 * n2` and
/// `dims = [n1, n2]`; the default dims of `[1, 1]` make it `[rows, cols]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Problem {
    /// Rows, all outer axes together.
    pub rows: usize,
    /// Elements per row.
    pub cols: usize,
    /// Sizes of the two innermost row axes, for strided layouts, broadcast masks and `causal`.
    pub dims: [usize; 2],
    /// Dtype of `x`.
    pub x: Dtype,
    /// Dtype of `y`.
    pub y: Dtype,
    /// Where the rows of `x` lie: strides of `n0, n1, n2`.
    pub x_layout: Layout<3>,
    /// Where the rows of `y` lie. Rows must not overlap.
    pub y_layout: Layout<3>,
    /// Multiplies `x` before the mask is added.
    pub scale: f32,
    /// Log-softmax.
    pub log: bool,
    /// Row `i` of axis `n2` sees columns `j <= i + cols - n2`: aligned to the bottom right.
    pub causal: bool,
    /// Hides or shifts scores.
    pub mask: Option<Mask>,
    /// Write the log-sum-exp of each row, f32 `[rows]`, from this element of its binding.
    pub lse: Option<usize>,
}

impl Default for Problem {
    /// One row of one f32, unscaled and unmasked: sizes are yours to set.
    fn default() -> Self {
        Problem {
            rows: 1,
            cols: 1,
            dims: [1, 1],
            x: Dtype::F32,
            y: Dtype::F32,
            x_layout: Layout::default(),
            y_layout: Layout::default(),
            scale: 1.0,
            log: false,
            causal: false,
            mask: None,
            lse: None,
        }
    }
}

/// A mask, broadcast to `x` by strides of 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mask {
    pub kind: MaskKind,
    /// Where it lies, in its own elements: strides of `n0, n1, n2`. Without strides it has the shape of
    /// `x` (bits: with rows padded to words).
    pub layout: Layout<3>,
    /// One value for all columns of a row: the mask's last axis is 1.
    pub broadcast_cols: bool,
}

impl Mask {
    /// A mask of the shape of `x`, contiguous.
    pub const fn new(kind: MaskKind) -> Mask {
        Mask { kind, layout: Layout { offset: 0, strides: None }, broadcast_cols: false }
    }

    /// One `[n2, cols]` mask for all of `n0` and `n1`, contiguous.
    pub const fn shared(kind: MaskKind, cols: usize) -> Mask {
        let row = match kind {
            MaskKind::Bits => cols.div_ceil(32).saturating_mul(32),
            _ => cols,
        };
        Mask { kind, layout: Layout { offset: 0, strides: Some([0, 0, row]) }, broadcast_cols: false }
    }
}

/// `dims` of the Problem, and the strides of a contiguous mask of shape `mask` that is broadcast to
/// `x` by NumPy's rules; the last axis of both is `cols`. `None` if the shapes do not fit, or if the
/// axes before the last two alternate between broadcast and not more often than two row axes hold.
pub fn broadcast(kind: MaskKind, mask: &[usize], x: &[usize]) -> Option<([usize; 2], Mask)> {
    let (cols, x_rows) = x.split_last()?;
    if mask.len() > x.len() {
        return None;
    }
    let mut padded = vec![1; x.len() - mask.len()];
    padded.extend_from_slice(mask);
    let (&mask_cols, mask_rows) = padded.split_last()?;
    let fits = |have: usize, want: usize| have == want || have == 1;
    if !fits(mask_cols, *cols) || !mask_rows.iter().zip(x_rows).all(|(&m, &x)| fits(m, x)) {
        return None;
    }
    let mut stride = match kind {
        MaskKind::Bits => mask_cols.next_multiple_of(32),
        _ => mask_cols,
    };
    // From the inside: (size, stride) of row axes, the innermost kept for `causal`, the others merged.
    let mut axes: Vec<(usize, usize)> = Vec::new();
    for (i, (&m, &n)) in mask_rows.iter().zip(x_rows).rev().enumerate() {
        let own = if m == 1 { 0 } else { stride };
        stride = stride.saturating_mul(m);
        let merges = axes.len() > 1;
        match axes.last_mut() {
            _ if n == 1 && i > 0 => {}
            Some((size, step)) if merges && own == *size * *step => *size *= n,
            _ => axes.push((n, own)),
        }
    }
    if axes.len() > 3 {
        return None;
    }
    axes.resize(3, (1, 0));
    let layout = Layout::strided(0, [axes[2].1, axes[1].1, axes[0].1]);
    Some(([axes[1].0, axes[0].0], Mask { kind, layout, broadcast_cols: mask_cols == 1 && *cols != 1 }))
}

/// What a mask holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MaskKind {
    /// Added to the scaled score; minus infinity hides it.
    Additive(Dtype),
    /// One byte per element, 0 hides (`torch.bool`, NumPy's `bool`).
    Bytes,
    /// Bit `i % 32` of word `i / 32`, 0 hides.
    Bits,
}

impl MaskKind {
    /// Bits of one element.
    pub(crate) fn bits(self) -> u64 {
        match self {
            MaskKind::Additive(dtype) => 8 * dtype.bytes(),
            MaskKind::Bytes => 8,
            MaskKind::Bits => 1,
        }
    }

    pub(crate) fn code(self) -> u32 {
        match self {
            MaskKind::Additive(Dtype::F32) => 0,
            MaskKind::Additive(Dtype::F16) => 1,
            MaskKind::Additive(Dtype::Bf16) => 2,
            MaskKind::Bytes => 3,
            MaskKind::Bits => 4,
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
    /// `Registers`: chunks that an invocation can hold. Else: chunks taken at a time.
    pub keep: u32,
    pub reduce: Reduce,
    pub form: Form,
}

/// The algorithm; each has shader files of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    Registers,
    Online,
    Split,
}

/// How the invocations of a row combine their maxima and sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reduce {
    /// One invocation per row.
    None,
    /// Through workgroup memory; works everywhere.
    Tree,
    /// Within a subgroup of trusted size; `lanes` is at most that.
    Shuffle,
    /// Subgroup operations, then workgroup memory; `lanes` is `wg_size`.
    Subgroup,
}

/// What the Problem, the device and the buffers decide of a Config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Form {
    /// Elements per chunk: 4, 2 (a word of packed 16-bit output) or 1.
    pub vec: u32,
    pub x: Storage,
    pub y: Storage,
    pub mask: Option<MaskKind>,
    /// Some scores may be hidden: by a mask, by `causal`, or because they are not of the row.
    pub hides: bool,
    pub lse: bool,
    /// Words of a packed `y` are shared by rows, or with what lies beside them.
    pub edge: bool,
    /// `x` is read from the binding of `y`. Set by `prepare`.
    pub in_place: bool,
    /// `x` lies in a buffer that is written. Set by `prepare`.
    pub x_writable: bool,
    /// The mask lies in a buffer that is written. Set by `prepare`.
    pub mask_writable: bool,
}

crate::params! {
    /// What one run tells the shader.
    pub struct Params {
        rows: u32,
        cols: u32,
        n1: u32,
        n2: u32,
        x_offset: u32,
        x_s0: u32,
        x_s1: u32,
        x_s2: u32,
        y_offset: u32,
        y_s0: u32,
        y_s1: u32,
        y_s2: u32,
        mask_offset: u32,
        mask_s0: u32,
        mask_s1: u32,
        mask_s2: u32,
        mask_step: u32,
        lse_offset: u32,
        causal: u32,
        log: u32,
        grid_x: u32,
        parts: u32,
        part_chunks: u32,
        scale: f32,
        neg_inf: f32,
    }
}

/// The views that a Problem's layouts resolve to.
struct Views {
    x: View<3>,
    y: View<3>,
    mask: Option<(MaskKind, View<3>)>,
}

impl Problem {
    /// `[n0, n1, n2]`, whose product is `rows`.
    pub fn sizes(&self) -> [usize; 3] {
        split_rows(self.rows, self.dims)
    }

    fn invalid(arg: &'static str, reason: String) -> Error {
        Error::InvalidProblem { op: OP, arg, reason }
    }

    fn views(&self) -> Result<Views> {
        check_rows(OP, self.rows, self.dims)?;
        check_sizes(OP, [("rows", self.rows), ("cols", self.cols)])?;
        if self.cols == 0 && self.lse.is_some() && self.rows > 0 {
            return Err(Self::invalid("lse", "asked for rows without columns".into()));
        }
        if !self.scale.is_finite() {
            return Err(Self::invalid("scale", format!("{} is not finite", self.scale)));
        }
        let sizes = self.sizes();
        let x = self.x_layout.resolve(OP, "x", sizes, self.cols)?;
        let y = self.y_layout.resolve(OP, "y", sizes, self.cols)?;
        if y.overlaps_itself() {
            let reason = format!("rows overlap: strides {:?} for sizes {sizes:?} and {} columns", y.strides, self.cols);
            return Err(Self::invalid("y_layout", reason));
        }
        if let Some(offset) = self.lse {
            Layout::<1>::at(offset).resolve(OP, "lse", [self.rows], 1)?;
        }
        let mask = match self.mask {
            None => None,
            Some(mask) => {
                let inner = if mask.broadcast_cols { 1 } else { self.cols };
                Some((mask.kind, self.mask_layout(mask).resolve(OP, "mask", sizes, inner)?))
            }
        };
        Ok(Views { x, y, mask })
    }

    /// The mask's layout with its strides written out.
    fn mask_layout(&self, mask: Mask) -> Layout<3> {
        let [_, n1, n2] = self.sizes();
        let inner = if mask.broadcast_cols { 1 } else { self.cols };
        // Rows of bits are padded to words.
        let padded = if mask.kind == MaskKind::Bits { inner.div_ceil(32).saturating_mul(32) } else { inner };
        let row = n2.saturating_mul(padded);
        let contiguous = [n1.saturating_mul(row), row, padded];
        Layout::strided(mask.layout.offset, mask.layout.strides.unwrap_or(contiguous))
    }

    /// The element of the mask that belongs to column `col` of row `row`.
    ///
    /// # Panics
    /// Without a mask.
    pub fn mask_index(&self, row: usize, col: usize) -> usize {
        let mask = self.mask.expect("a mask");
        let start = self.mask_layout(mask).row_start(self.sizes(), self.cols, row);
        start + if mask.broadcast_cols { 0 } else { col }
    }

    /// What tiles go by.
    fn rows_of(&self, form: &Form) -> Rows {
        let buffers = 2 + u32::from(self.mask.is_some()) + u32::from(self.lse.is_some());
        Rows { rows: self.rows, chunks: tile::chunks(self.cols, form.vec), buffers }
    }

    /// The form of the Problem; `wish` may hold a dtype otherwise than is usual on this device.
    fn form(&self, caps: &Caps, views: &Views, wish: Option<Form>) -> Form {
        let storage = |wish, dtype| Storage::wished(wish, dtype, caps);
        let (x, y) = (storage(wish.map(|f| f.x), self.x), storage(wish.map(|f| f.y), self.y));
        let vec = match y {
            _ if views.x.multiple_of(4) && views.y.multiple_of(4) => 4,
            y if y.packed() => 2,
            _ => 1,
        };
        let edge = vec == 2 && !views.y.multiple_of(2);
        Form {
            vec,
            x,
            y,
            mask: self.mask.map(|mask| mask.kind),
            hides: self.mask.is_some() || self.causal || edge,
            lse: self.lse.is_some(),
            edge,
            in_place: false,
            x_writable: false,
            mask_writable: false,
        }
    }
}

/// Measured on: Software, Mesa 26.2 lavapipe on 2 cores, where a workgroup is one subgroup and nothing
/// waits (a barrier costs two thirds of the speed), short rows go one per invocation, and half a
/// kilobyte per invocation still stays in registers. Discrete and Integrated are not measured yet: they
/// keep at most 64 f32 of a row per invocation, and neighbours read neighbouring chunks.
const TABLE: [tile::Row; 3] = [
    tile::Row {
        class: Class::Software,
        registers: &[(16, 1, 8), (256, 8, 8)],
        online: &[(64, 2, 8, 8), (0, 8, 8, 8)],
        split: (4, 8, 8),
    },
    tile::Row {
        class: Class::Integrated,
        registers: &[(1, 1, 128), (4, 2, 128), (16, 8, 128), (64, 32, 128), (1024, 128, 128), (4096, 256, 256)],
        online: &[(0, 256, 256, 4)],
        split: (64, 256, 4),
    },
    tile::Row {
        class: Class::Discrete,
        registers: &[(1, 1, 256), (4, 2, 256), (16, 8, 256), (64, 32, 256), (256, 64, 256), (4096, 256, 256)],
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
    Ok(tiles.into_iter().map(|tile| Config::of(tile, form)).collect())
}

/// Bytes of scratch: a maximum and a sum per part, for `Split`; else 0.
pub fn scratch_bytes(problem: &Problem, config: &Config) -> u64 {
    match config.algorithm {
        Algorithm::Split => problem.rows as u64 * config.tile().parts(&problem.rows_of(&config.form)).0 as u64 * 8,
        _ => 0,
    }
}

/// `registers wg8 lanes8 keep32 shuffle f32>bf16x2 mask lse`: what differs, in a line.
impl std::fmt::Display for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Config { algorithm, wg_size, lanes, keep, reduce, form } = self;
        let text = format!(
            "{algorithm:?} wg{wg_size} lanes{lanes} keep{keep} {reduce:?} {:?}>{:?}x{}",
            form.x, form.y, form.vec
        );
        f.write_str(&text.to_lowercase())?;
        match form.mask {
            Some(MaskKind::Additive(dtype)) => write!(f, " mask_{dtype}")?,
            Some(MaskKind::Bytes) => f.write_str(" mask_bytes")?,
            Some(MaskKind::Bits) => f.write_str(" mask_bits")?,
            None => {}
        }
        write_flags(
            f,
            &[
                ("hides", form.hides),
                ("lse", form.lse),
                ("edge", form.edge),
                ("in_place", form.in_place),
                ("x_writable", form.x_writable),
                ("mask_writable", form.mask_writable),
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

    fn of(tile: Tile, form: Form) -> Config {
        let Tile { algorithm, wg_size, lanes, keep, reduce } = tile;
        Config { algorithm, wg_size, lanes, keep, reduce, form }
    }

    fn tile(&self) -> Tile {
        let Config { algorithm, wg_size, lanes, keep, reduce, .. } = *self;
        Tile { algorithm, wg_size, lanes, keep, reduce }
    }

    /// The pipelines that it names, in the order in which they run.
    pub fn passes(&self) -> Vec<Pass> {
        let steps: &[_] = match self.algorithm {
            Algorithm::Registers => &["softmax_registers"],
            Algorithm::Online => &["softmax_online"],
            Algorithm::Split => &["softmax_split_reduce", "softmax_split_write"],
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

const X: u32 = 0;
const Y: u32 = 1;
const MASK: u32 = 2;
const LSE: u32 = 3;
const SCRATCH: u32 = 4;

impl Pipeline for Pass {
    fn shader(&self) -> Shader {
        let form = self.config.form;
        let writes = self.stem != "softmax_split_reduce";
        let mut shader = self
            .config
            .tile()
            .shader(self.stem, form.vec)
            .params::<Params>()
            .flag("HAS_MASK", form.mask.is_some())
            .flag("HIDES", form.hides);
        let x =
            Tensor { binding: X, name: "x", storage: form.x, writable: form.x_writable, output: false, edge: false };
        let y = Tensor { binding: Y, name: "y", storage: form.y, writable: true, output: true, edge: form.edge };
        // A step declares only what it uses.
        shader = match (form.in_place, writes) {
            (true, _) => shader.tensor(y).tensor_in_place("x", y),
            (false, true) => shader.tensor(x).tensor(y),
            (false, false) => shader.tensor(x).import("store_none"),
        };
        shader = if let Some(kind) = form.mask {
            shader
                .constant("MASK_KIND", kind.code())
                .buffer(MASK, "mask", "u32", form.mask_writable)
                .import("mask_bias")
                .gather("mask_bias")
        } else {
            shader.import("mask_none")
        };
        shader = if form.lse && writes {
            shader.buffer(LSE, "lse", "f32", true).import("lse")
        } else {
            shader.import("lse_none")
        };
        if self.config.algorithm == Algorithm::Split {
            shader = shader.buffer(SCRATCH, "scratch", "vec2<f32>", true);
        }
        shader
    }
}

/// Which memory.
#[derive(Debug, Clone, Copy)]
pub struct Buffers<'a> {
    x: Binding<'a>,
    y: Binding<'a>,
    mask: Option<Binding<'a>>,
    lse: Option<Binding<'a>>,
    scratch: Option<Binding<'a>>,
}

impl<'a> Buffers<'a> {
    /// `x` is read, `y` written; they may be the same view, where dtypes and layouts are equal.
    pub fn new(x: impl Into<Binding<'a>>, y: impl Into<Binding<'a>>) -> Self {
        Buffers { x: x.into(), y: y.into(), mask: None, lse: None, scratch: None }
    }

    /// The result takes the place of `x`.
    pub fn in_place(x: impl Into<Binding<'a>>) -> Self {
        let x = x.into();
        Buffers { x, y: x, mask: None, lse: None, scratch: None }
    }

    /// The mask that the Problem asks for.
    pub fn mask(mut self, mask: impl Into<Binding<'a>>) -> Self {
        self.mask = Some(mask.into());
        self
    }

    /// The log-sum-exp that the Problem asks for.
    pub fn lse(mut self, lse: impl Into<Binding<'a>>) -> Self {
        self.lse = Some(lse.into());
        self
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
    given(OP, "mask", problem.mask.is_some(), buffers.mask.is_some())?;
    given(OP, "lse", problem.lse.is_some(), buffers.lse.is_some())?;
    let mut config = match config {
        Some(config) => Config { form: problem.form(&caps, &views, Some(config.form)), ..*config },
        None => choose(&caps, problem)?,
    };
    config.fits(&caps, problem).map_err(|misfit| misfit.error(OP))?;
    if problem.rows == 0 || problem.cols == 0 {
        return Ok(Dispatch::nothing(OP));
    }

    let bits = |dtype: Dtype| 8 * dtype.bytes();
    let x = Arg::new(X, "x", buffers.x, bits(problem.x), &views.x, false);
    let y = Arg::new(Y, "y", buffers.y, bits(problem.y), &views.y, true);
    let mut args = vec![x, y];
    if let (Some((kind, view)), Some(binding)) = (&views.mask, buffers.mask) {
        args.push(Arg::new(MASK, "mask", binding, kind.bits(), view, false));
    }
    if let (Some(offset), Some(binding)) = (problem.lse, buffers.lse) {
        let elements = offset as u64..(offset + problem.rows) as u64;
        args.push(Arg { slot: LSE, name: "lse", binding, element_bits: 32, elements, writes: true });
    }
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

    let (x, y) = (&args[0], &args[1]);
    let same_view = x.same_first(y) && problem.x == problem.y && views.x.same_rows(&views.y);
    // Views that interleave share a bound range, which browsers refuse.
    let interleaved = caps.backend != wgpu::Backend::BrowserWebGpu
        && x.same_start(y)
        && problem.x == problem.y
        && views.x.interleaves(&views.y);
    check_all(OP, &caps, &args, |i, j| (i, j) == (0, 1) && (same_view || interleaved))?;
    config.form.in_place = same_view;
    config.form.x_writable = !same_view && read_write(&args, X);
    config.form.mask_writable = read_write(&args, MASK);

    let (tile, rows) = (config.tile(), problem.rows_of(&config.form));
    let (parts, part_chunks) = tile.parts(&rows);
    let grid = fold(OP, &caps, tile.workgroups(&rows))?;
    let (mask_offset, mask_strides) = match &views.mask {
        Some((_, view)) => (view.offset as u32, [0, 1, 2].map(|axis| view.stride(axis))),
        None => (0, [0; 3]),
    };
    // In place, x is read through the binding of y.
    let x_view = if same_view { &views.y } else { &views.x };
    let params = Params {
        rows: problem.rows as u32,
        cols: problem.cols as u32,
        n1: problem.dims[0] as u32,
        n2: problem.dims[1] as u32,
        x_offset: x_view.offset as u32,
        x_s0: x_view.stride(0),
        x_s1: x_view.stride(1),
        x_s2: x_view.stride(2),
        y_offset: views.y.offset as u32,
        y_s0: views.y.stride(0),
        y_s1: views.y.stride(1),
        y_s2: views.y.stride(2),
        mask_offset,
        mask_s0: mask_strides[0],
        mask_s1: mask_strides[1],
        mask_s2: mask_strides[2],
        mask_step: u32::from(problem.mask.is_some_and(|mask| !mask.broadcast_cols)),
        lse_offset: problem.lse.unwrap_or(0) as u32,
        causal: problem.causal.into(),
        log: problem.log.into(),
        grid_x: grid[0],
        parts,
        part_chunks,
        scale: problem.scale,
        neg_inf: f32::NEG_INFINITY,
    };
    let mut passes = Vec::with_capacity(2);
    for pass in config.passes() {
        passes.push((kernels.pipeline(OP, &pass)?, grid));
    }
    Ok(Dispatch::new(OP, kernels, &args, &params, passes))
}
