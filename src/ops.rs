//! One module per kernel: Problem, Config + choose, Params, Buffers, prepare.

/// The public ways into an op: `prepare`, `prepare_with` and their async twins. They hand over to the op's
/// `fn plan(&Kernels, &Problem, Option<&Config>, &Buffers) -> Result<Dispatch>`, by the names in scope there; a
/// Problem with a lifetime is named.
macro_rules! prepare_by {
    ($plan:ident) => {
        prepare_by!($plan, Problem);
    };
    ($plan:ident, $problem:ty) => {
        /// Checks, compiles what is not compiled yet, and binds.
        ///
        /// # Errors
        /// Everything that is wrong with the Problem or the Buffers, naming the argument and the numbers;
        /// nothing has been written then.
        pub fn prepare(kernels: &Kernels, problem: &$problem, buffers: Buffers) -> Result<Dispatch> {
            kernels.now(OP, || $plan(kernels, problem, None, &buffers))
        }

        /// [`prepare`] with the caller's Config. Its `form` follows Problem and Buffers; most ops let it choose between
        /// native and packed f16.
        ///
        /// # Errors
        /// Those of [`prepare`], and a Config that does not fit.
        pub fn prepare_with(
            kernels: &Kernels,
            problem: &$problem,
            config: &Config,
            buffers: Buffers,
        ) -> Result<Dispatch> {
            kernels.now(OP, || $plan(kernels, problem, Some(config), &buffers))
        }

        /// [`prepare`] that waits for the device's verdict: on the web that comes later.
        ///
        /// # Errors
        /// Those of [`prepare`].
        pub async fn prepare_async(kernels: &Kernels, problem: &$problem, buffers: Buffers<'_>) -> Result<Dispatch> {
            kernels.later(OP, || $plan(kernels, problem, None, &buffers)).await
        }

        /// [`prepare_with`] that waits for the device's verdict: on the web that comes later.
        ///
        /// # Errors
        /// Those of [`prepare_with`].
        pub async fn prepare_with_async(
            kernels: &Kernels,
            problem: &$problem,
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
