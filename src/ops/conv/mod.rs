//! Convolution in one or two dimensions: `y = act(conv(x) + bias + residual)`, in f32 sums. The kernel is not turned round.
//!
//! An axis of x has `size * upsample` places, each repeated `upsample` times, and padding on both sides; y has
//! `floor((places + padding - dilation (kernel - 1) - 1) / stride) + 1` of them, at least 0. One dimension is a height of 1.
//!
//! # Algorithms
//! A convolution is a product, whose rows are the pixels of y, whose columns are the output channels of a group, and whose k is
//! taps and channels of x; that is, without im2col in memory. A first step packs the weights k by k, as f32, in scratch, with the bias
//! and a table of k: what a k adds to the place of a window in x, and to its row and column. With that each layout, stride, dilation
//! and mask has the same main loop; a tap in the padding is a comparison.
//! * [`Algorithm::Direct`]: from storage into registers, for software adapters.
//! * [`Algorithm::Tiled`]: tiles of x and of the weights go through workgroup memory.
//! * [`Algorithm::Depthwise`]: groups of one channel of x are no product; all channels of y stand side by side.
//!
//! # Measured
//! On Mesa 26.2's lavapipe, 2 cores shared with other work, 3 x 3, 64 to 64 channels at 64 x 64 against gemm of 4096 x 64 x 576 in turns, the best
//! of 30, GFLOP/s of gemm, NCHW and NHWC; single runs differ by more than two: f32 34.5, 29.5, 19.1; 34.2, 36.0, 36.3; 33.2, 27.5, 34.7; f16 68.6, 37.2,
//! 44.3; 43.4, 35.6, 38.7; 47.0, 38.2, 43.8. Tiles of other adapters, and depthwise, are not measured.
//!
//! Taps that [`Problem::mask`] leaves out are not computed. A patch embedding of packed patches, of pictures or of video, is a product:
//! [`gemm`](crate::gemm).

use crate::config::{config, defaults, words};
use crate::ops::prelude::*;

mod choose;
mod pipeline;
pub mod resize;
mod taps;

use pipeline::{BIAS, PACK_WG, RESIDUAL, SCRATCH, WEIGHT, X, Y, kind};

defaults! {
    /// What is computed. Pairs are of height and width.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Pictures.
        pub batch: usize = 1,
        /// Channels of x.
        pub channels: usize = 1,
        /// Channels of y.
        pub outputs: usize = 1,
        /// Groups of channels, each of which sees those of its own; a divisor of both.
        pub groups: usize = 1,
        /// Height and width of x.
        pub size: [usize; 2] = [1, 1],
        /// Height and width of the kernel.
        pub kernel: [usize; 2] = [1, 1],
        /// Distance of neighbouring windows.
        pub stride: [usize; 2] = [1, 1],
        /// Distance of neighbouring taps.
        pub dilation: [usize; 2] = [1, 1],
        /// Each place of x is repeated so often, before padding.
        pub upsample: [usize; 2] = [1, 1],
        /// How much is added around x.
        pub padding: Padding = Padding::Sides([0; 4]),
        /// What is added.
        pub border: Border = Border::Zero,
        /// Which taps there are.
        pub mask: TapMask = TapMask::None,
        /// The order of the axes of x, y and the residual.
        pub order: Order = Order::Nchw,
        /// Dtype of x.
        pub x: Dtype = Dtype::F32,
        /// Strides of the three outer axes of x.
        pub x_layout: Layout<3> = Layout::default(),
        /// Dtype of the weights.
        pub weight: Dtype = Dtype::F32,
        /// The order of the axes of the weights.
        pub weight_order: WeightOrder = WeightOrder::Oihw,
        /// Strides of their three outer axes.
        pub weight_layout: Layout<3> = Layout::default(),
        /// Dtype of y.
        pub y: Dtype = Dtype::F32,
        /// Strides of the three outer axes of y. Rows must not overlap.
        pub y_layout: Layout<3> = Layout::default(),
        /// One value per channel of y is added.
        pub bias: Option<Bias> = None,
        /// A tensor of the shape of y is added, before the activation. May be the view of `y`.
        pub residual: Option<Residual> = None,
        /// Applied last.
        pub activation: Activation = Activation::None,
        /// That of [`Activation::LeakyRelu`] below 0; the factor of [`Activation::Elu`].
        pub slope: f32 = 0.01,
    }
}

/// How much is added around x.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Padding {
    /// Top, bottom, left and right.
    Sides([usize; 4]),
    /// So much that y has `ceil(places / stride)` places, the odd one at the end (ONNX's SAME_UPPER, TensorFlow's SAME).
    Same,
}

words! {
    /// What padding is made of.
    #[derive(Default)]
    pub enum Border {
        /// 0.
        #[default]
        Zero = "zero",
        /// x mirrored, without its edge; less than a picture on each side.
        Reflect = "reflect",
        /// The edge.
        Replicate = "replicate",
    }
}

words! {
    /// Which taps of a kernel there are; the others have no part, whatever their weights (van den Oord et al., "Pixel Recurrent
    /// Neural Networks", 2016).
    #[derive(Default)]
    pub enum TapMask {
        /// All.
        #[default]
        None = "none",
        /// Those before the centre (kernel / 2) in the order of rows.
        A = "a",
        /// These, and the centre.
        B = "b",
    }
}

words! {
    /// The order of the axes of x and y: batch, channels, height, width. The last is contiguous.
    #[derive(Default)]
    pub enum Order {
        /// Channels first.
        #[default]
        Nchw = "nchw",
        /// Channels last.
        Nhwc = "nhwc",
    }
}

words! {
    /// The order of the axes of the weights: outputs, channels of a group, height, width. The last is contiguous.
    #[derive(Default)]
    pub enum WeightOrder {
        /// PyTorch's.
        #[default]
        Oihw = "oihw",
        /// TensorFlow Lite's, MLX's.
        Ohwi = "ohwi",
        /// TensorFlow's, JAX's.
        Hwio = "hwio",
    }
}

/// One value per channel of y.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bias {
    /// Dtype of its elements.
    pub dtype: Dtype,
    /// The first element in its binding.
    pub offset: usize,
}

impl Bias {
    /// From the start of its binding.
    pub const fn of(dtype: Dtype) -> Bias {
        Bias { dtype, offset: 0 }
    }
}

/// A tensor of the shape and the order of y.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Residual {
    /// Dtype of its elements.
    pub dtype: Dtype,
    /// Strides of its three outer axes.
    pub layout: Layout<3>,
}

impl Residual {
    /// Contiguous.
    pub const fn of(dtype: Dtype) -> Residual {
        Residual { dtype, layout: Layout { offset: 0, strides: None } }
    }
}

pub use crate::activation::Activation;
use crate::activation::check_slope;

config! {
    /// How it is computed.
    pub struct Config {
        /// The algorithm.
        pub algorithm: Algorithm,
        /// Pixels, channels of y and k that a workgroup works on at a time. `Direct`, `Depthwise`: k is 4.
        pub tile: [u32; 3],
        /// Pixels and channels of an invocation; `Depthwise`: 4 and 4.
        pub thread: [u32; 2],
        /// `Direct`: invocations of the subgroup that hands pixels of x round, or 1. Else 1.
        pub lanes: u32,
        /// f16 tensors are held natively, not packed in u32; needs `SHADER_F16`.
        pub native_f16: bool,
    }
}

words! {
    /// The algorithm; each has a shader file of its name.
    pub enum Algorithm {
        /// From storage into registers.
        Direct = "direct",
        /// Through workgroup memory.
        Tiled = "tiled",
        /// Groups of one channel of x.
        Depthwise = "depthwise",
    }
}

/// What a Problem's layouts resolve to, and what follows from its sizes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Views {
    x: View<3>,
    weight: View<3>,
    y: View<3>,
    bias: Option<View<1>>,
    residual: Option<View<3>>,
    /// Top, bottom, left, right.
    sides: [usize; 4],
    /// Height and width of y.
    out: [usize; 2],
}

/// How scratch is divided.
#[derive(Debug, Clone, Copy)]
struct Packing {
    /// Groups, and the channels of y of one; those of a depthwise convolution are one group.
    groups: usize,
    cols: usize,
    /// k, a multiple of four.
    k: u64,
    /// Vectors of four words: the bias, that and the weights, all.
    ends: [u64; 3],
}

/// Sizes of an axis, padding included, at most.
const MOST: usize = 1 << 30;

impl Problem {
    /// Height and width of x as it is enlarged.
    pub fn places(&self) -> [usize; 2] {
        std::array::from_fn(|axis| self.size[axis].saturating_mul(self.upsample[axis]))
    }

    /// From the first tap to behind the last.
    fn span(&self, axis: usize) -> usize {
        self.dilation[axis].saturating_mul(self.kernel[axis].saturating_sub(1)).saturating_add(1)
    }

    /// Padding: top, bottom, left and right.
    pub fn sides(&self) -> [usize; 4] {
        match self.padding {
            Padding::Sides(sides) => sides,
            Padding::Same => {
                let places = self.places();
                let of = |axis: usize| {
                    let out = places[axis].div_ceil(self.stride[axis].max(1));
                    let reach = out.saturating_sub(1).saturating_mul(self.stride[axis]).saturating_add(self.span(axis));
                    let all = reach.saturating_sub(places[axis]);
                    [all / 2, all - all / 2]
                };
                let [[top, bottom], [left, right]] = [of(0), of(1)];
                [top, bottom, left, right]
            }
        }
    }

    /// Height and width of y.
    pub fn out(&self) -> [usize; 2] {
        let (places, sides) = (self.places(), self.sides());
        std::array::from_fn(|axis| match self.padding {
            Padding::Same => places[axis].div_ceil(self.stride[axis].max(1)),
            Padding::Sides(_) => {
                let padded = places[axis].saturating_add(sides[2 * axis]).saturating_add(sides[2 * axis + 1]);
                padded.checked_sub(self.span(axis)).map_or(0, |rest| rest / self.stride[axis].max(1) + 1)
            }
        })
    }

    /// Taps that have a part, the first of the kernel in the order of rows.
    pub fn taps(&self) -> usize {
        let [height, width] = self.kernel;
        let centre = (height / 2).saturating_mul(width).saturating_add(width / 2);
        match self.mask {
            TapMask::None => height.saturating_mul(width),
            TapMask::A => centre,
            TapMask::B => centre.saturating_add(1),
        }
    }

    /// Channels of x of a group.
    pub fn group_channels(&self) -> usize {
        self.channels / self.groups.max(1)
    }

    /// Channels of y of a group.
    pub fn group_outputs(&self) -> usize {
        self.outputs / self.groups.max(1)
    }

    /// Outer sizes and inner size of x.
    pub fn x_sizes(&self) -> ([usize; 3], usize) {
        self.ordered(self.channels, self.size)
    }

    /// Outer sizes and inner size of y.
    pub fn y_sizes(&self) -> ([usize; 3], usize) {
        self.ordered(self.outputs, self.out())
    }

    /// Outer sizes and inner size of the weights.
    pub fn weight_sizes(&self) -> ([usize; 3], usize) {
        let (o, i, [height, width]) = (self.outputs, self.group_channels(), self.kernel);
        match self.weight_order {
            WeightOrder::Oihw => ([o, i, height], width),
            WeightOrder::Ohwi => ([o, height, width], i),
            WeightOrder::Hwio => ([height, width, i], o),
        }
    }

    fn ordered(&self, channels: usize, [height, width]: [usize; 2]) -> ([usize; 3], usize) {
        match self.order {
            Order::Nchw => ([self.batch, channels, height], width),
            Order::Nhwc => ([self.batch, height, width], channels),
        }
    }

    /// Operations of the product.
    pub fn flops(&self) -> f64 {
        let [height, width] = self.out();
        let sizes = [2, self.batch, height, width, self.outputs, self.group_channels(), self.taps()];
        sizes.iter().map(|&size| size as f64).product()
    }

    /// Pixels of y, in all batches.
    fn rows(&self, views: &Views) -> u64 {
        product!(self.batch, views.out[0], views.out[1])
    }

    /// Scratch by an algorithm.
    fn packing(&self, algorithm: Algorithm) -> Packing {
        let (groups, cols) = match algorithm {
            Algorithm::Depthwise => (1, self.outputs),
            Algorithm::Direct | Algorithm::Tiled => (self.groups, self.group_outputs()),
        };
        let k = padded(product!(self.taps(), self.group_channels()), 4);
        let bias = product!(groups, cols.div_ceil(4));
        let weights = bias.saturating_add(product!(groups, k, cols.div_ceil(4)));
        let entries = if self.by_fours() { k / 4 } else { k };
        Packing { groups, cols, k, ends: [bias, weights, weights.saturating_add(entries)] }
    }

    fn is_empty(&self, views: &Views) -> bool {
        self.rows(views) == 0 || self.outputs == 0
    }

    fn has_f16(&self) -> bool {
        let bias = self.bias.is_some_and(|bias| bias.dtype == Dtype::F16);
        bias || [self.x, self.weight, self.y].contains(&Dtype::F16)
    }

    /// Four k follow each other in channels.
    fn by_fours(&self) -> bool {
        self.group_channels() > 0 && self.group_channels().is_multiple_of(4)
    }

    /// Strides of batch, channels, height and width.
    fn strides(&self, view: &View<3>) -> Strides {
        let [a, b, c] = [0, 1, 2].map(|axis| view.stride(axis));
        match self.order {
            Order::Nchw => [a, b, c, 1],
            Order::Nhwc => [a, 1, b, c],
        }
    }

    /// Strides of outputs, channels, height and width.
    fn weight_strides(&self, view: &View<3>) -> Strides {
        let [a, b, c] = [0, 1, 2].map(|axis| view.stride(axis));
        match self.weight_order {
            WeightOrder::Oihw => [a, b, c, 1],
            WeightOrder::Ohwi => [a, 1, b, c],
            WeightOrder::Hwio => [1, c, a, b],
        }
    }

    fn check_sizes(&self) -> Checked {
        let [height, width] = self.size;
        sizes_fit([("batch", self.batch), ("channels", self.channels), ("outputs", self.outputs)])?;
        sizes_fit([("size", height), ("size", width)])?;
        for (arg, [y, x]) in [
            ("kernel", self.kernel),
            ("stride", self.stride),
            ("dilation", self.dilation),
            ("upsample", self.upsample),
            ("groups", [self.groups; 2]),
        ] {
            if y.min(x) == 0 || y.max(x) > MOST {
                return Err(ErrorKind::invalid(arg, format!("{y}, {x}: from 1 to {MOST}")));
            }
        }
        for (arg, channels) in [("channels", self.channels), ("outputs", self.outputs)] {
            if !channels.is_multiple_of(self.groups) {
                let groups = self.groups;
                return Err(ErrorKind::invalid(
                    arg,
                    format!("{channels} channels are not a multiple of {groups} groups"),
                ));
            }
        }
        check_slope(self.slope)?;
        let (places, sides) = (self.places(), self.sides());
        for axis in 0..2 {
            let [before, after] = [sides[2 * axis], sides[2 * axis + 1]];
            let all = places[axis].saturating_add(before).saturating_add(after);
            if all > MOST || self.span(axis) > MOST {
                let reason = format!("{all} places with padding, windows of {}: more than {MOST}", self.span(axis));
                return Err(ErrorKind::invalid("size", reason));
            }
            let (most, too_large) = (before.max(after), "padding on one side of an axis of");
            let refused = match self.border {
                Border::Zero => false,
                Border::Reflect => most > 0 && most >= places[axis],
                Border::Replicate => most > 0 && places[axis] == 0,
            };
            if refused {
                let reason = format!("{most} places of {} {too_large} {}", self.border.name(), places[axis]);
                return Err(ErrorKind::invalid("padding", reason));
            }
        }
        Ok(())
    }
}

crate::params! {
    /// What one run tells the shaders: strides of batch, channels, height and width; of the weights those of outputs, channels, height
    /// and width.
    pub struct Params;
    fn of(p: &Problem, views: &Views, packing: &Packing, grid: [u32; 3]) {
        x: Strides = p.strides(&views.x),
        y: Strides = p.strides(&views.y),
        residual: Strides = views.residual.map_or([0; 4], |view| p.strides(&view)),
        weight: Strides = p.weight_strides(&views.weight),
        x_offset: u32 = views.x.offset as u32,
        y_offset: u32 = views.y.offset as u32,
        residual_offset: u32 = views.residual.map_or(0, |view| view.offset as u32),
        weight_offset: u32 = views.weight.offset as u32,
        bias_offset: u32 = views.bias.map_or(0, |view| view.offset as u32),
        residual_kind: u32 = kind(p.residual.map(|residual| residual.dtype)),
        // From the first channel of a group to that of the next.
        x_group: u32 = p.strides(&views.x)[1].wrapping_mul(p.group_channels() as u32),
        rows: u32 = p.rows(views) as u32,
        cols: u32 = packing.cols as u32,
        cols4: u32 = packing.cols.div_ceil(4) as u32,
        k: u32 = packing.k as u32,
        taps: u32 = p.taps() as u32,
        group_channels: u32 = p.group_channels() as u32,
        groups: u32 = packing.groups as u32,
        // Channels of y of a group.
        multiplier: u32 = p.group_outputs() as u32,
        out_h: u32 = views.out[0] as u32,
        out_w: u32 = views.out[1] as u32,
        in_h: u32 = p.places()[0] as u32,
        in_w: u32 = p.places()[1] as u32,
        kernel_w: u32 = p.kernel[1] as u32,
        stride_h: u32 = p.stride[0] as u32,
        stride_w: u32 = p.stride[1] as u32,
        dilation_h: u32 = p.dilation[0] as u32,
        dilation_w: u32 = p.dilation[1] as u32,
        up_h: u32 = p.upsample[0] as u32,
        up_w: u32 = p.upsample[1] as u32,
        pad_top: u32 = views.sides[0] as u32,
        pad_left: u32 = views.sides[2] as u32,
        border: u32 = p.border as u32,
        activation: u32 = p.activation as u32,
        slope: f32 = p.slope,
        never: u32 = 0,
        entry: u32 = if p.by_fours() { 4 } else { 1 },
        weights_at: u32 = packing.ends[0] as u32,
        table_at: u32 = packing.ends[1] as u32,
        packed: u32 = packing.ends[2] as u32,
        grid_x: u32 = grid[0],
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `x` and `weight` are read, `y` is written.
        x, weight, y;
        /// The bias that the Problem asks for.
        bias,
        /// The residual that the Problem asks for.
        residual,
        /// The caller's scratch of [`scratch_bytes`], where the packed weights lie; without it, that of `Kernels` is used.
        scratch,
    }
}

functions!("conv");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        self.check_sizes()?;
        let ((x_sizes, x_inner), (y_sizes, y_inner)) = (self.x_sizes(), self.y_sizes());
        let (weight_sizes, weight_inner) = self.weight_sizes();
        let x = self.x_layout.view("x", x_sizes, x_inner)?;
        let weight = self.weight_layout.view("weight", weight_sizes, weight_inner)?;
        let y = self.y_layout.view("y", y_sizes, y_inner)?.apart("y")?;
        let bias = self.bias.map(|bias| Layout::<1>::at(bias.offset).view("bias", [1], self.outputs)).transpose()?;
        let residual = self.residual.map(|residual| residual.layout.view("residual", y_sizes, y_inner)).transpose()?;
        // The others take no more.
        let Packing { k, ends, .. } = self.packing(Algorithm::Direct);
        let rows = product!(self.batch, self.out()[0], self.out()[1]);
        for (arg, count) in [("weight", ends[2].max(k)), ("y", rows)] {
            if count > MOST as u64 {
                return Err(ErrorKind::invalid(
                    arg,
                    format!("{count} fours of packed weights, or pixels: at most {MOST}"),
                ));
            }
        }
        Ok(Views { x, weight, y, bias, residual, sides: self.sides(), out: self.out() })
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        choose::candidates(self, views, caps)
    }

    fn check(&self, _: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        choose::check(self, caps, config)
    }

    /// The bias, the packed weights and the table of k.
    fn scratch(&self, views: &Views, config: &Config) -> u64 {
        if self.is_empty(views) { 0 } else { product!(self.packing(config.algorithm).ends[2], 16u32) }
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        let (pack, main) = pipeline::passes(self, views, config, writable);
        vec![pack.shader(), main.shader()]
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let Buffers { x, weight, y, bias, residual, scratch } = *buffers;
        let mut args = Args::new(kernels);
        args.read(X, "x", x, views.x.of(self.x))?;
        args.read(WEIGHT, "weight", weight, views.weight.of(self.weight))?;
        args.write(Y, "y", y, views.y.of(self.y))?;
        args.read(BIAS, "bias", bias, self.bias.zip(views.bias).map(|(bias, view)| view.of(bias.dtype)))?;
        let of = |(residual, view): (Residual, View<3>)| view.of(residual.dtype);
        args.read(RESIDUAL, "residual", residual, self.residual.zip(views.residual).map(of))?;
        args.scratch(SCRATCH, scratch, self.scratch(views, config))?;
        // An invocation reads of the residual what it writes of y, and nothing else of it. Browsers refuse to bind one range
        // twice.
        if args.caps.backend != wgpu::Backend::BrowserWebGpu {
            args.in_place(RESIDUAL, Y);
        }
        args.check()?;
        if self.is_empty(views) {
            return Ok(Dispatch::default());
        }
        let mut writable = args.writable();
        if args.shares(SCRATCH) {
            writable = writable.with(SCRATCH);
        }
        let (pack, main) = pipeline::passes(self, views, config, writable);
        let packing = self.packing(config.algorithm);
        let grid = args.fold(packing.ends[2].div_ceil(PACK_WG.into()))?;
        let packed = args.step(&pack, &Params::of(self, views, &packing, grid), grid)?;
        let grid = args.fold(choose::workgroups(self, views, config))?;
        Ok(Dispatch::of(vec![packed, args.step(&main, &Params::of(self, views, &packing, grid), grid)?]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_published() {
        let of = |size, kernel, stride, dilation, padding| {
            let [size, kernel, stride, dilation] = [size, kernel, stride, dilation].map(|n| [n, 1]);
            Problem { size, kernel, stride, dilation, padding, ..Problem::default() }
        };
        let sides = |before, after| Padding::Sides([before, after, 0, 0]);
        // ResNet's stem, and a window that does not fit.
        assert_eq!(of(224, 7, 2, 1, sides(3, 3)).out(), [112, 1]);
        assert_eq!(of(4, 3, 1, 2, sides(0, 0)).out(), [0, 1]);
        assert_eq!(of(5, 3, 1, 2, sides(0, 0)).out(), [1, 1]);
        // The odd one at the end.
        let same = of(224, 7, 2, 1, Padding::Same);
        assert_eq!((same.out(), same.sides()), ([112, 1], [2, 3, 0, 0]));
        assert_eq!(of(0, 3, 1, 1, Padding::Same).out(), [0, 1]);
        let enlarged = Problem { upsample: [2, 1], ..of(8, 3, 1, 1, sides(1, 1)) };
        assert_eq!(enlarged.out(), [16, 1]);
        let kernel = Problem { kernel: [3, 3], ..Problem::default() };
        let taps = [TapMask::None, TapMask::A, TapMask::B].map(|mask| Problem { mask, ..kernel }.taps());
        assert_eq!(taps, [9, 4, 5]);
    }
}
