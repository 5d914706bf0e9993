//! [`Tensor`]: a contiguous array on a [`Context`]'s device. Each op's methods are in a file of its stem.

mod attention;
mod conv;
mod gemm;
mod pointwise;
mod position;
mod routing;
mod rows;
mod sampling;
mod vq;
mod weights;

pub use attention::kv_append::{KvAppendOptions, KvCache, KvRope};
pub use attention::{AttentionGradients, AttentionOptions, AttentionResults};
pub use conv::conv_backward::ConvGradients;
pub use conv::conv_transpose::ConvTransposeOptions;
pub use conv::{ConvOptions, GroupNormGradients, GroupNormOptions, MaxPoolOptions, ResizeOptions, SnakeGradients};
pub use gemm::grouped_gemm::{GroupedOptions, RowOffsets};
pub use gemm::grouped_gemm_backward::GroupedGradients;
pub use gemm::lora::{LoraGradients, LoraOptions};
pub use gemm::{MatmulGradients, MatmulOptions};
pub use pointwise::{ActivationGradients, ActivationOptions, DropoutOptions};
pub use position::position_encoding::{PositionEncoding, PositionOptions};
pub use position::rope::{RopeOptions, RopePositions};
pub use routing::moe_balance::{BalanceOptions, Balanced};
pub use routing::moe_route::{RouteOptions, Routed};
pub use rows::*;
pub use sampling::{BeamOptions, Beams, SampleOptions, TreeOptions, TreeVerified, Verified};
pub use vq::vq_assign::{VqAssignOptions, VqAssigned};
pub use vq::vq_lookup::VqIndices;
pub use weights::Weights;

use std::fmt::Debug;
use std::marker::PhantomData;

use crate::layout::product;
use crate::{Batch, Context, Dtype, Element, ErrorKind, Result};

/// What a tensor can hold: the values of [`Element`], and integers for masks and indices.
pub trait Scalar: bytemuck::Pod + Debug + Send + Sync {}

impl<T: Element> Scalar for T {}
impl Scalar for u8 {}
impl Scalar for u16 {}
impl Scalar for i32 {}
impl Scalar for u32 {}

/// A contiguous array of `T` on the device; the last axis is innermost. Cheap to clone, which shares
/// the memory.
#[derive(Debug, Clone)]
pub struct Tensor<T> {
    context: Context,
    buffer: wgpu::Buffer,
    shape: Vec<usize>,
    element: PhantomData<T>,
}

impl<T: Scalar> Tensor<T> {
    pub(crate) fn new(context: Context, buffer: wgpu::Buffer, shape: &[usize]) -> Self {
        Tensor { context, buffer, shape: shape.to_vec(), element: PhantomData }
    }

    /// Sizes of the axes, the outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Elements.
    pub fn len(&self) -> usize {
        if self.shape.contains(&0) { 0 } else { self.shape.iter().product() }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same memory in another shape of as many elements.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] for a shape of more or fewer.
    pub fn reshape(&self, shape: &[usize]) -> Result<Tensor<T>> {
        let elements = shape.iter().fold(1u64, |n, &size| n.saturating_mul(size as u64));
        match elements == self.len() as u64 {
            true => Ok(Tensor { shape: shape.to_vec(), ..self.clone() }),
            false => Err(ErrorKind::shape("shape", shape, format!("the elements of {:?}", self.shape)).of("reshape")),
        }
    }

    /// The memory, for the low level: storage, copy source and copy destination.
    pub fn buffer(&self) -> &wgpu::Buffer {
        &self.buffer
    }

    /// The context whose device it lies on.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Records into a batch of its own, and submits it.
    pub(crate) fn at_once<R>(&self, record: impl FnOnce(&mut Batch) -> Result<R>) -> Result<R> {
        let mut batch = self.context.batch();
        let result = record(&mut batch)?;
        batch.submit()?;
        Ok(result)
    }

    /// The values, once all that was submitted before has run. Completes under any executor.
    ///
    /// # Errors
    /// [`ErrorKind::DeviceLost`], or what the device has complained of.
    pub async fn read(&self) -> Result<Vec<T>> {
        let bytes = product!(self.len(), size_of::<T>());
        let data = self.context.read("read", &self.buffer, bytes.next_multiple_of(4)).await?;
        Ok(bytemuck::pod_collect_to_vec(&data[..bytes as usize]))
    }
}

impl<T: Element> Tensor<T> {
    /// Its dtype.
    pub fn dtype(&self) -> Dtype {
        T::DTYPE
    }
}
