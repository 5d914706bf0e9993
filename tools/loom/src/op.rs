//! What the library's ops have in common.

use std::fmt::{Debug, Display};

use tileloom::compose::Shader;
use tileloom::{Caps, Dispatch, Kernels, Misfit, Result};

/// An op, by its Problem.
pub trait Op: Debug + Clone + Send + Sync + 'static {
    const NAME: &'static str;
    type Config: Debug + Display + Clone + Send + Sync + 'static;
    type Buffers<'a>;

    /// Every Config that fits, the chosen one first.
    ///
    /// # Errors
    /// Those of the Problem.
    fn candidates(&self, caps: &Caps) -> Result<Vec<Self::Config>>;

    /// Whether a Config can run on this device.
    ///
    /// # Errors
    /// What does not fit.
    fn fits(&self, caps: &Caps, config: &Self::Config) -> Result<(), Misfit>;

    fn scratch_bytes(&self, _config: &Self::Config) -> u64 {
        0
    }

    /// # Errors
    /// Those of the op.
    fn prepare_with(&self, kernels: &Kernels, config: &Self::Config, buffers: Self::Buffers<'_>) -> Result<Dispatch>;

    /// What a Config compiles; each shader once more with all inputs in buffers that are written.
    fn shaders(&self, caps: &Caps, config: &Self::Config) -> Vec<Shader>;
}
