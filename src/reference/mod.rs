//! The CPU definitions that kernels are held against, and the rule by which.
//!
//! Each `reference` is the formula in a few loops, without tiles, generic over [`Real`]: in f64 it is the
//! oracle, in f32 it is `low`, which says how much of an error the formula itself has. Values come and
//! go as f64 that hold exactly what is stored. All of it is public, so that you can check your own kernels.

pub mod attention;
pub mod conv;
pub mod gemm;
mod numerics;
mod pointwise;
mod position;
mod routing;
mod rows;
mod sampling;
mod sort;
mod vq;
pub mod weights;

pub use attention::{
    attention_backward, attention_bias, attention_bias_backward, attention_merge, attention_merge_backward, kv_append,
    kv_move,
};
pub use conv::{
    conv_backward, conv_transpose, group_norm, group_norm_backward, max_pool, max_pool_backward, resize,
    snake_backward, space_to_depth,
};
pub use gemm::{grouped_gemm, grouped_gemm_backward, lora, lora_backward};
pub use numerics::{Judge, Verdict, Worst, flush_slack};
pub use pointwise::{activation, activation_backward, axpby, column_sums, dropout};
pub use position::{position_encoding, rope};
pub use routing::{moe_balance, moe_bias, moe_route, moe_route_backward};
pub use rows::*;
pub use sampling::{advance, beam_step, philox, sample, speculative_tree, speculative_verify};
pub use sort::counting_sort;
pub use vq::{vq_assign, vq_lookup, vq_scalar, vq_scatter, vq_train};

/// f64 for the oracle, f32 for `low`.
pub trait Real:
    Copy
    + PartialOrd
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::AddAssign
{
    /// 0.
    const ZERO: Self;
    /// Minus infinity.
    const NEG_INFINITY: Self;
    /// Rounds to this type.
    fn of(value: f64) -> Self;
    /// The same value as an f64.
    fn f64(self) -> f64;
    /// e to the power of it.
    fn exp(self) -> Self;
    /// The natural logarithm.
    fn ln(self) -> Self;
    /// The square root.
    fn sqrt(self) -> Self;
    /// The hyperbolic tangent.
    fn tanh(self) -> Self;
    /// The larger one.
    fn max(self, other: Self) -> Self;
}

macro_rules! real {
    ($ty:ty) => {
        impl Real for $ty {
            const ZERO: Self = 0.0;
            const NEG_INFINITY: Self = <$ty>::NEG_INFINITY;
            fn of(value: f64) -> Self {
                value as $ty
            }
            fn f64(self) -> f64 {
                self as f64
            }
            fn exp(self) -> Self {
                self.exp()
            }
            fn ln(self) -> Self {
                self.ln()
            }
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            fn tanh(self) -> Self {
                self.tanh()
            }
            fn max(self, other: Self) -> Self {
                self.max(other)
            }
        }
    };
}

real!(f32);
real!(f64);
