pub mod position_encoding;
pub mod rope;

use tileloom::Error;

/// That a call is refused, by the right error.
fn refused<T>(what: &str, result: Result<T, Error>, ok: fn(&Error) -> bool) -> Result<(), String> {
    match result {
        Err(error) if ok(&error) => Ok(()),
        Err(error) => Err(format!("{what}: {error:?}")),
        Ok(_) => Err(format!("{what} was accepted")),
    }
}
