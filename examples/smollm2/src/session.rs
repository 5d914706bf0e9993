//! Sequences under way: prompts go in, tokens come out one after the other.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tileloom::Sequence;
use tileloom::sample::Settings;
use tileloom::wgpu::Buffer;

use crate::Result;
use crate::cache::{Cache, Kind};
use crate::gpu::{Gpu, Readback};
use crate::model::Model;
use crate::step::{self, Heads, Memory, Pick, Room, Rows, STOPS};

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
    /// Rows of probabilities, at most.
    pub probs: usize,
}

impl Default for Options {
    /// Greedy, one sequence of up to 2048 tokens, a cache of f16.
    fn default() -> Options {
        let settings = Settings { temperature: 0.0, ..Settings::default() };
        let (cache, context, chunk, batch) = (Kind::F16, 2048, 512, 1);
        Options { cache, context, chunk, batch, settings, seed: 0, matrices: false, logits: batch, probs: 0 }
    }
}

/// Tokens of a page, where several sequences share the cache.
const PAGE: usize = 64;

/// Keys that a pass has room for, at least.
const KEYS: usize = 128;

/// What the host did for passes over one token of each sequence.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    pub passes: u32,
    /// Recording, finishing and submitting.
    pub host: Duration,
}

/// Sequences on a device.
pub struct Session<'a> {
    pub gpu: &'a Gpu,
    pub model: &'a Model,
    pub options: Options,
    pub memory: Memory,
    pub spent: Spent,
    cache: Cache,
    /// Tokens of each sequence that are in the cache.
    lengths: Vec<usize>,
    /// The state is that of one token more for each sequence.
    ready: bool,
    draws: u32,
    passes: HashMap<(Rows, bool), Sequence>,
    readback: Readback,
}

impl<'a> Session<'a> {
    /// Empty sequences.
    pub fn new(gpu: &'a Gpu, model: &'a Model, options: Options) -> Result<Session<'a>> {
        let Options { batch, chunk, .. } = options;
        let context = options.context.min(model.sizes.context);
        let options = Options { context, ..options };
        let (each, page_size) = if batch == 1 { (1, context) } else { (context.div_ceil(PAGE), PAGE) };
        let cache = Cache::new(gpu, &model.sizes, options.cache, batch * each, page_size)?;
        let (rows, logits) = (chunk.max(batch), options.logits.max(batch));
        let room = Room { batch, rows, logits, probs: options.probs, context };
        let memory = Memory::new(gpu, &model.sizes, &cache, room)?;
        // Page j of sequence b; and no stops.
        let page = |b: usize| (0..each).map(move |j| (j * batch + b) as u32);
        gpu.write_at(&memory.state, memory.at.table, &(0..batch).flat_map(page).collect::<Vec<_>>());
        gpu.write_at(&memory.state, memory.at.stops, &[u32::MAX; STOPS]);
        let readback = Readback::new(gpu, (logits * model.sizes.vocab).max(batch * context));
        let (lengths, passes, spent) = (vec![0; batch], HashMap::new(), Spent::default());
        Ok(Session { gpu, model, options, memory, spent, cache, lengths, ready: false, draws: 0, passes, readback })
    }

    /// Sequences end with one of these tokens, at most [`STOPS`].
    pub fn stop_at(&mut self, ends: &[u32]) {
        self.gpu.write_at(&self.memory.state, self.memory.at.stops, &ends[..ends.len().min(STOPS)]);
    }

    /// Tokens of a sequence that are in the cache.
    pub fn len(&self, sequence: usize) -> usize {
        self.lengths[sequence]
    }

    /// Forgets all tokens.
    pub fn clear(&mut self) {
        self.lengths.fill(0);
        self.ready = false;
    }

    /// Takes back tokens of a sequence.
    pub fn truncate(&mut self, sequence: usize, len: usize) {
        if len < self.lengths[sequence] {
            self.lengths[sequence] = len;
            self.ready = false;
        }
    }

    /// What has been prepared.
    pub fn passes(&self) -> impl Iterator<Item = (&Rows, &Sequence)> {
        self.passes.iter().map(|((rows, _), pass)| (rows, pass))
    }

    /// Takes prompts, one per sequence, behind what each has, and gives the token that comes next in each.
    pub fn prefill(&mut self, prompts: &[&[u32]]) -> Result<Vec<u32>> {
        let (mut first, chunk) = (0, self.options.chunk);
        if let &[ids] = prompts {
            first = ids.len().saturating_sub(1) / chunk * chunk;
            for part in ids[..first].chunks(chunk) {
                self.pass(&[part], Heads::None, None)?;
            }
        }
        let rest: Vec<_> = prompts.iter().map(|ids| &ids[first..]).collect();
        self.pass(&rest, Heads::Last, None)?;
        self.read(self.options.batch, &self.memory.tokens)
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

    /// The next tokens of each sequence, behind those that were sampled last: so many passes in one submit, of which the host hears
    /// nothing in between. What is behind a token that ends a sequence means nothing.
    pub fn next(&mut self, steps: usize) -> Result<Vec<Vec<u32>>> {
        let (batch, context) = (self.options.batch, self.options.context);
        if let Some(len) = self.lengths.iter().find(|&&len| len + steps >= context) {
            return Err(format!("{len} tokens and {steps} more are beyond the context of {context}").into());
        }
        if !self.ready {
            self.place(&vec![1; batch])?;
        }
        let pass = self.prepared(Rows::next(batch, self.keys(steps)), None)?;
        let start = Instant::now();
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        self.passes[&pass].record_steps(steps, &mut encoder);
        self.gpu.queue().submit([encoder.finish()]);
        self.spent.host += start.elapsed();
        self.spent.passes += steps as u32;
        let before = self.lengths.clone();
        self.lengths.iter_mut().for_each(|len| *len += steps);
        (self.ready, self.draws) = (true, self.draws + steps as u32);
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        for (b, len) in before.iter().enumerate() {
            self.readback.copy(&mut encoder, &self.memory.history, b * context + len + 1, steps, b * steps);
        }
        self.gpu.queue().submit([encoder.finish()]);
        let said = self.readback.read(self.gpu, batch * steps)?;
        Ok(said.chunks(steps).map(<[u32]>::to_vec).collect())
    }

    /// Replaces the tokens that go in next.
    pub fn force(&self, tokens: &[u32]) {
        self.gpu.write(&self.memory.tokens, tokens);
    }

    /// A pass over tokens of each sequence. Without `pick` a token is sampled.
    pub fn pass(&mut self, parts: &[&[u32]], heads: Heads, pick: Option<Pick>) -> Result<()> {
        let Room { batch, rows, .. } = self.memory.room;
        if parts.len() != batch || parts.iter().any(|part| part.is_empty()) {
            return Err(format!("{} prompts for {batch} sequences, or one without a token", parts.len()).into());
        }
        let total = parts.iter().map(|part| part.len()).sum();
        if total > rows {
            return Err(format!("prompts of {total} tokens are more than a pass of {rows} takes").into());
        }
        let vocab = self.model.sizes.vocab;
        if let Some(id) = parts.concat().iter().find(|&&id| id as usize >= vocab) {
            return Err(format!("token {id} is none of the {vocab} that the model has").into());
        }
        let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        self.place(&lengths)?;
        self.gpu.write(&self.memory.tokens, &parts.concat());
        let keys = self.keys(longest);
        let pass = self.prepared(Rows { batch, total, longest, keys, heads }, pick)?;
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        self.passes[&pass].record(&mut encoder);
        self.gpu.queue().submit([encoder.finish()]);
        self.lengths.iter_mut().zip(&lengths).for_each(|(len, more)| *len += more);
        self.ready = false;
        self.draws += u32::from(heads != Heads::None);
        Ok(())
    }

    /// Tells the device where the next tokens stand, so many of each sequence.
    fn place(&mut self, more: &[usize]) -> Result<()> {
        let (context, page_size) = (self.options.context, self.cache.page_size);
        let spans = || self.lengths.iter().copied().zip(more.iter().copied());
        if let Some((len, more)) = spans().find(|(len, more)| len + more > context) {
            return Err(format!("{len} tokens and {more} more are beyond the context of {context}").into());
        }
        let places = || spans().enumerate().flat_map(|(b, (len, more))| (len..len + more).map(move |at| (b, at)));
        // As the table has the pages.
        let slot = |(b, at): (usize, usize)| (at / page_size * more.len() + b) * page_size + at % page_size;
        let ends = more.iter().scan(0, |end, more| {
            *end += more;
            Some(*end)
        });
        let ends: Vec<_> = ends.collect();
        // In the order of `State`, from the lengths on.
        let mut state: Vec<usize> = spans().map(|(len, more)| len + more).collect();
        state.push(0);
        state.extend(&ends);
        state.extend(ends.iter().map(|end| end - 1));
        state.extend(vec![0; more.len()]);
        state.push(self.draws as usize);
        state.extend(places().map(|(_, at)| at));
        let words = |values: Vec<usize>| values.into_iter().map(|value| value as u32).collect::<Vec<_>>();
        self.gpu.write_at(&self.memory.state, self.memory.at.lengths, &words(state));
        self.gpu.write_at(&self.memory.state, self.memory.at.slots, &words(places().map(slot).collect()));
        Ok(())
    }

    /// Keys that a pass must have room for which takes so many tokens: a power of two, so that few passes are prepared, or all that the
    /// pages of several sequences hold.
    pub fn keys(&self, more: usize) -> usize {
        let most = self.cache.pages / self.options.batch * self.cache.page_size;
        let len = self.lengths.iter().copied().max().unwrap_or(0) + more;
        if self.options.batch > 1 { most } else { len.next_power_of_two().max(KEYS).min(most) }
    }

    /// Prepares a pass, where it is new.
    fn prepared(&mut self, rows: Rows, pick: Option<Pick>) -> Result<(Rows, bool)> {
        let key = (rows, pick.is_some());
        if !self.passes.contains_key(&key) {
            let Options { settings, seed, matrices, .. } = self.options;
            let pick = pick.unwrap_or(Pick::Token(settings, seed));
            let pass = step::prepare(self.gpu, self.model, &self.cache, &self.memory, rows, pick, matrices)?;
            self.passes.insert(key, pass);
        }
        Ok(key)
    }

    /// The first `words` of a buffer.
    pub fn read<T: tileloom::Scalar>(&self, words: usize, of: &Buffer) -> Result<Vec<T>> {
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        self.readback.copy(&mut encoder, of, 0, words, 0);
        self.gpu.queue().submit([encoder.finish()]);
        self.readback.read(self.gpu, words)
    }
}
