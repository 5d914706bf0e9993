//! Max pooling in one or two dimensions: the largest element of each window of `x`, `[batch, channels, height, width]` or channels last,
//! and where asked for its place. One dimension is a height of 1.
//!
//! An axis of y has `floor((size + padding - dilation (kernel - 1) - 1) / stride) + 1` places, at least 0; with [`Problem::ceil`] rounded up,
//! less the last one where it would not start in x or in the padding before it (PyTorch's rule). Places in the padding have no part.
//! Padding is at most half of a window, and each window has a place in x, or the Problem is refused.
//!
//! The place of an element, u32, is `row * width + column` in its plane of x, as PyTorch's `return_indices` has it. Of equal elements it is that
//! of the first in the order of rows, 0 and -0 being equal. NaN is larger than all; of several the last one's place is given.
//!
//! # Measured
//! On Mesa 26.2's lavapipe, 2 cores shared with other work, f32, `loom bench`, shares of copy in the same turns, NCHW and NHWC: 3 x 3 by 2, 64 channels at 112 x 112,
//! 0.23, 0.24, with places 0.13, 0.27; 2 x 2 by 2 at 224 x 224 0.21, 0.34. Other adapters are not measured.
//!
//! The gradient is [`max_pool_backward`](crate::max_pool_backward). Average pooling is [`resize`](crate::resize).

use super::planes::{Area, Walk, planes_params};
use super::{MOST, Order};
use crate::layout::chunking;
use crate::ops::prelude::*;

pub use super::planes::Config;

defaults! {
    /// What is computed. Pairs are of height and width.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// Pictures.
        pub batch: usize = 1,
        /// Channels.
        pub channels: usize = 1,
        /// Height and width of x.
        pub size: [usize; 2] = [1, 1],
        /// Height and width of a window.
        pub kernel: [usize; 2] = [1, 1],
        /// Distance of neighbouring windows.
        pub stride: [usize; 2] = [1, 1],
        /// Distance of neighbouring places of a window.
        pub dilation: [usize; 2] = [1, 1],
        /// Top, bottom, left and right: each at most half of `dilation (kernel - 1) + 1`.
        pub padding: [usize; 4] = [0; 4],
        /// The last window may reach past the padding, but must start in x or in the padding before it.
        pub ceil: bool = false,
        /// The order of the axes of x, y and the indices.
        pub order: Order = Order::Nchw,
        /// Dtype of x.
        pub x: Dtype = Dtype::F32,
        /// Strides of the three outer axes of x.
        pub x_layout: Layout<3> = Layout::default(),
        /// Dtype of y.
        pub y: Dtype = Dtype::F32,
        /// Strides of the three outer axes of y. Rows must not overlap.
        pub y_layout: Layout<3> = Layout::default(),
        /// Places are written, as u32: strides of their three outer axes. Rows must not overlap.
        pub indices: Option<Layout<3>> = None,
    }
}

/// The largest dilation.
const MOST_DILATION: usize = 1 << 20;

planes_params! {
    fn of(p: &Problem, views: &Views);
    [x = views.x.params(), y = views.y.params(), indices = views.indices.map_or([0; 4], |view| view.params())]
    kernel_h: u32 = p.kernel[0] as u32,
    kernel_w: u32 = p.kernel[1] as u32,
    stride_h: u32 = p.stride[0] as u32,
    stride_w: u32 = p.stride[1] as u32,
    dilation_h: u32 = p.dilation[0] as u32,
    dilation_w: u32 = p.dilation[1] as u32,
    pad_top: u32 = p.padding[0] as u32,
    pad_left: u32 = p.padding[2] as u32,
    in_h: u32 = p.size[0] as u32,
    in_w: u32 = p.size[1] as u32,
}

/// What follows from the Problem and the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    vec: u32,
    x: Storage,
    y: Storage,
    /// Words of a packed y are shared by rows.
    edge: bool,
    indices: bool,
    channels_last: bool,
}

/// What a Problem's layouts resolve to.
pub(crate) struct Views {
    x: View<3>,
    y: View<3>,
    indices: Option<View<3>>,
}

impl Problem {
    /// From the first place of a window to behind the last.
    pub(super) fn span(&self, axis: usize) -> usize {
        self.dilation[axis].saturating_mul(self.kernel[axis].saturating_sub(1)).saturating_add(1)
    }

    /// Height and width of y.
    pub fn out(&self) -> [usize; 2] {
        std::array::from_fn(|axis| {
            let [before, after] = [self.padding[2 * axis], self.padding[2 * axis + 1]];
            let stride = self.stride[axis].max(1);
            let places = self.size[axis].saturating_add(before);
            let Some(rest) = places.saturating_add(after).checked_sub(self.span(axis)) else { return 0 };
            match self.ceil {
                false => rest / stride + 1,
                true => {
                    let all = rest.div_ceil(stride);
                    all + usize::from(all.saturating_mul(stride) < places)
                }
            }
        })
    }

    /// Outer sizes and inner size of x.
    pub fn x_sizes(&self) -> ([usize; 3], usize) {
        self.order.sizes(self.batch, self.channels, self.size)
    }

    /// Outer sizes and inner size of y and of the indices.
    pub fn y_sizes(&self) -> ([usize; 3], usize) {
        self.order.sizes(self.batch, self.channels, self.out())
    }

    /// Whether sizes and windows are such as this takes: padding is at most half of a window, and each window has a place in x.
    ///
    /// # Errors
    /// What is wrong, with the numbers.
    pub fn windows_fit(&self) -> Result<()> {
        crate::ops::named::<Self, _>(|| self.check_sizes())
    }

    pub(super) fn check_sizes(&self) -> Checked {
        sizes_fit([("batch", self.batch), ("channels", self.channels)])?;
        for (arg, [y, x], most) in
            [("kernel", self.kernel, MOST), ("stride", self.stride, MOST), ("dilation", self.dilation, MOST_DILATION)]
        {
            if y.min(x) == 0 || y.max(x) > most {
                return Err(ErrorKind::invalid(arg, format!("{y}, {x}: from 1 to {most}")));
            }
        }
        for axis in 0..2 {
            let (size, span) = (self.size[axis], self.span(axis));
            let [before, after] = [self.padding[2 * axis], self.padding[2 * axis + 1]];
            if before.max(after) > span / 2 {
                let reason =
                    format!("{before} and {after} on the sides of an axis: at most half of a window of {span}");
                return Err(ErrorKind::invalid("padding", reason));
            }
            let all = size.saturating_add(before).saturating_add(after);
            if all.max(span) > MOST {
                let reason = format!("{all} places with padding, windows of {span}: more than {MOST}");
                return Err(ErrorKind::invalid("size", reason));
            }
            if let Some(first) = self.empty_window(axis) {
                let reason = format!(
                    "the window that starts at {first} has none of the {size} places: {} of {}, {} apart",
                    ["height", "width"][axis],
                    self.kernel[axis],
                    self.dilation[axis]
                );
                return Err(ErrorKind::invalid("kernel", reason));
            }
        }
        let places = product!(self.size[0], self.size[1]);
        let reason = format_args!("{places} places of a plane: more than indices of u32 can tell");
        ErrorKind::unless(self.indices.is_none() || places <= 1 << 32, "size", reason)
    }

    /// Where a window starts that has no place in x, if one does: it starts in the padding, and steps over all of x.
    fn empty_window(&self, axis: usize) -> Option<i64> {
        let (size, dilation, stride) = (self.size[axis] as i64, self.dilation[axis] as i64, self.stride[axis]);
        let before = self.padding[2 * axis] as i64;
        if size >= dilation && size > 0 {
            return None;
        }
        // Those that start before x; their remainders by the dilation repeat.
        let starts = (0..self.out()[axis]).map(|i| i as i64 * stride as i64 - before).take_while(|&start| start < 0);
        let mut starts = starts.take(dilation as usize);
        match size {
            0 => self.out().iter().all(|&n| n > 0).then_some(-before),
            _ => starts.find(|start| start.rem_euclid(dilation) >= size),
        }
    }

    fn is_empty(&self) -> bool {
        self.batch == 0 || self.channels == 0 || self.out().contains(&0)
    }

    fn has_f16(&self) -> bool {
        [self.x, self.y].contains(&Dtype::F16)
    }

    fn form(&self, views: &Views, native_f16: bool) -> Form {
        let held = |dtype| Storage::held(dtype, native_f16);
        let channels_last = self.order == Order::Nhwc;
        let all: Vec<&View<3>> = [&views.x, &views.y].into_iter().chain(&views.indices).collect();
        let (vec, edge) = chunks_of(channels_last, &all, &views.y, held(self.y));
        Form { vec, x: held(self.x), y: held(self.y), edge, indices: views.indices.is_some(), channels_last }
    }

    fn area(&self, vec: u32) -> Area {
        Area { order: self.order, batch: self.batch, channels: self.channels, size: self.out(), vec }
    }
}

/// Elements per chunk of the `output`, held so, and whether its rows share words. Where channels are first, columns have windows of their
/// own.
pub(super) fn chunks_of(channels_last: bool, all: &[&View<3>], output: &View<3>, stored: Storage) -> (u32, bool) {
    match channels_last {
        true => chunking(all, output, stored),
        false if stored.packed() => (2, !output.multiple_of(2)),
        false => (1, false),
    }
}

slots!(X, Y, INDICES);

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Form { vec, x, y, edge, indices, channels_last } = self.form;
        let shader =
            self.begin(self.config.wg_size, 0, vec).params::<Params>().input(X, "x", x).output(Y, "y", y, edge);
        match channels_last {
            true => {
                let shader = shader.lanes(vec).flag("INDICES", indices).import("max_pool_pixels");
                if indices { shader.integers(INDICES, "indices", true) } else { shader.no_integers("indices") }
            }
            false => shader.lanes(1).gather("column").import("max_pool_planes").writes_if(
                indices,
                INDICES,
                "indices",
                "u32",
                "max_pool_place",
            ),
        }
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `x` is read, `y` is written.
        x, y;
        /// The places that the Problem asks for.
        indices,
    }
}

functions!("max_pool");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        self.check_sizes()?;
        let ((x_sizes, x_inner), (y_sizes, y_inner)) = (self.x_sizes(), self.y_sizes());
        let x = self.x_layout.view("x", x_sizes, x_inner)?;
        let y = self.y_layout.view("y", y_sizes, y_inner)?.apart("y")?;
        let indices = self.indices.map(|layout| layout.view("indices", y_sizes, y_inner)?.apart("indices"));
        Ok(Views { x, y, indices: indices.transpose()? })
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        let native_f16 = caps.prefers_native_f16(self.has_f16());
        self.area(self.form(views, native_f16).vec).candidates(caps, self.has_f16())
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        caps.check_native_f16(config.native_f16, self.has_f16())?;
        let form = self.form(views, config.native_f16);
        let [rows, columns] = [0, 1].map(|axis| self.kernel[axis].min(self.size[axis]) as u64);
        let windows = if form.channels_last { 1 } else { u64::from(form.vec) };
        let each = Rounds::nest(rows, Rounds::plain(columns)).times(windows);
        self.area(form.vec).check(caps, [config.wg_size, config.planes], each)
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        vec![pass(config, self.form(views, config.native_f16), writable).shader()]
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        args.read(X, "x", buffers.x, views.x.of(self.x))?;
        args.write(Y, "y", buffers.y, views.y.of(self.y))?;
        args.write(INDICES, "indices", buffers.indices, views.indices.map(|view| view.of(WORD)))?;
        args.check()?;
        if self.is_empty() {
            return Ok(Dispatch::default());
        }
        let form = self.form(views, config.native_f16);
        let area = self.area(form.vec);
        let grid = args.fold(area.invocations(config.planes).div_ceil(config.wg_size.into()))?;
        let params = Params::of(self, views, area.walk(config.planes), grid[0]);
        args.dispatch(&[pass(config, form, args.writable())], &params, grid)
    }
}

fn pass(config: &Config, form: Form, writable: Slots) -> Pass<Config, Form> {
    Pass { stem: "max_pool", config: config.key(), form, writable }
}
