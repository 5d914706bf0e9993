//! The gradient of [`max_pool`](crate::max_pool): dx of a place is the sum of `dy` over the windows whose largest element lies there, told by the
//! indices that it gave; written, or added to what is there.
//!
//! Each place looks at the windows that hold it: sums are f32, in the order of the windows' rows, without atomics, so that the same input gives
//! the same bits. Indices are only compared: one that is none of its window's places counts for nothing.
//!
//! # Measured
//! As [`max_pool`](crate::max_pool), shares of copy: 3 x 3 by 2, 64 channels at 112 x 112, 0.03, 0.10; 2 x 2 by 2 at 224 x 224 0.05, 0.12. Each place divides to find its
//! windows, which lavapipe does value by value.

use super::Order;
use super::max_pool::{self, chunks_of};
use super::planes::{Area, Walk, planes_params};
use crate::ops::prelude::*;

pub use super::planes::Config;

defaults! {
    /// What is computed.
    #[derive(Debug, Clone, Copy, PartialEq)]
    pub struct Problem {
        /// The pooling, with indices, of which dy has the dtype and the layout of y. x has no part.
        pub forward: max_pool::Problem = max_pool::Problem::default(),
        /// Dtype of dx.
        pub dx: Dtype = Dtype::F32,
        /// Strides of the three outer axes of dx. Rows must not overlap.
        pub dx_layout: Layout<3> = Layout::default(),
        /// It is added to what `dx` holds.
        pub add: bool = false,
    }
}

planes_params! {
    fn of(p: &Problem, views: &Views);
    [dy = views.dy.params(), indices = views.indices.params(), dx = views.dx.params()]
    kernel_h: u32 = p.forward.kernel[0] as u32,
    kernel_w: u32 = p.forward.kernel[1] as u32,
    stride_h: u32 = p.forward.stride[0] as u32,
    stride_w: u32 = p.forward.stride[1] as u32,
    dilation_h: u32 = p.forward.dilation[0] as u32,
    dilation_w: u32 = p.forward.dilation[1] as u32,
    pad_top: u32 = p.forward.padding[0] as u32,
    pad_left: u32 = p.forward.padding[2] as u32,
    out_h: u32 = p.forward.out()[0] as u32,
    out_w: u32 = p.forward.out()[1] as u32,
    add: u32 = p.add.into(),
}

/// What follows from the Problem and the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    vec: u32,
    dy: Storage,
    dx: Storage,
    /// Words of a packed dx are shared by rows.
    edge: bool,
    channels_last: bool,
}

/// What a Problem's layouts resolve to.
pub(crate) struct Views {
    dy: View<3>,
    indices: View<3>,
    dx: View<3>,
}

impl Problem {
    fn has_f16(&self) -> bool {
        [self.forward.y, self.dx].contains(&Dtype::F16)
    }

    fn is_empty(&self) -> bool {
        let max_pool::Problem { batch, channels, size, .. } = self.forward;
        batch == 0 || channels == 0 || size.contains(&0)
    }

    fn form(&self, views: &Views, native_f16: bool) -> Form {
        let held = |dtype| Storage::held(dtype, native_f16);
        let channels_last = self.forward.order == Order::Nhwc;
        let (vec, edge) = chunks_of(channels_last, &[&views.dy, &views.indices, &views.dx], &views.dx, held(self.dx));
        Form { vec, dy: held(self.forward.y), dx: held(self.dx), edge, channels_last }
    }

    fn area(&self, vec: u32) -> Area {
        let max_pool::Problem { order, batch, channels, size, .. } = self.forward;
        Area { order, batch, channels, size, vec }
    }
}

slots!(DY, INDICES, DX);

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Form { vec, dy, dx, edge, channels_last } = self.form;
        let shader =
            self.begin(self.config.wg_size, 0, vec).params::<Params>().input(DY, "dy", dy).output(DX, "dx", dx, edge);
        match channels_last {
            true => shader.lanes(vec).integers(INDICES, "indices", false).import("max_pool_backward_pixels"),
            false => shader.reads(INDICES, "indices", "u32").gather("column").import("max_pool_backward_planes"),
        }
    }
}

buffers! {
    /// Which memory.
    pub struct Buffers {
        /// `dy` and `indices` are read, `dx` is written, or read and written.
        dy, indices, dx;
    }
}

functions!("max_pool_backward");

impl Plan for Problem {
    type Views = Views;

    fn resolve(&self) -> Checked<Views> {
        let of = &self.forward;
        of.check_sizes()?;
        let Some(indices) = of.indices else {
            return Err(ErrorKind::invalid("indices", "there are none, which tell where dy goes"));
        };
        let ((x_sizes, x_inner), (y_sizes, y_inner)) = (of.x_sizes(), of.y_sizes());
        Ok(Views {
            dy: of.y_layout.view("dy", y_sizes, y_inner)?,
            indices: indices.view("indices", y_sizes, y_inner)?,
            dx: self.dx_layout.view("dx", x_sizes, x_inner)?.apart("dx")?,
        })
    }

    fn list(&self, views: &Views, caps: &Caps) -> Vec<Config> {
        let native_f16 = caps.prefers_native_f16(self.has_f16());
        self.area(self.form(views, native_f16).vec).candidates(caps, self.has_f16())
    }

    fn check(&self, views: &Views, caps: &Caps, config: &Config) -> Result<(), Misfit> {
        caps.check_native_f16(config.native_f16, self.has_f16())?;
        let (form, of) = (self.form(views, config.native_f16), &self.forward);
        let reach = |axis: usize| (of.span(axis) - 1) / of.stride[axis] + 1;
        let [rows, columns] = [0, 1].map(|axis| reach(axis).min(of.out()[axis]) as u64);
        let places = if form.channels_last { 1 } else { u64::from(form.vec) };
        let each = Rounds::nest(rows, Rounds::plain(columns)).times(places);
        self.area(form.vec).check(caps, [config.wg_size, config.planes], each)
    }

    fn compose(&self, views: &Views, config: &Config, writable: Slots) -> Vec<Shader> {
        vec![pass(config, self.form(views, config.native_f16), writable).shader()]
    }

    fn bind(&self, views: &Views, config: &Config, kernels: &Kernels, buffers: &Buffers) -> Checked<Dispatch> {
        let mut args = Args::new(kernels);
        args.read(DY, "dy", buffers.dy, views.dy.of(self.forward.y))?;
        args.read(INDICES, "indices", buffers.indices, views.indices.of(WORD))?;
        args.write(DX, "dx", buffers.dx, views.dx.of(self.dx))?;
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
    Pass { stem: "max_pool_backward", config: config.key(), form, writable }
}
