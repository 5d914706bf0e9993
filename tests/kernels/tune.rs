//! Measured choices: when a table or a pin is taken, and that what `loom tune` finds wrong never wins.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use loom::Gpu;
use loom::harness::bench;
use loom::pool::Pool;
use loom::tune::{Effort, Group, Search, Tuned};
use tileloom::compose::Slots;
use tileloom::kernels::Rewrite;
use tileloom::tune::{Entry, Table};
use tileloom::verify::{Subject, Tried, Verdicts};
use tileloom::{Caps, Kernels, KernelsOptions, Op, softmax};

use crate::Suite;

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("tune", cases);

/// # Errors
/// Where `holds` does not.
fn expect(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

fn problem(rows: usize) -> softmax::Problem {
    softmax::Problem { rows, cols: 1000, ..Default::default() }
}

fn kernels(gpu: &Gpu, options: KernelsOptions) -> Kernels {
    let kernels = Kernels::with_options(&gpu.device, Caps::of(&gpu.adapter, &gpu.device), options);
    let caps = Caps { batch_invariant: kernels.caps().batch_invariant, ..(*gpu.kernels.caps()).clone() };
    kernels.with_caps(caps)
}

fn candidates(gpu: &Gpu) -> Result<Vec<softmax::Config>, String> {
    problem(2000).candidates(&gpu.kernels.caps()).map_err(|error| error.to_string())
}

/// What is chosen by a table.
fn chosen(gpu: &Gpu, table: &Table, rows: usize) -> Result<softmax::Config, String> {
    let options = KernelsOptions { table: Some(table.clone()), ..Default::default() };
    problem(rows).chosen(&kernels(gpu, options)).map_err(|error| error.to_string())
}

/// A table that has this Config for [`problem`].
fn table(key: &str, config: Option<&softmax::Config>, sources: u64) -> Table {
    let (op, class) = (softmax::Problem::NAME.into(), problem(2000).class());
    let mut table = Table::default();
    table.insert(key, Entry { op, class, config: config.map(ToString::to_string), sources, facts: String::new() });
    table
}

/// Where in a source the body of its entry point begins.
fn body(stem: &str, source: &str) -> usize {
    let entry = source.find(&format!("fn {stem}(")).expect("the entry point has the file's name");
    entry + source[entry..].find("{\n").expect("it has a body") + 2
}

/// What is put first into the softmax of each of these Configs.
fn broken(gpu: &Gpu, configs: &[softmax::Config], first: &'static str) -> Gpu {
    let shaders = configs.iter().flat_map(|config| problem(2000).shaders(config, Slots::NONE).unwrap());
    let wrong: Vec<String> = shaders.flat_map(|shader| [true, false].map(|by| shader.source(by))).collect();
    let rewrite = move |stem: &str, source: String| match wrong.contains(&source) {
        true => {
            let at = body(stem, &source);
            format!("{}{first}\n{}", &source[..at], &source[at..])
        }
        false => source,
    };
    gpu.with_options(KernelsOptions { rewrite: Some(Rewrite(Arc::new(rewrite))), ..Default::default() })
}

fn tuned(gpu: &Gpu, skip: &HashSet<(String, u64)>) -> Result<Tuned, String> {
    let (pool, mut tell) = (Pool::new(1), |_: loom::tune::Step| {});
    let effort = Effort { budget: Duration::from_millis(100), sets: 1.0 };
    let group = Group {
        op: softmax::Problem::NAME,
        class: problem(2000).class(),
        runs: vec![bench("2000x1000 f32", problem(2000))],
    };
    Search::new(gpu, &pool, effort, &mut tell)?.group(&group, skip)
}

pub fn cases(suite: &mut Suite) {
    suite.case("a measured choice is taken for its class", |gpu| {
        let configs = candidates(gpu)?;
        let [first, .., last] = configs[..] else { return Err("there is no choice".into()) };
        let own_problem = problem(2000);
        let sources = problem(2000).sources(&last.to_string()).map_err(|error| error.to_string())?;
        let key = Table::key(&gpu.kernels);
        let whole = table(&key, Some(&last), sources);
        let read = Table::from_bytes(&whole.to_bytes());
        for rows in [2000, 1992, 2048] {
            let found = chosen(gpu, &read, rows)?;
            expect(found == last, || format!("{rows} rows: {found}"))?;
        }
        let options = KernelsOptions { table: Some(whole.clone()), ..Default::default() };
        let own = kernels(gpu, options);
        let x = gpu.buffer(&vec![0; 4 * 2000 * 1000]);
        let y = gpu.buffer(&vec![0xff; 4 * 2000 * 1000]);
        let dispatch = softmax::prepare(&own, &own_problem, softmax::Buffers::new(&x, &y));
        let dispatch = dispatch.map_err(|error| error.to_string())?;
        let steps: Vec<_> = dispatch.steps().map(|(label, _)| label.to_string()).collect();
        expect(steps.iter().all(|step| step.contains(&last.to_string())), || format!("{steps:?}"))?;
        // Again, from what is remembered; and what is banned since is not taken.
        expect(own_problem.chosen(&own).is_ok_and(|config| config == last), || "not remembered".into())?;
        let mut verdicts = Verdicts::new(&own);
        let tried = Tried { op: "softmax".into(), config: last.to_string(), sources };
        verdicts.ban(&tried, "of this test").map_err(|error| error.to_string())?;
        own.add_verdicts(&verdicts);
        expect(own_problem.chosen(&own).is_ok_and(|config| config == first), || "a banned Config is taken".into())?;

        // A miss each: another class, other shaders, another key, what is damaged, no choice, none that fits, none at all.
        let meant = problem(4096).choose(&gpu.kernels.caps()).map_err(|error| error.to_string())?;
        expect(chosen(gpu, &whole, 4096)? == meant, || "another class".into())?;
        let text = String::from_utf8(whole.to_bytes()).map_err(|error| error.to_string())?;
        let unfit = softmax::Config { wg_size: 1 << 20, ..last };
        for (what, table) in [
            ("other shaders", table(&key, Some(&last), sources ^ 1)),
            ("another key", table(&format!("{key}; more"), Some(&last), sources)),
            ("another policy", table(&key.replace("turns", "rounds"), Some(&last), sources)),
            ("a damaged line", Table::from_bytes(text.replace("softmax", "softmux").as_bytes())),
            ("half a file", Table::from_bytes(&text.as_bytes()[..text.len() - 20])),
            ("no table", Table::from_bytes(b"garbage")),
            ("no choice", table(&key, None, sources)),
            ("a Config that does not fit", table(&key, Some(&unfit), sources)),
            (
                "what is no Config",
                Table::from_bytes(&{
                    let mut table = Table::default();
                    let (op, class) = ("softmax".into(), own_problem.class());
                    let config = Some("algorithm=weave".into());
                    table.insert(&key, Entry { op, class, config, sources, facts: String::new() });
                    table.to_bytes()
                }),
            ),
        ] {
            let found = chosen(gpu, &table, 2000)?;
            expect(found == first, || format!("{what}: {found}"))?;
        }
        // Choices of a table depend on the batch.
        let options = KernelsOptions { table: Some(whole), batch_invariant: true, ..Default::default() };
        let own = kernels(gpu, options);
        let (found, meant) = (own_problem.chosen(&own), own_problem.choose(&own.caps()));
        expect(found.as_ref().ok() == meant.as_ref().ok() && found.is_ok(), || format!("batch invariant: {found:?}"))
    });
    suite.case("a pinned Config is taken before all others", |gpu| {
        let configs = candidates(gpu)?;
        let [first, .., last] = configs[..] else { return Err("there is no choice".into()) };
        let sources = problem(2000).sources(&first.to_string()).map_err(|error| error.to_string())?;
        let with = |pins: &[String]| {
            let table = Some(table(&Table::key(&gpu.kernels), Some(&first), sources));
            let own = kernels(gpu, KernelsOptions { table, pins: pins.to_vec(), ..Default::default() });
            let found = problem(2000).chosen(&own).map_err(|error| error.to_string());
            found.and_then(|config| Ok((config, problem(2000).measured(&own).map_err(|error| error.to_string())?)))
        };
        expect(with(&[format!("softmax={last}")])? == (last, Some(last)), || "not taken".into())?;
        for pins in ["softmax=wg_size=1", "gemm=x=1", "softmax", ""] {
            expect(with(&[pins.into()])?.0 == first, || format!("`{pins}` is taken"))?;
        }
        // `verify` tries what is used.
        let options = KernelsOptions { pins: vec![format!("softmax={last}")], ..Default::default() };
        let own = kernels(gpu, options);
        let subject = problem(2000);
        let (mut verdicts, subjects): (_, [&dyn Subject; 1]) = (Verdicts::new(&own), [&subject]);
        let report = tileloom::verify::verify(&own, &gpu.queue, &subjects, &mut verdicts, |_| {
            std::ops::ControlFlow::Continue(())
        });
        let report = pollster::block_on(report).map_err(|error| error.to_string())?;
        expect(report.findings[0].config == Some(last.to_string()), || format!("{report:?}"))
    });
    if suite.depth == crate::Depth::Narrow {
        return; // searches compile each candidate several times
    }
    suite.case("what is wrong never wins", |gpu| {
        let configs = candidates(gpu)?;
        let before = tuned(gpu, &HashSet::new())?;
        expect(before.wrong.is_empty() && before.shipped == [configs[0].to_string()], || format!("{before:?}"))?;
        let timed = before.timed.iter().map(|timed| timed.config.as_str()).collect::<HashSet<_>>();
        expect(timed.len() + before.skipped.len() == configs.len(), || format!("{before:?}"))?;
        let (shipped, other) = (configs[0], configs[1]);
        // Nothing is quicker than to do nothing; the second only where there are many rows, which no small call has.
        for (wrong, first) in [(shipped, "  if true { return; }"), (other, "  if params.rows == 2000u { return; }")] {
            let broken = broken(gpu, &[wrong], first);
            let found = tuned(&broken, &HashSet::new())?;
            let text = wrong.to_string();
            let told: Vec<_> = found.wrong.iter().map(|wrong| wrong.config.as_str()).collect();
            expect(told == [text.as_str()], || format!("{first} in {text}: {:?}", found.wrong))?;
            let out = found.config.as_ref() != Some(&text) && !found.shipped.contains(&text);
            expect(out && found.timed.iter().all(|timed| timed.config != text), || format!("{found:?}"))?;
            // Banned, it is not even tried.
            let skip = found.wrong.iter().map(|wrong| (wrong.config.clone(), wrong.sources)).collect();
            let again = tuned(&broken, &skip)?;
            expect(again.wrong.is_empty() && again.timed.iter().all(|timed| timed.config != text), || {
                format!("{again:?}")
            })?;
        }
        let found = tuned(&broken(gpu, &configs, "  if true { return; }"), &HashSet::new())?;
        let none = found.config.is_none() && found.shapes.is_empty() && found.wrong.len() == configs.len();
        expect(none && found.skipped[0].contains("every candidate is wrong"), || format!("{found:?}"))
    });
    suite.case("what is much faster wins, and is taken from its table", |gpu| {
        let configs = candidates(gpu)?;
        // The work of all but one, many times.
        let slow = "  var spin = 0u; for (var i = 0u; i < 20000u; i++) { spin = spin * 1664525u + i + params.rows; } \
                    if spin == 77u && params.rows == 0u { return; }";
        let fast = configs[1];
        let others: Vec<_> = configs.iter().copied().filter(|config| *config != fast).collect();
        let slowed = broken(gpu, &others, slow);
        let found = tuned(&slowed, &HashSet::new())?;
        expect(found.config == Some(fast.to_string()) && found.gain > 1.1, || format!("{found:?}"))?;
        let key = Table::key(&gpu.kernels);
        let mut table = Table::default();
        let Tuned { op, class, config, sources, .. } = found.clone();
        table.insert(&key, Entry { op, class, config, sources, facts: found.facts() });
        let taken = chosen(gpu, &Table::from_bytes(&table.to_bytes()), 2000)?;
        expect(taken == fast, || taken.to_string())
    });
}
