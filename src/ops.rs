//! One module per kernel: Problem, Config + choose, Params, Buffers, prepare.

/// The ways into an op, by its `plan(kernels, problem, config, buffers)`.
macro_rules! prepare_by {
    ($plan:ident) => {
        /// Checks, compiles what is not compiled yet, and binds.
        ///
        /// # Errors
        /// Everything that is wrong with the Problem or the Buffers, naming the argument and the numbers;
        /// nothing has been written then.
        pub fn prepare(kernels: &Kernels, problem: &Problem, buffers: Buffers) -> Result<Dispatch> {
            kernels.now(OP, || $plan(kernels, problem, None, &buffers))
        }

        /// [`prepare`] with the caller's Config. Its `form` follows Problem and Buffers; only whether f16 is native
        /// or packed is left to it, where the op has both.
        ///
        /// # Errors
        /// Those of [`prepare`], and a Config that does not fit.
        pub fn prepare_with(
            kernels: &Kernels,
            problem: &Problem,
            config: &Config,
            buffers: Buffers,
        ) -> Result<Dispatch> {
            kernels.now(OP, || $plan(kernels, problem, Some(config), &buffers))
        }

        /// [`prepare`] that waits for the device's verdict: on the web that comes later.
        ///
        /// # Errors
        /// As there.
        pub async fn prepare_async(kernels: &Kernels, problem: &Problem, buffers: Buffers<'_>) -> Result<Dispatch> {
            kernels.later(OP, || $plan(kernels, problem, None, &buffers)).await
        }

        /// [`prepare_with`] that waits for the device's verdict: on the web that comes later.
        ///
        /// # Errors
        /// As there.
        pub async fn prepare_with_async(
            kernels: &Kernels,
            problem: &Problem,
            config: &Config,
            buffers: Buffers<'_>,
        ) -> Result<Dispatch> {
            kernels.later(OP, || $plan(kernels, problem, Some(config), &buffers)).await
        }
    };
}

pub mod attention;
pub mod attention_bias;
pub mod attention_merge;
pub mod gemm;
pub mod position_encoding;
pub mod rope;
pub mod softmax;
pub mod softmax_backward;
pub mod vq_assign;
pub mod vq_lookup;
pub mod vq_scalar;
pub mod vq_scatter;
pub mod vq_train;
