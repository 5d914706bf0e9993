//! `loom matrix`: what several runs have recorded, in one table.

use std::collections::{BTreeMap, BTreeSet};

use crate::report::{Outcome, Record};
use crate::table::table;

/// The records of a file's text.
///
/// # Errors
/// The line that is none, and why.
pub fn parse(text: &str) -> Result<Vec<Record>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(i, line)| {
            let record = serde_json::from_str(line);
            record.map_err(|error| format!("line {} is not a record: {error}", i + 1))
        })
        .collect()
}

/// Whether there is a record, and none failed.
pub fn ok(records: &[Record]) -> bool {
    !records.is_empty() && !records.iter().any(|record| record.outcome.fails())
}

/// Adapters by kernels, with the outcomes in each cell; then reasons, then failures with dtypes and shape classes.
pub fn render(records: &[Record]) -> String {
    let kernels: BTreeSet<&str> = records.iter().map(|record| record.kernel.as_str()).collect();
    let adapters: BTreeSet<&str> = records.iter().map(|record| record.adapter.as_str()).collect();
    let mut cells: BTreeMap<(&str, &str), [usize; 5]> = BTreeMap::new();
    let mut reasons: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    let mut totals = [0; 5];
    for record in records {
        let i = record.outcome as usize;
        cells.entry((&record.adapter, &record.kernel)).or_default()[i] += 1;
        totals[i] += 1;
        let what = match record.outcome {
            Outcome::Skipped => "skipped",
            Outcome::Waived => "waived",
            _ => continue,
        };
        *reasons.entry((what, &record.kernel, &record.reason)).or_default() += 1;
    }
    let show = |counts: [usize; 5]| counts.map(|count| count.to_string()).join(" / ");
    let mut header = vec!["passed / failed / flaky / skipped / waived"];
    header.extend(&kernels);
    let rows = adapters.iter().map(|&adapter| {
        let cell = |kernel: &&str| cells.get(&(adapter, *kernel)).map_or(String::new(), |&counts| show(counts));
        std::iter::once(adapter.to_string()).chain(kernels.iter().map(cell)).collect()
    });
    let mut text = table(&header, rows);
    text += &format!("all {}\n", show(totals));
    let line = |reason: &str| reason.split_whitespace().collect::<Vec<_>>().join(" ");
    for ((what, kernel, reason), count) in reasons {
        text += &format!("{what} {count} of {kernel}: {}\n", line(reason));
    }
    for record in records.iter().filter(|record| record.outcome.fails()) {
        let Record { adapter, kernel, case, reason, dtype, shape, .. } = record;
        let word = if record.outcome == Outcome::Flaky { "FLAKY " } else { "FAILED" };
        let kinds: Vec<_> = [dtype.as_str(), shape].into_iter().filter(|kind| !kind.is_empty()).collect();
        let of = if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join("; ")) };
        text += &format!("{word} {kernel} on {adapter}, {case}{of}: {}\n", line(reason));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::record;

    #[test]
    fn counts_reasons_and_failures() {
        let records = [
            record("b", "softmax", Outcome::Passed, ""),
            record("a", "softmax", Outcome::Passed, ""),
            record("a", "softmax", Outcome::Skipped, "no subgroups"),
            record("a", "softmax", Outcome::Skipped, "no subgroups"),
            record("a", "gemm", Outcome::Waived, "driver bug 7"),
            Record {
                dtype: "f16".into(),
                shape: "odd, one row".into(),
                ..record("b", "gemm", Outcome::Failed, "1 of 2 wrong\n  Problem")
            },
            record("b", "gemm", Outcome::Flaky, "failed, then not"),
        ];
        let want = "\
| passed / failed / flaky / skipped / waived | gemm              | softmax           |
|--------------------------------------------|-------------------|-------------------|
| a                                          | 0 / 0 / 0 / 0 / 1 | 1 / 0 / 0 / 2 / 0 |
| b                                          | 0 / 1 / 1 / 0 / 0 | 1 / 0 / 0 / 0 / 0 |
all 2 / 1 / 1 / 2 / 1
skipped 2 of softmax: no subgroups
waived 1 of gemm: driver bug 7
FAILED gemm on b, case (f16; odd, one row): 1 of 2 wrong Problem
FLAKY  gemm on b, case: failed, then not
";
        assert_eq!(render(&records), want);
        assert!(!ok(&records) && ok(&records[..5]) && !ok(&records[6..]) && !ok(&[]));
    }

    #[test]
    fn lines_that_are_no_records_are_named() {
        let good = serde_json::to_string(&record("a", "k", Outcome::Passed, "")).unwrap();
        assert_eq!(parse(&format!("{good}\n\n{good}\n")).unwrap().len(), 2);
        let error = parse(&format!("{good}\n{{}}\n")).unwrap_err();
        assert!(error.starts_with("line 2 is not a record: missing field `adapter`"), "{error}");
    }
}
