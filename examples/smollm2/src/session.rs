//! Sequences under way: prompts go in, tokens come out one after the other.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tileloom::sample::Settings;
use tileloom::wgpu::Buffer;

use crate::Result;
use crate::cache::{Cache, Kind};
use crate::gpu::{Gpu, Readback};
use crate::model::Model;
use crate::step::{Heads, Memory, Pick, Rows, Step};

/// How sequences are run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// What the cache holds.
    pub cache: Kind,
    /// Tokens of a sequence, at most.
    pub context: usize,
    /// Tokens of a prompt that go through the model at a time, at most; prompts of a batch go at once.
    pub chunk: usize,
    /// Sequences.
    pub batch: usize,
    /// How tokens are drawn.
    pub settings: Settings,
    pub seed: u64,
    /// Products round activations to f16, so that cooperative matrices may take them.
    pub matrices: bool,
    /// Rows of logits, at most; as many as are proposed, and one, where tokens are verified.
    pub logits: usize,
    /// Probabilities are wanted, too.
    pub probs: bool,
}

impl Default for Options {
    /// Greedy, one sequence of up to 2048 tokens, a cache of f16.
    fn default() -> Options {
        let settings = Settings { temperature: 0.0, ..Settings::default() };
        let (cache, context, chunk, batch) = (Kind::F16, 2048, 512, 1);
        Options { cache, context, chunk, batch, settings, seed: 0, matrices: false, logits: batch, probs: false }
    }
}

/// Tokens of a page, where several sequences share the cache.
const PAGE: usize = 64;

/// What the host did, and how long all of it took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    /// Passes.
    pub passes: u32,
    /// Recording, finishing and submitting.
    pub host: Duration,
    /// Until the result was read.
    pub wall: Duration,
}

/// Sequences on a device.
pub struct Session<'a> {
    pub gpu: &'a Gpu,
    pub model: &'a Model,
    pub options: Options,
    pub memory: Memory,
    cache: Cache,
    /// Tokens of each sequence that are in the cache.
    lengths: Vec<usize>,
    steps: HashMap<(Rows, bool), Step>,
    readback: Readback,
    draws: u32,
    pub spent: Spent,
}

impl<'a> Session<'a> {
    /// Empty sequences.
    pub fn new(gpu: &'a Gpu, model: &'a Model, options: Options) -> Result<Session<'a>> {
        let Options { cache, batch, logits, .. } = options;
        let context = options.context.min(model.sizes.context);
        let (pages, page_size) = if batch == 1 { (1, context) } else { (batch * context.div_ceil(PAGE), PAGE) };
        let cache = Cache::new(gpu, &model.sizes, cache, pages, page_size)?;
        let rows = if batch == 1 { options.chunk } else { options.chunk.max(batch) };
        let logits = logits.max(batch);
        let memory = Memory::new(gpu, &model.sizes, &cache, batch, rows, logits, options.probs)?;
        let options = Options { context, ..options };
        let table: Vec<u32> =
            (0..batch).flat_map(|b| (0..pages / batch).map(move |j| (j * batch + b) as u32)).collect();
        gpu.write_at(&memory.indices, memory.pages_at(), &table);
        let readback = Readback::new(gpu, (logits * model.sizes.vocab).max(rows));
        let (lengths, steps) = (vec![0; batch], HashMap::new());
        Ok(Session { gpu, model, options, memory, cache, lengths, steps, readback, draws: 0, spent: Spent::default() })
    }

    /// Tokens of a sequence that are in the cache.
    pub fn len(&self, sequence: usize) -> usize {
        self.lengths[sequence]
    }

    /// Forgets all tokens.
    pub fn clear(&mut self) {
        self.lengths.fill(0);
    }

    /// Takes back tokens of a sequence.
    pub fn truncate(&mut self, sequence: usize, len: usize) {
        self.lengths[sequence] = self.lengths[sequence].min(len);
    }

    /// What has been prepared.
    pub fn steps(&self) -> impl Iterator<Item = (&Rows, &Step)> {
        self.steps.iter().map(|((rows, _), step)| (rows, step))
    }

    /// Takes prompts, one per sequence, behind what each has, and gives the token that comes next in each.
    pub fn prefill(&mut self, prompts: &[&[u32]]) -> Result<Vec<u32>> {
        if prompts.len() == 1 {
            let (ids, chunk) = (prompts[0], self.options.chunk);
            let last = (ids.len().max(1) - 1) / chunk * chunk;
            for part in ids[..last].chunks(chunk) {
                self.pass(&[part], Heads::None, None)?;
            }
            self.pass(&[&ids[last..]], Heads::Last, None)?;
        } else {
            self.pass(prompts, Heads::Last, None)?;
        }
        self.read_tokens()
    }

    /// The logits of all tokens of a prompt, behind what the sequence has.
    pub fn logits(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        let mut logits = Vec::new();
        for part in ids.chunks(self.options.chunk.min(self.options.logits)) {
            self.pass(&[part], Heads::All, Some(Pick::Logits))?;
            logits.extend(self.read::<f32>(part.len() * self.model.sizes.vocab, &self.memory.logits)?);
        }
        Ok(logits)
    }

    /// The token that comes next in each sequence, behind the last ones.
    pub fn next(&mut self) -> Result<Vec<u32>> {
        let rows = Rows::next(self.options.batch);
        let lengths = self.lengths.clone();
        self.place(&lengths.iter().map(|&at| (at, 1)).collect::<Vec<_>>())?;
        self.submit(rows, None)?;
        self.read_tokens()
    }

    /// Replaces the tokens that go in next.
    pub fn force(&self, tokens: &[u32]) {
        self.gpu.write(&self.memory.tokens, tokens);
    }

    /// A pass over tokens of each sequence.
    pub fn pass(&mut self, parts: &[&[u32]], heads: Heads, pick: Option<Pick>) -> Result<()> {
        if parts.len() != self.options.batch || parts.iter().any(|part| part.is_empty()) {
            return Err(
                format!("{} sequences have no token each of {} prompts", self.options.batch, parts.len()).into()
            );
        }
        let total = parts.iter().map(|part| part.len()).sum();
        if total > self.memory.tokens.size() as usize / 4 {
            return Err(format!("prompts of {total} tokens are more than --chunk {}", self.options.chunk).into());
        }
        let vocab = self.model.sizes.vocab;
        if let Some(id) = parts.iter().flat_map(|part| part.iter()).find(|&&id| id as usize >= vocab) {
            return Err(format!("token {id} is none of the {vocab} that the model has").into());
        }
        let longest = parts.iter().map(|part| part.len()).max().unwrap_or(0);
        self.gpu.write(&self.memory.tokens, &parts.concat());
        let spans: Vec<_> = self.lengths.iter().zip(parts).map(|(&at, part)| (at, part.len())).collect();
        self.place(&spans)?;
        self.submit(Rows { batch: parts.len(), total, longest, heads }, pick)
    }

    /// Tells the device where tokens stand: of each sequence, how many it has and how many come.
    fn place(&mut self, spans: &[(usize, usize)]) -> Result<()> {
        let context = self.options.context;
        if let Some((at, more)) = spans.iter().find(|(at, more)| at + more > context) {
            return Err(format!("{at} tokens and {more} more are beyond the context of {context}").into());
        }
        let each = self.memory.pages_each;
        let page_size = self.cache.page_size;
        let batch = spans.len();
        // As the table of pages has it.
        let slot = |b: usize, at: usize| (at / page_size * batch + b) * page_size + at % page_size;
        debug_assert_eq!(each * batch, self.cache.pages);
        let places = |b: usize| (spans[b].0..spans[b].0 + spans[b].1).map(move |at| (b, at));
        let positions: Vec<u32> = (0..batch).flat_map(places).map(|(_, at)| at as u32).collect();
        let slots: Vec<u32> = (0..batch).flat_map(places).map(|(b, at)| slot(b, at) as u32).collect();
        let mut indices: Vec<u32> = spans.iter().map(|(at, more)| (at + more) as u32).collect();
        let (mut starts, mut start) = (vec![0], 0);
        for (_, more) in spans {
            start += *more as u32;
            starts.push(start);
        }
        let last: Vec<u32> = starts[1..].iter().map(|end| end - 1).collect();
        indices.extend(starts);
        self.gpu.write(&self.memory.positions, &positions);
        self.gpu.write(&self.memory.slots, &slots);
        self.gpu.write(&self.memory.indices, &indices);
        self.gpu.write(&self.memory.last, &last);
        for (length, (at, more)) in self.lengths.iter_mut().zip(spans) {
            *length = at + more;
        }
        Ok(())
    }

    /// Records and submits a pass.
    fn submit(&mut self, rows: Rows, pick: Option<Pick>) -> Result<()> {
        let Options { settings, seed, matrices, .. } = self.options;
        let key = (rows, pick.is_some());
        if !self.steps.contains_key(&key) {
            let pick = pick.unwrap_or(Pick::Token(settings, seed));
            let step = Step::new(self.gpu, self.model, &self.cache, &self.memory, rows, pick, matrices)?;
            self.steps.insert(key, step);
        }
        self.gpu.write(&self.memory.draw, &[self.draws]);
        self.draws += u32::from(rows.heads != Heads::None);
        let start = Instant::now();
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        self.steps[&key].record(&mut encoder);
        self.gpu.queue().submit([encoder.finish()]);
        self.spent.host += start.elapsed();
        self.spent.passes += 1;
        Ok(())
    }

    fn read_tokens(&mut self) -> Result<Vec<u32>> {
        self.read(self.options.batch, &self.memory.tokens)
    }

    /// The first `words` of a buffer.
    pub fn read<T: tileloom::Scalar>(&self, words: usize, of: &Buffer) -> Result<Vec<T>> {
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        self.readback.copy(&mut encoder, of, words, 0);
        self.gpu.queue().submit([encoder.finish()]);
        self.readback.read(self.gpu, words)
    }
}
