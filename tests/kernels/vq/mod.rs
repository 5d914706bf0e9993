pub mod vq_assign;
pub mod vq_lookup;
pub mod vq_scalar;
pub mod vq_scatter;
pub mod vq_train;

use tileloom::{Error, ErrorKind};

/// Whether a call was refused as it should be.
pub fn refused(what: &str, result: Result<(), Error>, ok: fn(&ErrorKind) -> bool) -> Result<(), String> {
    match result {
        Err(error) if ok(&error.kind) => Ok(()),
        other => Err(format!("{what}: {other:?}")),
    }
}
