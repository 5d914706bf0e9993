//! Known driver defects: cases that may fail on a driver, each with a reason and a way to see it. A case
//! of this list that passes fails the run.

struct Waiver {
    /// A part of the adapter's slug.
    adapter: &'static str,
    kernel: &'static str,
    case: &'static str,
    /// What is wrong with the driver, and how to reproduce it.
    reason: &'static str,
}

const LEDGER: &[Waiver] = &[];

pub fn waiver(slug: &str, kernel: &str, case: &str) -> Option<&'static str> {
    let here = |w: &&Waiver| slug.contains(w.adapter) && w.kernel == kernel && w.case == case;
    LEDGER.iter().find(here).map(|w| w.reason)
}
