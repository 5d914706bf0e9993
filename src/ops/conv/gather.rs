//! A convolution as shaders see it, whichever op asks for it: pixels of y gather what lies under the taps of their windows in x.

use super::choose;
use super::pipeline::{self, ALPHA, BIAS, PACK_WG, PHASES, RESIDUAL, SCALES, SCRATCH, WEIGHT, X, Y, kind};
use super::{Activation, Algorithm, Border, Config, MOST, Order};
use crate::ops::prelude::*;
use crate::weights::{Any, Format};

/// What is gathered, all layouts resolved. Pairs are of height and width.
#[derive(Debug, Clone)]
pub(crate) struct Gather {
    pub order: Order,
    pub batch: usize,
    pub groups: usize,
    /// Channels of x of a group.
    pub group_channels: usize,
    /// Channels of y of a group.
    pub group_outputs: usize,
    /// Places that windows meet: those of x, each repeated `upsample` times.
    pub places: [usize; 2],
    pub upsample: [usize; 2],
    pub border: Border,
    /// Padding in front.
    pub before: [usize; 2],
    /// Distance of neighbouring windows; where there are phases, of those of one phase.
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// Columns of the kernel.
    pub kernel_w: usize,
    /// Taps that have a part, the first of the kernel in the order of rows.
    pub taps: usize,
    /// Of a kernel that is turned round, as of the adjoint: its taps, those without a part included. Else 0.
    pub turned: usize,
    /// Height and width of y.
    pub out: [usize; 2],
    pub x: (View<3>, Dtype),
    pub weight: (View<3>, Dtype),
    /// Weights that are packed, `[n, k]`.
    pub format: Option<(Format, [usize; 2])>,
    /// Strides of the weights: of a group's outputs, of its channels, of height and width.
    pub weight_strides: Strides,
    /// From the weights of a group to those of the next.
    pub weight_group: u32,
    pub y: (View<3>, Dtype),
    pub bias: Option<(View<1>, Dtype)>,
    pub residual: Option<(View<3>, Dtype)>,
    pub activation: Activation,
    pub slope: f32,
    /// Of snake, in place of the activation: alpha.
    pub snake: Option<View<1>>,
    /// Added to what y holds.
    pub add: bool,
    /// The caller's scratch has the packed weights.
    pub kept_weights: bool,
    /// Where pixels of y differ in their taps.
    pub phases: Option<Phases>,
}

/// Pixels of y by their phases: those of one have the same taps, and lie `step` apart in y.
#[derive(Debug, Clone)]
pub(crate) struct Phases {
    /// Three fours of words for each phase, then the taps of each axis, as `conv_transpose_phase.wgsl` reads them.
    pub table: Vec<u32>,
    pub count: usize,
    pub step: [usize; 2],
    /// k of all phases, each a multiple of four.
    pub k: u64,
    /// The longest k, and the taps of it.
    pub most_k: u64,
    /// Pixels of the largest phase, in all batches.
    pub rows: u64,
    /// How many phases, in their order, have no two pixels of a line of y side by side, nor any others of a pair that begins at an even
    /// place; empty where there are too many turns, or more phases of columns than a step has columns, as near an edge.
    pub turns: Vec<usize>,
    /// Where they take no turns: how many run at a time, in their order, and the pixels of the largest of them; no other has less
    /// than a quarter.
    pub steps: Vec<(usize, u64)>,
    /// Phases of columns.
    pub columns: usize,
}

/// One axis of a phase.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    /// The first place of y.
    pub first: usize,
    /// Places of y.
    pub count: usize,
    /// Taps of the kernel, and the place of x under each at the first place of y, where it may lie outside.
    pub taps: Vec<(usize, i64)>,
}

/// Phases at most, and taps of an axis in all of them.
pub(crate) const MOST_PHASES: usize = 1 << 12;
pub(crate) const MOST_TAPS: usize = 1 << 16;

/// Turns at most.
const MOST_TURNS: usize = 8;

/// Fours of words of a phase in the table.
const PHASE: usize = 3;

impl Phases {
    /// Those of these axes, for channels of a group of x, and a y whose first element and strides of height and width are told.
    pub fn of(
        axes: [&[Axis]; 2],
        step: [usize; 2],
        batch: usize,
        group_channels: usize,
        [y_first, y_height, y_width]: [u32; 3],
    ) -> Phases {
        let count = axes[0].len() * axes[1].len();
        let mut all = Phases {
            table: Vec::new(),
            count,
            step,
            k: 0,
            most_k: 0,
            rows: 0,
            turns: Vec::new(),
            steps: Vec::new(),
            columns: axes[1].len(),
        };
        // Columns of y that are even, then odd; of an odd step each phase has both.
        let apart = if step[1].is_multiple_of(2) { 2 } else { step[1] };
        // Where the taps of each axis of each phase begin.
        let mut next = PHASE * count;
        let starts = axes.map(|axis| {
            let start = |one: &Axis| {
                let start = next as u32;
                next += one.taps.len();
                start
            };
            axis.iter().map(start).collect::<Vec<_>>()
        });
        if (2..=MOST_TURNS).contains(&apart) && axes[1].len() <= step[1] {
            all.turns = (0..apart).map(|turn| axes[1].iter().skip(turn).step_by(apart).len() * axes[0].len()).collect();
        }
        let turns = all.turns.len().max(1);
        let mut order = Vec::new();
        for turn in 0..turns {
            let columns = axes[1].iter().zip(&starts[1]).skip(turn).step_by(turns);
            let rows = axes[0].iter().zip(&starts[0]);
            order.extend(rows.flat_map(|row| columns.clone().map(move |column| (row, column))));
        }
        let pixels = |y: &Axis, x: &Axis| product!(batch, y.count, x.count);
        if all.turns.is_empty() {
            order.sort_by_key(|((y, _), (x, _))| std::cmp::Reverse(pixels(y, x)));
        }
        for ((y, y_start), (x, x_start)) in order {
            let taps = product!(y.taps.len(), x.taps.len());
            let k = padded(product!(taps, group_channels), 4);
            let rows = pixels(y, x);
            let first = y_first
                .wrapping_add((y.first as u32).wrapping_mul(y_height))
                .wrapping_add((x.first as u32).wrapping_mul(y_width));
            all.table.extend([all.k as u32, all.k.saturating_add(k) as u32, taps as u32, rows as u32]);
            all.table.extend([y.count as u32, x.count as u32, first, 0]);
            all.table.extend([x.taps.len() as u32, *y_start, *x_start, 0]);
            all.k = all.k.saturating_add(k);
            all.most_k = all.most_k.max(k);
            all.rows = all.rows.max(rows);
            match all.steps.last_mut() {
                Some((phases, largest)) if !all.turns.is_empty() || rows >= *largest / 4 => {
                    (*phases, *largest) = (*phases + 1, rows.max(*largest));
                }
                _ => all.steps.push((1, rows)),
            }
        }
        for &(tap, place) in axes.into_iter().flatten().flat_map(|axis| &axis.taps) {
            all.table.extend([tap as u32, place as u32, 0, 0]);
        }
        all
    }
}

/// Invocations that should pack weights, before one has several taps of a channel, and these, at most.
const PACKS: u64 = 1 << 13;
const MOST_RUN: u64 = 64;

/// How scratch is divided.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packing {
    /// Groups, and the channels of y of one; those of a depthwise convolution are one group.
    pub groups: usize,
    pub cols: usize,
    /// k, a multiple of four; of all phases.
    pub k: u64,
    /// Vectors of four words: the bias and alpha, these and the weights, all.
    pub ends: [u64; 3],
    /// Weights are packed for matrices that take eight k of a column at a time.
    pub eights: bool,
}

crate::params! {
    /// What one run tells the shaders: strides of batch, channels, height and width, of y from pixel to pixel of a phase; of the weights
    /// those of outputs, channels, height and width.
    pub struct Params;
    fn of(p: &Gather, packing: &Packing, grid: [u32; 3]) {
        x: Strides = p.strides(&p.x.0),
        y: Strides = p.y_strides(),
        residual: Strides = p.residual.map_or([0; 4], |(view, _)| p.strides(&view)),
        weight: Strides = p.weight_strides,
        words: Strides = p.any().words,
        x_offset: u32 = p.x.0.offset as u32,
        y_offset: u32 = p.y.0.offset as u32,
        residual_offset: u32 = p.residual.map_or(0, |(view, _)| view.offset as u32),
        weight_offset: u32 = p.weight.0.offset as u32,
        weight_group: u32 = p.weight_group,
        weight_k: u32 = p.format.map_or(0, |(_, [_, k])| k) as u32,
        code: u32 = p.any().code,
        scales: u32 = p.any().scales,
        interleave: u32 = p.any().interleave,
        group: u32 = p.any().group,
        second: u32 = p.any().second,
        order: u32 = p.any().order,
        alpha_offset: u32 = p.snake.map_or(0, |view| view.offset as u32),
        bias_offset: u32 = p.bias.map_or(0, |(view, _)| view.offset as u32),
        residual_kind: u32 = kind(p.residual.map(|(_, dtype)| dtype)),
        // From the first channel of a group to that of the next.
        x_group: u32 = p.strides(&p.x.0)[1].wrapping_mul(p.group_channels as u32),
        // Pixels of y; of the largest phase.
        rows: u32 = p.rows() as u32,
        cols: u32 = packing.cols as u32,
        cols4: u32 = packing.cols.div_ceil(4) as u32,
        k: u32 = packing.k as u32,
        taps: u32 = p.taps as u32,
        group_channels: u32 = p.group_channels as u32,
        groups: u32 = packing.groups as u32,
        // Phases, from which on; of the gradient of the weights parts of the pixels, each of so many, and in all; rows of products.
        parts: u32 = p.parts() as u32,
        part: u32 = 0,
        pixels: u32 = 0,
        products: u32 = 0,
        add_weight: u32 = 0,
        add_bias: u32 = 0,
        // Channels of y of a group.
        multiplier: u32 = p.group_outputs as u32,
        out_h: u32 = p.out[0] as u32,
        out_w: u32 = p.out[1] as u32,
        in_h: u32 = p.places[0] as u32,
        in_w: u32 = p.places[1] as u32,
        kernel_w: u32 = p.kernel_w as u32,
        turned: u32 = p.turned as u32,
        stride_h: u32 = p.stride[0] as u32,
        stride_w: u32 = p.stride[1] as u32,
        dilation_h: u32 = p.dilation[0] as u32,
        dilation_w: u32 = p.dilation[1] as u32,
        up_h: u32 = p.upsample[0] as u32,
        up_w: u32 = p.upsample[1] as u32,
        pad_top: u32 = p.before[0] as u32,
        pad_left: u32 = p.before[1] as u32,
        border: u32 = p.border as u32,
        activation: u32 = p.activation as u32,
        slope: f32 = p.slope,
        never: u32 = 0,
        entry: u32 = if p.by_fours() { 4 } else { 1 },
        // Behind the bias.
        alpha_at: u32 = product!(packing.groups, packing.cols.div_ceil(4)) as u32,
        weights_at: u32 = packing.ends[0] as u32,
        table_at: u32 = packing.ends[1] as u32,
        packed: u32 = packing.ends[2] as u32,
        // Of the first step: invocations that pack weights, and taps of one.
        packs: u32 = p.packs(packing) as u32,
        run: u32 = p.run(packing) as u32,
        grid_x: u32 = grid[0],
    }
}

/// Which memory.
pub(super) struct Memory<'a> {
    pub x: Binding<'a>,
    pub weight: Binding<'a>,
    pub y: Binding<'a>,
    pub bias: Option<Binding<'a>>,
    pub residual: Option<Binding<'a>>,
    pub alpha: Option<Binding<'a>>,
    pub scales: Option<Binding<'a>>,
    pub scratch: Option<Binding<'a>>,
}

impl Params {
    /// Those of a product whose rows, columns and k are others than those of a convolution.
    pub(super) fn begin(p: &Gather, grid: [u32; 3]) -> Params {
        Params::of(p, &Packing { groups: 1, cols: 0, k: 0, ends: [0; 3], eights: false }, grid)
    }
}

impl Gather {
    /// Refuses what shaders could not count.
    pub fn checked(self) -> Checked<Gather> {
        // Other algorithms take no more.
        let Packing { k, ends, .. } = self.packing(Algorithm::Direct);
        let rows = product!(self.batch, self.out[0], self.out[1]);
        for (arg, count) in [("weight", ends[2].max(k)), ("y", rows)] {
            if count > MOST as u64 {
                return Err(ErrorKind::invalid(
                    arg,
                    format!("{count} fours of packed weights, or pixels: at most {MOST}"),
                ));
            }
        }
        Ok(self)
    }

    /// What is told of packed weights.
    fn any(&self) -> Any {
        self.format.map_or_else(Any::default, |(format, [_, k])| format.any(k))
    }

    /// Channels of y.
    fn outputs(&self) -> usize {
        self.groups.saturating_mul(self.group_outputs)
    }

    /// Pixels of y, in all batches; of the largest phase.
    pub(super) fn rows(&self) -> u64 {
        match &self.phases {
            Some(phases) => phases.rows,
            None => product!(self.batch, self.out[0], self.out[1]),
        }
    }

    /// Phases.
    pub(super) fn parts(&self) -> usize {
        self.phases.as_ref().map_or(1, |phases| phases.count)
    }

    /// Phases that run at a time, and the pixels of the largest of them.
    pub(super) fn steps(&self) -> Vec<(usize, u64)> {
        self.phases.as_ref().map_or_else(|| vec![(1, self.rows())], |phases| phases.steps.clone())
    }

    /// The longest k of a pixel.
    pub(super) fn most_k(&self) -> u64 {
        self.phases.as_ref().map_or_else(|| self.all_k(), |phases| phases.most_k)
    }

    fn all_k(&self) -> u64 {
        match &self.phases {
            Some(phases) => phases.k,
            None => padded(product!(self.taps, self.group_channels), 4),
        }
    }

    /// Scratch by an algorithm.
    pub(super) fn packing(&self, algorithm: Algorithm) -> Packing {
        let (groups, cols) = match algorithm {
            Algorithm::Depthwise | Algorithm::Strips => (1, self.outputs()),
            Algorithm::Direct | Algorithm::Tiled | Algorithm::Coop => (self.groups, self.group_outputs),
        };
        let k = self.all_k();
        let channels = product!(groups, cols.div_ceil(4));
        let bias = if self.snake.is_some() { channels.saturating_mul(2) } else { channels };
        let weights = bias.saturating_add(product!(groups, k, cols.div_ceil(4)));
        let entries = if self.by_fours() { k / 4 } else { k };
        let eights = algorithm == Algorithm::Coop && self.by_eights();
        Packing { groups, cols, k, ends: [bias, weights, weights.saturating_add(entries)], eights }
    }

    /// Taps that an invocation of the first step packs, of a channel of x; where there are phases it has one k.
    fn run(&self, packing: &Packing) -> usize {
        let alone = product!(packing.groups, self.group_channels, packing.cols.div_ceil(4));
        let all = alone.saturating_mul(self.taps as u64);
        (all / PACKS).clamp(1, MOST_RUN).min(self.taps.max(1) as u64) as usize
    }

    /// Invocations of the first step that pack weights.
    fn packs(&self, packing: &Packing) -> u64 {
        let [first, end, _] = packing.ends;
        let runs = self.taps.div_ceil(self.run(packing));
        match packing.eights {
            _ if self.kept_weights || self.group_channels == 0 => 0,
            _ if self.phases.is_some() => end.saturating_sub(first),
            true => product!(packing.groups, packing.cols, runs, self.group_channels / 8),
            false => product!(packing.groups, self.group_channels, runs, packing.cols.div_ceil(4)),
        }
    }

    /// Invocations of the first step.
    fn pack_grid(&self, packing: &Packing) -> u64 {
        let [first, end, all] = packing.ends;
        first.saturating_add(self.packs(packing)).saturating_add(all - end)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows() == 0 || self.outputs() == 0
    }

    pub(super) fn has_f16(&self) -> bool {
        let bias = self.bias.is_some_and(|(_, dtype)| dtype == Dtype::F16);
        bias || [self.x.1, self.weight.1, self.y.1].contains(&Dtype::F16)
    }

    /// Four k follow each other in channels.
    pub(super) fn by_fours(&self) -> bool {
        self.group_channels > 0 && self.group_channels.is_multiple_of(4)
    }

    /// Height and width of the kernel and its stride, where [`Algorithm::Strips`] takes it.
    pub(super) fn strips(&self) -> Option<[[usize; 2]; 2]> {
        let alone = self.group_channels == 1 && self.groups > 1 && self.phases.is_none() && !self.mapped();
        let rows = self.taps > 0 && self.taps.is_multiple_of(self.kernel_w) && self.dilation == [1, 1];
        // Of a kernel that is turned round the first rows have no part.
        let whole = rows && [0, self.taps].contains(&self.turned);
        let kernel = [self.taps / self.kernel_w.max(1), self.kernel_w];
        let small = kernel.iter().all(|&n| n <= 9) && self.stride.iter().all(|&n| n <= 2);
        let last = self.order == Order::Nhwc;
        let fours = !last || self.group_outputs == 1 && self.x.0.multiple_of(4);
        (alone && whole && small && fours).then_some([kernel, self.stride])
    }

    /// Places are mapped into x: enlarged, mirrored or repeated.
    pub(super) fn mapped(&self) -> bool {
        self.border != Border::Zero || self.upsample != [1, 1]
    }

    /// Eight k follow each other in channels, which lie side by side in x.
    pub(super) fn by_eights(&self) -> bool {
        let channels = self.group_channels > 0 && self.group_channels.is_multiple_of(8);
        channels && self.order == Order::Nhwc && self.x.0.multiple_of(8)
    }

    /// Strides of batch, channels, height and width.
    pub(super) fn strides(&self, view: &View<3>) -> Strides {
        self.order.strides(view)
    }

    /// Those of y, from pixel to pixel of a phase.
    fn y_strides(&self) -> Strides {
        let [n, c, h, w] = self.strides(&self.y.0);
        let [y, x] = self.phases.as_ref().map_or([1, 1], |phases| phases.step.map(|step| step as u32));
        [n, c, h.wrapping_mul(y), w.wrapping_mul(x)]
    }

    /// Bytes of the bias, alpha, the packed weights and the table of k.
    pub(super) fn scratch(&self, algorithm: Algorithm) -> u64 {
        if self.is_empty() { 0 } else { product!(self.packing(algorithm).ends[2], 16u32) }
    }

    pub(super) fn compose(&self, config: &Config, writable: Slots) -> Vec<Shader> {
        let (pack, main) = pipeline::passes(self, config, writable);
        vec![pack.shader(), main.shader()]
    }

    pub(super) fn bind(&self, config: &Config, kernels: &Kernels, memory: &Memory) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        args.read(X, "x", memory.x, self.x.0.of(self.x.1))?;
        let [weight, scales] = match &self.format {
            None => [Some(self.weight.0.of(self.weight.1)), None],
            &Some((format, [n, k])) => {
                [format.code_bytes(n, k), format.scale_bytes(n, k)].map(|bytes| Some(Reach::to(bytes / 4, WORD)))
            }
        };
        args.read(WEIGHT, "weight", memory.weight, weight)?;
        args.read(SCALES, "scales", memory.scales, scales)?;
        args.write(Y, "y", memory.y, self.y.0.of(self.y.1))?;
        args.read(BIAS, "bias", memory.bias, self.bias.map(|(view, dtype)| view.of(dtype)))?;
        args.read(RESIDUAL, "residual", memory.residual, self.residual.map(|(view, dtype)| view.of(dtype)))?;
        args.read(ALPHA, "alpha", memory.alpha, self.snake.map(|view| view.of(WORD)))?;
        if self.kept_weights && memory.scratch.is_none() && self.scratch(config.algorithm) > 0 {
            return Err(ErrorKind::MissingBuffer { buffer: "scratch" });
        }
        args.scratch(SCRATCH, memory.scratch, self.scratch(config.algorithm))?;
        // An invocation reads of the residual what it writes of y, and nothing else of it. Browsers refuse to bind one range
        // twice.
        if args.caps.backend != wgpu::Backend::BrowserWebGpu {
            args.in_place(RESIDUAL, Y);
        }
        args.check()?;
        if self.is_empty() {
            return Ok(Dispatch::default());
        }
        if let Some(phases) = &self.phases {
            args.table(PHASES, "phases", &phases.table)?;
        }
        let mut writable = args.writable();
        if args.shares(SCRATCH) {
            writable = writable.with(SCRATCH);
        }
        let (pack, main) = pipeline::passes(self, config, writable);
        let packing = self.packing(config.algorithm);
        let grid = args.fold(self.pack_grid(&packing).div_ceil(PACK_WG.into()))?;
        let packed = args.step(&pack, &Params::of(self, &packing, grid), grid)?;
        let mut steps = vec![packed];
        let all: Vec<(usize, u64)> = match &self.phases {
            Some(phases) if main.form.takes_turns() => phases.turns.iter().map(|&turn| (turn, phases.rows)).collect(),
            _ => self.steps(),
        };
        let mut first = 0;
        for (parts, rows) in all.into_iter().filter(|(parts, _)| *parts > 0) {
            let grid = args.fold(product!(choose::workgroups(self, config, rows), parts))?;
            let own = Params::of(self, &packing, grid);
            let pixels = choose::blocks(self, config) as u32;
            let turn = Params { pixels, part: first as u32, parts: parts as u32, rows: rows as u32, ..own };
            steps.push(args.step(&main, &turn, grid)?);
            first += parts;
        }
        Ok(Dispatch::of(steps))
    }
}
