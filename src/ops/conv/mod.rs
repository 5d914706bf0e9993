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
//! * [`Algorithm::Strips`]: the same by blocks of pixels, which share what they load of x. The kernel and its stride are constants.
//! * [`Algorithm::Coop`]: cooperative matrices of f16 with f32 sums. With channels last, and a multiple of eight of them in a group, tiles are
//!   filled by eights, of weights that the first step has brought into columns of f16.
//!
//! # Measured
//! On Mesa 26.2's lavapipe, 2 cores shared with other work, 3 x 3, 64 to 64 channels at 64 x 64 against gemm of 4096 x 64 x 576 in turns, the best
//! of 30, GFLOP/s of gemm, NCHW and NHWC; single runs differ by more than two: f32 34.5, 29.5, 19.1; 34.2, 36.0, 36.3; 33.2, 27.5, 34.7; f16 68.6, 37.2,
//! 44.3; 43.4, 35.6, 38.7; 47.0, 38.2, 43.8. Tiles of other adapters are not measured.
//!
//! There, in f32, by `loom tune`, NCHW and NHWC, milliseconds of `Strips` and of `Depthwise` in turns: 3 x 3, 144 channels at 56 x 56: 1.5 and 2.9, 1.1 and
//! 2.5; by 2, 96 at 112 x 112: 1.75 and 2.1, 1.4 and 2.1; 7 x 7, 96 at 56 x 56: 1.5 and 6.4, 1.4 and 5.7. A quarter to a third of a copy: what limits is the
//! driver's loads, lane by lane.
//!
//! By the compilers of real GPUs, instructions of the main loop per product of matrices of 16 x 16 x 16, on NVIDIA 16 x 8 x 16, of 3 x 3, 256 to 256
//! channels at 128 x 128 in f16, NHWC and NCHW; then those of gemm, 4096^3, b transposed. No spills.
//!
//! | RDNA3 | RDNA3.5 | RDNA4 | Ampere, Ada | Blackwell |
//! |---|---|---|---|---|
//! | 6.5, 18.8; 5.2 | 7.6, 17.9 | 4.7, 17.2; 3.4 | 12.3, 26.0; 11.4 | 12.4, 28.1 |
//!
//! In f32, `Tiled` takes 765 and 749 instructions for 512 multiply-adds of a thread on RDNA3, gemm 783; on Ada 740 and 737, gemm 777.
//!
//! [`Problem::snake`] (Ziyin et al., "Neural Networks Fail to Learn Periodic Functions and How to Fix It", 2020; DAC, BigVGAN) is within 2^-21 of |z| of
//! its exact value, whatever its argument `alpha z` is: sines are reduced by multiples of pi, with a polynomial of our own.
//!
//! Weights are packed by each call, as what a caller holds of them may change between two; those of 512 to 512 channels by 3 x 3 move 9 MiB twice.
//! Who keeps the scratch of a call packs them once ([`Problem::kept_weights`]): there, such a layer takes 11.3 ms at 7 x 7 pixels, 5.8 ms with kept
//! weights; 27 and 22 ms at 16 x 16.
//! Weights of 4 to 8 bits ([`Problem::format`]) are decoded by the first step, once for all pixels; scratch has them as f32.
//! Matrices are of x and weights in f16, and not of packed weights, of dweight, or of [`conv_transpose`] by phases.
//!
//! Taps that [`Problem::mask`] leaves out are not computed. A patch embedding of packed patches, of pictures or of video, is a product:
//! [`gemm`](crate::gemm).

use crate::activation_backward;
use crate::config::{config, defaults, words};
use crate::ops::prelude::*;

mod boxes;
mod choose;
pub mod conv_backward;
pub mod conv_transpose;
mod gather;
pub mod group_norm;
pub mod group_norm_backward;
pub mod max_pool;
pub mod max_pool_backward;
mod pipeline;
mod planes;
pub mod resize;
pub mod snake_backward;
pub mod space_to_depth;
mod taps;

pub(crate) use gather::Gather;
use gather::Memory;

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
        /// The weights are packed: a matrix whose rows are outputs, and whose columns are the other axes in the order of `weight_order`, `oihw` or
        /// `ohwi`. `weight` has its codes, [`Buffers::scales`] its scales; their dtype has no meaning.
        pub format: Option<Format> = None,
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
        /// Snake in place of an activation, for audio codecs: `z + sin(alpha z)^2 / alpha`, or z where alpha is 0. This is the first element of
        /// alpha, f32 `[outputs]`, in its binding.
        pub snake: Option<usize> = None,
        /// The caller's scratch still holds the weights as an earlier call of this Problem by the same Config has packed them: those
        /// that are handed in are not read. The bias and alpha are.
        pub kept_weights: bool = false,
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

impl Order {
    /// Outer sizes and inner size of a tensor of so many pictures.
    pub(crate) fn sizes(self, batch: usize, channels: usize, [height, width]: [usize; 2]) -> ([usize; 3], usize) {
        match self {
            Order::Nchw => ([batch, channels, height], width),
            Order::Nhwc => ([batch, height, width], channels),
        }
    }

    /// Strides of batch, channels, height and width.
    fn strides(self, view: &View<3>) -> Strides {
        let [a, b, c] = [0, 1, 2].map(|axis| view.stride(axis));
        match self {
            Order::Nchw => [a, b, c, 1],
            Order::Nhwc => [a, 1, b, c],
        }
    }
}

impl WeightOrder {
    /// Outer sizes and inner size, of outputs, channels of a group, and a kernel.
    pub(crate) fn sizes(self, o: usize, i: usize, [height, width]: [usize; 2]) -> ([usize; 3], usize) {
        match self {
            WeightOrder::Oihw => ([o, i, height], width),
            WeightOrder::Ohwi => ([o, height, width], i),
            WeightOrder::Hwio => ([height, width, i], o),
        }
    }

    /// Strides of outputs, channels, height and width.
    fn strides(self, view: &View<3>) -> Strides {
        let [a, b, c] = [0, 1, 2].map(|axis| view.stride(axis));
        match self {
            WeightOrder::Oihw => [a, b, c, 1],
            WeightOrder::Ohwi => [a, 1, b, c],
            WeightOrder::Hwio => [1, c, a, b],
        }
    }
}

impl TapMask {
    /// Taps of a kernel that have a part, the first in the order of rows.
    pub(crate) fn taps(self, [height, width]: [usize; 2]) -> usize {
        let centre = (height / 2).saturating_mul(width).saturating_add(width / 2);
        match self {
            TapMask::None => height.saturating_mul(width),
            TapMask::A => centre,
            TapMask::B => centre.saturating_add(1),
        }
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

    fn view(self, outputs: usize) -> Checked<(View<1>, Dtype)> {
        Ok((Layout::<1>::at(self.offset).view("bias", [1], outputs)?, self.dtype))
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

    fn view(self, (sizes, inner): ([usize; 3], usize)) -> Checked<(View<3>, Dtype)> {
        Ok((self.layout.view("residual", sizes, inner)?, self.dtype))
    }
}

pub use crate::activation::Activation;
use crate::activation::check_slope;
use crate::weights::Format;

config! {
    /// How it is computed.
    pub struct Config {
        /// The algorithm.
        pub algorithm: Algorithm,
        /// Pixels, channels of y and k that a workgroup works on at a time. `Direct`, `Depthwise`: k is 4; `Coop`: two matrices;
        /// `Strips`: pixels of a line of a block, 4, 8 or 16.
        pub tile: [u32; 3],
        /// Pixels and channels of an invocation, `Coop` of a subgroup; `Depthwise`: 4 and 4; `Strips`: a block of 1, 2 or 4
        /// lines by a channel, or by four where channels are last.
        pub thread: [u32; 2],
        /// `Direct`: invocations of the subgroup that hands pixels of x round, or 1. `Coop`: those of a subgroup. Else 1.
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
        /// Groups of one channel of x, by blocks of pixels that share what they load: kernels of at most 9, strides of at most 2, no dilation, nothing enlarged,
        /// zeros around; where channels are last, as many of y as of x, and layouts in fours.
        Strips = "strips",
        /// Cooperative matrices, where `Kernels::probe` has seen them work: x and weights of f16.
        Coop = "coop",
    }
}

/// The gradient of an activation and its slope, of pictures of these sizes: dtypes and layouts of z, dy and dz.
fn through(
    (activation, slope): (Activation, f32),
    (sizes, cols): ([usize; 3], usize),
    [z, dy, dz]: [(Dtype, Layout<3>); 3],
) -> activation_backward::Problem {
    let rows = sizes.iter().fold(1, |rows: usize, &size| rows.saturating_mul(size));
    // Without rows their axes tell nothing.
    let dims = if rows == 0 { [1, 1] } else { [sizes[1], sizes[2]] };
    let own = activation_backward::Problem { rows, cols, dims, activation, slope, ..Default::default() };
    let own = activation_backward::Problem { x: z.0, x_layout: z.1, dy: dy.0, dy_layout: dy.1, ..own };
    activation_backward::Problem { dx: dz.0, dx_layout: dz.1, ..own }
}

/// Refuses snake besides another activation.
fn check_snake(snake: Option<usize>, activation: Activation) -> Checked {
    let alone = snake.is_none() || activation == Activation::None;
    ErrorKind::unless(alone, "snake", format_args!("there is an activation, `{}`", activation.name()))
}

/// alpha of snake.
fn alpha_view(snake: Option<usize>, outputs: usize) -> Checked<Option<View<1>>> {
    snake.map(|at| Layout::<1>::at(at).view("alpha", [1], outputs)).transpose()
}

/// Sizes of an axis, padding included, at most.
const MOST: usize = 1 << 30;

/// Refuses sizes that shaders could not count, factors of 0, and channels that the groups do not divide.
fn check_shape(
    batch: usize,
    [channels, outputs]: [usize; 2],
    [height, width]: [usize; 2],
    groups: usize,
    factors: [(&'static str, [usize; 2]); 4],
) -> Checked {
    let both = [("channels", channels), ("outputs", outputs)];
    sizes_fit([("batch", batch), both[0], both[1], ("size", height), ("size", width)])?;
    for (arg, [y, x]) in factors.into_iter().chain([("groups", [groups; 2])]) {
        if y.min(x) == 0 || y.max(x) > MOST {
            return Err(ErrorKind::invalid(arg, format!("{y}, {x}: from 1 to {MOST}")));
        }
    }
    match both.into_iter().find(|(_, channels)| !channels.is_multiple_of(groups)) {
        None => Ok(()),
        Some((arg, channels)) => {
            Err(ErrorKind::invalid(arg, format!("{channels} channels are not a multiple of {groups} groups")))
        }
    }
}

/// What lies beyond an axis of so many places is some place of it.
fn check_border(border: Border, [before, after]: [usize; 2], places: usize) -> Checked {
    let most = before.max(after);
    let refused = match border {
        Border::Zero => false,
        Border::Reflect => most > 0 && most >= places,
        Border::Replicate => most > 0 && places == 0,
    };
    if refused {
        let reason = format!("{most} places of {} padding on one side of an axis of {places}", border.name());
        return Err(ErrorKind::invalid("padding", reason));
    }
    Ok(())
}

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
        self.mask.taps(self.kernel)
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
        self.order.sizes(self.batch, self.channels, self.size)
    }

    /// Outer sizes and inner size of y.
    pub fn y_sizes(&self) -> ([usize; 3], usize) {
        self.order.sizes(self.batch, self.outputs, self.out())
    }

    /// Outer sizes and inner size of the weights.
    pub fn weight_sizes(&self) -> ([usize; 3], usize) {
        self.weight_order.sizes(self.outputs, self.group_channels(), self.kernel)
    }

    /// Operations of the product.
    pub fn flops(&self) -> f64 {
        let [height, width] = self.out();
        let sizes = [2, self.batch, height, width, self.outputs, self.group_channels(), self.taps()];
        sizes.iter().map(|&size| size as f64).product()
    }

    /// Packed weights as a matrix `[n, k]`.
    fn packed(&self) -> Checked<Option<(Format, [usize; 2])>> {
        let Some(format) = self.format else { return Ok(None) };
        let reason = format_args!("packed weights are rows of outputs, not `{}`", self.weight_order.name());
        ErrorKind::unless(self.weight_order != WeightOrder::Hwio, "weight_order", reason)?;
        let reason = format_args!("packed weights lie at the start of their binding, without a layout");
        ErrorKind::unless(self.weight_layout == Layout::default(), "weight", reason)?;
        let own = self.group_channels().saturating_mul(self.kernel[0]).saturating_mul(self.kernel[1]);
        let (n, k) = (self.outputs, own);
        format.countable(n, k, ["weight", "scales"])?;
        Ok(Some((format, [n, k])))
    }

    fn check_sizes(&self) -> Checked {
        let factors = [
            ("kernel", self.kernel),
            ("stride", self.stride),
            ("dilation", self.dilation),
            ("upsample", self.upsample),
        ];
        check_shape(self.batch, [self.channels, self.outputs], self.size, self.groups, factors)?;
        check_slope(self.slope)?;
        check_snake(self.snake, self.activation)?;
        let (places, sides) = (self.places(), self.sides());
        for axis in 0..2 {
            let [before, after] = [sides[2 * axis], sides[2 * axis + 1]];
            let all = places[axis].saturating_add(before).saturating_add(after);
            if all > MOST || self.span(axis) > MOST {
                let reason = format!("{all} places with padding, windows of {}: more than {MOST}", self.span(axis));
                return Err(ErrorKind::invalid("size", reason));
            }
            check_border(self.border, [before, after], places[axis])?;
        }
        Ok(())
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
        /// The alpha of snake that the Problem asks for.
        alpha,
        /// The scales of packed weights.
        scales,
        /// The caller's scratch of [`scratch_bytes`], where the packed weights lie; without it, that of `Kernels` is used.
        scratch,
    }
}

functions!("conv");

impl Plan for Problem {
    type Views = Gather;

    fn resolve(&self) -> Checked<Gather> {
        self.check_sizes()?;
        let ((x_sizes, x_inner), (y_sizes, y_inner)) = (self.x_sizes(), self.y_sizes());
        let (weight_sizes, weight_inner) = self.weight_sizes();
        let x = self.x_layout.view("x", x_sizes, x_inner)?;
        let weight = self.weight_layout.view("weight", weight_sizes, weight_inner)?;
        let y = self.y_layout.view("y", y_sizes, y_inner)?.apart("y")?;
        let weight_strides = self.weight_order.strides(&weight);
        let [top, _, left, _] = self.sides();
        let gather = Gather {
            order: self.order,
            batch: self.batch,
            groups: self.groups,
            group_channels: self.group_channels(),
            group_outputs: self.group_outputs(),
            places: self.places(),
            upsample: self.upsample,
            border: self.border,
            before: [top, left],
            stride: self.stride,
            dilation: self.dilation,
            kernel_w: self.kernel[1],
            taps: self.taps(),
            turned: 0,
            out: self.out(),
            x: (x, self.x),
            weight: (weight, if self.format.is_some() { Dtype::F32 } else { self.weight }),
            format: self.packed()?,
            weight_strides,
            weight_group: weight_strides[0].wrapping_mul(self.group_outputs() as u32),
            y: (y, self.y),
            bias: self.bias.map(|bias| bias.view(self.outputs)).transpose()?,
            residual: self.residual.map(|residual| residual.view((y_sizes, y_inner))).transpose()?,
            activation: self.activation,
            slope: self.slope,
            snake: alpha_view(self.snake, self.outputs)?,
            add: false,
            kept_weights: self.kept_weights,
            phases: None,
        };
        gather.checked()
    }

    fn list(&self, gather: &Gather, caps: &Caps) -> Vec<Config> {
        choose::candidates(gather, caps)
    }

    fn check(&self, gather: &Gather, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        choose::check(gather, caps, config)
    }

    /// The bias, alpha, the packed weights and the table of k.
    fn scratch(&self, gather: &Gather, config: &Config) -> u64 {
        gather.scratch(config.algorithm)
    }

    fn compose(&self, gather: &Gather, config: &Config, writable: Slots) -> Vec<Shader> {
        gather.compose(config, writable)
    }

    fn bind(&self, gather: &Gather, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let Buffers { x, weight, y, bias, residual, alpha, scales, scratch } = *buffers;
        gather.bind(config, kernels, &Memory { x, weight, y, bias, residual, alpha, scales, scratch })
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
