//! Cases that are lists of Problems: the entries of one name in a kernel's list.

use std::hash::{DefaultHasher, Hash, Hasher};

use tileloom::reference::Verdict;

use super::caught;
use crate::Gpu;
use crate::harness::Outcome as Ended;
use crate::image::{Number, Rows};
use crate::kernel::{Access, Arg, Depth, Kernel, Run, Use};
use crate::report::Outcome;
use crate::runner::{Part, Tested};

/// A Problem of more bytes is large, and one that is cheap enough to be repeated has no more operations.
const LARGE: f64 = (1u32 << 20) as f64;
const DEAR: f64 = 1e8;

/// The entries of a kernel's list that are run at `depth`, by name.
pub fn groups(kernel: &dyn Kernel, depth: Depth) -> Vec<(String, Vec<Box<dyn Run>>)> {
    let mut groups: Vec<(String, Vec<Box<dyn Run>>)> = Vec::new();
    for run in kernel.list() {
        if !matches!(run.what(), Use::Test(own) if own <= depth) {
            continue;
        }
        match groups.iter_mut().find(|(name, _)| name == run.name()) {
            Some((_, runs)) => runs.push(run),
            None => groups.push((run.name().into(), vec![run])),
        }
    }
    // Each failure leaves a case file of the same name: the smallest comes last, and its file stays.
    for (_, runs) in &mut groups {
        runs.sort_by(|a, b| b.cost().bytes.total_cmp(&a.cost().bytes));
    }
    groups
}

/// Which entries are run again for their bits.
pub fn repeats(run: &dyn Run, depth: Depth) -> bool {
    let cost = run.cost();
    depth == Depth::Full || (cost.bytes <= LARGE && cost.flops <= DEAR)
}

/// The dtype and the shape class of a Problem.
fn kind(run: &dyn Run) -> (String, String) {
    let args = run.args();
    let float = |arg: &&Arg| matches!(arg.view.number, Number::F(_));
    let (Some(first), Some(out)) = (args.iter().find(float), args.iter().filter(float).max_by_key(output)) else {
        return Default::default();
    };
    let dtype = match first.view.number {
        Number::F(dtype) => dtype.to_string(),
        number => format!("{number:?}"),
    };
    let shape = match () {
        () if run.cost().bytes > LARGE => "large",
        () if rows(&out.view) == 1 => "one row",
        () if args.iter().filter(float).any(|arg| odd(&arg.view)) => "odd",
        () => "aligned",
    };
    (dtype, shape.into())
}

/// Outputs before inputs, long ones before short ones.
fn output(arg: &&Arg) -> (bool, usize) {
    (arg.access != Access::Read, arg.view.len())
}

fn rows(view: &Rows) -> usize {
    view.sizes.iter().product()
}

/// Whether there are rows that do not start at multiples of four elements.
fn odd(view: &Rows) -> bool {
    let strides = view.layout.strides.unwrap_or([view.cols; 3]);
    rows(view) > 1 && strides.iter().chain([&view.layout.offset]).any(|n| n % 4 != 0)
}

fn part(run: &dyn Run, outcome: Outcome) -> Part {
    let (dtype, shape) = kind(run);
    Part { dtype, shape, outcome, bits: None }
}

fn add<'a>(hasher: &mut DefaultHasher, outputs: impl IntoIterator<Item = &'a Vec<f64>>) {
    for values in outputs {
        values.len().hash(hasher);
        values.iter().for_each(|value| value.to_bits().hash(hasher));
    }
}

/// Runs and judges the entries of one name. What the device lacks for some of them is told if nothing else ran; of those
/// that fail, the smallest is told. `verdict` takes up those of entries that are right.
pub fn judged(runs: &[Box<dyn Run>], gpu: &Gpu, depth: Depth, verdict: &mut Verdict) -> Tested {
    judged_by(runs, depth, verdict, |run, hasher| run.test_with(gpu, &mut |outputs| add(hasher, outputs.values())))
}

/// The same, wherever they ran: `test` tells how an entry ended.
pub fn judged_by(
    runs: &[Box<dyn Run>],
    depth: Depth,
    verdict: &mut Verdict,
    mut test: impl FnMut(&dyn Run, &mut DefaultHasher) -> Ended,
) -> Tested {
    let mut tested = Tested::new(Outcome::Skipped, "");
    let (mut wrong, mut lack) = (None, None);
    for run in runs {
        let mut hasher = DefaultHasher::new();
        // A driver may bring wgpu to panic: that is a finding, and the other entries go on.
        let ended = caught(|| test(&**run, &mut hasher));
        let mut part = part(&**run, Outcome::Passed);
        match ended.unwrap_or_else(Ended::Failed) {
            Ended::Ran(own) => {
                if own.ok() {
                    part.bits = repeats(&**run, depth).then(|| hasher.finish());
                } else {
                    part.outcome = Outcome::Failed;
                    wrong = Some(own.to_string());
                }
                verdict.merge(own);
            }
            Ended::Skipped(reason) => {
                part.outcome = Outcome::Skipped;
                lack = Some(reason);
            }
            Ended::Failed(reason) => {
                part.outcome = Outcome::Failed;
                wrong = Some(reason);
            }
        }
        tested.parts.push(part);
    }
    let count = |outcome| tested.parts.iter().filter(|part| part.outcome == outcome).count();
    let (failed, ran) = (count(Outcome::Failed), count(Outcome::Failed) + count(Outcome::Passed));
    (tested.outcome, tested.reason) = match (wrong, lack) {
        (Some(reason), _) if ran > 1 => (Outcome::Failed, format!("{failed} of {ran} Problems fail: {reason}")),
        (Some(reason), _) => (Outcome::Failed, reason),
        (None, Some(reason)) if ran == 0 => (Outcome::Skipped, reason),
        _ => (Outcome::Passed, String::new()),
    };
    tested
}

/// Runs the same entries again for the bits of their outputs, less those that are not repeated.
pub fn again(runs: &[Box<dyn Run>], gpu: &Gpu, depth: Depth) -> Tested {
    let mut tested = Tested::new(Outcome::Passed, "");
    for run in runs {
        let mut part = part(&**run, Outcome::Passed);
        if repeats(&**run, depth) {
            match caught(|| run.outputs(gpu)).and_then(|outputs| outputs) {
                Ok(outputs) => {
                    let mut hasher = DefaultHasher::new();
                    add(&mut hasher, &outputs);
                    part.bits = Some(hasher.finish());
                }
                Err(reason) => {
                    part.outcome = Outcome::Failed;
                    (tested.outcome, tested.reason) = (Outcome::Failed, reason);
                }
            }
        }
        tested.parts.push(part);
    }
    tested
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::bench;
    use tileloom::{Dtype, Layout, softmax};

    #[test]
    fn problems_are_classed_by_their_rows() {
        let of = |rows, cols, x: Dtype, offset| {
            let layout = Layout { offset, ..Default::default() };
            let problem =
                softmax::Problem { rows, cols, x, y: x, lse: Some(0), x_layout: layout, ..Default::default() };
            kind(&*bench("shape", problem))
        };
        let named = |dtype: &str, shape: &str| (dtype.to_string(), shape.to_string());
        assert_eq!(of(8, 64, Dtype::F32, 0), named("f32", "aligned"));
        assert_eq!(of(8, 63, Dtype::F16, 0), named("f16", "odd"));
        assert_eq!(of(8, 64, Dtype::Bf16, 1), named("bf16", "odd"));
        assert_eq!(of(1, 63, Dtype::F32, 0), named("f32", "one row"));
        assert_eq!(of(1, 1 << 20, Dtype::F32, 0), named("f32", "large"));
    }
}
