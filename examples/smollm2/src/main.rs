//! `smollm2 --help` tells what it does.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;

use clap::Parser;
use safetensors::tensor::{Dtype, TensorView, serialize};
use smollm2::adapter::Adapter;
use smollm2::cache::Kind;
use smollm2::chat::{self, Rates, Talk};
use smollm2::gguf::Gguf;
use smollm2::gpu::Gpu;
use smollm2::model::Model;
use smollm2::session::{Options, Session};
use smollm2::speculate::Speculation;
use smollm2::tokens::Tokens;
use smollm2::{Result, bench};
use tileloom::sample::Settings;

/// Chats with SmolLM2, or another llama-shaped model, on the GPU by tileloom's kernels.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The GGUF file; `tools/smollm2` fetches one and prints its path.
    model: PathBuf,
    /// Answers this, and ends; without it lines of the terminal are turns of a chat.
    prompt: Option<String>,
    /// The prompt is no turn of a chat, but text that goes on.
    #[arg(long)]
    raw: bool,
    /// Ids of tokens, separated by commas, in place of a prompt.
    #[arg(long, value_delimiter = ',')]
    tokens: Vec<u32>,
    /// Goes on for so many of the likeliest tokens, whatever they are.
    #[arg(long)]
    greedy: Option<usize>,
    /// Tokens of an answer, at most.
    #[arg(long, default_value_t = 512)]
    most: usize,
    /// Scores are divided by this before a token is drawn; 0 is the likeliest token.
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// The likeliest tokens up to this sum of probabilities.
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    /// So many of the likeliest tokens; 0 is all.
    #[arg(long, default_value_t = 0)]
    top_k: u32,
    /// Tokens of at least this share of the largest probability.
    #[arg(long, default_value_t = 0.0)]
    min_p: f32,
    /// Other draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// What the cache of keys and values holds.
    #[arg(long, value_enum, default_value = "f16")]
    cache: Kind,
    /// Tokens of a sequence, at most.
    #[arg(long, default_value_t = 2048)]
    context: usize,
    /// Tokens of a prompt that go through the model at a time, at most.
    #[arg(long, default_value_t = 512)]
    chunk: usize,
    /// An adapter of low rank: safetensors of PEFT, `adapter_config.json` beside it.
    #[arg(long)]
    lora: Option<PathBuf>,
    /// The first GPU whose name contains this, in place of the one that wgpu prefers.
    #[arg(long)]
    adapter: Option<String>,
    /// Proposes so many tokens at a time, those that followed the same words before, and verifies them.
    #[arg(long)]
    speculate: Option<usize>,
    /// So many sequences at a time, of the prompt's first half, third, .. and all of it.
    #[arg(long)]
    batch: Option<usize>,
    /// Tokens per submit, of which the host hears nothing in between.
    #[arg(long, default_value_t = 1)]
    steps: usize,
    /// Writes the logits of all tokens of the prompt: safetensors `logits`, f32 `[tokens, vocab]`, and `tokens`, u32.
    #[arg(long)]
    logits: Option<PathBuf>,
    /// Rounds activations to f16, so that cooperative matrices may take them.
    #[arg(long)]
    matrices: bool,
    /// Measures prompts of these lengths, decoding, the host, and each op.
    #[arg(long, value_delimiter = ',', num_args = 0.., default_missing_value = "128,512")]
    bench: Option<Vec<usize>>,
    /// Runs of each measurement.
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

fn main() {
    if let Err(error) = run(&Args::parse()) {
        eprintln!("smollm2: {error}");
        std::process::exit(1);
    }
}

fn run(args: &Args) -> Result<()> {
    let file = Gguf::open(&args.model)?;
    let gpu = Gpu::open(args.adapter.as_deref(), args.matrices)?;
    let adapter = args.lora.as_deref().map(Adapter::open).transpose()?;
    let model = Model::load(&gpu, &file, adapter.as_ref())?;
    eprintln!("{}, weights {:.1} MB", gpu.kernels().caps().label(), gpu.bytes() as f64 / 1e6);
    let &Args { temperature, top_p, top_k, min_p, .. } = args;
    let temperature = if args.greedy.is_some() { 0.0 } else { temperature };
    let options = Options {
        cache: args.cache,
        context: args.context,
        chunk: args.chunk.max(1),
        settings: Settings { temperature, top_p, top_k, min_p, ..Settings::default() },
        seed: args.seed,
        matrices: args.matrices,
        ..Options::default()
    };
    if let Some(prompts) = &args.bench {
        return bench::run(&gpu, &model, &Tokens::of(&file)?, options, prompts, args.runs.max(1));
    }
    let tokens = || Tokens::of(&file);
    let prompt = || match &args.prompt {
        _ if !args.tokens.is_empty() => Ok(args.tokens.clone()),
        Some(text) if args.raw => tokens()?.encode(text),
        Some(text) => tokens()?.turn(text, true),
        None => Err("there is no prompt, and there are no --tokens".into()),
    };
    if let Some(path) = &args.logits {
        let options = Options { logits: options.chunk, ..options };
        return write_logits(path, &mut Session::new(&gpu, &model, options)?, &prompt()?);
    }
    if let Some(batch) = args.batch.filter(|&batch| batch > 1) {
        return several(Session::new(&gpu, &model, Options { batch, ..options })?, &prompt()?, args, &tokens()?);
    }
    let options = args.speculate.map_or(options, |len| Speculation::options(options, len));
    let mut session = Session::new(&gpu, &model, options)?;
    let speculation = args.speculate.map(|len| Speculation::new(&session, len)).transpose()?;
    let mut talk = Talk { session: &mut session, speculation, steps: args.steps.max(1), history: Vec::new() };
    if args.prompt.is_none() && args.tokens.is_empty() {
        return chat::run(talk, &tokens()?, args.most, tell);
    }
    let ids = prompt()?;
    let rates = match args.greedy {
        Some(most) if !args.tokens.is_empty() => {
            let rates = talk.say(&ids, most, &[], |_| Ok(()))?;
            let said: Vec<_> = talk.history[ids.len()..].iter().map(u32::to_string).collect();
            println!("{}", said.join(","));
            rates
        }
        Some(most) => {
            let tokens = tokens()?;
            let rates = talk.say(&ids, most, &[], chat::printed(&tokens))?;
            println!();
            rates
        }
        None => {
            let tokens = tokens()?;
            let rates = talk.say(&ids, args.most, &tokens.ends, chat::printed(&tokens))?;
            println!();
            rates
        }
    };
    tell(&rates, &talk);
    Ok(())
}

/// Rates, memory, pipelines, and what the host does for a token.
fn tell(rates: &Rates, talk: &Talk) {
    let (gpu, spent) = (talk.session.gpu, &talk.session.spent);
    eprintln!(
        "[prompt of {} {:.1} tokens/s, with what is compiled; {} more {:.1} tokens/s; {:.1} MB; {} pipelines; host {:.0} us per token]",
        rates.prompt,
        rates.prompt as f64 / rates.prompt_seconds,
        rates.tokens,
        rates.tokens as f64 / rates.seconds.max(1e-9),
        gpu.bytes() as f64 / 1e6,
        gpu.kernels().pipeline_count(),
        spent.host.as_secs_f64() / f64::from(spent.passes.max(1)) * 1e6,
    );
    if let Some(speculation) = &talk.speculation {
        eprintln!("[{} tokens were proposed, {} stood]", speculation.tried, speculation.stood);
    }
}

fn write_logits(path: &PathBuf, session: &mut Session, ids: &[u32]) -> Result<()> {
    let logits = session.logits(ids)?;
    let shape = vec![ids.len(), session.model.sizes.vocab];
    let views = HashMap::from([
        ("logits", TensorView::new(Dtype::F32, shape, bytemuck::cast_slice(&logits))?),
        ("tokens", TensorView::new(Dtype::U32, vec![ids.len()], bytemuck::cast_slice(ids))?),
    ]);
    Ok(std::fs::File::create(path)?.write_all(&serialize(views, None)?)?)
}

/// Several sequences at a time: the prompt's beginnings, packed, then a token of each per pass.
fn several(mut session: Session, ids: &[u32], args: &Args, tokens: &Tokens) -> Result<()> {
    let batch = session.options.batch;
    let prompts: Vec<_> = (1..=batch).map(|i| &ids[..(ids.len() * i / batch).max(1)]).collect();
    let mut said: Vec<_> = session.prefill(&prompts)?.into_iter().map(|id| vec![id]).collect();
    let start = std::time::Instant::now();
    let most = args.greedy.unwrap_or(args.most);
    while said[0].len() < most {
        let next = session.next(args.steps.clamp(1, most - said[0].len()))?;
        for (said, ids) in said.iter_mut().zip(next) {
            said.extend(ids);
        }
        let ended = |said: &Vec<u32>| args.greedy.is_none() && said.iter().any(|id| tokens.ends.contains(id));
        if said.iter().all(ended) {
            break;
        }
    }
    let passes = said[0].len() - 1;
    let seconds = start.elapsed().as_secs_f64();
    for (prompt, said) in prompts.iter().zip(&said) {
        let end = said.iter().position(|id| args.greedy.is_none() && tokens.ends.contains(id)).unwrap_or(said.len());
        println!("{} + {}: {:?}", prompt.len(), end, tokens.decode(&said[..end])?);
    }
    eprintln!("[{batch} sequences, {:.1} tokens/s]", (passes * batch) as f64 / seconds.max(1e-9));
    Ok(())
}
