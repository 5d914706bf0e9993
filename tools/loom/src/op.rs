//! What the library's ops have in common: `tileloom::Op`, and what stands in for it where an op has none yet.

use std::fmt::{Debug, Display};

use tileloom::compose::{Shader, Slots};
use tileloom::{Caps, Dispatch, Kernels, Result};

/// An op, by its Problem, as [`tileloom::Op`] has it.
pub trait Op: Debug + Clone + Send + Sync + 'static {
    const NAME: &'static str;
    type Config: Debug + Display + Copy + Send + Sync + 'static;
    type Buffers<'a>;

    fn candidates(&self, caps: &Caps) -> Result<Vec<Self::Config>>;
    fn fits(&self, caps: &Caps, config: &Self::Config) -> Result<()>;
    fn scratch_bytes(&self, config: &Self::Config) -> Result<u64>;
    fn shaders(&self, caps: &Caps, config: &Self::Config, writable: Slots) -> Result<Vec<Shader>>;
    fn prepare_with(&self, kernels: &Kernels, config: &Self::Config, buffers: Self::Buffers<'_>) -> Result<Dispatch>;

    /// The Config of this text.
    fn parse(&self, caps: &Caps, text: &str) -> std::result::Result<Self::Config, String>;
}

/// [`Op`] for the Problem of an op that is a [`tileloom::Op`].
macro_rules! op {
    ($($problem:ty),*) => {$(
        impl Op for $problem {
            const NAME: &'static str = <$problem as tileloom::Op>::NAME;
            type Config = <$problem as tileloom::Op>::Config;
            type Buffers<'a> = <$problem as tileloom::Op>::Buffers<'a>;

            fn candidates(&self, caps: &Caps) -> Result<Vec<Self::Config>> {
                tileloom::Op::candidates(self, caps)
            }
            fn fits(&self, caps: &Caps, config: &Self::Config) -> Result<()> {
                tileloom::Op::fits(self, caps, config)
            }
            fn scratch_bytes(&self, config: &Self::Config) -> Result<u64> {
                tileloom::Op::scratch_bytes(self, config)
            }
            fn shaders(&self, _: &Caps, config: &Self::Config, writable: Slots) -> Result<Vec<Shader>> {
                tileloom::Op::shaders(self, config, writable)
            }
            fn prepare_with(
                &self,
                kernels: &Kernels,
                config: &Self::Config,
                buffers: Self::Buffers<'_>,
            ) -> Result<Dispatch> {
                tileloom::Op::prepare_with(self, kernels, config, buffers)
            }
            fn parse(&self, _: &Caps, text: &str) -> std::result::Result<Self::Config, String> {
                text.parse()
            }
        }
    )*};
}

op!(tileloom::softmax::Problem);
