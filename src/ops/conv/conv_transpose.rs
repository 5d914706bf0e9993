//! Transposed convolution in one or two dimensions: `y = act(the adjoint of conv with these weights, of x + bias)`, in f32 sums. What
//! [`conv`](crate::conv) takes from a place of x by a tap, goes there from its pixel by the same tap.
//!
//! What [`padding`](Problem::padding) cuts off is lost, or added to the places that it mirrors or repeats: the adjoint of each
//! [`border`](Problem::border).
//!
//! An axis of y has `(size - 1) stride + dilation (kernel - 1) + 1 + output_padding - padding` places, at least 0, over `downsample`.
//!
//! # Algorithms
//! Pixels of y whose places have the same remainder by the stride have the same taps. Those of one such phase are a convolution of x by
//! these taps, so that nothing is multiplied with a 0 that stands between the pixels of x. All phases are one dispatch of the
//! shaders of `conv`, whose first step packs the weights phase by phase. Of a border that is mirrored or repeated each pixel near the
//! edge is a phase of its own, which has the taps of all places that come to it. By a stride of 1, of a border of zeros, where nothing is added up and no
//! more is cut off in front than a window sees, there is one phase: a convolution, whose first step turns the kernel round, by each algorithm of
//! [`conv`](crate::conv).
//!
//! # Measured
//! On Mesa 26.2's lavapipe, 2 cores shared with other work, 4 x 4 by 2, 64 to 64 channels at 32 x 32 against gemm of the taps that are not 0, 4096 x
//! 64 x 256, in turns, the best of 60, GFLOP/s of gemm, NCHW, NHWC: f32 53.6, 41.2, 50.7; f16 65.8, 42.5, 45.5. Other adapters are not measured.
//!
//! The gradients of a transposed convolution are a convolution, and the gradients of one: [`backward`].

use super::gather::{Axis, Gather, MOST_PHASES, MOST_TAPS, Memory, Phases};
use super::{
    Activation, Bias, Border, MOST, Order, TapMask, WeightOrder, alpha_view, check_border, check_shape, check_snake,
    choose as tables,
};
use crate::activation::check_slope;
use crate::ops::prelude::*;
use crate::{activation_backward, conv, conv_backward};
use std::collections::HashMap;

pub use super::Config;

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
        /// Distance in y of what neighbouring pixels of x give.
        pub stride: [usize; 2] = [1, 1],
        /// Distance of neighbouring taps.
        pub dilation: [usize; 2] = [1, 1],
        /// So many neighbouring places are added up to one of y: the adjoint of [`upsample`](crate::conv::Problem::upsample).
        pub downsample: [usize; 2] = [1, 1],
        /// Places that are cut off: top, bottom, left and right.
        pub padding: [usize; 4] = [0; 4],
        /// Where what is cut off goes: nowhere, or to the places from which [`conv`](crate::conv::Problem::border) takes it. Then at most
        /// 4096 pixels may have taps of their own, and an axis 65536 taps in all phases.
        pub border: Border = Border::Zero,
        /// Places that are added at the end of each axis.
        pub output_padding: [usize; 2] = [0, 0],
        /// Which taps there are.
        pub mask: TapMask = TapMask::None,
        /// The order of the axes of x and y.
        pub order: Order = Order::Nchw,
        /// Dtype of x.
        pub x: Dtype = Dtype::F32,
        /// Strides of the three outer axes of x.
        pub x_layout: Layout<3> = Layout::default(),
        /// Dtype of the weights.
        pub weight: Dtype = Dtype::F32,
        /// The order of the axes of the weights, whose outputs are the channels of x, and whose channels are those of y of a group: by
        /// default `[channels, outputs / groups, height, width]`.
        pub weight_order: WeightOrder = WeightOrder::Oihw,
        /// Strides of their three outer axes.
        pub weight_layout: Layout<3> = Layout::default(),
        /// Dtype of y.
        pub y: Dtype = Dtype::F32,
        /// Strides of the three outer axes of y. Rows must not overlap.
        pub y_layout: Layout<3> = Layout::default(),
        /// The result is added to what y holds.
        pub add: bool = false,
        /// One value per channel of y is added.
        pub bias: Option<Bias> = None,
        /// Applied last.
        pub activation: Activation = Activation::None,
        /// That of [`Activation::LeakyRelu`] below 0; the factor of [`Activation::Elu`].
        pub slope: f32 = 0.01,
        /// Snake in place of an activation, as of [`conv`](crate::conv::Problem::snake).
        pub snake: Option<usize> = None,
        /// As of [`conv`](crate::conv::Problem::kept_weights).
        pub kept_weights: bool = false,
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `x` and `weight` are read, `y` is written, or read and written.
        x, weight, y;
        /// The bias that the Problem asks for.
        bias,
        /// The alpha of snake that the Problem asks for.
        alpha,
        /// The caller's scratch of [`scratch_bytes`], where the packed weights lie; without it, that of `Kernels` is used.
        scratch,
    }
}

functions!("conv_transpose");

/// The gradients of a transposed convolution, of which dy lies as y does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backward {
    /// By what the activation was given, where there is one. Buffers: (z, dy, dz), of which the last may be one of the others. All of the
    /// dtype and the layout of y; the others take dz in place of dy.
    pub dz: Option<activation_backward::Problem>,
    /// By x: a convolution of dy. Buffers: (dy, weight, dx), and [`residual`](conv::Buffers::residual) dx, where it is added.
    pub dx: conv::Problem,
    /// By the weights. Buffers: `dy` is x, `x` is dy.
    pub dweight: conv_backward::Problem,
    /// By the bias: sums over the pixels of dy. Buffers: (dy, dbias).
    pub dbias: conv_backward::Problem,
}

/// The gradients of a transposed convolution. dx has the dtype and the layout of x, and may have others.
///
/// # Errors
/// Those of the Problem, snake, and of an `output_padding` of a stride or more, whose places no window sees.
pub fn backward(problem: &Problem) -> Result<Backward> {
    crate::ops::named::<Problem, _>(|| {
        problem.check_sizes()?;
        ErrorKind::unless(
            problem.snake.is_none(),
            "snake",
            format_args!("its gradient is a call of its own, `snake_backward`"),
        )?;
        let Problem { batch, channels, outputs, groups, kernel, stride, dilation, mask, order, weight_order, .. } =
            *problem;
        let [top, bottom, left, right] = problem.padding;
        let plain = conv::Problem {
            batch,
            channels: outputs,
            outputs: channels,
            groups,
            size: problem.out(),
            kernel,
            stride,
            dilation,
            upsample: problem.downsample,
            padding: conv::Padding::Sides([top, bottom, left, right]),
            border: problem.border,
            mask,
            order,
            x: problem.y,
            x_layout: problem.y_layout,
            weight: problem.weight,
            weight_order,
            weight_layout: problem.weight_layout,
            y: problem.x,
            y_layout: problem.x_layout,
            ..conv::Problem::default()
        };
        if plain.out() != problem.size {
            let reason = format!("{:?}: {:?} windows, not {:?}", problem.output_padding, plain.out(), problem.size);
            return Err(ErrorKind::invalid("output_padding", reason));
        }
        let dweight = conv_backward::Problem { forward: plain, dweight: Some(0), ..conv_backward::Problem::default() };
        // A convolution whose y is dy.
        let ones = conv::Problem {
            batch,
            channels: 0,
            outputs,
            size: problem.out(),
            order,
            y: problem.y,
            y_layout: problem.y_layout,
            ..conv::Problem::default()
        };
        let dbias = conv_backward::Problem { forward: ones, dbias: Some(0), ..conv_backward::Problem::default() };
        let all = [(problem.y, problem.y_layout); 3];
        let dz = super::through((problem.activation, problem.slope), problem.y_sizes(), all);
        let dz = Some(dz).filter(|_| problem.activation != Activation::None);
        Ok(Backward { dz, dx: plain, dweight, dbias })
    })
}

/// The largest number that divides both.
fn common(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common(b, a % b) }
}

impl Problem {
    /// From the first tap to behind the last.
    fn span(&self, axis: usize) -> usize {
        self.dilation[axis].saturating_mul(self.kernel[axis].saturating_sub(1)).saturating_add(1)
    }

    /// Places of y, before they are added up.
    pub fn places(&self) -> [usize; 2] {
        std::array::from_fn(|axis| {
            let [before, after] = [self.padding[2 * axis], self.padding[2 * axis + 1]];
            let of_x = (self.size[axis] as i128 - 1) * self.stride[axis] as i128;
            let all = of_x + self.span(axis) as i128 + self.output_padding[axis] as i128;
            usize::try_from((all - before as i128 - after as i128).max(0)).unwrap_or(usize::MAX)
        })
    }

    /// Height and width of y.
    pub fn out(&self) -> [usize; 2] {
        let places = self.places();
        std::array::from_fn(|axis| places[axis] / self.downsample[axis].max(1))
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
        self.weight_order.sizes(self.channels, self.group_outputs(), self.kernel)
    }

    /// Operations of the product: each pixel of x by each tap.
    pub fn flops(&self) -> f64 {
        let [height, width] = self.size;
        let sizes = [2, self.batch, height, width, self.channels, self.group_outputs(), self.taps()];
        sizes.iter().map(|&size| size as f64).product()
    }

    fn check_sizes(&self) -> Checked {
        let [out_height, out_width] = self.output_padding;
        sizes_fit([("output_padding", out_height), ("output_padding", out_width)])?;
        let factors = [
            ("kernel", self.kernel),
            ("stride", self.stride),
            ("dilation", self.dilation),
            ("downsample", self.downsample),
        ];
        check_shape(self.batch, [self.channels, self.outputs], self.size, self.groups, factors)?;
        check_slope(self.slope)?;
        check_snake(self.snake, self.activation)?;
        for (axis, &places) in self.places().iter().enumerate() {
            let [before, after] = [self.padding[2 * axis], self.padding[2 * axis + 1]];
            if before.max(after) > MOST {
                return Err(ErrorKind::invalid("padding", format!("{before}, {after}: at most {MOST}")));
            }
            let uncut = places.saturating_add(before).saturating_add(after);
            if uncut > MOST || self.span(axis) > MOST {
                let reason = format!("{uncut} places with padding, windows of {}: more than {MOST}", self.span(axis));
                return Err(ErrorKind::invalid("size", reason));
            }
            let by = self.downsample[axis];
            if !places.is_multiple_of(by) {
                return Err(ErrorKind::invalid("downsample", format!("{} places are no multiple of {by}", places)));
            }
            check_border(self.border, [before, after], places)?;
            // Those of the edge have taps of their own.
            let edge = if self.border == Border::Zero { 0 } else { before + after };
            let [low, high] = self.edges(axis);
            let alone = product!(low + (self.out()[axis] - high), by).saturating_add(edge as u64);
            let taps = product!(self.kernel[axis], alone.saturating_add(by as u64));
            if taps > MOST_TAPS as u64 {
                let reason = format!(
                    "{taps} taps of an axis, those of downsample and of the border included: at most {MOST_TAPS}"
                );
                return Err(ErrorKind::invalid("kernel", reason));
            }
        }
        let phases = product!(self.axis_phases(0), self.axis_phases(1));
        if phases > MOST_PHASES as u64 {
            let reason = format!("{phases} pixels of y differ in their taps: at most {MOST_PHASES}");
            let arg = if self.border == Border::Zero { "stride" } else { "padding" };
            return Err(ErrorKind::invalid(arg, reason));
        }
        Ok(())
    }

    /// Padding in front of x, where this is a convolution with the kernel turned round: all pixels of y have the same taps.
    fn before(&self) -> Option<[usize; 2]> {
        let plain = self.stride == [1, 1] && self.downsample == [1, 1] && self.border == Border::Zero;
        let before = [0, 1].map(|axis| (self.span(axis) - 1).checked_sub(self.padding[2 * axis]));
        let [Some(top), Some(left)] = before else { return None };
        plain.then_some([top, left])
    }

    /// The distance in y of neighbouring places of one phase, and in x of the places that they see.
    fn steps(&self, axis: usize) -> [usize; 2] {
        let (stride, by) = (self.stride[axis], self.downsample[axis]);
        let both = common(stride, by);
        [stride / both, by / both]
    }

    /// The pixels of an axis that have the regular taps of their phase: from the first to behind the last. Others are near an edge
    /// where places come back.
    fn edges(&self, axis: usize) -> [usize; 2] {
        let ([before, after], by) =
            ([self.padding[2 * axis], self.padding[2 * axis + 1]], self.downsample[axis].max(1));
        let (places, out) = (self.places()[axis], self.out()[axis]);
        let last = places.saturating_sub(1);
        // The places that others come to: up to the first, and from the second on.
        let [low, high] = match self.border {
            Border::Zero => return [0, out],
            Border::Reflect => [before.min(last), last.saturating_sub(after)],
            Border::Replicate => [0, last],
        };
        let low = if before > 0 { (low / by + 1).min(out) } else { 0 };
        let high = if after > 0 { (high / by).clamp(low, out) } else { out };
        [low, high]
    }

    fn axis_phases(&self, axis: usize) -> usize {
        let out = self.out();
        // A y of no pixel has none, whatever its other axis has.
        if out.contains(&0) {
            return 0;
        }
        let [low, high] = self.edges(axis);
        low + self.steps(axis)[0].min(high - low) + out[axis] - high
    }

    /// Where a place of y comes to; those below 0 and behind the last are what is cut off.
    fn comes_to(&self, axis: usize, place: i64) -> Option<i64> {
        let last = self.places()[axis] as i64 - 1;
        match self.border {
            Border::Zero => (0..=last).contains(&place).then_some(place),
            Border::Reflect => Some(place.abs().min(2 * last - place.abs())),
            Border::Replicate => Some(place.clamp(0, last)),
        }
    }

    /// The phases of an axis: pixels near its first edge, those of each remainder, those near its last edge.
    fn phases(&self, axis: usize) -> Vec<Axis> {
        let [step, along] = self.steps(axis);
        let (stride, by, out) = (self.stride[axis] as i64, self.downsample[axis], self.out()[axis]);
        if self.out().contains(&0) {
            return Vec::new();
        }
        let [low, high] = self.edges(axis);
        let alone = |first| Axis { first, count: 1, taps: Vec::new() };
        let regular = low..low + step.min(high - low);
        let mut all: Vec<Axis> = (0..low).map(alone).collect();
        all.extend(regular.clone().map(|first| Axis { first, count: (high - first).div_ceil(step), taps: Vec::new() }));
        all.extend((high..out).map(alone));
        // Which phase has places of this remainder.
        let of: HashMap<i64, usize> = regular.map(|first| ((first * by) as i64 % stride, first)).collect();
        // Rows behind the last of a mask have no part.
        let last = match axis {
            0 => self.taps().div_ceil(self.kernel[1]),
            _ => self.kernel[1],
        };
        let [before, after] = [self.padding[2 * axis] as i64, self.padding[2 * axis + 1] as i64];
        // Of the phases the first near the last edge.
        let behind = all.len() - (out - high);
        let mut push = |one: usize, tap: usize, place: i64| {
            // What no pixel sees is left out.
            let reach = place + ((all[one].count - 1) * along) as i64;
            if reach >= 0 && place < self.size[axis] as i64 {
                all[one].taps.push((tap, place));
            }
        };
        for part in 0..by {
            for tap in 0..last {
                let moved = part as i64 + before - (tap * self.dilation[axis]) as i64;
                let Some(&first) = of.get(&(-moved).rem_euclid(stride)) else { continue };
                push(first, tap, ((first * by) as i64 + moved) / stride);
            }
        }
        if (low, high) == (0, out) {
            return all;
        }
        let end = self.places()[axis] as i64 + after;
        for place in (-before..(low * by) as i64).chain((high * by) as i64..end) {
            let Some(pixel) = self.comes_to(axis, place).map(|place| place as usize / by) else { continue };
            let one = match pixel {
                pixel if pixel < low => pixel,
                pixel if pixel < high => continue,
                pixel => pixel - high + behind,
            };
            for tap in 0..last {
                let moved = place + before - (tap * self.dilation[axis]) as i64;
                if moved.rem_euclid(stride) == 0 {
                    push(one, tap, moved / stride);
                }
            }
        }
        all
    }
}

impl Plan for Problem {
    type Views = Gather;

    fn resolve(&self) -> Checked<Gather> {
        self.check_sizes()?;
        let ((x_sizes, x_inner), (y_sizes, y_inner)) = (self.x_sizes(), self.y_sizes());
        let (weight_sizes, weight_inner) = self.weight_sizes();
        let x = self.x_layout.view("x", x_sizes, x_inner)?;
        let weight = self.weight_layout.view("weight", weight_sizes, weight_inner)?;
        let y = self.y_layout.view("y", y_sizes, y_inner)?.apart("y")?;
        let [of_x, of_y, height, width] = self.weight_order.strides(&weight);
        let turned = self.before();
        let [_, _, y_height, y_width] = self.order.strides(&y);
        let [steps_y, steps_x] = [0, 1].map(|axis| self.steps(axis));
        let phases = turned.is_none().then(|| {
            let [of_y, of_x] = [0, 1].map(|axis| self.phases(axis));
            let first = [y.offset as u32, y_height, y_width];
            Phases::of([&of_y, &of_x], [steps_y[0], steps_x[0]], self.batch, self.group_channels(), first)
        });
        let gather = Gather {
            order: self.order,
            batch: self.batch,
            groups: self.groups,
            group_channels: self.group_channels(),
            group_outputs: self.group_outputs(),
            places: self.size,
            upsample: [1, 1],
            border: Border::Zero,
            before: turned.unwrap_or([0, 0]),
            stride: [steps_y[1], steps_x[1]],
            dilation: self.dilation,
            kernel_w: self.kernel[1],
            taps: self.taps(),
            turned: turned.map_or(0, |_| self.kernel[0].saturating_mul(self.kernel[1])),
            out: self.out(),
            x: (x, self.x),
            weight: (weight, self.weight),
            format: None,
            weight_strides: [of_y, of_x, height, width],
            weight_group: of_x.wrapping_mul(self.group_channels() as u32),
            y: (y, self.y),
            bias: self.bias.map(|bias| bias.view(self.outputs)).transpose()?,
            residual: None,
            activation: self.activation,
            slope: self.slope,
            snake: alpha_view(self.snake, self.outputs)?,
            add: self.add,
            kept_weights: self.kept_weights,
            phases,
        };
        gather.checked()
    }

    fn list(&self, gather: &Gather, caps: &Caps) -> Vec<Config> {
        tables::candidates(gather, caps)
    }

    fn check(&self, gather: &Gather, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        tables::check(gather, caps, config)
    }

    /// The bias, alpha, the packed weights and the table of k.
    fn scratch(&self, gather: &Gather, config: &Config) -> u64 {
        gather.scratch(config.algorithm)
    }

    fn compose(&self, gather: &Gather, config: &Config, writable: Slots) -> Vec<Shader> {
        gather.compose(config, writable)
    }

    fn bind(&self, gather: &Gather, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let Buffers { x, weight, y, bias, alpha, scratch } = *buffers;
        gather.bind(config, kernels, &Memory { x, weight, y, bias, residual: None, alpha, scales: None, scratch })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_published() {
        let of = |size, kernel, stride, padding, output_padding| {
            let [size, kernel, stride] = [size, kernel, stride].map(|n| [n, 1]);
            let padding = [padding, padding, 0, 0];
            Problem { size, kernel, stride, padding, output_padding: [output_padding, 0], ..Problem::default() }.out()
                [0]
        };
        // DCGAN's first and later layers; twice the size by 3 x 3; a vocoder's.
        assert_eq!([of(1, 4, 1, 0, 0), of(8, 4, 2, 1, 0), of(8, 3, 2, 1, 1), of(32, 16, 8, 4, 0)], [4, 16, 16, 256]);
        assert_eq!([of(1, 1, 1, 2, 0), of(0, 3, 2, 0, 0)], [0, 1]);
    }

    /// 4 by 2 with padding: two phases of two taps each; 3 by 2: of one and of two.
    #[test]
    fn phases_by_hand() {
        let of = |kernel, padding, output_padding| {
            let padding = [0, 0, padding, padding];
            let kernel = [1, kernel];
            let output_padding = [0, output_padding];
            Problem { size: [1, 5], kernel, stride: [1, 2], padding, output_padding, ..Problem::default() }
        };
        let taps = |problem: Problem| problem.phases(1).into_iter().map(|axis| axis.taps).collect::<Vec<_>>();
        assert_eq!(taps(of(4, 1, 0)), [vec![(1, 0), (3, -1)], vec![(0, 1), (2, 0)]]);
        assert_eq!(taps(of(3, 1, 1)), [vec![(1, 0)], vec![(0, 1), (2, 0)]]);
        // Phases without a tap, and y of less than a stride.
        assert_eq!(taps(Problem { stride: [1, 3], ..of(1, 0, 0) }), [vec![(0, 0)], vec![], vec![]]);
        assert_eq!(taps(Problem { size: [1, 1], stride: [1, 9], ..of(2, 0, 0) }), [vec![(0, 0)], vec![(1, 0)]]);
        // Pairs of places are added up: each tap comes from both.
        let pairs = Problem { stride: [1, 1], downsample: [1, 2], ..of(2, 0, 0) };
        assert_eq!(taps(pairs), [vec![(0, 0), (1, -1), (0, 1), (1, 0)]]);
    }

    /// Pixels near an edge have the taps of all places that come to them; the others those of their phase.
    #[test]
    fn edges_by_hand() {
        let of = |border, padding: [usize; 2]| {
            let padding = [0, 0, padding[0], padding[1]];
            Problem { size: [1, 6], kernel: [1, 3], padding, border, ..Problem::default() }
        };
        let told = |problem: Problem| {
            let phases = problem.phases(1).into_iter();
            phases.map(|axis| (axis.first, axis.count, axis.taps)).collect::<Vec<_>>()
        };
        // Places -1 to 6 of 6: -1 comes to 1 or to 0, 6 to 4 or to 5.
        let mirrored = told(of(Border::Reflect, [1, 1]));
        let ends = [(0, 1, vec![(0, 1), (1, 0)]), (1, 1, vec![(0, 0), (0, 2), (1, 1), (2, 0)])];
        assert_eq!(mirrored[..2], ends);
        assert_eq!(mirrored[2], (2, 2, vec![(0, 3), (1, 2), (2, 1)]));
        assert_eq!(mirrored[3..], [(4, 1, vec![(0, 5), (1, 4), (2, 3), (2, 5)]), (5, 1, vec![(1, 5), (2, 4)])]);
        let repeated = told(of(Border::Replicate, [1, 0]));
        assert_eq!(repeated, [(0, 1, vec![(0, 0), (0, 1), (1, 0)]), (1, 6, vec![(0, 2), (1, 1), (2, 0)])]);
        assert_eq!(told(of(Border::Replicate, [0, 0])), told(of(Border::Zero, [0, 0])));
        // All pixels are near an edge.
        assert!(told(of(Border::Reflect, [2, 2])).iter().all(|(_, count, _)| *count == 1));
    }

    #[test]
    fn what_shaders_could_not_hold_is_refused() {
        let refused = |problem: Problem| match problem.resolve() {
            Err(ErrorKind::InvalidProblem { arg, .. }) => arg,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            refused(Problem { size: [99, 99], stride: [65, 64], kernel: [65, 64], ..Problem::default() }),
            "stride"
        );
        assert_eq!(refused(Problem { kernel: [1, 65537], ..Problem::default() }), "kernel");
        assert_eq!(refused(Problem { downsample: [2, 1], ..Problem::default() }), "downsample");
        // A y of no pixel has no phases, whatever the stride.
        let empty = Problem { size: [0, 2], stride: [1, 1 << 29], ..Problem::default() };
        assert!(empty.resolve().is_ok_and(|_| empty.out()[0] == 0));
        assert_eq!(refused(Problem { output_padding: [MOST, 0], ..Problem::default() }), "size");
    }
}
