//! `loom run`: case files, replayed and held against what they expect.

use std::path::Path;

use tileloom::reference::Verdict;

use crate::Gpu;
use crate::case::{Case, Fault, Tensor, place};
use crate::kernel::{Ran, Replay};
use crate::registry;

/// Reads and understands a case; with `check` it must expect something.
///
/// # Errors
/// What is wrong with it, with the file's name.
pub fn open(path: &Path, check: bool) -> Result<(Case, Box<dyn Replay>), String> {
    let open = || {
        let case = Case::read(path)?;
        let replay = registry::replay(&case)?;
        if check && replay.expected().tensors.is_empty() {
            let known = replay.outputs().iter().map(|name| format!("expected.{name}")).collect();
            return Err(Fault::NothingExpected { known });
        }
        Ok((case, replay))
    };
    let opened = crate::runner::caught(open).and_then(|opened| opened.map_err(|fault: Fault| fault.to_string()));
    opened.map_err(|reason| format!("{}: {reason}", path.display()))
}

/// The verdict on one output.
pub struct Finding {
    pub output: &'static str,
    pub shape: Vec<usize>,
    pub verdict: Verdict,
    /// Expected to be NaN, which judges nothing.
    pub unjudged: usize,
}

impl Finding {
    /// Right, and at least one element was judged.
    pub fn ok(&self) -> bool {
        self.verdict.ok() && (self.verdict.checked == 0 || self.unjudged < self.verdict.checked)
    }
}

/// Runs a case; a panic is a failure of this case, not of the folder that it is in.
///
/// # Errors
/// What `prepare` says, a lost device, or a panic's message.
pub fn ran(replay: &dyn Replay, gpu: &Gpu) -> Result<Ran, String> {
    crate::runner::caught(|| replay.run(gpu)).and_then(|result| result)
}

/// Judges what a case gave, where a panic is a failure of this case, too.
///
/// # Errors
/// A panic's message.
pub fn judged(replay: &dyn Replay, ran: &Ran) -> Result<Vec<Finding>, String> {
    crate::runner::caught(|| replay.judge(ran))
}

/// The fewest digits that tell the value from its neighbours: most are an f32's.
fn shortest(value: f64) -> String {
    let narrow = value as f32;
    if f64::from(narrow) == value { format!("{narrow:e}") } else { format!("{value:e}") }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Finding { output, shape, verdict, unjudged } = self;
        let word = match (self.ok(), verdict.ok()) {
            (true, _) => "ok",
            (false, true) => "NOTHING TO JUDGE",
            (false, false) => "WRONG",
        };
        write!(f, "{output} {shape:?}: {word}, {} of {} wrong", verdict.wrong, verdict.checked)?;
        if *unjudged > 0 {
            write!(f, ", {unjudged} expected NaN and not judged")?;
        }
        if let Some(w) = verdict.worst {
            write!(
                f,
                "; worst at {:?}: {}, expected {} (error {:.2e}, allowed {:.2e})",
                place(shape, w.index),
                shortest(w.out),
                shortest(w.expected),
                if w.out == w.expected { 0.0 } else { (w.out - w.expected).abs() },
                w.bound
            )?;
        }
        Ok(())
    }
}

/// The outputs as a file: tensors by name, and what ran where as metadata.
pub fn result(case: &Case, ran: Ran, gpu: &Gpu) -> Case {
    let caps = gpu.kernels.caps();
    let op = case.metadata.get("op").map_or("", String::as_str);
    let file = Case::new(op)
        .option("adapter", format!("{} ({})", gpu.slug, caps.name))
        .option("driver", format!("{:?} {}", caps.backend, caps.driver))
        .option("config", &ran.config);
    ran.tensors.into_iter().fold(file, |file, (name, tensor): (_, Tensor)| file.tensor(name, tensor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Rule, exact};
    use tileloom::Dtype;

    fn finding(expected: &[f64], out: &[f64], widen: (f64, f64)) -> Finding {
        let truth = vec![0.5; out.len()];
        let rule = Rule::Rows { cols: out.len(), dtype: Dtype::F32, oracle: truth.clone(), low: truth, mag: vec![1.0] };
        let unjudged = expected.iter().filter(|v| v.is_nan()).count();
        Finding {
            output: "y",
            shape: vec![1, out.len()],
            verdict: rule.judge(out, Some(expected), widen, &[]),
            unjudged,
        }
    }

    struct Panics;

    impl Replay for Panics {
        fn case(&self) -> Case {
            Case::default()
        }
        fn expected(&self) -> &crate::case::Expected {
            panic!("none")
        }
        fn outputs(&self) -> Vec<&'static str> {
            Vec::new()
        }
        fn run(&self, _: &Gpu) -> Result<Ran, String> {
            Err("does not run".into())
        }
        fn judge(&self, _: &Ran) -> Vec<Finding> {
            panic!("no oracle")
        }
    }

    #[test]
    fn a_panic_is_a_finding() {
        let ran = Ran { tensors: Vec::new(), config: String::new(), flushes: Default::default() };
        assert_eq!(judged(&Panics, &ran).err(), Some("panicked: no oracle".into()));
    }

    #[test]
    fn a_wrong_expectation_widens_nothing() {
        assert!(finding(&[0.5, 0.5], &[0.5, 0.5 + 1e-7], (0.0, 0.0)).verdict.ok());
        let wrong = finding(&[0.5, 0.75], &[0.5, 0.5], (0.0, 0.0));
        assert_eq!(wrong.verdict.wrong, 1);
        let text = wrong.to_string();
        assert!(text.starts_with("y [1, 2]: WRONG, 1 of 2 wrong; worst at [0, 1]: 5e-1, expected 7.5e-1"), "{text}");
        assert!(finding(&[0.5, 0.75], &[0.5, 0.5], (0.25, 0.0)).verdict.ok());
        assert!(finding(&[0.5, 0.75], &[0.5, 0.5], (0.0, 0.34)).verdict.ok());
    }

    #[test]
    fn nan_expectations_are_told() {
        let text = finding(&[f64::NAN, 0.5], &[0.0, 0.5], (0.0, 0.0)).to_string();
        assert!(text.contains("0 of 2 wrong, 1 expected NaN and not judged"), "{text}");
        let nothing = finding(&[f64::NAN], &[0.0], (0.0, 0.0));
        assert!(!nothing.ok() && nothing.to_string().contains("NOTHING TO JUDGE"), "{nothing}");
    }

    #[test]
    fn exact_means_bits() {
        assert!(exact(&[1.0, 2.0], &[1.0, 2.0]).ok());
        let verdict = exact(&[1.0, 2.0, 0.0], &[1.0, 3.0, -0.0]);
        assert_eq!((verdict.wrong, verdict.worst.unwrap().index), (2, 1));
    }
}
