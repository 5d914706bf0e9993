//! What tests and checks found, one record per case: as JSON lines that several runs append to, and as JUnit XML.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use serde::{Deserialize, Serialize};

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Passed,
    /// Wrong, and wrong again.
    Failed,
    /// Wrong, and right when it was run again.
    Flaky,
    /// The adapter lacks what the case is about; the reason says what.
    Skipped,
    /// Wrong, and listed in the ledger of known driver defects.
    Waived,
}

impl Outcome {
    /// Whether it fails the run.
    pub fn fails(self) -> bool {
        matches!(self, Outcome::Failed | Outcome::Flaky)
    }
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
    /// The dtypes of its Problems: if it fails, of those that do. Empty for a case that is no list of Problems.
    #[serde(default)]
    pub dtype: String,
    /// The shape classes of the same Problems.
    #[serde(default)]
    pub shape: String,
    /// How long it took, all runs and the oracle included.
    #[serde(default)]
    pub ms: u64,
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

/// The records as JUnit XML: a suite per adapter, the kernel as the class of a case. A waived case is a skipped one there.
///
/// # Errors
/// What the writer says.
pub fn junit(records: &[Record]) -> Result<String, String> {
    let mut suites: BTreeMap<&str, TestSuite> = BTreeMap::new();
    for record in records {
        let mut status = match record.outcome {
            Outcome::Passed => TestCaseStatus::success(),
            Outcome::Failed | Outcome::Flaky => TestCaseStatus::non_success(NonSuccessKind::Failure),
            Outcome::Skipped | Outcome::Waived => TestCaseStatus::skipped(),
        };
        if record.outcome != Outcome::Passed {
            let word = format!("{:?}", record.outcome).to_lowercase();
            status.set_type(word).set_message(record.reason.lines().next().unwrap_or_default());
            status.set_description(record.reason.as_str());
        }
        let mut case = TestCase::new(record.case.as_str(), status);
        case.set_classname(record.kernel.as_str()).set_time(Duration::from_millis(record.ms));
        for (name, value) in [("dtype", &record.dtype), ("shape", &record.shape)] {
            if !value.is_empty() {
                case.add_property((name, value.as_str()));
            }
        }
        let suite = suites.entry(&record.adapter).or_insert_with(|| TestSuite::new(record.adapter.as_str()));
        suite.add_test_case(case);
    }
    let mut report = quick_junit::Report::new("tileloom");
    report.add_test_suites(suites.into_values());
    report.to_string().map_err(|error| error.to_string())
}

#[cfg(test)]
pub(crate) fn record(adapter: &str, kernel: &str, outcome: Outcome, reason: &str) -> Record {
    let (dtype, shape) = (String::new(), String::new());
    let (adapter, kernel, reason) = (adapter.into(), kernel.into(), reason.into());
    Record { adapter, kernel, case: "case".into(), outcome, reason, dtype, shape, ms: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_older_runs_are_read() {
        let line = r#"{"adapter":"a","kernel":"k","case":"case","outcome":"passed","reason":""}"#;
        assert_eq!(serde_json::from_str::<Record>(line).unwrap(), record("a", "k", Outcome::Passed, ""));
    }

    #[test]
    fn junit_is_read_back() {
        let failed =
            Record { dtype: "f16".into(), ms: 1500, ..record("a", "k", Outcome::Failed, "1 < 2 & \"3\"\nmore") };
        let records = [
            record("b", "k", Outcome::Passed, ""),
            failed,
            record("a", "k", Outcome::Flaky, "signal: 11"),
            record("a", "k", Outcome::Skipped, "no f16"),
        ];
        let text = junit(&records).unwrap();
        let report = quick_junit::Report::deserialize_from_str(&text).unwrap();
        assert_eq!((report.tests, report.failures, report.test_suites.len()), (4, 2, 2), "{text}");
        let suite = &report.test_suites[0];
        assert_eq!((suite.name.as_str(), suite.tests, suite.failures), ("a", 3, 2), "{text}");
        let case = &suite.test_cases[0];
        assert_eq!(case.classname.as_ref().map(|name| name.as_str()), Some("k"));
        assert_eq!(case.time, Some(Duration::from_millis(1500)));
        let TestCaseStatus::NonSuccess { message, ty, description, .. } = &case.status else { panic!("{text}") };
        assert_eq!(message.as_deref(), Some("1 < 2 & \"3\""));
        assert_eq!((ty.as_deref(), description.as_deref()), (Some("failed"), Some("1 < 2 & \"3\"\nmore")));
    }
}
