//! The crate's one error type.

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call was refused, with the op, the argument and the numbers.
///
/// Everything that a caller can get wrong is found by `prepare`, before anything is written.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A size or an option of the Problem makes no sense.
    #[error("{op}: {arg}: {reason}")]
    InvalidProblem { op: &'static str, arg: &'static str, reason: String },
    /// The buffer or its binding holds fewer bytes than the layout reaches.
    #[error("{op}: buffer `{buffer}` is too small: {need} bytes are needed, the binding has {have}")]
    BufferTooSmall { op: &'static str, buffer: &'static str, need: u64, have: u64 },
    /// The Problem needs a buffer that was not given.
    #[error("{op}: the problem needs buffer `{buffer}`, which was not given")]
    MissingBuffer { op: &'static str, buffer: &'static str },
    /// A buffer was given that the Problem does not use.
    #[error("{op}: buffer `{buffer}` was given, but the problem does not use it")]
    UnusedBuffer { op: &'static str, buffer: &'static str },
    /// The buffer was created without a usage that the kernel needs.
    #[error("{op}: buffer `{buffer}` lacks usage {missing:?}")]
    MissingUsage { op: &'static str, buffer: &'static str, missing: wgpu::BufferUsages },
    /// The binding starts where the device cannot bind.
    #[error(
        "{op}: the binding of `{buffer}` starts at byte {offset}, not a multiple of {align}; bind at {} and add {element_offset} elements to its layout's offset",
        offset - offset % align
    )]
    Misaligned {
        op: &'static str,
        buffer: &'static str,
        offset: u64,
        align: u64,
        /// What to add to the layout's element offset when binding at the multiple below.
        element_offset: u64,
    },
    /// The binding is larger than the device's `max_storage_buffer_binding_size`.
    #[error("{op}: `{buffer}` needs a binding of {need} bytes, the device binds at most {limit}")]
    BindingTooLarge { op: &'static str, buffer: &'static str, need: u64, limit: u64 },
    /// Two views overlap in a way the kernel cannot work with.
    #[error(
        "{op}: `{first}` (bytes {first_bytes:?} of its buffer) and `{second}` (bytes {second_bytes:?}) overlap; only exactly equal views may, where the op works in place"
    )]
    Aliased {
        op: &'static str,
        first: &'static str,
        first_bytes: std::ops::Range<u64>,
        second: &'static str,
        second_bytes: std::ops::Range<u64>,
    },
    /// An element index does not fit in u32.
    #[error("{op}: `{arg}` reaches element {last}, past the last one that a shader can index (2^32 - 1)")]
    IndexOverflow { op: &'static str, arg: &'static str, last: u128 },
    /// The device binds fewer storage buffers than this form of the op needs.
    #[error("{op}: needs {} storage buffers ({}), the device binds at most {limit}", names.len(), names.join(", "))]
    TooManyBindings { op: &'static str, names: Vec<&'static str>, limit: u32 },
    /// The caller's Config does not fit the Problem or the device.
    #[error("{op}: the config does not fit: {reason}")]
    ConfigUnfit { op: &'static str, reason: String },
    /// The problem needs more workgroups than one dispatch can hold.
    #[error("{op}: {need} workgroups are more than one dispatch holds here ({limit})")]
    TooManyWorkgroups { op: &'static str, need: u64, limit: u64 },
    /// wgpu or the driver refused something that passed our own checks: a defect, please report it.
    #[error("{op}: {message}")]
    Gpu { op: &'static str, message: String },
    /// The device ran out of memory.
    #[error("{op}: out of device memory{}", bytes.map(|b| format!(" while asking for {b} bytes")).unwrap_or_default())]
    OutOfMemory { op: &'static str, bytes: Option<u64> },
    /// The device was lost or destroyed; make a new one.
    #[error("{op}: the device was lost: {reason}")]
    DeviceLost { op: &'static str, reason: String },
    /// No adapter of the enabled backends was found.
    #[error(
        "no GPU adapter was found ({reason}); enable a backend feature of tileloom (vulkan, metal, dx12, gles, webgpu) and install its driver (Debian: apt-get install mesa-vulkan-drivers)"
    )]
    NoAdapter { reason: String },
    /// Host data and shape disagree.
    #[error("{op}: shape {shape:?} holds {need} elements, the data has {have}")]
    DataLength { op: &'static str, shape: Vec<usize>, need: usize, have: usize },
    /// A tensor has a shape that the op cannot take.
    #[error("{op}: `{arg}` has shape {have:?}, expected {expected}")]
    Shape { op: &'static str, arg: &'static str, have: Vec<usize>, expected: String },
    /// Tensors of two contexts met in one op.
    #[error("{op}: `{arg}` belongs to another context")]
    ForeignTensor { op: &'static str, arg: &'static str },
    /// A file of a cache could not be read or written.
    #[error("{path}: {reason}")]
    Io { path: String, reason: String },
}

/// Why a Config does not fit a Problem or a device: cheap, since most candidates of a table do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {have} against {limit}")]
pub struct Misfit {
    pub what: &'static str,
    pub have: u32,
    pub limit: u32,
}

impl Misfit {
    pub(crate) fn error(self, op: &'static str) -> Error {
        Error::ConfigUnfit { op, reason: self.to_string() }
    }
}
