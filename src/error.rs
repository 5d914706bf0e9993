//! The crate's one error type.

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A result inside an op, whose name is attached once, on the way out.
pub(crate) type Checked<T = ()> = std::result::Result<T, ErrorKind>;

/// Why a call was refused: the op, and what was wrong with which argument, in numbers.
///
/// Everything that a caller can get wrong is found by `prepare`, before anything is written.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{op}: {kind}")]
pub struct Error {
    /// The op, or the method of the high level, that refused.
    pub op: &'static str,
    /// What was wrong.
    pub kind: ErrorKind,
}

/// What was wrong with a call.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A size or an option of the Problem makes no sense.
    #[error("{arg}: {reason}")]
    InvalidProblem {
        /// The field of the Problem.
        arg: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The buffer bounds loops with barriers and may be written: browsers, which take what is read of it for different in each
    /// invocation, refuse the shader.
    #[error("buffer `{buffer}` bounds loops with barriers: in a browser it needs a buffer that no output lies in")]
    NotUniform {
        /// The argument.
        buffer: &'static str,
    },
    /// The buffer or its binding holds fewer bytes than the layout reaches.
    #[error("buffer `{buffer}` is too small: {need} bytes are needed, the binding has {have}")]
    BufferTooSmall {
        /// The argument.
        buffer: &'static str,
        /// Bytes that are needed.
        need: u64,
        /// Bytes of the binding.
        have: u64,
    },
    /// The Problem needs a buffer that was not given.
    #[error("the problem needs buffer `{buffer}`, which was not given")]
    MissingBuffer {
        /// The argument.
        buffer: &'static str,
    },
    /// A buffer was given that the Problem does not use.
    #[error("buffer `{buffer}` was given, but the problem does not use it")]
    UnusedBuffer {
        /// The argument.
        buffer: &'static str,
    },
    /// The buffer was created without a usage that the kernel needs.
    #[error("buffer `{buffer}` lacks usage {missing:?}")]
    MissingUsage {
        /// The argument.
        buffer: &'static str,
        /// The usage to add.
        missing: wgpu::BufferUsages,
    },
    /// The binding starts where the device cannot bind.
    #[error(
        "the binding of `{buffer}` starts at byte {offset}, not a multiple of {align}; bind at {} and add {element_offset} elements to its layout's offset",
        offset - offset % align
    )]
    Misaligned {
        /// The argument.
        buffer: &'static str,
        /// The byte at which the binding starts.
        offset: u64,
        /// What the device wants a multiple of.
        align: u64,
        /// What to add to the layout's element offset when binding at the multiple below.
        element_offset: u64,
    },
    /// The binding is larger than [`Caps::binding_bytes`](crate::Caps::binding_bytes).
    #[error("`{buffer}` needs a binding of {need} bytes, the device binds at most {limit}")]
    BindingTooLarge {
        /// The argument.
        buffer: &'static str,
        /// Bytes that are needed.
        need: u64,
        /// Bytes that the device binds at most.
        limit: u64,
    },
    /// Two views overlap in a way the kernel cannot work with.
    #[error(
        "`{first}` (bytes {first_bytes:?} of its buffer) and `{second}` (bytes {second_bytes:?}) overlap; only exactly equal views may, where the op works in place"
    )]
    Aliased {
        /// One argument.
        first: &'static str,
        /// Its bytes of the buffer.
        first_bytes: std::ops::Range<u64>,
        /// The other argument.
        second: &'static str,
        /// Its bytes of the buffer.
        second_bytes: std::ops::Range<u64>,
    },
    /// An element index does not fit in u32.
    #[error("`{arg}` reaches element {last}, past the last one that a shader can index (2^32 - 1)")]
    IndexOverflow {
        /// The argument.
        arg: &'static str,
        /// Its last element.
        last: u128,
    },
    /// The device binds fewer storage buffers than this form of the op needs.
    #[error("needs {} storage buffers ({}), the device binds at most {limit}", names.len(), names.join(", "))]
    TooManyBindings {
        /// The arguments.
        names: Vec<&'static str>,
        /// How many the device binds.
        limit: u32,
    },
    /// The caller's Config does not fit the Problem or the device.
    #[error("the config does not fit: {reason}")]
    ConfigUnfit {
        /// What does not fit.
        reason: String,
    },
    /// The Config was wrong when it was verified on this adapter.
    #[error("the config is banned on this adapter: {config}: {reason}")]
    Banned {
        /// The Config, or all that fit.
        config: String,
        /// What was wrong.
        reason: String,
    },
    /// The device allows less than kernels take for granted: one of WebGL has no compute shaders.
    #[error("the device is too small: its limit {limit} is {have}, kernels need {need}")]
    DeviceTooSmall {
        /// The limit.
        limit: &'static str,
        /// What the device allows.
        have: u32,
        /// What kernels need.
        need: u32,
    },
    /// The problem needs more workgroups than one dispatch can hold.
    #[error("{need} workgroups are more than one dispatch holds here ({limit})")]
    TooManyWorkgroups {
        /// How many are needed.
        need: u64,
        /// How many fit.
        limit: u64,
    },
    /// wgpu or the driver refused something that passed our own checks: a defect, please report it.
    #[error("{message}")]
    Gpu {
        /// What wgpu says.
        message: String,
    },
    /// The device ran out of memory.
    #[error("out of device memory{}", bytes.map(|b| format!(" while asking for {b} bytes")).unwrap_or_default())]
    OutOfMemory {
        /// What was asked for, where it is known.
        bytes: Option<u64>,
    },
    /// The device was lost or destroyed; make a new one.
    #[error("the device was lost: {reason}")]
    DeviceLost {
        /// What the driver says.
        reason: String,
    },
    /// No adapter of the enabled backends was found.
    #[error(
        "no GPU adapter was found ({reason}); enable a backend feature of tileloom (vulkan, metal, dx12, gles, webgpu) and install its driver (Debian: apt-get install mesa-vulkan-drivers)"
    )]
    NoAdapter {
        /// What was looked for.
        reason: String,
    },
    /// Host data and shape disagree.
    #[error("shape {shape:?} holds {need} elements, the data has {have}")]
    DataLength {
        /// The shape.
        shape: Vec<usize>,
        /// Elements of the shape.
        need: usize,
        /// Elements of the data.
        have: usize,
    },
    /// A tensor has a shape that the op cannot take.
    #[error("`{arg}` has shape {have:?}, expected {expected}")]
    Shape {
        /// The argument.
        arg: &'static str,
        /// Its shape.
        have: Vec<usize>,
        /// The shapes that the op takes.
        expected: String,
    },
    /// Tensors of two contexts met in one op.
    #[error("`{arg}` belongs to another context")]
    ForeignTensor {
        /// The argument.
        arg: &'static str,
    },
    /// A tensor of a checkpoint does not make the packed matrix that was asked for.
    #[error("tensor `{tensor}`: {reason}")]
    Tensor {
        /// Its name, as the caller gave it.
        tensor: String,
        /// What does not fit, in numbers.
        reason: String,
    },
    /// A file of a cache could not be read or written.
    #[error("{path}: {reason}")]
    Io {
        /// The file.
        path: String,
        /// What the system says.
        reason: String,
    },
}

impl ErrorKind {
    /// As the error of `op`.
    pub(crate) fn of(self, op: &'static str) -> Error {
        Error { op, kind: self }
    }

    /// [`ErrorKind::InvalidProblem`].
    pub(crate) fn invalid(arg: &'static str, reason: impl Into<String>) -> ErrorKind {
        ErrorKind::InvalidProblem { arg, reason: reason.into() }
    }

    /// [`ErrorKind::InvalidProblem`] where a rule does not hold.
    pub(crate) fn unless(holds: bool, arg: &'static str, reason: std::fmt::Arguments) -> Checked {
        if holds { Ok(()) } else { Err(Self::invalid(arg, reason.to_string())) }
    }

    /// [`ErrorKind::Shape`].
    pub(crate) fn shape(arg: &'static str, have: &[usize], expected: impl Into<String>) -> ErrorKind {
        ErrorKind::Shape { arg, have: have.to_vec(), expected: expected.into() }
    }
}

impl From<Misfit> for ErrorKind {
    fn from(misfit: Misfit) -> ErrorKind {
        ErrorKind::ConfigUnfit { reason: misfit.to_string() }
    }
}

/// Why a Config does not fit a Problem or a device: cheap, since most candidates of a table do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// More than a limit of the device or of the kernel.
    #[error("{what}: {have}, at most {limit} fit")]
    Above {
        /// What is counted.
        what: &'static str,
        /// What the Config has.
        have: u64,
        /// The most that fits.
        limit: u64,
    },
    /// A rule that the Config breaks.
    #[error("{rule}, not {have}")]
    Rule {
        /// What must hold.
        rule: &'static str,
        /// What the Config has.
        have: u64,
    },
}

impl Misfit {
    /// Refuses more than `limit`.
    pub(crate) fn at_most(
        what: &'static str,
        have: impl Into<u64>,
        limit: impl Into<u64>,
    ) -> std::result::Result<(), Misfit> {
        let (have, limit) = (have.into(), limit.into());
        if have > limit { Err(Misfit::Above { what, have, limit }) } else { Ok(()) }
    }

    /// Refuses `have` where the rule does not hold.
    pub(crate) fn unless(holds: bool, rule: &'static str, have: impl Into<u64>) -> std::result::Result<(), Misfit> {
        if holds { Ok(()) } else { Err(Misfit::Rule { rule, have: have.into() }) }
    }
}
