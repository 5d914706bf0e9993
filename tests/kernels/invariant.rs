//! `KernelsOptions::batch_invariant`: the bits of a row do not depend on who shares its batch.

use loom::Gpu;
use loom::harness::{Call, same_bits};
use loom::kernel::{Access, Listed, Values};
use loom::kernels::attention::{packed as layout, sequences};
use tileloom::gemm::Matrix;
use tileloom::norm::Kind;
use tileloom::{Caps, Dtype, Kernels, KernelsOptions, Op, attention, beam_step, gemm, gemm_quant, grouped_gemm, lora};
use tileloom::{
    group_norm, norm, quantize, sample, softmax, softmax_backward, speculative_tree, speculative_verify, weights,
};

use crate::{Depth, Suite};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("batch_invariant", cases);

fn cases(suite: &mut Suite) {
    let wide = suite.depth >= Depth::Wide;
    suite.case("gemm", products);
    suite.case("rows", rows);
    suite.case("attention", attentions);
    suite.case("packed attention of other neighbours", packed);
    if wide {
        suite.case("gemm_quant, lora", quantised);
        suite.case("grouped_gemm", grouped);
        suite.case("tokens", tokens);
    }
    suite.case("a Config for each batch without it", chosen);
}

/// Batches, besides one of `MOST`.
const BATCHES: [usize; 8] = [1, 2, 3, 7, 8, 9, 16, 33];
const MOST: usize = 64;

fn invariant(gpu: &Gpu) -> Kernels {
    let options = KernelsOptions { batch_invariant: true, ..Default::default() };
    let kernels = Kernels::with_options(&gpu.device, Caps::of(&gpu.adapter, &gpu.device), options);
    let caps = Caps { coop: gpu.kernels.caps().coop.clone(), coop_probed: true, ..(*kernels.caps()).clone() };
    if gpu.kernels.caps().coop_probed { kernels.with_caps(caps) } else { kernels }
}

/// The first rows of a batch of `MOST`, alone, have the bits that they have there. Those of `args` are cut, each in so many parts.
fn hold<D: Listed>(
    gpu: &Gpu,
    kernels: &Kernels,
    args: &[(&str, usize)],
    problem: impl Fn(usize) -> D,
) -> Result<(), String> {
    let whole = Call::random(problem(MOST), 3);
    let (of_whole, _) = whole.check(gpu, kernels, None)?;
    // The first `n` of `MOST` blocks of each of its parts.
    let first = |name: &str, all: &[f64], n: usize| -> Vec<f64> {
        match args.iter().find(|(have, _)| *have == name) {
            None => all.to_vec(),
            Some((_, parts)) => {
                all.chunks(all.len() / parts).flat_map(|part| part[..part.len() / MOST * n].to_vec()).collect()
            }
        }
    };
    for n in BATCHES {
        let own = problem(n);
        let read = own.args().into_iter().filter(|arg| arg.access != Access::Write);
        let values: Values = read.map(|arg| (arg.name, first(arg.name, &whole.values[arg.name], n))).collect();
        let alone = Call::new(own, values).run(gpu, kernels, None)?;
        let there = of_whole.values.iter().map(|(name, all)| (*name, first(name, all, n))).collect();
        let told = |reason| format!("{n} of {MOST}: {reason}\n  {:?}\n  {:?}", whole.problem, alone.steps);
        same_bits(&alone.values, &there).map_err(told)?;
    }
    Ok(())
}

fn products(gpu: &Gpu) -> Result<(), String> {
    let kernels = invariant(gpu);
    for (n, k, dtype, trans_b) in
        [(48, 1040, Dtype::F32, true), (5, 100, Dtype::F32, true), (40, 600, Dtype::F16, false)]
    {
        let matrix = Matrix::new(dtype);
        hold(gpu, &kernels, &[("a", 1), ("d", 1)], |m| gemm::Problem {
            trans_b,
            a: matrix,
            b: matrix,
            ..gemm::Problem::new(m, n, k, dtype)
        })?;
    }
    // Batches of their own.
    hold(gpu, &kernels, &[("a", 1), ("b", 1), ("d", 1)], |batch| gemm::Problem {
        batch: [1, batch],
        ..gemm::Problem::new(3, 20, 600, Dtype::F32)
    })
}

fn quantised(gpu: &Gpu) -> Result<(), String> {
    let kernels = invariant(gpu);
    for format in [weights::Format::INT8, weights::Format::GPTQ] {
        hold(gpu, &kernels, &[("a", 1), ("d", 1)], |m| gemm_quant::Problem {
            m,
            n: 64,
            k: 1024,
            format,
            ..Default::default()
        })?;
    }
    hold(gpu, &kernels, &[("a", 1), ("d", 1)], |m| gemm_quant::Problem {
        m,
        n: 64,
        k: 256,
        format: weights::Format::INT8,
        activations: gemm_quant::Activations::Int8,
        ..Default::default()
    })?;
    hold(gpu, &kernels, &[("x", 1), ("y", 1), ("adapter", 1)], |m| lora::Problem {
        m,
        n: 40,
        k: 600,
        rank: 8,
        adapters: 3,
        adapter: Some(0),
        ..Default::default()
    })
}

/// All rows are of the first group, which is where they lie in any batch.
fn grouped(gpu: &Gpu) -> Result<(), String> {
    let kernels = invariant(gpu);
    let problem = |m| grouped_gemm::Problem { m, n: 40, k: 300, groups: 3, ..Default::default() };
    let of = |n: usize, whole: Option<&Values>| {
        let mut values = whole.map_or_else(|| Call::random(problem(n), 3).values.clone(), Clone::clone);
        values.entry("a").and_modify(|a| a.truncate(n * 300));
        values.insert("offsets", [0, n, n, n].map(|at| at as f64).to_vec());
        Call::new(problem(n), values)
    };
    let whole = of(MOST, None);
    let (of_whole, _) = whole.check(gpu, &kernels, None)?;
    for n in BATCHES {
        let alone = of(n, Some(&whole.values)).run(gpu, &kernels, None)?;
        if alone.values["d"] != of_whole.values["d"][..n * 40] {
            return Err(format!("{n} of {MOST}: {:?}", alone.steps));
        }
    }
    Ok(())
}

fn rows(gpu: &Gpu) -> Result<(), String> {
    let kernels = invariant(gpu);
    // In registers, and longer than that.
    for cols in [40, 1000, 4400] {
        let args = [("x", 1), ("y", 1), ("lse", 1)];
        hold(gpu, &kernels, &args, |rows| softmax::Problem { rows, cols, lse: Some(0), ..Default::default() })?;
        for kind in [Kind::Rms, Kind::Layer] {
            hold(gpu, &kernels, &args[..2], |rows| norm::Problem { rows, cols, ..norm::Problem::of(kind) })?;
        }
    }
    hold(gpu, &kernels, &[("x", 1), ("y", 1)], |batch| group_norm::Problem {
        batch,
        size: [60, 60],
        ..Default::default()
    })?;
    let args = [("y", 1), ("dy", 1), ("dx", 1)];
    hold(gpu, &kernels, &args, |rows| softmax_backward::Problem { rows, cols: 1000, ..Default::default() })?;
    let args = [("x", 1), ("codes", 1), ("scales", 1)];
    hold(gpu, &kernels, &args, |rows| quantize::Problem { rows, cols: 512, ..Default::default() })
}

fn attentions(gpu: &Gpu) -> Result<(), String> {
    let kernels = invariant(gpu);
    let args = [("q", 1), ("k", 1), ("v", 1), ("o", 1)];
    // Keys that are split, and tiles.
    for (seq_q, seq_kv) in [(1, 600), (9, 40)] {
        let of = attention::Problem { seq_q, seq_kv, ..attention::Problem::new(1, 4, 2, 16) };
        hold(gpu, &kernels, &args, |batch| attention::Problem { batch, causal: seq_q > 1, ..of })?;
    }
    Ok(())
}

/// A sequence of 5 queries and 21 keys in front of others: none, short ones, a long one.
fn packed(gpu: &Gpu) -> Result<(), String> {
    let kernels = invariant(gpu);
    let mut first: Option<Vec<f64>> = None;
    for others in [&[][..], &[[1, 3], [2, 2], [1, 90]], &[[70, 300]]] {
        let all: Vec<[usize; 2]> = [[5, 21]].iter().chain(others).copied().collect();
        let [seq_q, seq_kv] = [0, 1].map(|i| all.iter().map(|of| of[i]).max().unwrap_or(0));
        let of = attention::Problem { seq_q, seq_kv, causal: true, ..attention::Problem::new(all.len(), 4, 2, 16) };
        let problem = layout(&all, of);
        let mut values = Call::random(problem, 3).values.clone();
        sequences(&all)(&problem, &mut values);
        for name in ["q", "k", "v"] {
            // The first sequence has the same values in each call; heads come before tokens.
            let mut random = tileloom::verify::random::Random::new(7);
            let (heads, tokens) = if name == "q" { (4, 5) } else { (2, 21) };
            let own = random.outliers(heads * tokens * 16);
            values.entry(name).and_modify(|values| {
                let head = values.len() / heads;
                for (to, own) in values.chunks_mut(head).zip(own.chunks(tokens * 16)) {
                    to[..own.len()].copy_from_slice(own);
                }
            });
        }
        let call = Call::new(problem, values);
        let (out, _) = call.check(gpu, &kernels, None)?;
        let o = &out.values["o"];
        let own: Vec<f64> = o.chunks(o.len() / 4).flat_map(|head| head[..5 * 16].to_vec()).collect();
        match &first {
            Some(first) if *first != own => return Err(format!("beside {others:?}")),
            _ => first = Some(own),
        }
    }
    Ok(())
}

/// Tokens, and what they are drawn from.
fn tokens(gpu: &Gpu) -> Result<(), String> {
    let kernels = invariant(gpu);
    let settings = sample::Settings { temperature: 0.7, top_p: 0.9, ..Default::default() };
    let args = ["logits", "uniform", "probs", "token"].map(|name| (name, 1));
    let probs = Some(Default::default());
    hold(gpu, &kernels, &args, |rows| sample::Problem { rows, vocab: 9000, settings, probs, ..Default::default() })?;
    let args = ["logits", "scores", "out_scores", "out_beams", "out_tokens"].map(|name| (name, 1));
    hold(gpu, &kernels, &args, |batch| beam_step::Problem {
        batch,
        beams: 2,
        vocab: 9000,
        top: 4,
        ..Default::default()
    })?;
    let args = ["draft", "target", "proposed", "uniform", "accepted", "tokens"].map(|name| (name, 1));
    hold(gpu, &kernels, &args, |batch| speculative_verify::Problem {
        batch,
        len: 2,
        vocab: 900,
        ..Default::default()
    })?;
    let args = ["target", "drawn", "proposed", "path", "accepted", "tokens"].map(|name| (name, 1));
    let sampled = speculative_tree::Sampled { vocab: 900, ..Default::default() };
    let accept = speculative_tree::Accept::Sampled(sampled);
    let of_draft = ["draft", "target", "uniform", "proposed", "path", "accepted", "tokens"].map(|name| (name, 1));
    hold(gpu, &kernels, &of_draft, |batch| speculative_tree::Problem {
        batch,
        len: 5,
        depth: 3,
        accept,
        ..Default::default()
    })?;
    let typical = speculative_tree::Typical { vocab: 900, ..Default::default() };
    let accept = speculative_tree::Accept::Typical(typical);
    hold(gpu, &kernels, &args, |batch| speculative_tree::Problem {
        batch,
        len: 5,
        depth: 3,
        accept,
        ..Default::default()
    })
}

/// What the option is for: without it Configs follow the batch; with it, none of these does.
fn chosen(gpu: &Gpu) -> Result<(), String> {
    fn differ<P: Op>(caps: &Caps, problems: [P; 2]) -> Result<bool, String> {
        let [a, b] = problems.map(|problem| problem.choose(caps).map_err(|error| error.to_string()));
        Ok(a? != b?)
    }
    let kernels = invariant(gpu);
    let products = [1, 64].map(|m| gemm::Problem::new(m, 512, 512, Dtype::F32));
    let few = attention::Problem { seq_kv: 4096, ..attention::Problem::new(1, 4, 2, 16) };
    let sequences = [1, 64].map(|batch| attention::Problem { batch, ..few });
    let long = [1, 64].map(|rows| softmax::Problem { rows, cols: 1 << 17, ..Default::default() });
    for (caps, want) in [(gpu.kernels.caps(), true), (kernels.caps(), false)] {
        let found = [differ(&caps, products)?, differ(&caps, sequences)?, differ(&caps, long)?];
        if found != [want; 3] {
            return Err(format!("batch_invariant {}: Configs differ: {found:?}", caps.batch_invariant));
        }
    }
    Ok(())
}
