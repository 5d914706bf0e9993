//! Gradients of a convolution by x, by the weights and by the bias, in f32 sums, written or added to what is there. Those of the
//! weights and the bias are f32. No float atomics: the same input gives the same bits.
//!
//! # Algorithms
//! * dx is a transposed convolution of dy with the same weights ([`conv_transpose`](crate::conv_transpose), whose Config is chosen by
//!   itself): by a stride of 1 mostly a convolution with the kernel turned round; under a stride by phases, without a product with a 0; of a border
//!   that is mirrored or repeated, too.
//! * dweight is a product, whose rows are taps and channels of x, whose columns are the channels of y of a group, and whose k is all pixels of
//!   y. It runs the shaders of `conv`, from x and dy as they lie; nothing is packed. A row of ones gives dbias. Pixels are split in parts
//!   where there are few rows and columns: their sums stand in scratch, at most [`SUMS_BYTES`], and are joined in their order.
//! * [`Algorithm::Depthwise`]: groups of one channel of x are no product; an invocation has four taps of four channels of y.
//! * [`Algorithm::Strips`]: the same with all taps of a channel, or of four, over blocks of pixels, which share what they load of x; without a mask.
//!   An infinite x that one tap sees may give NaN for others of its channel.
//!
//! # Measured
//! On Mesa 26.2's lavapipe, 2 cores shared with other work, f32, in turns with the convolution, the best of 30, times over its time, NCHW and NHWC.
//! 3 x 3, 64 to 64 channels at 64 x 64: dx 0.99, 1.00; dweight with dbias 1.12, 1.02. The same by 2: 1.5, 1.44; 1.03, 0.91. Depthwise 7 x 7, 96 channels at
//! 56 x 56, all by [`Algorithm::Strips`]: 0.97, 1.00; 0.75, 0.90; dweight by
//! [`Algorithm::Depthwise`] 5.7, 6.9. Other adapters are not measured. There, by their compilers, it takes 900 to 1190 instructions for 784 multiply-adds of
//! an invocation, by `Depthwise` 670 to 1350 for 64.
//!
//! With [`Problem::dz`] a first step takes dy back through the activation: `dz = dy act'(z)`, by
//! [`activation_backward`](crate::activation_backward). dz is the gradient by the residual, too. Tiles are read several times, and an
//! activation computed once.

use super::choose::{self, Row, Tile, strips};
use super::gather::{Gather, Params};
use super::pipeline::Strips;
use super::{Algorithm, Border, Order, conv_transpose};
use crate::activation_backward;
use crate::caps::LEAST_INVOCATIONS;
use crate::conv;
use crate::dispatch::Step;
use crate::ops::prelude::*;

defaults! {
    /// What is computed.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// The convolution, of which dy has the dtype and the layout of y. Its bias and its residual have no part; nor has its
        /// activation, without dz.
        pub forward: conv::Problem = conv::Problem::default(),
        /// The gradient by what the activation was given, of this dtype: it is written to `dz`, and the other gradients are made of it. Snake
        /// has [`snake_backward`](crate::snake_backward) instead.
        pub dz: Option<Dtype> = None,
        /// Strides of the three outer axes of dz. Rows must not overlap.
        pub dz_layout: Layout<3> = Layout::default(),
        /// Dtype of `z`, which the activation was given. Of relu, relu6, and leaky relu of a slope above 0, y may stand for it, where
        /// that is f32: rounding may reach a corner.
        pub z: Dtype = Dtype::F32,
        /// Strides of the three outer axes of z.
        pub z_layout: Layout<3> = Layout::default(),
        /// The gradient by x, of this dtype. Where x is mirrored or repeated beyond its edge, wide padding is refused: at most 4096 phases,
        /// as each pixel near an edge is one, and 65536 taps of an axis in all of them.
        pub dx: Option<Dtype> = None,
        /// Strides of the three outer axes of dx. Rows must not overlap.
        pub dx_layout: Layout<3> = Layout::default(),
        /// It is added to what `dx` holds.
        pub add_dx: bool = false,
        /// The first element of the gradient by the weights in its binding: f32, contiguous, in their order of axes; 0 for taps that the
        /// mask leaves out.
        pub dweight: Option<usize> = None,
        /// It is added to what `dweight` holds.
        pub add_dweight: bool = false,
        /// The first element of the gradient by the bias in its binding: f32.
        pub dbias: Option<usize> = None,
        /// It is added to what `dbias` holds.
        pub add_dbias: bool = false,
    }
}

config! {
    /// How dweight and dbias are computed.
    pub struct Config {
        /// The algorithm.
        pub algorithm: Algorithm,
        /// Rows, columns and k that a workgroup works on at a time. `Direct`: k is 4. `Depthwise`: pixels, channels of y, and 4. `Strips`: pixels of
        /// a block, channels of y of all invocations, pixels of a line of a block.
        pub tile: [u32; 3],
        /// Rows and columns of an invocation; `Depthwise`: 4 and 4; `Strips`: a block of 1, 2 or 4 lines by a channel, or where channels are last by four.
        pub thread: [u32; 2],
        /// `Direct`: invocations of the subgroup that hands x round, or 1. Else 1.
        pub lanes: u32,
        /// Parts of the pixels.
        pub parts: u32,
        /// f16 tensors are held natively, not packed in u32; needs `SHADER_F16`.
        pub native_f16: bool,
    }
}

/// Bytes of the sums of all parts, at most.
pub const SUMS_BYTES: u64 = 16 << 20;

/// Tiles of software adapters that unroll loops, besides those of `conv`: rows share what is computed of a pixel.
const TILES: [Tile; 1] = [Tile { algorithm: Algorithm::Direct, tile: [32, 64, 4], thread: [32, 8], cost: 1.0 }];

/// Those of groups of one channel. Not measured.
const STRIPS: [Tile; 2] = [strips([1, 64], [2, 8, 1], 0.05), strips([1, 64], [1, 8, 1], 0.06)];

/// The same of a CPU.
const SOFTWARE_STRIPS: [Tile; 4] = [
    strips([1, 16], [4, 8, 1], 0.03),
    strips([1, 16], [2, 8, 1], 0.035),
    strips([1, 16], [4, 8, 4], 0.02),
    strips([1, 16], [1, 4, 4], 0.04),
];

/// Pixels of a part, at least; of `Strips`, which have no more invocations than channels and parts.
const LEAST_PIXELS: u64 = 256;
const LEAST_STRIPS: u64 = 32;

slots!(X, DY, DWEIGHT, DBIAS, WEIGHT, SCRATCH, DX, Z, DZ);

/// What follows from the Problem, the device and the buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    vec: u32,
    /// Pixels are split.
    parts: bool,
    mapped: bool,
    channels_last: bool,
    dweight: bool,
    dbias: bool,
    x: Storage,
    dy: Storage,
    /// dy is read by fours: of channels, where these are last, else of pixels.
    dy_fours: bool,
    strips: Option<Strips>,
}

/// The form of the step that joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct JoinForm {
    dweight: bool,
    dbias: bool,
}

/// What follows from the Problem.
#[derive(Debug, Clone)]
pub(crate) struct Views {
    forward: Gather,
    /// Offset and strides of dweight: outputs, channels, height and width.
    dweight: Option<View<3>>,
    dweight_strides: Strides,
    dbias: Option<View<1>>,
    /// The transposed convolution, and what dx has.
    dx: Option<(conv_transpose::Problem, View<3>, Dtype)>,
    /// The first step, and views of z, dy and dz.
    dz: Option<(activation_backward::Problem, [View<3>; 3])>,
}

/// Invocations of the step that joins.
const JOIN_WG: u32 = LEAST_INVOCATIONS;

impl Config {
    /// As one of a convolution.
    fn of_tile(&self) -> super::Config {
        let Config { algorithm, tile, thread, lanes, native_f16, .. } = *self;
        super::Config { algorithm, tile, thread, lanes, native_f16 }
    }

    /// Invocations per workgroup.
    pub fn wg_size(&self) -> u32 {
        self.of_tile().wg_size()
    }

    fn wg_bytes(&self) -> u32 {
        match self.algorithm {
            Algorithm::Depthwise => 64u32.saturating_mul(self.wg_size()),
            _ => self.of_tile().wg_bytes(),
        }
    }

    /// Pixels after which a part may end.
    fn unit(&self) -> u64 {
        match self.algorithm {
            Algorithm::Depthwise => self.tile[0].into(),
            // They count blocks.
            Algorithm::Strips => 1,
            _ => self.tile[2].into(),
        }
    }
}

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Config { algorithm, tile: [tile_m, tile_n, tile_k], thread, lanes, .. } = self.config;
        let Form { vec, parts, mapped, channels_last, dweight, dbias, x, dy, dy_fours, strips } = self.form;
        let depthwise = algorithm == Algorithm::Depthwise;
        let mut shader = self
            .begin(self.config.wg_size(), self.config.wg_bytes(), vec)
            .params::<Params>()
            .flag("MAPPED", mapped)
            // Of a product neighbours load neighbouring k, which are pixels here, where that is set.
            .flag("CHANNELS_LAST", channels_last == depthwise)
            .constants([("TILE_M", tile_m), ("TILE_N", tile_n), ("TILE_K", tile_k)])
            .constants([("THREAD_M", thread[0]), ("THREAD_N", thread[1]), ("LANES", lanes)])
            .input(X, "x", x);
        shader = match dy {
            _ if !dy_fours => shader.input(DY, "dy", dy).import("conv_backward_dy1"),
            Storage::F32 => shader.reads(DY, "dy", "vec4<f32>").import("conv_backward_dy4"),
            Storage::F16 => shader.alias("Dy", "vec4<f16>").reads(DY, "dy", "Dy").import("conv_backward_dy4"),
            _ => {
                let bf16 = dy == Storage::Bf16Packed;
                shader.flag("Y_BF16", bf16).reads(DY, "dy", "vec2<u32>").import("conv_backward_dy4_words")
            }
        };
        if let Some(strips) = strips {
            let by_row = if dy_fours { "conv_backward_strips_fours" } else { "conv_backward_strips_first" };
            shader = strips.shader(shader).import(if strips.channels() { "conv_backward_strips_last" } else { by_row });
            if parts {
                return shader.writes(SCRATCH, "scratch", "f32").import("conv_backward_strips_parts");
            }
            return outputs(shader.import("conv_backward_strips_whole"), dweight, dbias);
        }
        shader = super::pipeline::window(shader).import("conv_place").import("conv_backward_rows");
        if depthwise {
            shader = shader.import(if vec == 4 { "conv_channels4" } else { "conv_channels1" });
        } else {
            shader = shader.import("conv_backward_sums");
        }
        if algorithm == Algorithm::Tiled {
            shader = shader.import("conv_backward_product");
        }
        if algorithm == Algorithm::Direct {
            shader = shader.flag("DY_FOURS", dy_fours).flag("DY_LAST", channels_last).import("conv_backward_walk");
            shader = shader.import(if lanes > 1 { "conv_direct_shuffle" } else { "conv_direct_alone" });
        }
        if parts {
            return shader.writes(SCRATCH, "scratch", "vec4<f32>").import("conv_backward_parts");
        }
        outputs(shader.import("conv_backward_whole"), dweight, dbias)
    }
}

fn outputs(shader: Shader, dweight: bool, dbias: bool) -> Shader {
    shader.writes_if(dweight, DWEIGHT, "dweight", "f32", "conv_backward_dweight").writes_if(
        dbias,
        DBIAS,
        "dbias",
        "f32",
        "conv_backward_dbias",
    )
}

impl Pipeline for Pass<(), JoinForm> {
    fn shader(&self) -> Shader {
        let shader = self.begin(JOIN_WG, 0, 1).params::<Params>().writes(SCRATCH, "scratch", "vec4<f32>");
        outputs(shader, self.form.dweight, self.form.dbias)
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `dy` is read.
        dy;
        /// `x`, which dweight needs.
        x,
        /// `weight`, which dx needs.
        weight,
        /// What the activation was given, where dz is asked for.
        z,
        /// The gradient by that. It may be the view of `z` or `dy`, where dtypes and layouts are equal.
        dz,
        /// The gradient by x that the Problem asks for, which is written, or read and written.
        dx,
        /// That by the weights.
        dweight,
        /// That by the bias.
        dbias,
        /// The caller's scratch of [`scratch_bytes`]; without it, that of `Kernels` is used.
        scratch,
    }
}

functions!("conv_backward");

impl Problem {
    /// Operations: of each gradient, but dbias, those of the convolution.
    pub fn flops(&self) -> f64 {
        let products = usize::from(self.dx.is_some()) + usize::from(self.dweight.is_some());
        products as f64 * self.forward.flops()
    }

    /// The transposed convolution that gives dx, of dy, or dz, and the weights.
    ///
    /// # Errors
    /// Those of the Problem.
    pub fn transposed(&self, dtype: Dtype) -> Result<conv_transpose::Problem> {
        crate::ops::named::<Self, _>(|| self.of_sums().of_dx(dtype))
    }

    /// The gradient of the activation that gives dz.
    ///
    /// # Errors
    /// Those of the Problem.
    pub fn through(&self, dtype: Dtype) -> Result<activation_backward::Problem> {
        crate::ops::named::<Self, _>(|| Ok(self.of_dz(dtype)?.0))
    }

    /// That by the convolution alone, of dz.
    fn of_sums(&self) -> Problem {
        let (y, y_layout) = self.dz.map_or((self.forward.y, self.forward.y_layout), |dz| (dz, self.dz_layout));
        let activation = conv::Activation::None;
        let plain = conv::Problem { bias: None, residual: None, snake: None, kept_weights: false, ..self.forward };
        let forward = conv::Problem { activation, y, y_layout, ..plain };
        Problem { forward, dz: None, ..*self }
    }

    /// Through the activation.
    fn of_dz(&self, dtype: Dtype) -> Checked<(activation_backward::Problem, [View<3>; 3])> {
        let of = &self.forward;
        of.check_sizes()?;
        ErrorKind::unless(
            of.snake.is_none(),
            "snake",
            format_args!("its gradient is a call of its own, `snake_backward`"),
        )?;
        let (sizes, cols) = of.y_sizes();
        let all = [(self.z, self.z_layout), (of.y, of.y_layout), (dtype, self.dz_layout)];
        let problem = super::through((of.activation, of.slope), (sizes, cols), all);
        let view = |arg, layout: Layout<3>| layout.view(arg, sizes, cols);
        let views = [view("z", self.z_layout)?, view("dy", of.y_layout)?, view("dz", self.dz_layout)?.apart("dz")?];
        problem.resolve()?;
        Ok((problem, views))
    }

    fn check_format(&self) -> Checked {
        let reason = format_args!("packed weights have no gradient; decode them by vq_lookup for that of x");
        ErrorKind::unless(self.forward.format.is_none(), "format", reason)
    }

    fn of_dx(&self, dtype: Dtype) -> Checked<conv_transpose::Problem> {
        let of = &self.forward;
        of.check_sizes()?;
        self.check_format()?;
        let (out, places, sides) = (of.out(), of.places(), of.sides());
        let own = conv_transpose::Problem {
            batch: of.batch,
            channels: of.outputs,
            outputs: of.channels,
            groups: of.groups,
            size: out,
            kernel: of.kernel,
            stride: of.stride,
            dilation: of.dilation,
            downsample: of.upsample,
            padding: sides,
            border: of.border,
            mask: of.mask,
            order: of.order,
            x: of.y,
            x_layout: of.y_layout,
            weight: of.weight,
            weight_order: of.weight_order,
            weight_layout: of.weight_layout,
            y: dtype,
            y_layout: self.dx_layout,
            add: self.add_dx,
            ..conv_transpose::Problem::default()
        };
        if out.contains(&0) {
            // Nothing comes from a y without pixels: one of no channel, with all places behind it.
            let output_padding = places;
            let padding = [1, 0, 1, 0];
            let (size, kernel, stride, dilation) = ([1, 1], [1, 1], [1, 1], [1, 1]);
            let empty = conv_transpose::Problem { channels: 0, size, kernel, stride, dilation, padding, ..own };
            let empty =
                conv_transpose::Problem { x_layout: Layout::default(), weight_layout: Layout::default(), ..empty };
            let (border, mask) = (Border::Zero, super::TapMask::None);
            return Ok(conv_transpose::Problem { output_padding, border, mask, ..empty });
        }
        // What the last windows leave.
        let output_padding = [0, 1].map(|axis| {
            let padded = places[axis] + sides[2 * axis] + sides[2 * axis + 1];
            let reach = (out[axis] - 1) * of.stride[axis] + of.dilation[axis] * (of.kernel[axis] - 1) + 1;
            padded.saturating_sub(reach)
        });
        Ok(conv_transpose::Problem { output_padding, ..own })
    }

    /// Sums over pixels: of dweight, of dbias.
    fn sums(&self) -> bool {
        self.dweight.is_some() || self.dbias.is_some()
    }

    /// Rows of products, and all.
    fn rows(&self) -> [u64; 2] {
        let [height, width] = self.forward.kernel;
        let products = if self.dweight.is_some() { product!(height, width, self.forward.group_channels()) } else { 0 };
        [products, products.saturating_add(u64::from(self.dbias.is_some()))]
    }

    /// Groups, and columns of one; those of a depthwise convolution are one group.
    fn columns(&self, algorithm: Algorithm) -> [usize; 2] {
        match algorithm {
            Algorithm::Depthwise | Algorithm::Strips => [1, self.forward.outputs],
            _ => [self.forward.groups, self.forward.group_outputs()],
        }
    }

    fn is_empty(&self) -> bool {
        self.rows()[1] == 0 || self.forward.outputs == 0
    }

    /// Bytes of the sums of one part.
    fn part_bytes(&self, algorithm: Algorithm) -> u64 {
        let [groups, cols] = self.columns(algorithm);
        product!(groups, self.rows()[1], cols.div_ceil(4), 16u32)
    }

    /// Workgroups of all parts.
    fn workgroups(&self, config: &Config) -> u64 {
        let [groups, cols] = self.columns(config.algorithm);
        if config.algorithm == Algorithm::Strips {
            let places = cols as u64 / u64::from(config.thread[1].max(1));
            return product!(places, config.parts).div_ceil(config.wg_size().max(1).into());
        }
        let tile_m = if config.algorithm == Algorithm::Depthwise { 4 } else { config.tile[0].max(1) };
        let cols = (cols as u64).div_ceil(config.tile[1].max(1).into());
        product!(groups, self.rows()[1].div_ceil(tile_m.into()), cols, config.parts)
    }

    /// Pixels of y in all batches; of `Strips` blocks of a channel.
    fn pixels(&self, views: &Views, config: &Config) -> u64 {
        match config.algorithm {
            Algorithm::Strips => choose::blocks(&views.forward, &config.of_tile()),
            _ => views.forward.rows(),
        }
    }

    /// Those of a part.
    fn part(&self, views: &Views, config: &Config) -> u64 {
        let part = self.pixels(views, config).div_ceil(config.parts.max(1).into());
        padded(part.max(1), config.unit().max(1))
    }

    fn pass(&self, views: &Views, config: &Config, writable: Slots) -> Pass<Config, Form> {
        let of = &views.forward;
        let depthwise = config.algorithm == Algorithm::Depthwise;
        let channels_last = of.order == Order::Nhwc;
        // Fours of channels of a group, or of pixels of a line.
        let dy_fours = of.y.0.multiple_of(4)
            && match (depthwise, channels_last) {
                (true, _) => channels_last && of.group_outputs == 1 && of.x.0.multiple_of(4),
                (false, true) if config.algorithm == Algorithm::Strips => config.thread[1] == 4,
                (false, true) => of.group_outputs.is_multiple_of(4),
                (false, false) => matches!(config.algorithm, Algorithm::Direct | Algorithm::Strips),
            };
        let strips = Strips::of(of, &config.of_tile()).filter(|_| config.algorithm == Algorithm::Strips);
        // x is read by fours only where dy is.
        let strips = strips.map(|strips| if dy_fours { strips } else { strips.one_by_one() });
        let form = Form {
            vec: strips.map_or(if depthwise && dy_fours { 4 } else { 1 }, Strips::vec),
            dy_fours,
            strips,
            parts: config.parts > 1,
            // Without dweight nothing is looked for in x.
            mapped: self.dweight.is_some() && (of.border != Border::Zero || of.upsample != [1, 1]),
            channels_last,
            // Where there are parts, the step that joins writes them.
            dweight: self.dweight.is_some() && config.parts == 1,
            dbias: self.dbias.is_some() && config.parts == 1,
            x: Storage::held(of.x.1, config.native_f16),
            dy: Storage::held(of.y.1, config.native_f16),
        };
        let stem = match config.algorithm {
            Algorithm::Direct => "conv_direct",
            // The check refuses matrices.
            Algorithm::Tiled | Algorithm::Coop => "conv_tiled",
            Algorithm::Strips => "conv_backward_strips",
            Algorithm::Depthwise => "conv_backward_depthwise",
        };
        // How many parts there are is a parameter.
        Pass { stem, config: Config { parts: 1, ..*config }, form, writable }
    }

    fn join(&self) -> Pass<(), JoinForm> {
        let form = JoinForm { dweight: self.dweight.is_some(), dbias: self.dbias.is_some() };
        Pass { stem: "conv_backward_join", config: (), form, writable: Slots::NONE }
    }

    fn params(&self, views: &Views, config: &Config, grid: [u32; 3]) -> Params {
        let ([products, rows], [groups, cols]) = (self.rows(), self.columns(config.algorithm));
        let pixels = self.pixels(views, config);
        Params {
            weight: views.dweight_strides,
            weight_offset: self.dweight.unwrap_or(0) as u32,
            bias_offset: self.dbias.unwrap_or(0) as u32,
            rows: rows as u32,
            cols: cols as u32,
            cols4: cols.div_ceil(4) as u32,
            groups: groups as u32,
            parts: config.parts,
            part: self.part(views, config) as u32,
            pixels: pixels as u32,
            // Divisors, also where there is no pixel.
            out_h: views.forward.out[0].max(1) as u32,
            out_w: views.forward.out[1].max(1) as u32,
            products: products as u32,
            add_weight: self.add_dweight.into(),
            add_bias: self.add_dbias.into(),
            ..Params::begin(&views.forward, grid)
        }
    }

    fn has_f16(&self) -> bool {
        [self.forward.x, self.dz.unwrap_or(self.forward.y)].contains(&Dtype::F16)
    }
}

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        self.check_format()?;
        let sums = self.of_sums();
        let of = sums.forward.resolve()?;
        let [_, rows] = self.rows();
        if rows > super::MOST as u64 || product!(rows, self.forward.outputs) > super::MOST as u64 {
            let reason =
                format!("{rows} taps and channels of {} outputs: at most {}", self.forward.outputs, super::MOST);
            return Err(ErrorKind::invalid("weight", reason));
        }
        let (sizes, inner) = self.forward.weight_sizes();
        let dweight = self.dweight.map(|first| Layout::<3>::at(first).view("dweight", sizes, inner)).transpose()?;
        let bias = |first| Layout::<1>::at(first).view("dbias", [1], self.forward.outputs);
        let dx = match self.dx {
            None => None,
            Some(dtype) => {
                let problem = sums.of_dx(dtype)?;
                let (sizes, inner) = self.forward.x_sizes();
                let view = self.dx_layout.view("dx", sizes, inner)?.apart("dx")?;
                problem.resolve()?;
                Some((problem, view, dtype))
            }
        };
        Ok(Views {
            forward: of,
            dweight_strides: dweight.map_or([0; 4], |view| self.forward.weight_order.strides(&view)),
            dweight,
            dbias: self.dbias.map(bias).transpose()?,
            dx,
            dz: self.dz.map(|dtype| self.of_dz(dtype)).transpose()?,
        })
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        let row = Row::of(caps);
        let native_f16 = caps.prefers_native_f16(self.has_f16());
        let pixels = views.forward.rows().max(1);
        let mut found: Vec<(f64, Config)> = Vec::new();
        let software = caps.class() == Class::Software;
        let unrolled = software && caps.loop_rounds().is_none();
        let tiles = row.tiles().filter(|tile| tile.algorithm != Algorithm::Strips);
        let tiles = tiles.chain(if unrolled { &TILES[..] } else { &[] });
        let tiles = tiles.chain(if software { &SOFTWARE_STRIPS[..] } else { &STRIPS });
        for tile in tiles {
            let super::Config { algorithm, tile: size, thread, lanes, native_f16 } = row.config(caps, tile, native_f16);
            let one = Config { algorithm, tile: size, thread, lanes, parts: 1, native_f16 };
            let [_, cols] = self.columns(algorithm);
            let least = if algorithm == Algorithm::Strips { LEAST_STRIPS } else { LEAST_PIXELS };
            let room = (SUMS_BYTES / self.part_bytes(algorithm).max(1)).min(pixels.div_ceil(least)).max(1);
            // Of strips what a part has, may fill less than a workgroup.
            let (parts, products) = match algorithm {
                Algorithm::Strips => {
                    let places = (cols as u64 / u64::from(thread[1])).max(1);
                    let behind = product!(self.pixels(views, &one), size[0]) as f64 / pixels as f64;
                    (
                        product!(2u32, row.fill, one.wg_size()).div_ceil(places),
                        product!(self.rows()[1], cols) as f64 * behind,
                    )
                }
                _ => {
                    let workgroups = self.workgroups(&one).max(1);
                    let rows = if algorithm == Algorithm::Depthwise { 4 } else { size[0] };
                    ((2 * row.fill).div_ceil(workgroups), product!(workgroups, rows, size[1]) as f64)
                }
            };
            let parts = parts.min(room);
            let busy = self.workgroups(&Config { parts: parts as u32, ..one });
            let idle = row.fill as f64 / busy.clamp(1, row.fill) as f64;
            let score = tile.cost_of(&views.forward) * idle * products;
            found.push((score, Config { parts: parts as u32, ..one }));
            // Where the driver cuts long loops short, more parts.
            if caps.loop_rounds().is_some() {
                let more = [4, 16, 64, 256].into_iter().map(|times| (parts * times).min(room));
                found.extend(more.map(|parts| (2.0 * score, Config { parts: parts as u32, ..one })));
            }
        }
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        found.into_iter().map(|(_, config)| config).collect()
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        caps.check_native_f16(config.native_f16, self.has_f16())?;
        match config.algorithm {
            Algorithm::Strips => {
                choose::check_strips(&views.forward, caps, &config.of_tile())?;
                let of = &views.forward;
                let whole = self.dweight.is_some() && self.forward.mask == super::TapMask::None;
                Misfit::unless(whole, "strips are of a dweight without a mask", of.taps as u64)?;
                let fours = config.thread[1] == 1 || of.y.0.multiple_of(4);
                Misfit::unless(fours, "strips by four channels need a dy in fours", config.thread[1])?;
                let [block, own] = [config.tile[0], config.thread[0]];
                Misfit::unless(block == own, "invocations of strips have one block at a time", block)?;
            }
            _ => choose::check_tile(&views.forward, caps, &config.of_tile())?,
        }
        Misfit::unless(config.parts > 0, "parts must be at least 1", config.parts)?;
        Misfit::at_most("parts", config.parts, 1u32 << 16)?;
        if config.parts > 1 {
            let bytes = product!(config.parts, self.part_bytes(config.algorithm));
            Misfit::at_most("bytes of the sums of all parts", bytes, SUMS_BYTES)?;
        }
        let most = caps.limits.max_compute_workgroup_storage_size;
        Misfit::at_most("bytes of workgroup memory", config.wg_bytes(), most)?;
        let part = self.part(views, config);
        let rounds = match config.algorithm {
            Algorithm::Depthwise => {
                let (lanes, four) = (Rounds::plain(config.tile[0] / 4), Rounds::plain(4u32));
                let own = four + Rounds::nest(part.div_ceil(config.tile[0].max(1).into()), Rounds::nest(4u32, four));
                let join = four + Rounds::nest(config.tile[1].div_ceil(config.wg_size().max(1)), lanes + four);
                own + join + Rounds::nest(4u32, four)
            }
            Algorithm::Strips => {
                let [lines, pixels] = config.of_tile().block();
                let dy = Rounds::nest(lines, Rounds::nest(pixels / 4 + 1, Rounds::plain(4u32)).times(2));
                let taps = views.forward.taps as u64;
                // Each row of x tries all rows of taps on all lines.
                let tried = lines.saturating_mul(self.forward.kernel[0] as u64 + 1);
                let block = dy + choose::block_rounds(&views.forward, &config.of_tile(), tried);
                Rounds::nest(part, block) + Rounds::nest(taps + 1, Rounds::plain(4u32)).times(2)
            }
            _ => config.of_tile().rounds(part),
        };
        caps.check_rounds(rounds)?;
        caps.check_rounds(Rounds::plain(config.parts) + Rounds::plain(4u32).times(2))
    }

    /// The sums of all parts; or what dx needs, which comes after them.
    fn scratch(&self, views: &Views, config: &Config) -> u64 {
        let sums = match config.parts {
            0 | 1 => 0,
            _ if self.is_empty() => 0,
            parts => product!(parts, self.part_bytes(config.algorithm)),
        };
        let packed = views.dx.as_ref().and_then(|(problem, ..)| problem.resolve().ok());
        let packed = packed.map_or(0, |dx| Algorithm::ALL.iter().map(|&one| dx.scratch(one)).max().unwrap_or(0));
        sums.max(packed)
    }

    /// Without the steps of dx, which has Configs of its own.
    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        let mut all = Vec::new();
        if self.sums() {
            all.push(self.pass(views, config, writable).shader());
            if config.parts > 1 {
                all.push(self.join().shader());
            }
        }
        all
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let Some((activation, of)) = &views.dz else {
            return Ok(Dispatch::of(self.bind_sums(views, config, kernels, buffers)?));
        };
        let &Buffers { dy, x, weight, z, dz, dx, dweight, dbias, .. } = buffers;
        let [of_z, of_dy, of_dz] = of;
        let mut args = Args::new(kernels);
        args.read(Z, "z", z, of_z.of(self.z))?;
        args.read(DY, "dy", dy, of_dy.of(self.forward.y))?;
        args.write(DZ, "dz", dz, of_dz.of(activation.dx))?;
        args.read(X, "x", x, self.dweight.map(|_| views.forward.x.0.of(views.forward.x.1)))?;
        args.read(WEIGHT, "weight", weight, self.dx.map(|_| views.forward.weight.0.of(views.forward.weight.1)))?;
        args.write(DX, "dx", dx, views.dx.as_ref().map(|(_, view, dtype)| view.of(*dtype)))?;
        args.write(DWEIGHT, "dweight", dweight, views.dweight.map(|view| view.of(WORD)))?;
        args.write(DBIAS, "dbias", dbias, views.dbias.map(|view| view.of(WORD)))?;
        args.in_place(Z, DZ);
        args.in_place(DY, DZ);
        args.check()?;
        // Without elements there need be no buffers.
        let (z, dz) = (z.unwrap_or(dy), dz.unwrap_or(dy));
        let found = activation_backward::Buffers::new(z, dy, dz);
        let mut steps = crate::ops::plan(kernels, activation, None, &found)?.into_steps();
        let rest = Buffers { dy: dz, z: None, dz: None, ..*buffers };
        steps.extend(self.bind_sums(views, config, kernels, &rest)?);
        Ok(Dispatch::of(steps))
    }
}

impl Problem {
    /// The steps behind dz, which is their dy.
    fn bind_sums(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Vec<Step>> {
        let Buffers { dy, x, weight, z, dz, dx, dweight, dbias, scratch } = *buffers;
        let of = &views.forward;
        let bytes = self.scratch(views, config);
        let mut args = Args::new(kernels);
        args.read(Z, "z", z, None)?;
        args.write(DZ, "dz", dz, None)?;
        args.read(DY, "dy", dy, of.y.0.of(of.y.1))?;
        args.read(X, "x", x, self.dweight.map(|_| of.x.0.of(of.x.1)))?;
        args.read(WEIGHT, "weight", weight, self.dx.map(|_| of.weight.0.of(of.weight.1)))?;
        args.write(DX, "dx", dx, views.dx.as_ref().map(|(_, view, dtype)| view.of(*dtype)))?;
        args.write(DWEIGHT, "dweight", dweight, views.dweight.map(|view| view.of(WORD)))?;
        args.write(DBIAS, "dbias", dbias, views.dbias.map(|view| view.of(WORD)))?;
        args.scratch(SCRATCH, scratch, bytes)?;
        args.check()?;
        if self.dweight.is_none() {
            args.absent(X, "x")?;
        }
        let mut steps = Vec::new();
        if !self.is_empty() {
            let grid = args.fold(self.workgroups(config))?;
            let pass = self.pass(views, config, args.writable());
            steps.push(args.step(&pass, &self.params(views, config, grid), grid)?);
            if config.parts > 1 {
                let grid = args.fold((self.part_bytes(config.algorithm) / 16).div_ceil(JOIN_WG.into()))?;
                steps.push(args.step(&self.join(), &self.params(views, config, grid), grid)?);
            }
        }
        if let Some((problem, ..)) = &views.dx {
            // Without channels or pixels nothing is read of dy and the weights.
            let (weight, dx) = (weight.unwrap_or(dy), dx.unwrap_or(dy));
            let found = conv_transpose::Buffers::new(dy, weight, dx);
            let found = scratch.map_or(found, |scratch| found.scratch(scratch));
            steps.extend(crate::ops::plan(kernels, problem, None, &found)?.into_steps());
        }
        Ok(steps)
    }
}
