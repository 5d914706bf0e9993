//! Multi-token prediction, as DeepSeek-V3 (2024, section 2.2) has it: one more depth of the model guesses the token after the next one, and
//! the model itself, which sees both tokens in one pass, keeps the guess or draws another in its place.
//!
//! ```sh
//! cargo run --example mtp
//! ```
//!
//! A depth takes the hidden state `h` of a token, and the embedding `e` of the token that came next:
//!
//! ```text
//! h' = M [norm(h); norm(e)]        M is [d, 2 d]
//! draft = softmax(head h')         (in front of the head a block of the model, which is left out here)
//! ```
//!
//! Nothing is put together by a copy: each norm writes its half of the rows of one `[n, 2 d]` buffer (`y_layout`), of which one product reads
//! whole rows.
//!
//! The model of this example is as small as one can be: `h = e` of a token, and `target = softmax(head (W norm(e)))` of the next. The depth has learnt
//! as much of it as its matrix has of `W`: `M = [0 | W]`, and noise. So more noise means fewer tokens that stand, and the tokens are
//! those of the model whatever the noise.

use std::error::Error;

use tileloom::norm::{self, Kind};
use tileloom::verify::random::Random;
use tileloom::{Context, Dispatch, Dtype, Layout, Tensor, gemm, sample, softmax, speculative_verify, vq_lookup};

/// Sequences that take a step together.
const N: usize = 2048;
const D: usize = 64;
const VOCAB: usize = 256;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A step of all sequences, in the order in which it runs.
struct Step<'a> {
    context: &'a Context,
    dispatches: Vec<Dispatch>,
}

impl Step<'_> {
    fn floats(&self, shape: &[usize]) -> Result<Tensor<f32>> {
        Ok(self.context.zeros(shape)?)
    }

    /// Rows of the embedding, by token.
    fn embed(&mut self, embedding: &Tensor<f32>, tokens: &Tensor<u32>) -> Result<Tensor<f32>> {
        let y = self.floats(&[N, D])?;
        let problem = vq_lookup::Problem { spatial: N, num_codes: VOCAB, code_dim: D, ..Default::default() };
        let buffers = vq_lookup::Buffers::new(tokens.buffer(), embedding.buffer(), y.buffer());
        self.dispatches.push(vq_lookup::prepare(self.context.kernels(), &problem, buffers)?);
        Ok(y)
    }

    /// RMS norm of rows of `D`, into rows of `width` from column `column` on.
    fn norm(&mut self, x: &Tensor<f32>, y: &Tensor<f32>, column: usize, width: usize) -> Result<()> {
        let y_layout = Layout::strided(column, [width, 0, 0]);
        let problem = norm::Problem { rows: N, cols: D, y_layout, ..norm::Problem::of(Kind::Rms) };
        let buffers = norm::Buffers::new(x.buffer(), y.buffer());
        self.dispatches.push(norm::prepare(self.context.kernels(), &problem, buffers)?);
        Ok(())
    }

    /// `x W^T`, with W `[outputs, inputs]` as checkpoints have it.
    fn product(&mut self, x: &Tensor<f32>, w: &Tensor<f32>) -> Result<Tensor<f32>> {
        let (outputs, inputs) = (w.shape()[0], w.shape()[1]);
        let y = self.floats(&[N, outputs])?;
        let problem = gemm::Problem { trans_b: true, ..gemm::Problem::new(N, outputs, inputs, Dtype::F32) };
        let buffers = gemm::Buffers::new(x.buffer(), w.buffer(), y.buffer());
        self.dispatches.push(gemm::prepare(self.context.kernels(), &problem, buffers)?);
        Ok(y)
    }

    /// A token of each row of logits, drawn by the generator of this seed, and all probabilities.
    fn draw(&mut self, logits: &Tensor<f32>, seed: u64) -> Result<(Tensor<u32>, Tensor<f32>)> {
        let (token, probs) = (self.context.zeros(&[N])?, self.floats(&[N, VOCAB])?);
        let problem = sample::Problem {
            rows: N,
            vocab: VOCAB,
            uniform: sample::Uniform::Philox { seed, step: sample::Step::At(0) },
            probs: Some(Layout::default()),
            ..Default::default()
        };
        let buffers = sample::Buffers::new(logits.buffer()).probs(probs.buffer()).token(token.buffer());
        self.dispatches.push(sample::prepare(self.context.kernels(), &problem, buffers)?);
        Ok((token, probs))
    }

    /// The probabilities of logits, into place `place` of the two that each sequence has.
    fn softmax(&mut self, logits: &Tensor<f32>, y: &Tensor<f32>, place: usize) -> Result<()> {
        let y_layout = Layout::strided(place * VOCAB, [2 * VOCAB, 0, 0]);
        let problem = softmax::Problem { rows: N, cols: VOCAB, y_layout, ..Default::default() };
        let buffers = softmax::Buffers::new(logits.buffer(), y.buffer());
        self.dispatches.push(softmax::prepare(self.context.kernels(), &problem, buffers)?);
        Ok(())
    }
}

struct Model {
    embedding: Tensor<f32>,
    w: Tensor<f32>,
    head: Tensor<f32>,
}

impl Model {
    /// The model's logits of what follows these tokens, whose embeddings are `e`.
    fn logits(&self, step: &mut Step, e: &Tensor<f32>) -> Result<Tensor<f32>> {
        let normed = step.floats(&[N, D])?;
        step.norm(e, &normed, 0, D)?;
        let hidden = step.product(&normed, &self.w)?;
        step.product(&hidden, &self.head)
    }

    /// The same by the depth, from the hidden states of the tokens before.
    fn guess(&self, step: &mut Step, m: &Tensor<f32>, h: &Tensor<f32>, e: &Tensor<f32>) -> Result<Tensor<f32>> {
        let halves = step.floats(&[N, 2 * D])?;
        step.norm(h, &halves, 0, 2 * D)?;
        step.norm(e, &halves, D, 2 * D)?;
        let hidden = step.product(&halves, m)?;
        step.product(&hidden, &self.head)
    }
}

/// Tokens that stand of those guessed, and how the tokens that come out are distributed after the first token there is.
fn run(context: &Context, model: &Model, m: &Tensor<f32>, seed: u64) -> Result<(f64, Vec<f64>)> {
    let mut step = Step { context, dispatches: Vec::new() };
    let mut random = Random::new(seed);
    let before: Vec<u32> = (0..N).map(|_| random.below(VOCAB) as u32).collect();
    let uniform: Vec<f32> = (0..2 * N).map(|_| random.uniform() as f32).collect();

    // Every sequence has had some token, and then token 0.
    let h = step.embed(&model.embedding, &context.upload(&before, &[N])?)?;
    let e = step.embed(&model.embedding, &context.zeros(&[N])?)?;
    let guess = model.guess(&mut step, m, &h, &e)?;
    let (proposed, draft) = step.draw(&guess, seed)?;

    // The model's pass over token 0 and the guess.
    let target = step.floats(&[N, 2, VOCAB])?;
    let next = step.embed(&model.embedding, &proposed)?;
    for (place, e) in [&e, &next].into_iter().enumerate() {
        let logits = model.logits(&mut step, e)?;
        step.softmax(&logits, &target, place)?;
    }

    let (accepted, tokens): (Tensor<u32>, Tensor<i32>) = (context.zeros(&[N])?, context.zeros(&[N, 2])?);
    let uniform = context.upload(&uniform, &[N, 2])?;
    let problem = speculative_verify::Problem { batch: N, len: 1, vocab: VOCAB, ..Default::default() };
    let buffers = speculative_verify::Buffers::new(
        draft.buffer(),
        target.buffer(),
        proposed.buffer(),
        uniform.buffer(),
        accepted.buffer(),
        tokens.buffer(),
    );
    step.dispatches.push(speculative_verify::prepare(context.kernels(), &problem, buffers)?);

    let mut encoder = context.device().create_command_encoder(&Default::default());
    step.dispatches.iter().for_each(|dispatch| dispatch.record(&mut encoder));
    context.queue().submit([encoder.finish()]);
    let (accepted, tokens, target) = pollster::block_on(async {
        Ok::<_, tileloom::Error>((accepted.read().await?, tokens.read().await?, target.read().await?))
    })?;
    // How often each token has come first, less how often it should have: all sequences have the same target there.
    let mut apart: Vec<f64> = target[..VOCAB].iter().map(|&p| -f64::from(p)).collect();
    tokens.chunks(2).for_each(|pair| apart[pair[0] as usize] += 1.0 / N as f64);
    Ok((accepted.iter().sum::<u32>() as f64 / N as f64, apart))
}

fn main() -> Result<()> {
    let context = pollster::block_on(Context::new())?;
    let mut random = Random::new(1);
    let mut normal = |n: usize, scale: f64| -> Vec<f32> { (0..n).map(|_| (scale * random.normal()) as f32).collect() };
    let w = normal(D * D, 1.0 / 8.0);
    let model = Model {
        embedding: context.upload(&normal(VOCAB * D, 1.0), &[VOCAB, D])?,
        w: context.upload(&w, &[D, D])?,
        head: context.upload(&normal(VOCAB * D, 0.2), &[VOCAB, D])?,
    };
    println!("noise  tokens per pass  guesses that stand  furthest from the model");
    for noise in [0.0, 0.02, 0.05, 0.1, 0.2] {
        let mut m = normal(D * 2 * D, noise);
        for (to, from) in m.chunks_mut(2 * D).zip(w.chunks(D)) {
            to[D..].iter_mut().zip(from).for_each(|(to, from)| *to += from);
        }
        let (accepted, apart) = run(&context, &model, &context.upload(&m, &[D, 2 * D])?, 7)?;
        let furthest = apart.iter().fold(0f64, |most, apart| most.max(apart.abs()));
        println!("{noise:5}  {:15.2}  {:17.1}%  {:22.2}%", 1.0 + accepted, 100.0 * accepted, 100.0 * furthest);
    }
    Ok(())
}
