//! Per op: small Problems, which share pipelines with its list, and how its work is cut.

use loom::Gpu;
use loom::harness::Call;
use loom::kernel::Values;
use loom::kernels::conv::resize::shape as conv_resize;
use loom::kernels::conv::{of, shape};
use loom::kernels::gemm::{f32s, plain, whole};
use loom::kernels::{attention, gemm, pointwise, position, rows, vq};
use tileloom::gemm::{Activation, Along, Matrix};
use tileloom::norm::Kind;
use tileloom::softmax::{Mask, MaskKind};
use tileloom::vq_lookup::{Combine, OutOfRange};
use tileloom::weights::Format;
use tileloom::{Dtype, Op};
use tileloom::{
    activation, activation_backward, advance, attention_backward, attention_bias, attention_bias_backward,
    attention_merge, attention_merge_backward, axpby, beam_step, column_sums, conv, conv_backward, conv_transpose,
    counting_sort, dropout, gemm_quant, group_norm, group_norm_backward, grouped_gemm, grouped_gemm_backward,
    kv_append, kv_move, lora, lora_backward, max_pool, max_pool_backward, moe_balance, moe_bias, moe_route,
    moe_route_backward, norm, norm_backward, position_encoding, quantize, resize, rope, sample, snake_backward,
    softmax, softmax_backward, space_to_depth, speculative_tree, speculative_verify, vq_assign, vq_lookup, vq_scalar,
    vq_scatter, vq_train,
};

use super::{Cut, Slice, TwoWays, op};
use crate::Suite;

use Dtype::{Bf16, F16, F32};

macro_rules! ops {
    ($($problem:ty),* $(,)?) => {
        /// Every op, by name, and its cases.
        pub const ALL: &[(&str, fn(&mut Suite))] = &[$((<$problem as Op>::NAME, op::<$problem>)),*];
    };
}

ops![
    activation::Problem,
    activation_backward::Problem,
    advance::Problem,
    tileloom::attention::Problem,
    attention_backward::Problem,
    attention_bias::Problem,
    attention_bias_backward::Problem,
    attention_merge::Problem,
    attention_merge_backward::Problem,
    axpby::Problem,
    beam_step::Problem,
    conv::Problem,
    conv_backward::Problem,
    conv_transpose::Problem,
    column_sums::Problem,
    counting_sort::Problem,
    dropout::Problem,
    tileloom::gemm::Problem,
    gemm_quant::Problem,
    group_norm::Problem,
    group_norm_backward::Problem,
    grouped_gemm::Problem,
    grouped_gemm_backward::Problem,
    kv_append::Problem,
    kv_move::Problem,
    lora::Problem,
    lora_backward::Problem,
    max_pool::Problem,
    max_pool_backward::Problem,
    moe_balance::Problem,
    moe_bias::Problem,
    moe_route::Problem,
    moe_route_backward::Problem,
    norm::Problem,
    norm_backward::Problem,
    position_encoding::Problem,
    quantize::Problem,
    resize::Problem,
    rope::Problem,
    sample::Problem,
    snake_backward::Problem,
    softmax::Problem,
    softmax_backward::Problem,
    space_to_depth::Problem,
    speculative_tree::Problem,
    speculative_verify::Problem,
    vq_assign::Problem,
    vq_lookup::Problem,
    vq_scalar::Problem<'static>,
    vq_scatter::Problem,
    vq_train::Problem,
    vq_train::Gradient,
];

impl TwoWays for activation::Problem {
    fn problems() -> Vec<Self> {
        let first = pointwise::activation::gated(pointwise::activation::shape(activation::Activation::Silu, 21, 40));
        let gelu = pointwise::activation::shape(activation::Activation::Gelu, 22, 33);
        vec![first, Self { x: F16, y: F16, ..gelu }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let args = ["x", "up", "y"];
        let rows = self.rows;
        let columns = [("x", rows), ("up", rows), ("y", rows), ("bias", 1), ("up_bias", 1)];
        vec![
            Cut::at("rows", 8, rows, &args.map(|name| (name, 1)), |rows| Self { rows: rows.len(), ..*self }),
            Cut::at("columns", 16, self.cols, &columns, |columns| Self { cols: columns.len(), ..*self }),
        ]
    }
}

impl TwoWays for activation_backward::Problem {
    fn problems() -> Vec<Self> {
        let of = pointwise::activation_backward::shape;
        let first = pointwise::activation_backward::gated(of(activation::Activation::Silu, 70, 40));
        let gelu = Self { dbias: Some(0), ..of(activation::Activation::Gelu, 70, 33) };
        vec![Self { add: true, ..first }, Self { x: F16, dx: F16, ..gelu }]
    }

    /// Gradients of biases are sums over rows.
    fn cuts(&self) -> Vec<Cut<Self>> {
        let args = ["x", "up", "dy", "dx", "dup"];
        let rows = self.rows;
        let by_rows = Cut::at("rows", 32, rows, &args.map(|name| (name, 1)), |rows| Self { rows: rows.len(), ..*self });
        let columns = args.map(|name| (name, rows)).into_iter();
        let columns: Vec<_> = columns.chain(["bias", "up_bias", "dbias", "dup_bias"].map(|name| (name, 1))).collect();
        vec![
            if self.add { by_rows.chained(&[("dbias", "dbias"), ("dup_bias", "dup_bias")]) } else { by_rows },
            Cut::at("columns", 16, self.cols, &columns, |columns| Self { cols: columns.len(), ..*self }),
        ]
    }
}

impl TwoWays for dropout::Problem {
    fn problems() -> Vec<Self> {
        let of = pointwise::dropout::shape;
        vec![
            Self { residual: Some(F32), ..of(21, 40) },
            Self { x: F16, y: F16, first: 7, ..of(22, 33) },
            Self { x: F16, residual: Some(Bf16), y: F16, p: 0.0, ..of(22, 33) },
        ]
    }

    /// The mask of some rows, or of some columns of one row, begins with the number of their first element.
    fn cuts(&self) -> Vec<Cut<Self>> {
        let args = ["x", "residual", "y"].map(|name| (name, 1));
        let part = |at: usize| Self { first: self.first + at as u32, ..*self };
        let (all, cols) = (self.rows * self.cols, self.cols);
        vec![
            Cut::at("rows", 8, self.rows, &args, |rows| Self { rows: rows.len(), ..part(rows.start * cols) }),
            Cut::at("elements", 101, all, &args, |some| Self { rows: 1, cols: some.len(), ..part(some.start) }),
        ]
    }
}

impl TwoWays for axpby::Problem {
    fn problems() -> Vec<Self> {
        let halves = Self { x: F16, z: Some(Bf16), y: F16, ..pointwise::axpby::both(22, 33) };
        vec![pointwise::axpby::both(21, 40), halves, Self { a: axpby::Factor::Buffer(1), ..halves }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let args = ["x", "z", "y"];
        let columns = args.map(|name| (name, self.rows));
        vec![
            Cut::at("rows", 8, self.rows, &args.map(|name| (name, 1)), |rows| Self { rows: rows.len(), ..*self }),
            Cut::at("columns", 16, self.cols, &columns, |columns| Self { cols: columns.len(), ..*self }),
        ]
    }
}

impl TwoWays for column_sums::Problem {
    fn problems() -> Vec<Self> {
        let first = Self { add: true, ..pointwise::column_sums::shape(210, 40) };
        vec![first, Self { x: F16, add: false, ..pointwise::column_sums::shape(70, 33) }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let Self { rows, cols, .. } = *self;
        let by_rows = Cut::at("rows", 32, rows, &[("x", 1)], |rows| Self { rows: rows.len(), ..*self });
        let columns = [("x", rows), ("y", 1)];
        vec![
            if self.add { by_rows.chained(&[("y", "y")]) } else { by_rows },
            Cut::at("columns", 16, cols, &columns, |columns| Self { cols: columns.len(), ..*self }),
        ]
    }
}

impl TwoWays for softmax::Problem {
    fn problems() -> Vec<Self> {
        let mask = Some(Mask::new(MaskKind::Additive(F32)));
        let halves = Self { x: F16, y: F16, mask, ..rows::softmax::shape(21, 33) };
        vec![Self { lse: Some(0), ..rows::softmax::shape(21, 40) }, Self { log: true, ..halves }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let args = [("x", 1), ("mask", 1), ("y", 1), ("lse", 1)];
        vec![Cut::at("rows", 8, self.rows, &args, |rows| Self { rows: rows.len(), ..*self })]
    }
}

impl TwoWays for softmax_backward::Problem {
    fn problems() -> Vec<Self> {
        let halves = Self { y: F16, dy: F16, dx: F16, ..rows::softmax_backward::shape(22, 33) };
        vec![rows::softmax_backward::shape(21, 40), Self { log: true, ..halves }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let args = [("y", 1), ("dy", 1), ("dx", 1)];
        vec![Cut::at("rows", 8, self.rows, &args, |rows| Self { rows: rows.len(), ..*self })]
    }
}

impl TwoWays for norm::Problem {
    fn problems() -> Vec<Self> {
        let halves = Self { x: Bf16, y: Bf16, residual: Some(Bf16), sum: Some(Default::default()), ..Self::default() };
        vec![rows::norm::shape(Kind::Layer, 21, 40), Self { rows: 22, cols: 36, ..halves }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        // Means, then deviations.
        let planes = if self.kind == Kind::Layer { 2 } else { 1 };
        let args = [("x", 1), ("residual", 1), ("y", 1), ("sum", 1), ("stats", planes)];
        vec![Cut::at("rows", 8, self.rows, &args, |rows| Self { rows: rows.len(), ..*self })]
    }
}

impl TwoWays for norm_backward::Problem {
    fn problems() -> Vec<Self> {
        let all = |kind, cols| rows::norm_backward::all(rows::norm_backward::shape(kind, 21, cols));
        vec![all(Kind::Layer, 40), Self { x: F16, dy: F16, dx: Some(F16), ..all(Kind::Rms, 36) }]
    }

    /// Gradients of weight and bias are sums over rows.
    fn cuts(&self) -> Vec<Cut<Self>> {
        let args = [("x", 1), ("dy", 1), ("dx", 1)];
        vec![Cut::at("rows", 8, self.rows, &args, |rows| Self { rows: rows.len(), ..*self })]
    }
}

impl TwoWays for quantize::Problem {
    fn problems() -> Vec<Self> {
        let first = Self { rows: 9, cols: 260, ..Self::default() };
        let columns = Self { along: quantize::Along::Columns, format: quantize::Format::E4m3, ..first };
        vec![first, Self { x: F16, rows: 260, cols: 20, ..columns }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let out = [("codes", 1), ("scales", 1)];
        vec![match self.along {
            quantize::Along::Rows => {
                let args = [&[("x", 1)], &out[..]].concat();
                Cut::at("rows", 4, self.rows, &args, |rows| Self { rows: rows.len(), ..*self })
            }
            quantize::Along::Columns => {
                let args = [&[("x", self.rows)], &out[..]].concat();
                Cut::at("columns", 8, self.cols, &args, |columns| Self { cols: columns.len(), ..*self })
            }
        }]
    }
}

impl TwoWays for tileloom::attention::Problem {
    fn problems() -> Vec<Self> {
        let first = Self { batch: 2, ..attention::list::shape(9, 40) };
        let by_segment = attention::segmented(5, false, Self { lse: Some(0), ..first });
        vec![Self { lse: Some(0), ..first }, Self { x: F16, o: F16, seq_q: 1, seq_kv: 300, ..first }, by_segment]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let Self { batch, heads, kv_heads, seq_q, .. } = *self;
        let args = ["q", "k", "v", "o", "lse"];
        let group = heads / kv_heads;
        let by = |outer: usize| args.map(|name| (name, outer));
        let mut cuts = vec![
            Cut::at("sequences", 1, batch, &by(1), |batch| Self { batch: batch.len(), ..*self }),
            Cut::at("heads", 1, kv_heads, &by(batch), |kv| Self {
                kv_heads: kv.len(),
                heads: kv.len() * group,
                ..*self
            }),
        ];
        // Segments go by the key that a query stands at.
        if seq_q > 4 && self.segments.is_none() {
            let args = ["q", "o", "lse"].map(|name| (name, batch * heads));
            cuts.push(Cut::at("queries", 4, seq_q, &args, |queries| Self { seq_q: queries.len(), ..*self }));
        }
        cuts
    }

    /// Two parts of the keys, joined by attention_merge.
    fn joined(gpu: &Gpu, call: &Call<Self>) -> Result<Option<Values>, String> {
        let whole = call.problem;
        if whole.segments.is_some() {
            return Ok(None);
        }
        let args = ["k", "v"].map(|name| (name, whole.batch * whole.kv_heads));
        let at = whole.seq_kv / 8 * 3;
        let cut = Cut::at("keys", at, whole.seq_kv, &args, |keys| Self { seq_kv: keys.len(), lse: Some(0), ..whole });
        let (mut parts, mut lse_parts) = (Vec::new(), Vec::new());
        for piece in &cut.pieces {
            let mut own = call.values.clone();
            for slice in &piece.slices {
                let len = call.values[slice.name].len() / whole.seq_kv * piece.problem.seq_kv;
                own.insert(slice.name, slice.take(&call.values[slice.name], len));
            }
            let mut values = Call::new(piece.problem, own).run(gpu, &gpu.kernels, None)?.values;
            parts.append(values.get_mut("o").expect("an output"));
            lse_parts.append(values.get_mut("lse").expect("an output"));
        }
        let merge = attention_merge::Problem {
            splits: 2,
            rows: whole.batch * whole.heads * whole.seq_q,
            dim: whole.value_dim,
            x: whole.o,
            y: whole.o,
            lse_out: Some(0),
            ..Default::default()
        };
        let values = [("parts", parts), ("lse_parts", lse_parts)].into();
        Ok(Some(Call::new(merge, values).run(gpu, &gpu.kernels, None)?.values))
    }
}

impl TwoWays for attention_backward::Problem {
    fn problems() -> Vec<Self> {
        use tileloom::verify::attention::attention_backward::of;
        let first =
            tileloom::attention::Problem { batch: 2, lse: Some(0), ..attention::attention_backward::shape(9, 40) };
        vec![of(first), of(tileloom::attention::Problem { x: F16, o: F16, ..first })]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let own = self.forward;
        let args = ["q", "k", "v", "o", "do", "lse", "dq", "dk", "dv"];
        let group = own.heads / own.kv_heads;
        let by = |outer: usize| args.map(|name| (name, outer));
        let with = |forward| Self { forward, ..*self };
        vec![
            Cut::at("sequences", 1, own.batch, &by(1), |batch| {
                with(tileloom::attention::Problem { batch: batch.len(), ..own })
            }),
            Cut::at("heads", 1, own.kv_heads, &by(own.batch), |kv| {
                with(tileloom::attention::Problem { kv_heads: kv.len(), heads: kv.len() * group, ..own })
            }),
        ]
    }
}

impl TwoWays for attention_merge::Problem {
    fn problems() -> Vec<Self> {
        let first = attention::attention_merge::shape(5, 33, 64);
        vec![first, Self { lse_out: Some(0), sum: Some(5 * 33), sum_out: Some(33), ..first }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let Self { splits, rows, sum, sum_out, .. } = *self;
        // Maxima, then sums.
        let statistics = if sum_out.is_some() { 2 } else { 1 };
        let args = [("parts", splits), ("lse_parts", splits), ("sum_parts", splits), ("o", 1), ("lse", statistics)];
        let problem =
            |rows: usize| Self { rows, sum: sum.map(|_| splits * rows), sum_out: sum_out.map(|_| rows), ..*self };
        vec![Cut::at("rows", 9, rows, &args, |rows| problem(rows.len()))]
    }

    /// The first two parts, joined with the others.
    fn joined(gpu: &Gpu, call: &Call<Self>) -> Result<Option<Values>, String> {
        let Self { splits, rows, dim, sum, .. } = call.problem;
        if sum.is_some() {
            return Ok(None);
        }
        let run = |splits: usize, parts: Vec<f64>, lse_parts: Vec<f64>| {
            let values = [("parts", parts), ("lse_parts", lse_parts)].into();
            Call::new(Self { splits, ..call.problem }, values).run(gpu, &gpu.kernels, None)
        };
        let (two, others) = call.values["parts"].split_at(2 * rows * dim);
        let (two_lse, other_lse) = call.values["lse_parts"].split_at(2 * rows);
        let first = run(2, two.to_vec(), two_lse.to_vec())?.values;
        let all = run(splits - 1, [&first["o"], others].concat(), [&first["lse"], other_lse].concat())?;
        Ok(Some(all.values))
    }
}

impl TwoWays for attention_merge_backward::Problem {
    fn problems() -> Vec<Self> {
        let first = attention::attention_merge::shape(5, 33, 64);
        let of = attention::attention_merge_backward::of;
        vec![of(first), Self { dlse: Some(0), ..of(attention_merge::Problem { sum: Some(5 * 33), ..first }) }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let attention_merge::Problem { splits, rows, sum, .. } = self.forward;
        let parts = ["parts", "lse_parts", "sum_parts", "d_parts", "dlse_parts"].map(|name| (name, splits));
        let args = [&parts[..], &[("do", 1), ("dlse", 1)]].concat();
        let problem = |rows: usize| Self {
            forward: attention_merge::Problem { rows, sum: sum.map(|_| splits * rows), ..self.forward },
            ..*self
        };
        vec![Cut::at("rows", 9, rows, &args, |rows| problem(rows.len()))]
    }
}

impl TwoWays for attention_bias::Problem {
    fn problems() -> Vec<Self> {
        let first = Self { heads: 5, seq_q: 33, seq_kv: 8, ..Self::default() };
        let buckets = attention_bias::Buckets::t5(true);
        let kind = attention_bias::Kind::T5 { buckets, dtype: F32, layout: Default::default() };
        vec![first, Self { kind, bias: F16, ..first }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let buckets = match self.kind {
            attention_bias::Kind::T5 { buckets, .. } => buckets.num_buckets,
            attention_bias::Kind::Alibi { .. } => 1,
        };
        let args = [("alibi_slopes", 1), ("table", buckets), ("bias", 1)];
        vec![Cut::at("heads", 2, self.heads, &args, |heads| Self { heads: heads.len(), ..*self })]
    }
}

impl TwoWays for attention_bias_backward::Problem {
    fn problems() -> Vec<Self> {
        let of = attention::attention_bias_backward::t5;
        let first = Self {
            add: true,
            ..of(attention_bias::Buckets::t5(true), Self { heads: 5, seq_q: 133, ..Self::default() })
        };
        let alibi = Self { heads: 5, seq_q: 33, seq_kv: 9, dbias: F16, ..Self::default() };
        vec![Self { seq_kv: 40, ..first }, alibi]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let buckets = match self.kind {
            attention_bias_backward::Kind::T5 { buckets, .. } => buckets.num_buckets,
            attention_bias_backward::Kind::Alibi { .. } => 1,
        };
        let args = [("dbias", 1), ("dtable", buckets), ("dslopes", 1)];
        vec![Cut::at("heads", 2, self.heads, &args, |heads| Self { heads: heads.len(), ..*self })]
    }
}

impl TwoWays for sample::Problem {
    fn problems() -> Vec<Self> {
        let settings = sample::Settings { temperature: 0.7, top_p: 0.9, ..Default::default() };
        let first = Self { rows: 7, vocab: 300, settings, probs: Some(Default::default()), ..Self::default() };
        vec![first, Self { logits: F16, ..first }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let args = ["logits", "uniform", "probs", "token"].map(|name| (name, 1));
        vec![Cut::at("rows", 3, self.rows, &args, |rows| Self { rows: rows.len(), ..*self })]
    }
}

impl TwoWays for advance::Problem {
    fn problems() -> Vec<Self> {
        let first = Self { batch: 9, most: 30, history: Some(Default::default()), ..Self::default() };
        vec![first, Self { width: 3, accepted: Some(0), ..first }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let mut args = vec![("state", 1), ("tokens", 1), ("history", 1)];
        args.extend(self.accepted.map(|_| ("accepted", 1)));
        vec![Cut::at("sequences", 4, self.batch, &args, |some| Self { batch: some.len(), ..*self })]
    }
}

impl TwoWays for beam_step::Problem {
    fn problems() -> Vec<Self> {
        let first = Self { batch: 3, beams: 2, vocab: 300, top: 4, ..Self::default() };
        vec![first, Self { logits: F16, ..first }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let args = ["logits", "scores", "out_scores", "out_beams", "out_tokens"].map(|name| (name, 1));
        vec![Cut::at("batches", 1, self.batch, &args, |some| Self { batch: some.len(), ..*self })]
    }
}

impl TwoWays for speculative_tree::Problem {
    fn problems() -> Vec<Self> {
        let typical = speculative_tree::Typical { vocab: 60, ..Default::default() };
        let first = Self { batch: 5, len: 12, depth: 4, ..Self::default() };
        let sampled = speculative_tree::Sampled { vocab: 60, ..Default::default() };
        let sampled = Self { accept: speculative_tree::Accept::Sampled(sampled), ..first };
        vec![Self { accept: speculative_tree::Accept::Typical(typical), ..first }, first, sampled]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let args = ["draft", "target", "uniform", "drawn", "proposed", "path", "accepted", "tokens"];
        let args = args.map(|name| (name, 1));
        vec![Cut::at("batches", 2, self.batch, &args, |some| Self { batch: some.len(), ..*self })]
    }
}

impl TwoWays for speculative_verify::Problem {
    fn problems() -> Vec<Self> {
        vec![Self { batch: 5, len: 4, vocab: 60, ..Self::default() }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let args = ["draft", "target", "proposed", "uniform", "accepted", "tokens"].map(|name| (name, 1));
        vec![Cut::at("batches", 2, self.batch, &args, |some| Self { batch: some.len(), ..*self })]
    }
}

impl TwoWays for kv_append::Problem {
    fn problems() -> Vec<Self> {
        let first =
            Self { tokens: 9, kv_heads: 2, head_dim: 8, value_dim: 8, pages: 3, page_size: 4, ..Self::default() };
        let first = Self { skipped: Some(0), ..first };
        vec![first.clone(), Self { x: F16, cache: kv_append::Cache::Int8, ..first }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let args = ["k", "v", "slots"].map(|name| (name, 1));
        let cut = Cut::at("tokens", 4, self.tokens, &args, |some| Self { tokens: some.len(), ..self.clone() });
        vec![cut.chained(&[
            ("k_cache", "k_cache"),
            ("v_cache", "v_cache"),
            ("k_scale", "k_scale"),
            ("v_scale", "v_scale"),
        ])]
    }
}

impl TwoWays for kv_move::Problem {
    fn problems() -> Vec<Self> {
        let first = Self { batch: 2, len: 6, depth: 3, kv_heads: 2, head_dim: 8, value_dim: 8, ..Self::default() };
        let first = Self { pages: 4, page_size: 5, ..first };
        vec![first, Self { cache: kv_append::Cache::Int8, head_dim: 7, ..first }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let args = ["slots", "path"].map(|name| (name, 1));
        let cut = Cut::at("batches", 1, self.batch, &args, |some| Self { batch: some.len(), ..*self });
        vec![cut.chained(&[
            ("k_cache", "k_cache"),
            ("v_cache", "v_cache"),
            ("k_scale", "k_scale"),
            ("v_scale", "v_scale"),
        ])]
    }
}

impl TwoWays for moe_route::Problem {
    fn problems() -> Vec<Self> {
        let first = Self { n: 37, experts: 16, top_k: 4, counts: Some(0), ..Self::default() };
        let groups = Self { groups: 4, top_groups: 2, bias: Some(0), score: moe_route::Score::Sigmoid, ..first };
        vec![first, Self { logits: F16, ..groups }]
    }

    /// Offsets of each expert are sums, as are counts.
    fn cuts(&self) -> Vec<Cut<Self>> {
        let args = [("logits", 1), ("experts", 1), ("weights", 1)];
        let cut = Cut::at("tokens", 9, self.n, &args, |tokens| Self { n: tokens.len(), ..*self });
        // The pairs of an expert are those of each piece, one after the other.
        let order = |problem: &Self, joined: &mut Values, given: &[Values]| {
            let mut order = Vec::new();
            for expert in 0..problem.experts {
                let mut first = 0;
                for piece in given {
                    let [from, to] = [0, 1].map(|i| piece["offsets"][expert + i] as usize);
                    order.extend(piece["order"][from..to].iter().map(|pair| pair + first as f64));
                    first += piece["order"].len();
                }
            }
            joined.insert("order", order);
        };
        vec![Cut { finish: Some(order), ..cut }]
    }
}

impl TwoWays for moe_bias::Problem {
    fn problems() -> Vec<Self> {
        vec![Self { rows: 7, experts: 40, ..Self::default() }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let args = [("counts", 1), ("bias", 1)];
        vec![Cut::at("rows", 3, self.rows, &args, |rows| Self { rows: rows.len(), ..*self })]
    }
}

impl TwoWays for moe_route_backward::Problem {
    fn problems() -> Vec<Self> {
        let first = Self { n: 36, experts: 24, top_k: 3, add: true, ..Self::default() };
        vec![first, Self { logits: F16, score: moe_route::Score::Sigmoid, normalize: false, scale: 2.5, ..first }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let args = ["logits", "chosen", "dweights", "dlogits"].map(|name| (name, 1));
        vec![Cut::at("tokens", 9, self.n, &args, |tokens| Self { n: tokens.len(), ..*self })]
    }
}

impl TwoWays for moe_balance::Problem {
    fn problems() -> Vec<Self> {
        let first =
            Self { n: 36, experts: 8, top_k: 2, sequences: 4, dlogits: Some(Default::default()), ..Self::default() };
        vec![first, Self { logits: F16, score: moe_route::Score::Softmax, ..first }]
    }

    /// The gradient is that of the mean of all losses.
    fn cuts(&self) -> Vec<Cut<Self>> {
        let Self { n, sequences, .. } = *self;
        let args = ["logits", "chosen", "loss", "dlogits"].map(|name| (name, 1));
        let part = |some: usize| Self { n: n / sequences * some, sequences: some, ..*self };
        let mut cut = Cut::at("sequences", sequences / 2, sequences, &args, |some| part(some.len()));
        for piece in &mut cut.pieces {
            piece.slices[3].factor = piece.problem.sequences as f64 / sequences as f64;
        }
        vec![cut]
    }
}

impl TwoWays for tileloom::gemm::Problem {
    fn problems() -> Vec<Self> {
        let halves = Self { epilogue: whole(Activation::Silu), ..plain(19, 36, 24, [F16; 3]) };
        vec![Self { batch: [2, 1], ..f32s(20, 36, 40) }, halves]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let Self { m, n, k, batch: [batch, inner], epilogue, .. } = *self;
        let all = batch * inner;
        let vectors = |axis: Along| {
            let all = [("bias", epilogue.bias), ("scale", epilogue.scale)].into_iter();
            all.filter(move |(_, vector)| vector.is_some_and(|vector| vector.along == axis)).map(|(name, _)| (name, 1))
        };
        let rows: Vec<_> =
            [("a", all), ("d", all), ("residual", all)].into_iter().chain(vectors(Along::Rows)).collect();
        let columns = [("b", all * k), ("d", all * m), ("residual", all * m)];
        let columns: Vec<_> = columns.into_iter().chain(vectors(Along::Columns)).collect();
        let mut cuts = vec![
            Cut::at("rows", 7, m, &rows, |rows| Self { m: rows.len(), ..*self }),
            Cut::at("columns", 16, n, &columns, |columns| Self { n: columns.len(), ..*self }),
        ];
        if batch > 1 {
            let args = ["a", "b", "d"].map(|name| (name, 1));
            let of = |batch: usize| Self { batch: [batch, inner], ..*self };
            cuts.push(Cut::at("batches", 1, batch, &args, |batch| of(batch.len())));
        }
        if epilogue == Default::default() {
            let args = [("a", all * m), ("b", all)];
            let added = |from: usize| (from > 0).then_some(Matrix::new(self.d.dtype));
            cuts.push(Cut::at("k, summed", 16, k, &args, |k| Self { k: k.len(), ..*self }));
            let onto = Cut::at("k, as c", 16, k, &args, |k| Self { k: k.len(), c: added(k.start), ..*self });
            cuts.push(onto.chained(&[("c", "d")]));
        }
        cuts
    }
}

impl TwoWays for resize::Problem {
    fn problems() -> Vec<Self> {
        let of = |channels, order| conv_resize(channels, [9, 8], [5, 12], resize::Rule::Linear, order);
        let halves = Self { x: F16, y: F16, ..of(6, conv::Order::Nchw) };
        vec![Self { batch: 3, ..of(8, conv::Order::Nhwc) }, Self { batch: 3, adjoint: true, ..halves }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let args = ["x", "y"].map(|name| (name, 1));
        vec![Cut::at("batches", 1, self.batch, &args, |some| Self { batch: some.len(), ..*self })]
    }
}

impl TwoWays for group_norm::Problem {
    fn problems() -> Vec<Self> {
        use loom::kernels::conv::group_norm as listed;
        let of = |over, channels, order| Self { batch: 3, ..listed::shape(over, channels, [6, 6], order) };
        let halves = listed::of(F16, of(group_norm::Over::Channels, 6, conv::Order::Nchw));
        vec![Self { stats: Some(0), ..of(group_norm::Over::Group(3), 12, conv::Order::Nhwc) }, halves]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let args = [("x", 1), ("y", 1), ("stats", 3)];
        vec![Cut::at("batches", 1, self.batch, &args, |some| Self { batch: some.len(), ..*self })]
    }
}

impl TwoWays for snake_backward::Problem {
    fn problems() -> Vec<Self> {
        use loom::kernels::conv::snake_backward::{of, shape};
        [shape(12, [6, 6], conv::Order::Nhwc), of(F16, shape(12, [6, 6], conv::Order::Nchw))]
            .map(|problem| Self { batch: 3, ..problem })
            .into()
    }

    /// Gradients of alpha and the bias are sums over pictures.
    fn cuts(&self) -> Vec<Cut<Self>> {
        let args = [("x", 1), ("dy", 1), ("dx", 1)];
        vec![Cut::at("batches", 1, self.batch, &args, |some| Self { batch: some.len(), ..*self })]
    }
}

impl TwoWays for group_norm_backward::Problem {
    fn problems() -> Vec<Self> {
        use loom::kernels::conv::group_norm as listed;
        use loom::kernels::conv::group_norm_backward::{all, plain, shape};
        let of = |over, order| shape(over, 12, [6, 6], order);
        let group = of(group_norm::Over::Group(3), conv::Order::Nhwc).forward;
        let halves = listed::of(F16, plain(of(group_norm::Over::Channels, conv::Order::Nchw)).forward);
        [group, halves].map(|forward| all(group_norm::Problem { batch: 3, ..forward })).into()
    }

    /// Gradients of weight and bias are sums over pictures.
    fn cuts(&self) -> Vec<Cut<Self>> {
        let args = [("x", 1), ("dy", 1), ("dx", 1), ("stats", 3)];
        let with = |batch| Self { forward: group_norm::Problem { batch, ..self.forward }, ..*self };
        vec![Cut::at("batches", 1, self.forward.batch, &args, |some| with(some.len()))]
    }
}

impl TwoWays for max_pool::Problem {
    fn problems() -> Vec<Self> {
        let of = |channels, order| loom::kernels::conv::max_pool::shape(channels, [9, 7], 3, 2, order);
        let halves = Self { x: F16, y: F16, indices: None, ..of(6, conv::Order::Nchw) };
        vec![Self { batch: 3, ..of(8, conv::Order::Nhwc) }, Self { batch: 3, ..halves }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let args = ["x", "y", "indices"].map(|name| (name, 1));
        vec![Cut::at("batches", 1, self.batch, &args, |some| Self { batch: some.len(), ..*self })]
    }
}

impl TwoWays for max_pool_backward::Problem {
    fn problems() -> Vec<Self> {
        let of = |channels, order, dtype| {
            let forward = loom::kernels::conv::max_pool::shape(channels, [9, 7], 3, 2, order);
            let forward = max_pool::Problem { batch: 3, ..forward };
            loom::kernels::conv::max_pool_backward::of(forward, dtype, dtype)
        };
        vec![of(8, conv::Order::Nhwc, F32), Self { add: true, ..of(6, conv::Order::Nchw, F16) }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let args = ["dy", "indices", "dx"].map(|name| (name, 1));
        let with = |batch| Self { forward: max_pool::Problem { batch, ..self.forward }, ..*self };
        vec![Cut::at("batches", 1, self.forward.batch, &args, |some| with(some.len()))]
    }
}

impl TwoWays for space_to_depth::Problem {
    fn problems() -> Vec<Self> {
        use loom::kernels::conv::space_to_depth::shape;
        use tileloom::space_to_depth::Mode;
        let first = Self { batch: 3, ..shape(8, [3, 5], [2, 2], Mode::Dcr, conv::Order::Nhwc) };
        let crd = shape(6, [3, 5], [2, 3], Mode::Crd, conv::Order::Nchw);
        vec![first, Self { batch: 3, inverse: true, x: F16, ..crd }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let args = ["x", "y"].map(|name| (name, 1));
        vec![Cut::at("batches", 1, self.batch, &args, |some| Self { batch: some.len(), ..*self })]
    }
}

impl TwoWays for conv::Problem {
    fn problems() -> Vec<Self> {
        let first = Self { batch: 3, ..shape(8, 36, 6, 3, conv::Order::Nhwc) };
        let residual = Some(conv::Residual::of(F16));
        let halves = of(shape(5, 12, 7, 3, conv::Order::Nchw), [F16; 3]);
        vec![first, Self { batch: 3, bias: Some(conv::Bias::of(F32)), residual, ..halves }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let Self { batch, outputs, channels, .. } = *self;
        let [height, width] = self.out();
        let first = self.order == conv::Order::Nchw;
        let outer = |inside: usize| if first { batch } else { batch * inside };
        let y = outer(height * width);
        let args = ["x", "y", "residual"].map(|name| (name, 1));
        let of_outputs = [("weight", 1), ("bias", 1), ("y", y), ("residual", y)];
        let mut cuts = vec![
            Cut::at("batches", 1, batch, &args, |some| Self { batch: some.len(), ..*self }),
            Cut::at("outputs", outputs / 3 / 4 * 4, outputs, &of_outputs, |some| Self { outputs: some.len(), ..*self }),
        ];
        if self.bias.is_none() {
            let args = [("x", outer(self.size[0] * self.size[1])), ("weight", outputs)];
            cuts.push(Cut::at("channels, summed", 4, channels, &args, |some| Self { channels: some.len(), ..*self }));
        }
        cuts
    }
}

impl TwoWays for conv_backward::Problem {
    fn problems() -> Vec<Self> {
        use loom::kernels::conv::conv_backward::{all, sums};
        let first = all(conv::Problem { batch: 3, stride: [2, 1], ..shape(8, 36, 6, 3, conv::Order::Nhwc) });
        let halves = of(shape(5, 12, 7, 3, conv::Order::Nchw), [F16; 3]);
        vec![first, sums(conv::Problem { batch: 3, ..halves })]
    }

    /// Gradients of the weights and the bias are sums over pictures, those by x over outputs.
    fn cuts(&self) -> Vec<Cut<Self>> {
        let conv::Problem { batch, outputs, order, .. } = self.forward;
        let [height, width] = self.forward.out();
        let dy = if order == conv::Order::Nchw { batch } else { batch * height * width };
        let of_outputs = [("weight", 1), ("dy", dy), ("dweight", 1), ("dbias", 1)];
        let with = |forward| Self { forward, ..*self };
        let of = self.forward;
        vec![
            Cut::at("batches", 1, batch, &["x", "dy", "dx"].map(|name| (name, 1)), |some| {
                with(conv::Problem { batch: some.len(), ..of })
            }),
            Cut::at("outputs", outputs / 3 / 4 * 4, outputs, &of_outputs, |some| {
                with(conv::Problem { outputs: some.len(), ..of })
            }),
        ]
    }
}

impl TwoWays for conv_transpose::Problem {
    fn problems() -> Vec<Self> {
        let of = loom::kernels::conv::conv_transpose::shape;
        let first = Self { batch: 3, ..of(8, 36, 5, 4, 2, conv::Order::Nhwc) };
        let halves = loom::kernels::conv::conv_transpose::of(of(8, 12, 5, 3, 2, conv::Order::Nchw), [F16; 3]);
        vec![Self { add: true, ..first }, Self { batch: 3, bias: Some(conv::Bias::of(F32)), ..halves }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let Self { batch, outputs, channels, .. } = *self;
        let first = self.order == conv::Order::Nchw;
        let outer = |inside: usize| if first { batch } else { batch * inside };
        let [height, width] = self.out();
        let y = outer(height * width);
        let of_outputs = [("weight", channels), ("bias", 1), ("y", y)];
        let outputs_cut =
            Cut::at("outputs", outputs / 3 / 4 * 4, outputs, &of_outputs, |some| Self { outputs: some.len(), ..*self });
        let mut cuts = vec![
            Cut::at("batches", 1, batch, &["x", "y"].map(|name| (name, 1)), |some| Self { batch: some.len(), ..*self }),
            outputs_cut,
        ];
        if self.bias.is_none() && !self.add {
            let args = [("x", outer(self.size[0] * self.size[1])), ("weight", 1)];
            cuts.push(Cut::at("channels, summed", 4, channels, &args, |some| Self { channels: some.len(), ..*self }));
        }
        cuts
    }
}

impl TwoWays for gemm_quant::Problem {
    fn problems() -> Vec<Self> {
        let first = Self { m: 3, n: 40, k: 164, format: Format::Q4_0, ..Self::default() };
        vec![first, Self { m: 19, k: 192, format: Format::Q8_0, a: Matrix::new(F16), d: Matrix::new(F16), ..first }]
    }

    /// Rows of weights lie in eights.
    fn cuts(&self) -> Vec<Cut<Self>> {
        let Self { m, n, .. } = *self;
        let columns = [("codes", 1), ("scales", 1), ("d", m)];
        vec![
            Cut::at("rows", 1, m, &[("a", 1), ("d", 1)], |rows| Self { m: rows.len(), ..*self }),
            Cut::at("columns", 16, n, &columns, |columns| Self { n: columns.len(), ..*self }),
        ]
    }
}

impl TwoWays for grouped_gemm::Problem {
    fn problems() -> Vec<Self> {
        let half = gemm::grouped_gemm::of(5, 70, 36, 24, F16);
        let half = Self { bias: Some(norm::Vector::of(F16)), activation: Activation::Gelu, ..half };
        vec![gemm::grouped_gemm::of(4, 90, 68, 132, F32), half]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let Self { m, n, groups, .. } = *self;
        let mut rows = Cut::at("rows", 33, m, &[("a", 1), ("d", 1)], |rows| Self { m: rows.len(), ..*self });
        for piece in &mut rows.pieces {
            let (from, most) = (piece.slices[0].from as f64, piece.problem.m as f64);
            piece.set = Some(Box::new(move |values| {
                let offsets = values.get_mut("offsets").into_iter().flatten();
                offsets.for_each(|offset| *offset = (*offset - from).clamp(0.0, most));
            }));
        }
        let columns = [("b", groups), ("bias", groups), ("d", m)];
        // Rows of another group are 0. Offsets are one more than groups.
        let args = [("b", 1), ("bias", 1)];
        let mut of_groups = Cut::at("groups", 2, groups, &args, |groups| Self { groups: groups.len(), ..*self });
        for piece in &mut of_groups.pieces {
            let from = piece.slices[0].from;
            piece.slices.push(Slice { name: "offsets", outer: 1, size: groups + 1, from, factor: 1.0, base: 0.0 });
        }
        vec![rows, Cut::at("columns", 16, n, &columns, |columns| Self { n: columns.len(), ..*self }), of_groups]
    }
}

impl TwoWays for lora::Problem {
    fn problems() -> Vec<Self> {
        let residual = Some(lora::Residual { dtype: F16, layout: Default::default() });
        let half = gemm::lora::of(19, 36, 24, 6, 2, F16);
        let half = Self { bias: Some(norm::Vector::of(F32)), activation: Activation::Silu, residual, ..half };
        vec![gemm::lora::of(20, 36, 40, 4, 3, F32), half]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let Self { m, n, adapters, .. } = *self;
        let rows = ["adapter", "x", "residual", "y"].map(|name| (name, 1));
        let columns = [("weight", 1), ("b", adapters), ("bias", 1), ("residual", m), ("y", m)];
        vec![
            Cut::at("rows", 7, m, &rows, |rows| Self { m: rows.len(), ..*self }),
            Cut::at("columns", 16, n, &columns, |columns| Self { n: columns.len(), ..*self }),
        ]
    }
}

impl TwoWays for grouped_gemm_backward::Problem {
    fn problems() -> Vec<Self> {
        let of = gemm::grouped_gemm_backward::of;
        let first = Self { add: true, dbias: Some(0), ..of(4, 90, 36, 68, F32) };
        vec![first, Self { trans_b: false, ..of(5, 70, 37, 21, F16) }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let Self { m, groups, .. } = *self;
        let mut rows = Cut::at("rows", 33, m, &[("a", 1), ("dd", 1)], |rows| Self { m: rows.len(), ..*self });
        for piece in &mut rows.pieces {
            let (from, most) = (piece.slices[0].from as f64, piece.problem.m as f64);
            piece.set = Some(Box::new(move |values| {
                let offsets = values.get_mut("offsets").into_iter().flatten();
                offsets.for_each(|offset| *offset = (*offset - from).clamp(0.0, most));
            }));
        }
        let args = [("db", 1), ("dbias", 1)];
        let mut of_groups = Cut::at("groups", 2, groups, &args, |groups| Self { groups: groups.len(), ..*self });
        for piece in &mut of_groups.pieces {
            let from = piece.slices[0].from;
            piece.slices.push(Slice { name: "offsets", outer: 1, size: groups + 1, from, factor: 1.0, base: 0.0 });
        }
        vec![if self.add { rows.chained(&[("db", "db"), ("dbias", "dbias")]) } else { rows }, of_groups]
    }
}

impl TwoWays for lora_backward::Problem {
    fn problems() -> Vec<Self> {
        let first = Self { add: true, ..gemm::lora_backward::of(20, 36, 40, 4, 3, F32) };
        vec![first, gemm::lora_backward::of(21, 36, 40, 8, 3, F16)]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let args = ["adapter", "x", "dy"].map(|name| (name, 1));
        let cut = Cut::at("rows", 9, self.m, &args, |rows| Self { m: rows.len(), ..*self });
        vec![if self.add { cut.chained(&[("da", "da"), ("db", "db")]) } else { cut }]
    }
}

impl TwoWays for rope::Problem {
    fn problems() -> Vec<Self> {
        let first = position::rope::shape(2, 9, 7, 64, 64);
        let (k, positions) = (Some(rope::Heads::new(3)), rope::Positions::Offset(-3));
        vec![first.clone(), Self { x: F16, y: F16, k, positions, ..first }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let Self { batch, seq, q, k, positions, .. } = self;
        let (axes, kv) = (self.axes.count(), k.map_or(1, |k| k.heads));
        let sequences = [("x", 1), ("k", 1), ("positions", axes), ("y", 1), ("k_out", 1)];
        let [of_q, of_k] = [batch * q.heads, batch * kv];
        let tokens = [("x", of_q), ("k", of_k), ("positions", axes * batch), ("y", of_q), ("k_out", of_k)];
        let later = |from: usize| match *positions {
            rope::Positions::Offset(first) => rope::Positions::Offset(first + from as i64),
            buffer => buffer,
        };
        let mut cuts = vec![
            Cut::at("sequences", 1, *batch, &sequences, |batch| Self { batch: batch.len(), ..self.clone() }),
            Cut::at("tokens", 3, *seq, &tokens, |seq| Self {
                positions: later(seq.start),
                seq: seq.len(),
                ..self.clone()
            }),
        ];
        if k.is_none() {
            let heads = [("x", *batch), ("y", *batch)];
            let of = |heads: usize| Self { q: rope::Heads::new(heads), ..self.clone() };
            cuts.push(Cut::at("heads", 2, q.heads, &heads, |heads| of(heads.len())));
        }
        cuts
    }
}

impl TwoWays for position_encoding::Problem {
    fn problems() -> Vec<Self> {
        let first = position::position_encoding::sequence(2, 37, 64);
        let learned = position::position_encoding::learned(F32, 20, None, 0);
        let positions = position::position_encoding::read(true);
        vec![first.clone(), Self { x: F16, y: F16, encoding: learned, positions, ..first }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let Self { batch, cols, positions, .. } = self;
        let axes = self.encoding.axes();
        let sequences = [("x", 1), ("positions", axes), ("y", 1)];
        let tokens = [("x", *batch), ("positions", axes * batch), ("y", *batch)];
        let later = |from: usize| match *positions {
            position_encoding::Positions::From { col, row } => {
                position_encoding::Positions::From { col: col + from as i64, row }
            }
            buffer => buffer,
        };
        vec![
            Cut::at("sequences", 1, *batch, &sequences, |batch| Self { batch: batch.len(), ..self.clone() }),
            Cut::at("tokens", 10, *cols, &tokens, |cols| Self {
                positions: later(cols.start),
                cols: cols.len(),
                ..self.clone()
            }),
        ]
    }
}

impl TwoWays for counting_sort::Problem {
    fn problems() -> Vec<Self> {
        let first = Self { n: 700, segments: 3, num_keys: 100, counts: Some(0), ..Self::default() };
        vec![Self { out_of_range: OutOfRange::First, ..first }]
    }

    /// Elements of a segment stand behind those of the segments before.
    fn cuts(&self) -> Vec<Cut<Self>> {
        let Self { n, segments, num_keys, .. } = *self;
        let args = [("keys", n), ("order", 1), ("counts", 1)];
        let mut cut = Cut::at("segments", 1, segments, &args, |some| Self { segments: some.len(), ..*self });
        for piece in &mut cut.pieces {
            let first = piece.slices[0].from;
            let (size, from, base) = (segments * num_keys + 1, first * num_keys, (first * n) as f64);
            piece.slices.push(Slice { name: "offsets", outer: 1, size, from, factor: 1.0, base });
            piece.slices[1].base = base;
        }
        vec![cut]
    }
}

impl TwoWays for vq_assign::Problem {
    fn problems() -> Vec<Self> {
        let first = vq::vq_assign::everything(Self { n: 65, num_codes: 129, code_dim: 32, ..Self::default() });
        let halves = Self { x: F16, books: 2, n: 30, num_codes: 40, metric: vq_assign::Metric::Cosine, ..first };
        vec![first, halves]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let Self { n, books, .. } = *self;
        let vectors = ["x", "indices", "distance", "quantized"];
        let by_vector = vectors.map(|name| (name, 1));
        let mut cuts = vec![Cut::at("vectors", 9, n, &by_vector, |vectors| Self { n: vectors.len(), ..*self })];
        if books > 1 {
            let args = [&vectors.map(|name| (name, n))[..], &[("codebook", 1), ("usage", 1)]].concat();
            cuts.push(Cut::at("books", 1, books, &args, |books| Self { books: books.len(), ..*self }));
        }
        cuts
    }
}

impl TwoWays for vq_lookup::Problem {
    fn problems() -> Vec<Self> {
        let first = Self { batch: 2, spatial: 13, num_codes: 17, code_dim: 64, bad: Some(0), ..Self::default() };
        vec![first, Self { books: 3, combine: Combine::Sum, x: Bf16, y: F16, ..first }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let Self { batch, spatial, .. } = *self;
        let by = |outer: usize| ["indices", "y"].map(|name| (name, outer));
        vec![
            Cut::at("batches", 1, batch, &by(1), |batch| Self { batch: batch.len(), ..*self }),
            Cut::at("positions", 5, spatial, &by(batch), |spatial| Self { spatial: spatial.len(), ..*self }),
        ]
    }
}

impl TwoWays for vq_scatter::Problem {
    fn problems() -> Vec<Self> {
        let first = Self { batch: 2, spatial: 50, num_codes: 13, code_dim: 64, counts: Some(0), ..Self::default() };
        vec![first, Self { books: 3, x: F16, ..first }]
    }

    /// Sums and counts are those of all vectors.
    fn cuts(&self) -> Vec<Cut<Self>> {
        let args = [("indices", 1), ("x", 1)];
        vec![Cut::at("batches", 1, self.batch, &args, |batch| Self { batch: batch.len(), ..*self })]
    }
}

impl TwoWays for vq_scalar::Problem<'static> {
    fn problems() -> Vec<Self> {
        let first = Self { n: 130, levels: &[8, 5, 5, 5], ..Self::default() };
        let decoded = Self { kind: vq_scalar::Kind::Lfq, levels: &[2; 18], ..first };
        vec![first, Self { direction: vq_scalar::Direction::Decode, y: F16, ..decoded }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let args = [("x", 1), ("indices", 1), ("y", 1)];
        vec![Cut::at("vectors", 33, self.n, &args, |vectors| Self { n: vectors.len(), ..*self })]
    }
}

impl TwoWays for vq_train::Problem {
    fn problems() -> Vec<Self> {
        vec![Self { n: 50, books: 2, num_codes: 40, code_dim: 8, decay: 0.75, ..Self::default() }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let Self { n, books, .. } = *self;
        let state = ["counts", "sums", "ema_counts", "ema_sums", "codebook", "stats"].map(|name| (name, 1));
        let args = [&[("x", n)], &state[..]].concat();
        vec![Cut::at("books", 1, books, &args, |books| Self { books: books.len(), ..*self })]
    }
}

impl TwoWays for vq_train::Gradient {
    fn problems() -> Vec<Self> {
        let first = Self { elements: 1000, dtype: F32, commit: 0.25, pull: Some(0.5) };
        vec![first, Self { dtype: Bf16, pull: None, ..first }]
    }

    fn cuts(&self) -> Vec<Cut<Self>> {
        let args = ["x", "q", "dy", "dx", "dq"].map(|name| (name, 1));
        vec![Cut::at("elements", 300, self.elements, &args, |elements| Self { elements: elements.len(), ..*self })]
    }
}
