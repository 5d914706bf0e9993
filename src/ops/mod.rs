//! The ops by family. Each has a Problem, a Config and its tables, Params, Buffers; [`Plan`] is what it brings, [`Op`]
//! what users get of it.

use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::str::FromStr;

use crate::compose::{Shader, Slots};
use crate::error::{Checked, ErrorKind};
use crate::kernels::print_choice;
use crate::{Caps, Dispatch, Error, Kernels, Misfit, Result};

/// Rows of a batch by which Configs are chosen that must not depend on it.
pub(crate) const BATCH: usize = 64;

/// What the files of ops use: `use crate::ops::prelude::*;`.
pub(crate) mod prelude {
    pub(crate) use super::{BATCH, Plan};
    pub(crate) use crate::args::{Args, Reach, WORD};
    pub(crate) use crate::caps::{Adapters, Class};
    pub(crate) use crate::compose::{Shader, Slots, Storage, Strides, slots};
    pub(crate) use crate::config::{config, defaults, words};
    pub(crate) use crate::error::Checked;
    pub(crate) use crate::kernels::{Pass, Pipeline};
    pub(crate) use crate::layout::{View, padded, product, sizes_fit};
    pub(crate) use crate::rounds::Rounds;
    pub(crate) use crate::{Binding, Caps, Dispatch, Dtype, ErrorKind, Kernels, Layout, Misfit, Result};
}

/// What every Problem can be asked: implemented by the Problem of each op.
pub trait Op: Clone + Debug {
    /// The op's stem.
    const NAME: &'static str;
    /// How it is computed: choices only. Prints itself and parses back.
    type Config: Copy + Eq + Hash + Debug + Display + FromStr<Err = String> + Send + Sync + 'static;
    /// Which memory.
    type Buffers<'a>: Copy;

    /// Every Config of the tables that fits, the best first.
    ///
    /// # Errors
    /// Those of the Problem: sizes, layouts, options.
    fn candidates(&self, caps: &Caps) -> Result<Vec<Self::Config>>;

    /// The best of [`candidates`](Self::candidates).
    ///
    /// # Errors
    /// Those of the Problem, and [`ErrorKind::ConfigUnfit`] where no Config fits.
    fn choose(&self, caps: &Caps) -> Result<Self::Config>;

    /// What [`prepare`](Self::prepare) takes: a [pinned](crate::KernelsOptions::pins) Config, else one that was
    /// [measured](crate::tune), else the best of the candidates, in each case one that [`verify`](crate::verify) has not banned.
    ///
    /// # Errors
    /// Those of `choose`, and [`ErrorKind::Banned`] where all that fit are.
    fn chosen(&self, kernels: &Kernels) -> Result<Self::Config>;

    /// What [`chosen`](Self::chosen) takes before the candidates, if anything is.
    ///
    /// # Errors
    /// Those of the Problem.
    fn measured(&self, kernels: &Kernels) -> Result<Option<Self::Config>>;

    /// The class of Problems that a measured choice counts for: sizes up to powers of two, dtypes, options, alignments. See
    /// [`tune`](crate::tune).
    fn class(&self) -> String;

    /// Whether `config` can run the Problem on this device.
    ///
    /// # Errors
    /// Those of the Problem, and [`ErrorKind::ConfigUnfit`] with the first thing that does not fit.
    fn fits(&self, caps: &Caps, config: &Self::Config) -> Result<()>;

    /// Bytes of scratch that `config` needs.
    ///
    /// # Errors
    /// Those of the Problem.
    fn scratch_bytes(&self, config: &Self::Config) -> Result<u64>;

    /// The shader of each step, with inputs of the slots `writable` declared read_write.
    ///
    /// # Errors
    /// Those of the Problem.
    ///
    /// # Panics
    /// It may, where `config` fits no device: ask [`fits`](Self::fits) first.
    fn shaders(&self, config: &Self::Config, writable: Slots) -> Result<Vec<Shader>>;

    /// Checks, compiles what is not compiled yet, and binds.
    ///
    /// # Errors
    /// Everything that is wrong with the Problem or the Buffers, naming the argument and the numbers; nothing has been
    /// written then.
    fn prepare(&self, kernels: &Kernels, buffers: Self::Buffers<'_>) -> Result<Dispatch>;

    /// [`prepare`](Self::prepare) with the caller's Config.
    ///
    /// # Errors
    /// Those of `prepare`, and a Config that does not fit.
    fn prepare_with(&self, kernels: &Kernels, config: &Self::Config, buffers: Self::Buffers<'_>) -> Result<Dispatch>;
}

/// What an op brings: from a Problem to a [`Dispatch`], in steps that are each written once per op.
pub(crate) trait Plan: Op {
    /// What the Problem's layouts resolve to, and what follows from them.
    type Views;

    /// Checks the Problem itself, and resolves its layouts.
    fn resolve(&self) -> Checked<Self::Views>;

    /// The Problem with a fixed number along each axis of its batch: what Configs are listed for that must not depend on these
    /// ([`Options::batch_invariant`](crate::KernelsOptions)). Views stay those of the Problem itself.
    fn without_batch(&self) -> Self {
        self.clone()
    }

    /// Names of the Problem's numbers that tell where an argument starts, besides those that many ops have
    /// ([`tune::PLACES`](crate::tune)): they are no part of its class.
    const PLACES: &'static [&'static str] = &[];

    /// The class of Problems that a measured choice counts for.
    fn class_of(&self) -> String {
        crate::tune::class(&format!("{self:?}"), Self::PLACES)
    }

    /// Every Config of the tables, the best first; whether it fits is asked afterwards.
    fn list(&self, views: &Self::Views, caps: &Caps) -> Vec<Self::Config>;

    /// Whether `config` can run the Problem on this device.
    fn check(&self, views: &Self::Views, caps: &Caps, config: &Self::Config) -> Result<(), Misfit>;

    /// Bytes of scratch.
    fn scratch(&self, _views: &Self::Views, _config: &Self::Config) -> u64 {
        0
    }

    /// The shader of each step, with inputs of these slots declared read_write.
    fn compose(&self, views: &Self::Views, config: &Self::Config, writable: Slots) -> Vec<Shader>;

    /// Checks the buffers, compiles what is new, and binds. `config` fits.
    fn bind(
        &self,
        views: &Self::Views,
        config: &Self::Config,
        kernels: &Kernels,
        buffers: &Self::Buffers<'_>,
    ) -> Checked<Dispatch>;
}

/// The Configs of `problem` that fit, each once, the best first.
pub(crate) fn fitting<P: Plan>(problem: &P, views: &P::Views, caps: &Caps) -> Checked<Vec<P::Config>> {
    caps.check_device()?;
    let mut found = Vec::new();
    let of = if caps.batch_invariant { &problem.without_batch() } else { problem };
    for config in of.list(views, caps) {
        match of.check(views, caps, &config) {
            Ok(()) if found.contains(&config) => {}
            Ok(()) => match problem.check(views, caps, &config) {
                Ok(()) => found.push(config),
                // Whatever comes after it would be for this batch only.
                Err(misfit) if caps.batch_invariant => {
                    log::trace!("{}: no room for this batch by {config}: {misfit}", P::NAME);
                    break;
                }
                Err(misfit) => log::trace!("{}: dropped {config}: {misfit}", P::NAME),
            },
            Err(misfit) => log::trace!("{}: dropped {config}: {misfit}", P::NAME),
        }
    }
    Ok(found)
}

/// The first of [`fitting`].
pub(crate) fn best<P: Plan>(problem: &P, views: &P::Views, caps: &Caps) -> Checked<P::Config> {
    first(problem, caps, fitting(problem, views, caps)?.into_iter().next())
}

/// What is pinned or measured, else the first of [`fitting`] that is not banned.
pub(crate) fn unbanned<P: Plan>(problem: &P, views: &P::Views, kernels: &Kernels) -> Checked<P::Config> {
    let caps = kernels.caps();
    caps.check_device()?;
    if let Some(config) = crate::tune::taken(problem, views, kernels, &caps) {
        return first(problem, &caps, Some(config));
    }
    let (mut banned, mut reason) = (Vec::new(), String::new());
    for config in fitting(problem, views, &caps)? {
        match kernels.ban(problem, &config) {
            None => return first(problem, &caps, Some(config)),
            Some(why) => {
                banned.push(config.to_string());
                reason = why;
            }
        }
    }
    match banned.is_empty() {
        true => first(problem, &caps, None),
        false => Err(ErrorKind::Banned { config: format!("each that fits ({})", banned.join("; ")), reason }),
    }
}

/// A choice, told; or that there is none.
fn first<P: Plan>(problem: &P, caps: &Caps, found: Option<P::Config>) -> Checked<P::Config> {
    let config = found.ok_or_else(|| {
        let reason = format!("no candidate fits {problem:?} on {}; the trace log says why", caps.label());
        ErrorKind::ConfigUnfit { reason }
    })?;
    print_choice(P::NAME, problem, &config);
    Ok(config)
}

/// `prepare` with the caller's Config or the best, for an op and inside another.
pub(crate) fn plan<P: Plan>(
    kernels: &Kernels,
    problem: &P,
    config: Option<&P::Config>,
    buffers: &P::Buffers<'_>,
) -> Checked<Dispatch> {
    let caps = kernels.caps();
    let views = problem.resolve()?;
    let config = match config {
        Some(config) => {
            caps.check_device()?;
            problem.check(&views, &caps, config)?;
            match kernels.ban(problem, config).filter(|_| !kernels.allows_banned()) {
                Some(reason) => return Err(ErrorKind::Banned { config: config.to_string(), reason }),
                None => *config,
            }
        }
        None => unbanned(problem, &views, kernels)?,
    };
    Ok(problem.bind(&views, &config, kernels, buffers)?.named(P::NAME, kernels.number()))
}

/// [`plan`] under error scopes that are ready at once.
pub(crate) fn now<P: Plan>(
    kernels: &Kernels,
    problem: &P,
    config: Option<&P::Config>,
    buffers: P::Buffers<'_>,
) -> Result<Dispatch> {
    kernels.now(P::NAME, || named::<P, _>(|| plan(kernels, problem, config, &buffers)))
}

/// [`plan`] under error scopes that are awaited.
pub(crate) async fn later<P: Plan>(
    kernels: &Kernels,
    problem: &P,
    config: Option<&P::Config>,
    buffers: P::Buffers<'_>,
) -> Result<Dispatch> {
    kernels.later(P::NAME, || named::<P, _>(|| plan(kernels, problem, config, &buffers))).await
}

/// Attaches the op's name to what has gone wrong.
pub(crate) fn named<P: Op, T>(f: impl FnOnce() -> Checked<T>) -> Result<T> {
    f().map_err(|kind| Error { op: P::NAME, kind })
}

/// Implements [`Op`] for a Problem that is a [`Plan`] with `Config` and Buffers of this name.
macro_rules! op {
    ($name:literal, $problem:ty, $buffers:ident) => {
        impl $crate::Op for $problem {
            const NAME: &'static str = $name;
            type Config = Config;
            type Buffers<'a> = $buffers<'a>;

            fn candidates(&self, caps: &Caps) -> Result<Vec<Config>> {
                $crate::ops::named::<Self, _>(|| $crate::ops::fitting(self, &self.resolve()?, caps))
            }

            fn choose(&self, caps: &Caps) -> Result<Config> {
                $crate::ops::named::<Self, _>(|| $crate::ops::best(self, &self.resolve()?, caps))
            }

            fn chosen(&self, kernels: &Kernels) -> Result<Config> {
                $crate::ops::named::<Self, _>(|| $crate::ops::unbanned(self, &self.resolve()?, kernels))
            }

            fn measured(&self, kernels: &Kernels) -> Result<Option<Config>> {
                $crate::ops::named::<Self, _>(|| {
                    Ok($crate::tune::taken(self, &self.resolve()?, kernels, &kernels.caps()))
                })
            }

            fn class(&self) -> String {
                self.class_of()
            }

            fn fits(&self, caps: &Caps, config: &Config) -> Result<()> {
                $crate::ops::named::<Self, _>(|| {
                    let views = self.resolve()?;
                    caps.check_device()?;
                    Ok(self.check(&views, caps, config)?)
                })
            }

            fn scratch_bytes(&self, config: &Config) -> Result<u64> {
                $crate::ops::named::<Self, _>(|| Ok(self.scratch(&self.resolve()?, config)))
            }

            fn shaders(
                &self,
                config: &Config,
                writable: $crate::compose::Slots,
            ) -> Result<Vec<$crate::compose::Shader>> {
                $crate::ops::named::<Self, _>(|| Ok(self.compose(&self.resolve()?, config, writable)))
            }

            fn prepare(&self, kernels: &Kernels, buffers: $buffers<'_>) -> Result<Dispatch> {
                $crate::ops::now(kernels, self, None, buffers)
            }

            fn prepare_with(&self, kernels: &Kernels, config: &Config, buffers: $buffers<'_>) -> Result<Dispatch> {
                $crate::ops::now(kernels, self, Some(config), buffers)
            }
        }
    };
}

/// [`op!`] with `Buffers`, and the functions of the op's module: what `Op` has as methods, and the async twins of
/// `prepare`.
macro_rules! functions {
    ($name:literal) => {
        functions!($name, Problem);
    };
    ($name:literal, $problem:ty) => {
        op!($name, $problem, Buffers);

        /// The Config for this Problem on this device: the best of [`candidates`].
        ///
        /// # Errors
        /// Those of the Problem: sizes, layouts, options.
        pub fn choose(caps: &Caps, problem: &$problem) -> Result<Config> {
            $crate::Op::choose(problem, caps)
        }

        /// What [`prepare`] takes: what is pinned or measured, else the best of [`candidates`]; none that is banned on this adapter.
        ///
        /// # Errors
        /// Those of [`choose`], and that all which fit are banned.
        pub fn chosen(kernels: &Kernels, problem: &$problem) -> Result<Config> {
            $crate::Op::chosen(problem, kernels)
        }

        /// Every Config of the tables that fits, the best first.
        ///
        /// # Errors
        /// Those of the Problem.
        pub fn candidates(caps: &Caps, problem: &$problem) -> Result<Vec<Config>> {
            $crate::Op::candidates(problem, caps)
        }

        /// Bytes of scratch that `config` needs for this Problem; [`prepare`] takes that of [`chosen`].
        ///
        /// # Errors
        /// Those of the Problem.
        pub fn scratch_bytes(problem: &$problem, config: &Config) -> Result<u64> {
            $crate::Op::scratch_bytes(problem, config)
        }

        /// Checks, compiles what is not compiled yet, and binds.
        ///
        /// # Errors
        /// Everything that is wrong with the Problem or the Buffers, naming the argument and the numbers;
        /// nothing has been written then.
        pub fn prepare(kernels: &Kernels, problem: &$problem, buffers: Buffers) -> Result<Dispatch> {
            $crate::Op::prepare(problem, kernels, buffers)
        }

        /// [`prepare`] with the caller's Config.
        ///
        /// # Errors
        /// Those of [`prepare`], and a Config that does not fit.
        pub fn prepare_with(
            kernels: &Kernels,
            problem: &$problem,
            config: &Config,
            buffers: Buffers,
        ) -> Result<Dispatch> {
            $crate::Op::prepare_with(problem, kernels, config, buffers)
        }

        /// [`prepare`] that waits for the device's verdict: on the web that comes later.
        ///
        /// # Errors
        /// Those of [`prepare`].
        pub async fn prepare_async(kernels: &Kernels, problem: &$problem, buffers: Buffers<'_>) -> Result<Dispatch> {
            $crate::ops::later(kernels, problem, None, buffers).await
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
            $crate::ops::later(kernels, problem, Some(config), buffers).await
        }
    };
}

/// Declares Buffers: those that every call has, in the order of `new`, then those that a Problem may ask for, each with a
/// setter.
macro_rules! buffers {
    (
        $(#[$meta:meta])*
        pub struct Buffers { $(#[$new_meta:meta])* $($name:ident),+; $($(#[$optional_meta:meta])* $optional:ident,)* }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy)]
        pub struct Buffers<'a> {
            $($name: Binding<'a>,)+
            $($optional: Option<Binding<'a>>,)*
        }

        impl<'a> Buffers<'a> {
            $(#[$new_meta])*
            #[allow(clippy::too_many_arguments)] // those that every call has
            pub fn new($($name: impl Into<Binding<'a>>),+) -> Self {
                Buffers { $($name: $name.into(),)+ $($optional: None,)* }
            }

            $(
                $(#[$optional_meta])*
                pub fn $optional(mut self, $optional: impl Into<Binding<'a>>) -> Self {
                    self.$optional = Some($optional.into());
                    self
                }
            )*
        }
    };
}

pub mod attention;
pub mod conv;
pub mod gemm;
mod pointwise;
mod position;
mod routing;
mod rows;
mod sampling;
mod sort;
mod vq;

pub use attention::{
    attention_backward, attention_bias, attention_bias_backward, attention_merge, attention_merge_backward, kv_append,
    kv_move,
};
pub use conv::{
    conv_backward, conv_transpose, group_norm, group_norm_backward, max_pool, max_pool_backward, resize,
    snake_backward, space_to_depth,
};
pub use gemm::{gemm_quant, grouped_gemm, grouped_gemm_backward, lora, lora_backward};
pub use pointwise::{activation, activation_backward, axpby, column_sums, dropout};
pub use position::{position_encoding, rope};
pub use routing::{moe_balance, moe_bias, moe_route, moe_route_backward};
pub use rows::*;
pub use sampling::{advance, beam_step, sample, speculative_tree, speculative_verify};
pub use sort::counting_sort;
pub use vq::{vq_assign, vq_lookup, vq_scalar, vq_scatter, vq_train};
