//! What tests and checks found, one record per case, as JSON lines that several runs append to.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Passed,
    Failed,
    /// The adapter lacks what the case is about; the reason says what.
    Skipped,
    /// Wrong, and listed in the ledger of known driver defects.
    Waived,
}

/// One case on one adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub adapter: String,
    pub kernel: String,
    pub case: String,
    pub outcome: Outcome,
    /// Why it was skipped or waived, or what failed; empty for a pass.
    pub reason: String,
}

/// Appends `records` to `path`, in one write.
///
/// # Errors
/// Those of the file.
pub fn append(path: &Path, records: &[Record]) -> std::io::Result<()> {
    let mut text = String::new();
    for record in records {
        text.push_str(&serde_json::to_string(record)?);
        text.push('\n');
    }
    std::fs::OpenOptions::new().create(true).append(true).open(path)?.write_all(text.as_bytes())
}
