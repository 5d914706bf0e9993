//! Attention: calls with their oracle.

use tileloom::attention::{self, Alibi, Buffers, Config, Packed, Paged, Problem, Tree};
use tileloom::reference::attention::{Inputs, Output as Reference, reference};
use tileloom::reference::{Judge, Verdict};
use tileloom::softmax::MaskKind;
use tileloom::{Dtype, Kernels, Layout};

use crate::Gpu;
use crate::memory::{FRONT, Image, POISON, Rows};
use crate::random::Random;

mod command;

pub use command::{Attention, KERNEL};

/// One call: the Problem, and what its buffers hold. Values are by sequence, whatever the order in memory; those
/// past the length of a sequence do not reach memory.
#[derive(Debug, Clone)]
pub struct Call {
    pub problem: Problem,
    /// `[batch, heads, seq_q, head_dim]`, as stored.
    pub q: Vec<f64>,
    /// `[batch, kv_heads, seq_kv, head_dim]`.
    pub k: Vec<f64>,
    /// `[batch, kv_heads, seq_kv, value_dim]`.
    pub v: Vec<f64>,
    /// The mask's elements in the order of its memory: additive values, or 0 and 1.
    pub mask: Option<Vec<f64>>,
    /// Slopes and sinks, where the Problem says.
    pub tables: Vec<f64>,
    /// Starts, lengths, pages and parents, where the Problem says.
    pub indices: Vec<u32>,
    /// Queries and keys that each sequence has.
    pub lengths: Option<Vec<[usize; 2]>>,
}

/// What a call gave, by sequence; NaN where a sequence has no such query.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// `[batch, heads, seq_q, value_dim]`.
    pub o: Vec<f64>,
    /// `[batch, heads, seq_q]`.
    pub lse: Option<Vec<f64>>,
    /// What ran: shader and Config per step.
    pub steps: Vec<String>,
}

impl Call {
    /// A call on these values, rounded to their dtype.
    pub fn new(problem: Problem, q: Vec<f64>, k: Vec<f64>, v: Vec<f64>) -> Call {
        let stored = |values: Vec<f64>| values.into_iter().map(|v| problem.x.round(v)).collect();
        let (q, k, v) = (stored(q), stored(k), stored(v));
        Call { problem, q, k, v, mask: None, tables: Vec::new(), indices: Vec::new(), lengths: None }
    }

    /// Normal values with outliers and an offset; rows of q that make scores flat, steep and all negative.
    pub fn random(problem: Problem, seed: u64) -> Call {
        let mut random = Random::new(seed);
        let Problem { batch, heads, kv_heads, seq_q, seq_kv, head_dim, value_dim, .. } = problem;
        let mut q = Vec::with_capacity(batch * heads * seq_q * head_dim);
        for row in 0..batch * heads * seq_q {
            let (spread, shift) = [(1.0, 0.0), (3.0, 0.0), (0.5, -1.0), (0.01, 0.0)][row % 4];
            q.extend((0..head_dim).map(|_| shift + spread * random.normal()));
        }
        let mut values = |n: usize, shift: f64| -> Vec<f64> {
            (0..n).map(|_| shift + random.normal() * if random.below(97) == 0 { 4.0 } else { 1.0 }).collect()
        };
        let k = values(batch * kv_heads * seq_kv * head_dim, 0.25);
        let v = values(batch * kv_heads * seq_kv * value_dim, 0.5);
        Call::new(problem, q, k, v)
    }

    /// The mask that the Problem asks for, random: a third is hidden (additive: minus infinity), and each seventh
    /// row of the mask is hidden whole.
    pub fn with_random_mask(mut self, seed: u64) -> Call {
        let p = self.problem;
        let mask = p.mask.expect("the problem has a mask");
        let mut random = Random::new(seed);
        let rows = p.batch * p.heads * p.seq_q;
        let end = (0..rows).map(|row| p.mask_index(row, p.seq_kv - 1) + 1).max().unwrap_or(0);
        let mut values = vec![f64::NAN; end];
        for row in 0..rows {
            for j in 0..p.seq_kv {
                let at = p.mask_index(row, j);
                if values[at].is_nan() {
                    let hidden = row % 7 == 6 || random.below(3) == 0;
                    values[at] = match mask.kind {
                        MaskKind::Additive(dtype) if !hidden => dtype.round(random.normal()),
                        MaskKind::Additive(_) => f64::NEG_INFINITY,
                        // Any byte but 0 shows.
                        MaskKind::Bytes if !hidden => f64::from(1u8 << (at % 8)),
                        _ => f64::from(!hidden),
                    };
                }
            }
        }
        self.mask = Some(values);
        self
    }

    /// ALiBi slopes, falling by head, and by batch where there are some for each.
    pub fn with_alibi(self, per_batch: bool) -> Call {
        let (batch, heads) = (if per_batch { self.problem.batch } else { 1 }, self.problem.heads);
        let slopes = (0..batch * heads).map(|i| 0.5 / (1 + i) as f64).collect();
        self.with_slopes(slopes, per_batch)
    }

    pub fn with_slopes(mut self, slopes: Vec<f64>, per_batch: bool) -> Call {
        self.problem.alibi = Some(Alibi { slopes: self.tables.len(), per_batch });
        self.tables.extend(slopes.into_iter().map(|v| Dtype::F32.round(v)));
        self
    }

    /// Sinks, rising by head.
    pub fn with_sinks(self) -> Call {
        let sinks = (0..self.problem.heads).map(|h| h as f64 - 1.5).collect();
        self.with_sinks_of(sinks)
    }

    pub fn with_sinks_of(mut self, sinks: Vec<f64>) -> Call {
        self.problem.sinks = Some(self.tables.len());
        self.tables.extend(sinks.into_iter().map(|v| Dtype::F32.round(v)));
        self
    }

    /// A tree with these parents, `[seq_q]`, or `[batch, seq_q]`.
    pub fn with_tree(mut self, parents: &[u32]) -> Call {
        let per_batch = parents.len() > self.problem.seq_q;
        self.problem.tree = Some(Tree { parents: self.indices.len(), per_batch });
        self.indices.extend(parents);
        self
    }

    /// Sequences of so many queries and keys each, packed.
    pub fn packed(mut self, lengths: &[[usize; 2]]) -> Call {
        assert_eq!(lengths.len(), self.problem.batch, "a length per sequence");
        let starts = |which: usize| {
            let ends = lengths.iter().scan(0, move |at, length| {
                *at += length[which] as u32;
                Some(*at)
            });
            std::iter::once(0).chain(ends).collect::<Vec<_>>()
        };
        let (cu_q, cu_kv) = (self.indices.len(), self.indices.len() + lengths.len() + 1);
        let total = |which: usize| lengths.iter().map(|length| length[which]).sum();
        self.problem.packed = Some(Packed { cu_q, cu_kv, total_q: total(0), total_kv: total(1) });
        self.indices.extend(starts(0).into_iter().chain(starts(1)));
        self.lengths = Some(lengths.to_vec());
        self
    }

    /// Keys in pages, scattered and in no order, with garbage in the table where a sequence has none.
    pub fn paged(mut self, page_size: usize, lengths: &[usize]) -> Call {
        let p = &mut self.problem;
        let max_pages = p.seq_kv.div_ceil(page_size);
        let used = lengths.iter().map(|keys| keys.div_ceil(page_size)).sum::<usize>();
        let pages = used + 3;
        let lengths_at = self.indices.len();
        let block_table = lengths_at + p.batch;
        p.lengths = Some(lengths_at);
        p.paged = Some(Paged { pages, page_size, block_table, max_pages });
        self.indices.extend(lengths.iter().map(|&keys| keys as u32));
        // Page n of the call is page n * step % pages, with a step that has no divisor in common.
        let step = (2..).find(|&step| (2..=step).all(|d| step % d != 0 || pages % d != 0)).unwrap_or(1);
        let mut next = 0;
        for &keys in lengths {
            let own = keys.div_ceil(page_size);
            for n in 0..max_pages {
                self.indices.push(if n < own { ((next + n) * step % pages) as u32 } else { 0xdead_beef });
            }
            next += own;
        }
        let queries = |b: usize| self.lengths.as_ref().map_or(self.problem.seq_q, |lengths| lengths[b][0]);
        self.lengths = Some((0..lengths.len()).map(|b| [queries(b), lengths[b]]).collect());
        self
    }

    /// Dense sequences that have so many keys each.
    pub fn with_lengths(mut self, lengths: &[usize]) -> Call {
        self.problem.lengths = Some(self.indices.len());
        self.indices.extend(lengths.iter().map(|&keys| keys as u32));
        self.lengths = Some(lengths.iter().map(|&keys| [self.problem.seq_q, keys]).collect());
        self
    }

    fn rows(&self, layout: Layout<3>, sizes: [usize; 3], cols: usize, dtype: Dtype) -> Rows {
        Rows { layout, sizes, cols, dtype }
    }

    /// The row of `[1, heads, total]`, or of `[batch, heads, seq]`, that is query `i`.
    fn q_row(&self, b: usize, h: usize, i: usize) -> usize {
        let p = &self.problem;
        match (p.packed, &self.lengths) {
            (Some(packed), Some(lengths)) => {
                h * packed.total_q + lengths[..b].iter().map(|length| length[0]).sum::<usize>() + i
            }
            _ => (b * p.heads + h) * p.seq_q + i,
        }
    }

    /// The same of keys; in pages, of `[pages, kv_heads, page_size]`.
    fn kv_row(&self, b: usize, h: usize, j: usize) -> usize {
        let p = &self.problem;
        match (p.paged, p.packed, &self.lengths) {
            (Some(paged), ..) => {
                let page = self.indices[paged.block_table + b * paged.max_pages + j / paged.page_size] as usize;
                (page * p.kv_heads + h) * paged.page_size + j % paged.page_size
            }
            (None, Some(packed), Some(lengths)) => {
                h * packed.total_kv + lengths[..b].iter().map(|length| length[1]).sum::<usize>() + j
            }
            _ => (b * p.kv_heads + h) * p.seq_kv + j,
        }
    }

    fn length(&self, b: usize) -> [usize; 2] {
        self.lengths.as_ref().map_or([self.problem.seq_q, self.problem.seq_kv], |lengths| lengths[b])
    }

    /// k or v in the order of their rows in memory, NaN where no key is.
    fn kv_memory(&self, values: &[f64], dim: usize) -> Vec<f64> {
        let p = &self.problem;
        let mut memory = vec![f64::NAN; p.kv_sizes().iter().product::<usize>() * dim];
        for b in 0..p.batch {
            for h in 0..p.kv_heads {
                for j in 0..self.length(b)[1] {
                    let from = ((b * p.kv_heads + h) * p.seq_kv + j) * dim;
                    let to = self.kv_row(b, h, j) * dim;
                    memory[to..to + dim].copy_from_slice(&values[from..from + dim]);
                }
            }
        }
        memory
    }

    /// Values `[batch, heads, seq_q, dim]` in the order of their rows in memory.
    fn q_memory(&self, values: &[f64], dim: usize) -> Vec<f64> {
        let mut memory = vec![f64::NAN; self.problem.q_sizes().iter().product::<usize>() * dim];
        self.each_query(|row, at| {
            memory[at * dim..][..dim].copy_from_slice(&values[row * dim..][..dim]);
        });
        memory
    }

    /// And back; NaN where there is no query.
    fn q_back(&self, memory: &[f64], dim: usize) -> Vec<f64> {
        let p = &self.problem;
        let mut values = vec![f64::NAN; p.batch * p.heads * p.seq_q * dim];
        self.each_query(|row, at| {
            values[row * dim..][..dim].copy_from_slice(&memory[at * dim..][..dim]);
        });
        values
    }

    /// k or v by sequence, of rows in the order of memory.
    fn kv_back(&self, memory: &[f64], dim: usize) -> Vec<f64> {
        let p = &self.problem;
        let mut values = vec![f64::NAN; p.batch * p.kv_heads * p.seq_kv * dim];
        for b in 0..p.batch {
            for h in 0..p.kv_heads {
                for j in 0..self.length(b)[1] {
                    let (from, to) = (self.kv_row(b, h, j) * dim, ((b * p.kv_heads + h) * p.seq_kv + j) * dim);
                    values[to..to + dim].copy_from_slice(&memory[from..from + dim]);
                }
            }
        }
        values
    }

    /// Each query's row in `[batch, heads, seq_q]`, and in memory.
    fn each_query(&self, mut visit: impl FnMut(usize, usize)) {
        let p = &self.problem;
        for b in 0..p.batch {
            for h in 0..p.heads {
                for i in 0..self.length(b)[0] {
                    visit((b * p.heads + h) * p.seq_q + i, self.q_row(b, h, i));
                }
            }
        }
    }

    /// The mask as a bias `[batch, heads, seq_q, seq_kv]`, minus infinity where it hides.
    fn bias(&self) -> Option<Vec<f64>> {
        let (p, values) = (&self.problem, self.mask.as_ref()?);
        let boolean = !matches!(p.mask?.kind, MaskKind::Additive(_));
        let bias = |v: f64| match (boolean, v == 0.0) {
            (true, true) => f64::NEG_INFINITY,
            (true, false) => 0.0,
            (false, _) => v,
        };
        let rows = p.batch * p.heads * p.seq_q;
        Some((0..rows * p.seq_kv).map(|i| bias(values[p.mask_index(i / p.seq_kv, i % p.seq_kv)])).collect())
    }

    fn mask_bytes(&self, values: &[f64]) -> Vec<u8> {
        match self.problem.mask.map(|mask| mask.kind) {
            Some(MaskKind::Additive(dtype)) => dtype.encode(values),
            Some(MaskKind::Bytes) => {
                let mut bytes: Vec<u8> = values.iter().map(|&v| v as u8).collect();
                bytes.resize(bytes.len().next_multiple_of(4), 0);
                bytes
            }
            _ => {
                let mut bytes = vec![0u8; values.len().div_ceil(32) * 4];
                for (i, &v) in values.iter().enumerate() {
                    bytes[i / 8] |= u8::from(v != 0.0) << (i % 8);
                }
                bytes
            }
        }
    }

    /// Runs the call, with the caller's Config or the chosen one: everything that is written is poisoned
    /// before, and bytes outside the views must come back as they were.
    ///
    /// # Errors
    /// What `prepare` says, a lost device, or what spilled where.
    pub fn run(&self, gpu: &Gpu, kernels: &Kernels, config: Option<&Config>) -> Result<Output, String> {
        self.run_with(gpu, kernels, config, &self.indices)
    }

    /// [`run`](Self::run) with other words in the indices than those that tell where values lie.
    fn run_with(
        &self,
        gpu: &Gpu,
        kernels: &Kernels,
        config: Option<&Config>,
        indices: &[u32],
    ) -> Result<Output, String> {
        let p = &self.problem;
        let (d, dv) = (p.head_dim, p.value_dim);
        let q_view = self.rows(p.q_strides(p.q_layout, d), p.q_sizes(), d, p.x);
        let k_view = self.rows(p.kv_strides(p.k_layout, d), p.kv_sizes(), d, p.x);
        let v_view = self.rows(p.kv_strides(p.v_layout, dv), p.kv_sizes(), dv, p.x);
        let o_view = self.rows(p.q_strides(p.o_layout, dv), p.q_sizes(), dv, p.o);
        let input = |view: Rows, values: &[f64]| {
            let mut image = Image::with_room(&[view]);
            image.scatter(&view, values);
            image
        };
        let q_image = input(q_view, &self.q_memory(&self.q, d));
        let k_image = input(k_view, &self.kv_memory(&self.k, d));
        let v_image = input(v_view, &self.kv_memory(&self.v, dv));
        let o_image = Image::with_room(&[o_view]);
        let (q, k, v, o) = (
            gpu.buffer(&q_image.bytes),
            gpu.buffer(&k_image.bytes),
            gpu.buffer(&v_image.bytes),
            gpu.buffer(&o_image.bytes),
        );
        let rows: usize = p.q_sizes().iter().product();
        let given = |data: Option<Vec<u8>>| data.map(|data| Image::of(&data));
        let mask_image = given(self.mask.as_ref().map(|values| self.mask_bytes(values)));
        let tables_image = given((!self.tables.is_empty()).then(|| Dtype::F32.encode(&self.tables)));
        let words = indices.iter().flat_map(|word| word.to_le_bytes()).collect();
        let indices_image = given((!indices.is_empty()).then_some(words));
        let lse_image = p.lse.map(|offset| Image::poison(offset + rows, 4));
        let buffer = |image: &Option<Image>| image.as_ref().map(|image| gpu.buffer(&image.bytes));
        let (mask, tables) = (buffer(&mask_image), buffer(&tables_image));
        let (indices, lse) = (buffer(&indices_image), buffer(&lse_image));
        let config = match config {
            Some(config) => *config,
            None => attention::choose(&kernels.caps(), p).map_err(|error| error.to_string())?,
        };
        let scratch_bytes = attention::scratch_bytes(p, &config).map_err(|error| error.to_string())?;
        let scratch_image = Image::poison(scratch_bytes as usize, 1);
        let scratch = gpu.buffer(&scratch_image.bytes);

        let mut buffers =
            Buffers::new(q_image.binding(&q), k_image.binding(&k), v_image.binding(&v), o_image.binding(&o));
        if let (Some(image), Some(buffer)) = (&mask_image, &mask) {
            buffers = buffers.mask(image.binding(buffer));
        }
        if let (Some(image), Some(buffer)) = (&tables_image, &tables) {
            buffers = buffers.tables(image.binding(buffer));
        }
        if let (Some(image), Some(buffer)) = (&indices_image, &indices) {
            buffers = buffers.indices(image.binding(buffer));
        }
        if let (Some(image), Some(buffer)) = (&lse_image, &lse) {
            buffers = buffers.lse(image.binding(buffer));
        }
        if scratch_bytes > 0 {
            buffers = buffers.scratch(scratch_image.binding(&scratch));
        }
        let dispatch = attention::prepare_with(kernels, p, &config, buffers).map_err(|error| error.to_string())?;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        dispatch.record(&mut encoder);
        gpu.queue.submit([encoder.finish()]);

        let after = Image { bytes: gpu.read(&o)? };
        if let Some(byte) = after.spilled(&o_image, &o_view) {
            return Err(format!("byte {byte} outside o was written"));
        }
        let o = self.q_back(&after.gather(&o_view), dv);
        let mut lse_values = None;
        if let (Some(before), Some(buffer), Some(offset)) = (&lse_image, &lse, p.lse) {
            let after = Image { bytes: gpu.read(buffer)? };
            let view = self.rows(Layout::at(offset), [1, 1, 1], rows, Dtype::F32);
            if let Some(byte) = after.spilled(before, &view) {
                return Err(format!("byte {byte} outside lse was written"));
            }
            lse_values = Some(self.q_back(&after.gather(&view), 1));
        }
        if scratch_bytes > 0 {
            let after = gpu.read(&scratch)?;
            let end = FRONT as usize + scratch_bytes as usize;
            if after[end..].iter().chain(&after[..FRONT as usize]).any(|&b| b != POISON) {
                return Err("bytes outside scratch were written".into());
            }
        }
        let steps = dispatch.steps().map(|(label, grid)| format!("{label} on {grid:?}")).collect();
        Ok(Output { o, lse: lse_values, steps })
    }

    /// Runs with whatever the indices hold: it must end, and write nothing outside o.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_hostile(&self, gpu: &Gpu) -> Result<(), String> {
        let mut honest = self.clone();
        // Where values lie has no say here: all are alike.
        honest.indices_for_memory();
        honest.run_with(gpu, &gpu.kernels, None, &self.indices).map(drop)
    }

    /// Pages from the first on, so that values can be placed.
    fn indices_for_memory(&mut self) {
        if let Some(paged) = self.problem.paged {
            for n in 0..self.problem.batch * paged.max_pages {
                self.indices[paged.block_table + n] = (n % paged.pages) as u32;
            }
        }
    }

    /// The formula in f64 and in f32.
    fn references(&self) -> (Reference, Reference) {
        let p = &self.problem;
        let bias = self.bias();
        let slopes = p.alibi.map(|alibi| -> Vec<f64> {
            let at = |i: usize| alibi.slopes + if alibi.per_batch { i } else { i % p.heads };
            (0..p.batch * p.heads).map(|i| self.tables[at(i)]).collect()
        });
        let parents = p.tree.map(|tree| -> Vec<u32> {
            let at = |i: usize| tree.parents + if tree.per_batch { i } else { i % p.seq_q };
            (0..p.batch * p.seq_q).map(|i| self.indices[at(i)]).collect()
        });
        let inputs = Inputs {
            q: &self.q,
            k: &self.k,
            v: &self.v,
            bias: bias.as_deref(),
            slopes: slopes.as_deref(),
            sinks: p.sinks.map(|at| &self.tables[at..at + p.heads]),
            parents: parents.as_deref(),
            lengths: self.lengths.as_deref(),
        };
        // Most of a sweep's time is here.
        std::thread::scope(|scope| {
            let low = scope.spawn(|| reference::<f32>(p, &inputs, |v| p.x.round(v)));
            (reference::<f64>(p, &inputs, |v| v), low.join().expect("the formula does not panic"))
        })
    }

    /// Holds an output against the oracle by the numerics rule.
    pub fn judge(&self, output: &Output) -> Verdict {
        let (oracle, low) = self.references();
        let o = Judge {
            cols: self.problem.value_dim,
            dtype: self.problem.o,
            oracle: &oracle.o,
            low: &low.o,
            mag: &oracle.mag,
            widen: (0.0, 0.0),
        };
        let mut verdict = o.judge(&output.o);
        if let Some(lse) = &output.lse {
            let (oracle, low, mag) = (&oracle.lse, &low.lse, &oracle.lse_mag);
            verdict.merge(Judge { cols: 1, dtype: Dtype::F32, oracle, low, mag, widen: (0.0, 0.0) }.judge(lse));
        }
        verdict
    }

    /// Runs and judges.
    ///
    /// # Errors
    /// As [`run`](Self::run), and the verdict if anything is wrong.
    pub fn check(&self, gpu: &Gpu, kernels: &Kernels, config: Option<&Config>) -> Result<(Output, Verdict), String> {
        let output = self.run(gpu, kernels, config)?;
        let verdict = self.judge(&output);
        match verdict.ok() {
            true => Ok((output, verdict)),
            false => Err(format!("{verdict}\n  {:?}\n  {}", self.problem, output.steps.join("\n  "))),
        }
    }
}
