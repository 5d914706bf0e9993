//! Many calls, drawn from a seed. [`run`] prints how many, and each fault once.
//!
//! * `TILELOOM_FUZZ_SECONDS`: how long (10).
//! * `TILELOOM_FUZZ_SEED`: another run than that of seed 1; on devices that run nothing, the cases of a seed are the same on every
//!   machine of one pointer width.
//! * `TILELOOM_FUZZ_CASE`: this case alone.
//! * `TILELOOM_FUZZ_OP`: calls of this op alone.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tileloom::Kernels;

use crate::call::{End, Tally};
use crate::dice::Dice;
use crate::gpu::Gpu;
use crate::ops::OPS;

thread_local! {
    /// A case is running, and what its panic says is kept.
    static RUNS: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Cases between new Kernels, which keep each pipeline.
const CASES_PER_KERNELS: u64 = 4096;

/// A case that takes longer hangs.
const HANG: Duration = Duration::from_secs(300);

/// Different faults after which there is no point in more.
const FAULTS: usize = 40;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[derive(Default)]
struct Found {
    /// By what tells them apart.
    faults: Mutex<BTreeMap<String, String>>,
    next: AtomicU64,
    done: AtomicBool,
    /// What runs, since when.
    running: Mutex<BTreeMap<u64, (Instant, &'static str)>>,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    tally: Tally,
    cases: u64,
    /// Refused and recorded ones.
    by_op: BTreeMap<&'static str, [u64; 2]>,
    /// How long a case took, and which.
    slowest: (Duration, u64, &'static str),
}

/// Cases on the devices that `open` gives; the first of them has most.
pub fn run(open: fn() -> Vec<Gpu>) -> ExitCode {
    let seed = number("TILELOOM_FUZZ_SEED").unwrap_or(1);
    let seconds = number("TILELOOM_FUZZ_SECONDS").unwrap_or(10);
    std::panic::set_hook(Box::new(|info| match RUNS.get() {
        true => PANIC.with_borrow_mut(|panic| *panic = info.to_string()),
        false => eprintln!("{info}"),
    }));
    let found = Found::default();
    let start = Instant::now();
    let only = std::env::var("TILELOOM_FUZZ_OP").ok();
    match number("TILELOOM_FUZZ_CASE") {
        Some(case) => {
            found.next.store(case, Ordering::Relaxed);
            worker(&found, open(), seed, case..case + 1, start, only.as_deref());
        }
        None => {
            let until = start + Duration::from_secs(seconds);
            let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
            std::thread::scope(|scope| {
                let workers: Vec<_> = (0..threads)
                    .map(|_| scope.spawn(|| worker(&found, open(), seed, 0..u64::MAX, until, only.as_deref())))
                    .collect();
                while !workers.iter().all(|worker| worker.is_finished()) {
                    std::thread::sleep(Duration::from_millis(50));
                    let running = found.running.lock().expect("what runs");
                    if let Some((case, (_, op))) = running.iter().find(|(_, (since, _))| since.elapsed() > HANG) {
                        println!("case {case} of {op} hangs; seed {seed}");
                        std::process::exit(1);
                    }
                }
            });
        }
    }
    let Counts { tally, cases, by_op, slowest: (slow, slow_case, slow_op) } =
        found.counts.into_inner().expect("the counts");
    let faults = found.faults.into_inner().expect("the faults");
    for fault in faults.values() {
        println!("{fault}\n");
    }
    for (op, [refused, recorded]) in by_op {
        println!("{op:<20} {refused:>9} refused {recorded:>9} recorded");
        assert!(recorded > 0 || refused < 100, "{op}: nothing is tested where all is refused");
    }
    let Tally { prepared, recorded } = tally;
    let took = start.elapsed().as_secs();
    println!("slowest: case {slow_case} of {slow_op}, {} ms", slow.as_millis());
    assert!(cases > 0, "no case was drawn: is TILELOOM_FUZZ_OP an op, and is there time?");
    println!("fuzz: {cases} cases, {prepared} calls of prepare, {recorded} recorded, in {took} s; seed {seed}");
    let (word, passed, failed) = if faults.is_empty() { ("ok", 1, 0) } else { ("FAILED", 0, faults.len()) };
    println!("test result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out");
    ExitCode::from(u8::from(failed > 0))
}

/// Whether so many cases of an op show a fault of these devices.
pub fn shows(open: fn() -> Vec<Gpu>, op: &str, cases: u64) -> bool {
    let found = Found::default();
    worker(&found, open(), 1, 0..cases * OPS.len() as u64, Instant::now(), Some(op));
    !found.faults.into_inner().expect("the faults").is_empty()
}

/// Takes cases, one after the other, as long as there is time.
fn worker(found: &Found, gpus: Vec<Gpu>, seed: u64, cases: std::ops::Range<u64>, until: Instant, only: Option<&str>) {
    let mut kernels: Vec<Vec<Kernels>> = Vec::new();
    let (mut own, mut made) = (Counts::default(), 0);
    while !found.done.load(Ordering::Relaxed) {
        let case = found.next.fetch_add(1, Ordering::Relaxed);
        if !cases.contains(&case) || (Instant::now() >= until && cases.end == u64::MAX) {
            break;
        }
        let mut dice = Dice::of(seed, case);
        let of = dice.below(gpus.len() + 4);
        // The first one most often.
        let of = if of < gpus.len() { of } else { 0 };
        if kernels.is_empty() || own.cases >= made + CASES_PER_KERNELS {
            (made, kernels) = (own.cases, gpus.iter().map(Gpu::kernels).collect());
        }
        let kernels = &kernels[of];
        let kernels = &kernels[dice.below(kernels.len())];
        let (op, run) = OPS[dice.below(OPS.len())];
        if only.is_some_and(|only| only != op) {
            continue;
        }
        own.cases += 1;
        let start = Instant::now();
        found.running.lock().expect("what runs").insert(case, (start, op));
        RUNS.set(true);
        let ran = catch_unwind(AssertUnwindSafe(|| run(&mut dice, &gpus[of], kernels, &mut own.tally)));
        RUNS.set(false);
        found.running.lock().expect("what runs").remove(&case);
        own.slowest = own.slowest.max((start.elapsed(), case, op));
        let counts = own.by_op.entry(op).or_default();
        let fault = match ran {
            Ok(Ok(End::Refused)) => {
                counts[0] += 1;
                continue;
            }
            Ok(Ok(End::Recorded)) => {
                counts[1] += 1;
                if counts[1] % 256 == 0 {
                    let _ = gpus[of].device.poll(wgpu::PollType::Poll);
                }
                continue;
            }
            Ok(Err(fault)) => fault,
            Err(_) => PANIC.with_borrow(|panic| panic.clone()),
        };
        let first = fault.lines().next().unwrap_or_default();
        // A panic is told by its place, what depends on data without them.
        let first = if first.starts_with("byte") { first.split(':').next().unwrap_or(first) } else { first };
        let kind: String =
            first.chars().filter(|c| !c.is_ascii_digit() || first.starts_with("panicked")).take(100).collect();
        let mut faults = found.faults.lock().expect("the faults");
        faults.entry(format!("{op} {kind}")).or_insert(format!("case {case} of {op}: {fault}"));
        found.done.fetch_or(faults.len() >= FAULTS, Ordering::Relaxed);
    }
    let mut all = found.counts.lock().expect("the counts");
    all.tally.prepared += own.tally.prepared;
    all.tally.recorded += own.tally.recorded;
    all.cases += own.cases;
    all.slowest = all.slowest.max(own.slowest);
    for (op, [refused, recorded]) in own.by_op {
        let sums = all.by_op.entry(op).or_default();
        *sums = [sums[0] + refused, sums[1] + recorded];
    }
}
