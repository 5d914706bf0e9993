//! `peers`: tileloom and others on one adapter, in turns, each result checked before it is timed.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use loom::commands::bench::{Bench, Suite, now};
use loom::commands::results::beside;
use loom::pool::Pool;

use crate::duel::{Duel, Machine};

mod attention;
mod attention_backward;
mod burn_side;
mod candle_side;
mod conv;
mod counting_sort;
mod duel;
mod gemm;
mod gemm_quant;
mod group_norm;
mod norm;
mod rope;
mod softmax;
mod vq_assign;
mod vq_lookup;

/// A kernel by its stem, and its duels.
type Kernel = (&'static str, fn() -> Vec<Duel>);

/// What is measured: a file and a line per kernel.
const ALL: &[Kernel] = &[
    ("attention", attention::duels),
    ("attention_backward", attention_backward::duels),
    ("conv", conv::duels),
    ("counting_sort", counting_sort::duels),
    ("gemm", gemm::duels),
    ("gemm_quant", gemm_quant::duels),
    ("group_norm", group_norm::duels),
    ("norm", norm::duels),
    ("rope", rope::duels),
    ("softmax", softmax::duels),
    ("vq_assign", vq_assign::duels),
    ("vq_lookup", vq_lookup::duels),
];

/// Measures tileloom and its peers on one adapter, in turns.
///
/// A result that is wrong gets no figure, and exit code 1. The adapter is the one that burn takes:
/// CUBECL_WGPU_DEFAULT_DEVICE selects it where there are several.
#[derive(Parser)]
#[command(name = "peers", version)]
struct Arguments {
    /// Kernels to measure; all of them if none is named
    #[arg(value_name = "KERNEL")]
    kernels: Vec<String>,
    /// Only shapes whose name contains NAME
    #[arg(long, value_name = "NAME")]
    shape: Option<String>,
    /// Few repeats, of few shapes
    #[arg(long)]
    quick: bool,
    /// Of the random inputs [default: the time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Write the figures to FILE, as JSON, which `loom report` reads
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    env_logger::init();
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether all results are right.
fn run(arguments: &Arguments) -> Result<bool, String> {
    if let Some(name) = arguments.kernels.iter().find(|name| ALL.iter().all(|(known, _)| known != name)) {
        let known: Vec<_> = ALL.iter().map(|(name, _)| *name).collect();
        return Err(format!("kernel `{name}` is not known, expected one of: {}", known.join(", ")));
    }
    let machine = Machine::open()?;
    let pool = Pool::new(arguments.seed.unwrap_or_else(now));
    let mut report = duel::report(&machine, pool.seed(), arguments.quick);
    let mut bench = Bench::new(&machine.gpu, &pool, if arguments.quick { Suite::Quick } else { Suite::Full })?;
    for (kernel, duels) in ALL
        .iter()
        .filter(|(name, _)| arguments.kernels.is_empty() || arguments.kernels.iter().any(|wanted| wanted == name))
    {
        let named = |duel: &&Duel| arguments.shape.as_deref().is_none_or(|name| duel.bench.name().contains(name));
        for duel in duels().iter().filter(|duel| duel.quick() || !arguments.quick).filter(named) {
            eprintln!("{kernel} {}", duel.bench.name());
            report.lines.extend(duel::fight(&machine, &mut bench, &pool, kernel, duel, arguments.quick)?);
        }
    }
    println!("{}", beside(&report));
    if let Some(path) = &arguments.out {
        let text = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
        std::fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(report.ok())
}
