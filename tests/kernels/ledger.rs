//! Known driver defects: cases that may fail on a driver, each with a public thread, a reason and a way to see it. A case of
//! this list that passes fails the run, unless it is said to fail at times only.

use loom::runner::Waiver;

pub const LEDGER: &[Waiver] = &[];
