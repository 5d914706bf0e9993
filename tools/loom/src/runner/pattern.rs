//! What the failures of a run have in common.

use std::collections::{BTreeMap, BTreeSet};

use super::Tested;
use crate::report::Outcome;
use crate::table::table;

/// Failures and runs by kernel, dtype and shape class: of each kernel of which something failed, on its adapter. Empty where
/// nothing did.
pub fn table_of<'a>(cases: impl IntoIterator<Item = (&'a str, &'a str, &'a Tested)>) -> String {
    let mut counts: BTreeMap<[&str; 4], [usize; 2]> = BTreeMap::new();
    let mut wrong: BTreeSet<[&str; 2]> = BTreeSet::new();
    for (adapter, kernel, tested) in cases {
        let mut count = |dtype, shape, outcome: Outcome| {
            if outcome != Outcome::Skipped {
                let [failed, all] = counts.entry([adapter, kernel, dtype, shape]).or_default();
                *failed += usize::from(outcome.fails() && tested.outcome.fails());
                *all += 1;
            }
        };
        if tested.parts.is_empty() {
            count("", "", tested.outcome);
        }
        for part in &tested.parts {
            count(&part.dtype, &part.shape, part.outcome);
        }
        if tested.outcome.fails() {
            wrong.insert([adapter, kernel]);
        }
    }
    let own = counts.iter().filter(|([adapter, kernel, ..], _)| wrong.contains(&[*adapter, *kernel]));
    let rows = own.map(|(words, counts)| {
        words.iter().map(|word| word.to_string()).chain(counts.iter().map(usize::to_string)).collect()
    });
    if wrong.is_empty() {
        return String::new();
    }
    table(&["adapter", "kernel", "dtype", "shape", ">failed", ">of"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::Part;

    #[test]
    fn failures_are_counted_beside_what_passed() {
        let part =
            |dtype: &str, shape: &str, outcome| Part { dtype: dtype.into(), shape: shape.into(), outcome, bits: None };
        let of = |outcome, parts| Tested { parts, ..Tested::new(outcome, "") };
        let passed =
            of(Outcome::Passed, vec![part("f32", "odd", Outcome::Passed), part("f16", "odd", Outcome::Passed)]);
        let failed =
            of(Outcome::Failed, vec![part("f16", "odd", Outcome::Failed), part("f16", "odd", Outcome::Passed)]);
        let skipped = of(Outcome::Skipped, vec![part("bf16", "odd", Outcome::Skipped)]);
        let own = of(Outcome::Passed, vec![]);
        let table = table_of([("a", "k", &passed), ("a", "k", &failed), ("a", "k", &own), ("a", "k", &skipped)]);
        let want = "\
| adapter | kernel | dtype | shape | failed | of |
|---------|--------|-------|-------|--------|----|
| a       | k      |       |       |      0 |  1 |
| a       | k      | f16   | odd   |      1 |  3 |
| a       | k      | f32   | odd   |      0 |  1 |
";
        assert_eq!(table, want);
        assert_eq!(table_of([("a", "k", &passed)]), "");
    }
}
