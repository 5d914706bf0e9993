//! The ops: the fields of their Problems, and the names of their arguments.

use tileloom::attention::{Alibi, Codes, Packed, Paged, Segments, Tree};
use tileloom::attention_bias::Buckets;
use tileloom::gemm::{Activation, Along, Epilogue, Matrix, Precision};
use tileloom::position_encoding::{Axis, Encoding, Table, Wave};
use tileloom::rope::{Angles, Axes, Frequencies, Heads, Style};
use tileloom::vq_assign::{Metric, Quantized};
use tileloom::vq_lookup::{Combine, Index, Order, OutOfRange};
use tileloom::vq_scalar::Direction;
use tileloom::weights::{Code, Format, Scales};
use tileloom::{
    Binding, Caps, Dispatch, Dtype, Kernels, Mask, MaskKind, Result, activation, activation_backward, advance,
    attention, attention_backward, attention_bias, attention_bias_backward, attention_merge, attention_merge_backward,
    axpby, beam_step, column_sums, conv, conv_backward, conv_transpose, counting_sort, dropout, gemm, gemm_quant,
    group_norm, group_norm_backward, grouped_gemm, grouped_gemm_backward, kv_append, kv_move, lora, lora_backward,
    max_pool, max_pool_backward, moe_balance, moe_bias, moe_route, moe_route_backward, norm, norm_backward,
    position_encoding, quantize, resize, rope, sample, snake_backward, softmax, softmax_backward, space_to_depth,
    speculative_tree, speculative_verify, vq_assign, vq_lookup, vq_scalar, vq_scatter, vq_train,
};

use crate::call::{self, Get, Tally, Target};
use crate::dice::{Dice, Vary};
use crate::gpu::Gpu;
use crate::{fields, one_of, tensors};

/// A case of any op.
pub type Case = fn(&mut Dice, &Gpu, &Kernels, &mut Tally) -> std::result::Result<call::End, String>;

/// The ops by name.
pub const OPS: [(&str, Case); 52] = [
    ("attention", call::case::<attention::Problem>),
    ("attention_backward", call::case::<attention_backward::Problem>),
    ("attention_bias", call::case::<attention_bias::Problem>),
    ("attention_bias_backward", call::case::<attention_bias_backward::Problem>),
    ("attention_merge", call::case::<attention_merge::Problem>),
    ("attention_merge_backward", call::case::<attention_merge_backward::Problem>),
    ("activation", call::case::<activation::Problem>),
    ("activation_backward", call::case::<activation_backward::Problem>),
    ("advance", call::case::<advance::Problem>),
    ("axpby", call::case::<axpby::Problem>),
    ("beam_step", call::case::<beam_step::Problem>),
    ("conv", call::case::<conv::Problem>),
    ("conv_backward", call::case::<conv_backward::Problem>),
    ("conv_transpose", call::case::<conv_transpose::Problem>),
    ("column_sums", call::case::<column_sums::Problem>),
    ("dropout", call::case::<dropout::Problem>),
    ("counting_sort", call::case::<counting_sort::Problem>),
    ("gemm", call::case::<gemm::Problem>),
    ("gemm_quant", call::case::<gemm_quant::Problem>),
    ("group_norm", call::case::<group_norm::Problem>),
    ("group_norm_backward", call::case::<group_norm_backward::Problem>),
    ("grouped_gemm", call::case::<grouped_gemm::Problem>),
    ("grouped_gemm_backward", call::case::<grouped_gemm_backward::Problem>),
    ("kv_append", call::case::<kv_append::Problem>),
    ("kv_move", call::case::<kv_move::Problem>),
    ("lora", call::case::<lora::Problem>),
    ("lora_backward", call::case::<lora_backward::Problem>),
    ("max_pool", call::case::<max_pool::Problem>),
    ("max_pool_backward", call::case::<max_pool_backward::Problem>),
    ("moe_balance", call::case::<moe_balance::Problem>),
    ("moe_bias", call::case::<moe_bias::Problem>),
    ("moe_route", call::case::<moe_route::Problem>),
    ("moe_route_backward", call::case::<moe_route_backward::Problem>),
    ("norm", call::case::<norm::Problem>),
    ("norm_backward", call::case::<norm_backward::Problem>),
    ("position_encoding", call::case::<position_encoding::Problem>),
    ("quantize", call::case::<quantize::Problem>),
    ("resize", call::case::<resize::Problem>),
    ("rope", call::case::<rope::Problem>),
    ("sample", call::case::<sample::Problem>),
    ("snake_backward", call::case::<snake_backward::Problem>),
    ("softmax", call::case::<softmax::Problem>),
    ("softmax_backward", call::case::<softmax_backward::Problem>),
    ("space_to_depth", call::case::<space_to_depth::Problem>),
    ("speculative_tree", call::case::<speculative_tree::Problem>),
    ("speculative_verify", call::case::<speculative_verify::Problem>),
    ("vq_assign", call::case::<vq_assign::Problem>),
    ("vq_lookup", call::case::<vq_lookup::Problem>),
    ("vq_scalar", call::case::<vq_scalar::Problem<'static>>),
    ("vq_scatter", call::case::<vq_scatter::Problem>),
    ("vq_train", train),
    ("tensors", tensors::case),
];

/// A step of moving averages, gradients, k-means.
fn train(dice: &mut Dice, gpu: &Gpu, kernels: &Kernels, tally: &mut Tally) -> std::result::Result<call::End, String> {
    match dice.below(3) {
        0 => call::case::<vq_train::Problem>(dice, gpu, kernels, tally),
        1 => call::case::<vq_train::Gradient>(dice, gpu, kernels, tally),
        _ => call::case::<KMeans>(dice, gpu, kernels, tally),
    }
}

/// An op as a [`Target`]: its arguments, its Buffers of them, and what makes most Problems consistent.
macro_rules! target {
    ($problem:ty: [$($all:ident),+], [$($some:ident),*]; |$get:ident| $buffers:expr; |$dice:ident, $p:ident| $tidy:expr) => {
        impl Target for $problem {
            const ARGS: [&'static [&'static str]; 2] = [&[$(stringify!($all)),+], &[$(stringify!($some)),*]];

            fn any($dice: &mut Dice) -> Self {
                let mut problem = <$problem as Vary>::any($dice);
                let tidy: fn(&mut Dice, &mut $problem) = |$dice, $p| $tidy;
                if !$dice.one_in(8) {
                    tidy($dice, &mut problem);
                }
                problem
            }

            fn vary_one(&mut self, dice: &mut Dice) {
                dice.rarely();
                self.vary(dice);
            }

            fn candidates(&self, caps: &Caps) -> Result<Vec<String>> {
                call::candidates(self, caps)
            }

            fn fits(&self, caps: &Caps, config: &str) -> Option<Result<()>> {
                call::fits(self, caps, config)
            }

            fn prepare(&self, kernels: &Kernels, config: Option<&str>, $get: Get) -> Result<Dispatch> {
                let buffers = $buffers;
                match config {
                    None => tileloom::Op::prepare(self, kernels, buffers),
                    Some(config) => {
                        let config = config.parse().expect("a Config");
                        tileloom::Op::prepare_with(self, kernels, &config, buffers)
                    }
                }
            }
        }
    };
}

/// Buffers of these arguments, by `new` and setters.
macro_rules! buffers {
    ($op:ident, $get:ident, [$($all:ident),+], [$($some:ident),*]) => {{
        #[allow(unused_mut)]
        let mut buffers = $op::Buffers::new($(all($get, stringify!($all))),+);
        $(if let Some(binding) = $get(stringify!($some)) {
            buffers = buffers.$some(binding);
        })*
        buffers
    }};
}

/// [`target!`] with [`buffers!`].
macro_rules! op {
    ($op:ident: [$($all:ident),+], [$($some:ident),*]; |$dice:ident, $p:ident| $tidy:expr) => {
        target!($op::Problem: [$($all),+], [$($some),*]; |get| buffers!($op, get, [$($all),+], [$($some),*]); |$dice, $p| $tidy);
    };
}

/// An argument that every call has.
fn all<'a>(get: Get<'_, 'a>, name: &'static str) -> Binding<'a> {
    get(name).expect("every call has it")
}

/// Rows that `dims` divide.
fn rows(dice: &mut Dice, dims: &mut [usize; 2]) -> usize {
    let dims = dims.each_mut().map(|n| {
        *n = (*n).max(1);
        *n
    });
    dice.size().wrapping_mul(dims[0]).wrapping_mul(dims[1])
}

one_of!(axpby::Factor: |d| axpby::Factor::Value(Vary::any(d)), axpby::Factor::Value(1.0),
    axpby::Factor::Buffer(d.size()));
fields!(axpby::Problem = Self::default();
    axpby::Problem { rows, cols, dims, a, b, x, x_layout, z, z_layout, y, y_layout });
op!(axpby: [x, y], [z, factors]; |dice, p| p.rows = rows(dice, &mut p.dims));

fields!(column_sums::Problem = Self::default();
    column_sums::Problem { rows, cols, dims, x, x_layout, y, add });
op!(column_sums: [x, y], [scratch]; |dice, p| p.rows = rows(dice, &mut p.dims));

one_of!(activation::Activation: |d| d.of_these(activation::Activation::ALL));
fields!(activation::Problem = Self::default();
    activation::Problem { rows, cols, dims, activation, slope, x, x_layout, bias, up, up_layout, up_bias, y, y_layout });
op!(activation: [x, y], [up, bias, up_bias]; |dice, p| {
    p.rows = rows(dice, &mut p.dims);
    p.slope = 0.5;
    p.up = p.up.or(p.up_bias.map(|_| p.x));
});
fields!(activation_backward::Problem = Self::default();
activation_backward::Problem {
    rows, cols, dims, activation, slope, x, x_layout, bias, up, up_layout, up_bias, dy, dy_layout, dx, dx_layout, dup,
    dup_layout, dbias, dup_bias, add,
});
op!(activation_backward: [x, dy, dx], [up, dup, bias, up_bias, dbias, dup_bias, scratch]; |dice, p| {
    p.rows = rows(dice, &mut p.dims);
    p.slope = 0.5;
    p.up = p.up.or(p.up_bias.map(|_| p.x)).or(p.dup_bias.map(|_| p.x));
});

impl Vary for u64 {
    fn any(dice: &mut Dice) -> Self {
        dice.word()
    }
}
fields!(dropout::Problem = Self::default();
    dropout::Problem { rows, cols, dims, p, seed, offset, first, x, x_layout, residual, residual_layout, y, y_layout });
op!(dropout: [x, y], [residual, offset]; |dice, p| {
    p.rows = rows(dice, &mut p.dims);
    p.p = 0.5;
});

one_of!(MaskKind: |d| MaskKind::Additive(Vary::any(d)), MaskKind::Bytes, MaskKind::Bits);
fields!(Mask = Mask::new(MaskKind::Bytes); Mask { kind, layout, broadcast_cols });
fields!(softmax::Problem = Self::default();
    softmax::Problem { rows, cols, dims, x, y, x_layout, y_layout, scale, log, causal, mask, lse });
op!(softmax: [x, y], [mask, lse, scratch]; |dice, p| p.rows = rows(dice, &mut p.dims));

fields!(softmax_backward::Problem = Self::default();
    softmax_backward::Problem { rows, cols, dims, y, dy, dx, y_layout, dy_layout, dx_layout, scale, log, causal });
op!(softmax_backward: [y, dy, dx], [scratch]; |dice, p| p.rows = rows(dice, &mut p.dims));

one_of!(norm::Kind: |d| norm::Kind::Rms, norm::Kind::Layer);
fields!(norm::Vector = norm::Vector::of(Dtype::F32); norm::Vector { dtype, offset });
fields!(norm::Problem = Self::default();
norm::Problem {
    kind, rows, cols, dims, x, y, x_layout, y_layout, residual, residual_layout, sum, weight, weight_offset, bias,
    eps, stats,
});
op!(norm: [x, y], [residual, sum, weight, bias, stats, scratch]; |dice, p| p.rows = rows(dice, &mut p.dims));

fields!(norm_backward::Problem = Self::default();
norm_backward::Problem {
    kind, rows, cols, dims, x, dy, x_layout, dy_layout, weight, weight_offset, eps, dx, dx_layout, dweight, dbias, add,
});
op!(norm_backward: [x, dy], [weight, dx, dweight, dbias, scratch]; |dice, p| p.rows = rows(dice, &mut p.dims));

one_of!(quantize::Format: |d| quantize::Format::Int8, quantize::Format::E4m3);
one_of!(quantize::Along: |d| quantize::Along::Rows, quantize::Along::Columns);
fields!(quantize::Problem = Self::default();
    quantize::Problem { rows, cols, x, x_layout, format, power_of_two, along, codes, scales });
op!(quantize: [x, codes, scales], []; |_dice, _p| ());

one_of!(sample::Step: |d| sample::Step::At(Vary::any(d)), sample::Step::Buffer(d.size()));
one_of!(sample::Uniform: |d| sample::Uniform::Buffer(d.size()),
    sample::Uniform::Philox { seed: d.word(), step: Vary::any(d) });
fields!(sample::History = sample::History { len: 1, layout: Default::default() }; sample::History { len, layout });
fields!(sample::Settings = Self::default();
sample::Settings {
    repetition_penalty, frequency_penalty, presence_penalty, temperature, top_k, top_p, min_p,
});
fields!(sample::Problem = Self::default();
    sample::Problem { rows, vocab, logits, logits_layout, history, settings, per_row, uniform, probs, token });
op!(sample: [logits], [tokens, settings, uniform, step, probs, token, scratch]; |dice, p| {
    p.vocab = p.vocab.clamp(1, 1 << 20);
    p.token = p.token.or(Some(0));
    if dice.one_in(2) {
        p.settings = Default::default();
    }
});

fields!(advance::Problem = Self::default();
advance::Problem {
    batch, width, most, lengths, positions, axes, slots, pages, page_size, table, max_pages, step, stops, num_stops, done, tokens,
    accepted, history,
});
op!(advance: [state, tokens], [accepted, history]; |dice, p| {
    p.width = 1 + dice.below(9);
    p.most = p.most.max(p.width);
    p.pages = p.pages.max(p.batch);
    p.num_stops = dice.below(4);
});

fields!(beam_step::Problem = Self::default();
beam_step::Problem {
    batch, beams, vocab, top, logits, logits_layout, log_softmax, scores, out_scores, out_beams, out_tokens,
});
op!(beam_step: [logits, scores, out_scores, out_beams, out_tokens], [scratch]; |_dice, p| {
    p.top = p.top.clamp(1, 1024);
    [p.beams, p.vocab] = [p.beams, p.vocab].map(|n| n.max(1));
});

fields!(speculative_verify::Problem = Self::default();
    speculative_verify::Problem { batch, len, vocab, draft, target, proposed, uniform, accepted, tokens });
op!(speculative_verify: [draft, target, proposed, uniform, accepted, tokens], [scratch]; |_dice, p| {
    p.vocab = p.vocab.clamp(1, 1 << 20);
});

fields!(speculative_tree::Typical = Self::default(); speculative_tree::Typical { vocab, epsilon, delta, target });
fields!(speculative_tree::Sampled = Self::default(); speculative_tree::Sampled { vocab, target, draft, uniform });
one_of!(speculative_tree::Accept: |d| speculative_tree::Accept::Match, speculative_tree::Accept::Sampled(Vary::any(d)),
    speculative_tree::Accept::Typical(Vary::any(d)));
fields!(speculative_tree::Problem = Self::default();
    speculative_tree::Problem { batch, len, depth, tree, accept, proposed, drawn, accepted, tokens, path });
op!(speculative_tree: [parents, proposed, accepted, tokens, path], [drawn, target, draft, uniform, scratch]; |_dice, p| {
    match &mut p.accept {
        speculative_tree::Accept::Match => {}
        speculative_tree::Accept::Sampled(sampled) => sampled.vocab = sampled.vocab.clamp(1, 1 << 20),
        speculative_tree::Accept::Typical(typical) => {
            typical.vocab = typical.vocab.clamp(1, 1 << 20);
            (typical.epsilon, typical.delta) = (0.09, 0.3);
        }
    }
});

one_of!(Activation: |d| d.of_these(Activation::ALL));
one_of!(Precision: |d| Precision::Exact, Precision::F16);
one_of!(Along: |d| Along::Rows, Along::Columns);
fields!(Matrix = Matrix::default(); Matrix { dtype, layout });
fields!(gemm::Vector = gemm::Vector { dtype: Dtype::F32, along: Along::Rows, offset: 0 };
    gemm::Vector { dtype, along, offset });
fields!(Epilogue = Epilogue::default(); Epilogue { scale, bias, activation, gate, residual });
fields!(gemm::Problem = Self::default();
    gemm::Problem { m, n, k, batch, trans_a, trans_b, a, b, d, alpha, beta, c, epilogue, inputs });
op!(gemm: [a, b, d], [b2, c, residual, bias, scale, scratch]; |dice, p| {
    if dice.one_in(2) {
        p.c = None;
    }
    // Gradients are Problems of their own.
    let _ = gemm::backward(p);
});

one_of!(conv::Padding: |d| conv::Padding::Same, conv::Padding::Sides([d.size(), 0, 1, d.size()]),
    conv::Padding::Sides([d.below(4), d.below(4), d.below(4), d.below(4)]));
one_of!(conv::Border: |d| d.of_these(conv::Border::ALL));
one_of!(conv::TapMask: |d| d.of_these(conv::TapMask::ALL));
one_of!(conv::Order: |d| d.of_these(conv::Order::ALL));
one_of!(conv::WeightOrder: |d| d.of_these(conv::WeightOrder::ALL));
fields!(conv::Bias = conv::Bias::of(Dtype::F32); conv::Bias { dtype, offset });
fields!(conv::Residual = conv::Residual::of(Dtype::F32); conv::Residual { dtype, layout });
fields!(conv::Problem = Self::default();
conv::Problem {
    batch, channels, outputs, groups, size, kernel, stride, dilation, upsample, padding, border, mask, order, x, x_layout, weight,
    weight_order, weight_layout, format, y, y_layout, bias, residual, activation, slope, snake, kept_weights,
});
op!(conv: [x, weight, y], [bias, residual, alpha, scales, scratch]; |dice, p| {
    if p.format.is_some() {
        (p.weight_order, p.weight_layout) = (conv::WeightOrder::Oihw, Default::default());
    }
    if p.snake.is_some() {
        p.activation = activation::Activation::None;
    }
    p.groups = 1 + dice.below(4);
    [p.channels, p.outputs] = [0; 2].map(|_| p.groups * dice.below(20));
    p.kernel = [0; 2].map(|_| 1 + dice.below(5));
    for pair in [&mut p.stride, &mut p.dilation, &mut p.upsample] {
        *pair = pair.map(|n| n.clamp(1, 9));
    }
    p.slope = 0.5;
});

one_of!(resize::Rounding: |d| d.of_these(resize::Rounding::ALL));
one_of!(resize::Coordinates: |d| d.of_these(resize::Coordinates::ALL));
fields!(resize::Windows = Self::default(); resize::Windows { kernel, stride, padding, ceil, count_padding });
one_of!(resize::Rule: |d| resize::Rule::Nearest(Vary::any(d)), resize::Rule::Linear, resize::Rule::Cubic(-0.5),
    resize::Rule::Average(Vary::any(d)), resize::Rule::AdaptiveAverage);
fields!(resize::Problem = Self::default();
resize::Problem {
    batch, channels, size, out, rule, antialias, exclude_outside, coordinates, scale, adjoint, order, x, x_layout, y, y_layout,
});
op!(resize: [x, y], [scratch]; |dice, p| {
    p.size = [0; 2].map(|_| 1 + dice.below(20));
    p.out = [0; 2].map(|_| dice.below(20));
    if let resize::Rule::Average(windows) = &mut p.rule {
        windows.kernel = windows.kernel.map(|n| n.clamp(1, 9));
        windows.stride = windows.stride.map(|n| n.clamp(1, 9));
        windows.padding = windows.padding.map(|n| n % 4);
        p.out = windows.out(p.size);
    }
    let filter = matches!(p.rule, resize::Rule::Linear | resize::Rule::Cubic(_));
    (p.antialias, p.exclude_outside) = (p.antialias && filter, p.exclude_outside && filter);
    p.scale = p.scale.map(|_| [0.5 + dice.below(8) as f64 / 4.0, 1.5]);
});

one_of!(group_norm::Over: |d| group_norm::Over::Group(1 + d.below(4)), group_norm::Over::Channels, group_norm::Over::Batch);
fields!(group_norm::Running = Self::default(); group_norm::Running { mean, variance });
one_of!(group_norm::Statistics: |d| group_norm::Statistics::Own, group_norm::Statistics::Given(Vary::any(d)),
    group_norm::Statistics::Update { running: Vary::any(d), momentum: 0.1 });
fields!(group_norm::Problem = Self::default();
group_norm::Problem {
    batch, channels, size, over, statistics, order, x, x_layout, y, y_layout, weight, bias, activation, slope, eps, stats,
});
op!(group_norm: [x, y], [weight, bias, stats, running_mean, running_variance, scratch]; |dice, p| {
    p.size = [0; 2].map(|_| 1 + dice.below(20));
    p.channels = 12 * dice.below(4);
    (p.slope, p.eps) = (0.5, 1e-5);
    if p.over != group_norm::Over::Batch {
        p.statistics = group_norm::Statistics::Own;
    }
    if let group_norm::Statistics::Given(_) = p.statistics {
        p.stats = None;
    }
});

fields!(group_norm_backward::Problem = Self::default();
    group_norm_backward::Problem { forward, dx, dx_layout, dweight, dbias, add });
op!(group_norm_backward: [x, dy], [weight, bias, stats, running_mean, running_variance, dx, dweight, dbias, scratch]; |dice, p| {
    let of = &mut p.forward;
    of.size = [0; 2].map(|_| 1 + dice.below(20));
    of.channels = 12 * dice.below(4);
    (of.slope, of.eps) = (0.5, 1e-5);
    if of.over != group_norm::Over::Batch {
        of.statistics = group_norm::Statistics::Own;
    }
    of.stats = match of.statistics {
        group_norm::Statistics::Given(_) => None,
        _ => Some(0),
    };
});

fields!(snake_backward::Problem = Self::default();
snake_backward::Problem {
    batch, channels, size, order, x, x_layout, dy, dy_layout, alpha, dx, dx_layout, dalpha, dbias, add,
});
op!(snake_backward: [x, dy, alpha], [dx, dalpha, dbias, scratch]; |dice, p| {
    p.size = [0; 2].map(|_| 1 + dice.below(20));
});

fields!(max_pool::Problem = Self::default();
max_pool::Problem {
    batch, channels, size, kernel, stride, dilation, padding, ceil, order, x, x_layout, y, y_layout, indices,
});
fn windows(dice: &mut Dice, p: &mut max_pool::Problem) {
    p.size = [0; 2].map(|_| 1 + dice.below(20));
    p.kernel = [0; 2].map(|_| 1 + dice.below(5));
    [p.stride, p.dilation] = [p.stride, p.dilation].map(|pair| pair.map(|n| n.clamp(1, 9)));
    p.padding =
        std::array::from_fn(|side| dice.below((p.dilation[side / 2] * (p.kernel[side / 2] - 1)).div_ceil(2) + 1));
}
op!(max_pool: [x, y], [indices]; |dice, p| windows(dice, p));

fields!(max_pool_backward::Problem = Self::default(); max_pool_backward::Problem { forward, dx, dx_layout, add });
op!(max_pool_backward: [dy, indices, dx], []; |dice, p| {
    windows(dice, &mut p.forward);
    p.forward.indices = p.forward.indices.or(Some(Default::default()));
});

one_of!(space_to_depth::Mode: |d| d.of_these(space_to_depth::Mode::ALL));
fields!(space_to_depth::Packed = space_to_depth::Packed { pictures: 1, grids: 0 };
    space_to_depth::Packed { pictures, grids });
fields!(space_to_depth::Problem = Self::default();
    space_to_depth::Problem { batch, channels, size, block, mode, inverse, packed, order, x, x_layout, y_layout });
op!(space_to_depth: [x, y], [grids]; |dice, p| {
    p.block = [0; 2].map(|_| 1 + dice.below(4));
    let elements = p.block[0] * p.block[1];
    p.size = match p.packed {
        Some(_) => [1, elements * dice.below(9)],
        None => p.block.map(|n| n * dice.below(9)),
    };
    if p.packed.is_some() {
        (p.batch, p.order, p.mode) = (1, conv::Order::Nhwc, space_to_depth::Mode::Dcr);
    }
});

fields!(conv_backward::Problem = Self::default();
conv_backward::Problem { forward, dz, dz_layout, z, z_layout, dx, dx_layout, add_dx, dweight, add_dweight, dbias, add_dbias });
op!(conv_backward: [dy], [x, weight, z, dz, dx, dweight, dbias, scratch]; |dice, p| {
    let of = &mut p.forward;
    of.groups = 1 + dice.below(4);
    [of.channels, of.outputs] = [0; 2].map(|_| of.groups * dice.below(20));
    of.kernel = [0; 2].map(|_| 1 + dice.below(5));
    for pair in [&mut of.stride, &mut of.dilation, &mut of.upsample] {
        *pair = pair.map(|n| n.clamp(1, 9));
    }
    if dice.one_in(2) {
        of.border = conv::Border::Zero;
    }
    if dice.one_in(2) {
        of.format = None;
    }
    if of.snake.is_some() {
        of.activation = activation::Activation::None;
    }
    of.slope = 0.5;
});

fields!(conv_transpose::Problem = Self::default();
conv_transpose::Problem {
    batch, channels, outputs, groups, size, kernel, stride, dilation, downsample, padding, border, output_padding, mask, order, x,
    x_layout, weight, weight_order, weight_layout, y, y_layout, add, bias, activation, slope, snake, kept_weights,
});
op!(conv_transpose: [x, weight, y], [bias, alpha, scratch]; |dice, p| {
    if p.snake.is_some() {
        p.activation = activation::Activation::None;
    }
    p.groups = 1 + dice.below(4);
    [p.channels, p.outputs] = [0; 2].map(|_| p.groups * dice.below(20));
    p.kernel = [0; 2].map(|_| 1 + dice.below(5));
    p.padding = [0; 4].map(|_| dice.below(4));
    p.output_padding = [0; 2].map(|_| dice.below(4));
    for pair in [&mut p.stride, &mut p.dilation] {
        *pair = pair.map(|n| n.clamp(1, 9));
    }
    if dice.one_in(2) {
        p.downsample = [1, 1];
    }
    p.slope = 0.5;
});

one_of!(Code: |d| d.of_these(Code::ALL));
one_of!(Scales: |d| d.of_these(Scales::ALL));
one_of!(gemm_quant::Activations: |d| d.of_these(gemm_quant::Activations::ALL));
one_of!(Format: |d| d.of_these(&Format::GGML), d.of_these(&OTHERS),
    Format { code: Vary::any(d), scales: Vary::any(d), group: d.size() as u32, interleave: d.size() as u32, order: 0 },
    Format { group: 32, order: d.size() as u32, interleave: d.of_these(&[1, 8]), ..Format::GPTQ });
/// Those of other checkpoints.
const OTHERS: [Format; 5] = [Format::INT8, Format::FP8, Format::GPTQ, Format::NF4, Format::NF4_FLAT];
fields!(gemm_quant::Problem = Self::default();
    gemm_quant::Problem { m, n, k, format, a, d, bias, activation, gated, residual, activations, inputs });
op!(gemm_quant: [a, codes, scales, d], [bias, residual, scratch]; |dice, p| {
    if dice.one_in(2) && matches!(p.format.scales, Scales::K | Scales::K6) {
        p.k = p.k.div_ceil(256).saturating_mul(256);
    }
    p.format.order = if p.format.order == 0 { 0 } else { p.format.order.max(p.k.div_ceil(32) as u32) };
});

fields!(grouped_gemm::Problem = Self::default();
grouped_gemm::Problem {
    m, n, k, groups, trans_b, a, a_layout, b, b_layout, format, d, d_layout, offsets, signed, bias, activation, gate,
});
op!(grouped_gemm: [a, b, offsets, d], [b2, scales, bias, scratch]; |dice, p| {
    if dice.one_in(2) {
        p.format = None;
    }
    p.groups = p.groups.max(1);
    if dice.one_in(2) {
        p.bias = None;
    }
    let _ = grouped_gemm::backward(p);
});

fields!(grouped_gemm_backward::Problem = Self::default();
grouped_gemm_backward::Problem {
    m, n, k, groups, trans_b, a, a_layout, dd, dd_layout, offsets, signed, db_layout, dbias, add,
});
op!(grouped_gemm_backward: [a, dd, offsets, db], [dbias, scratch]; |_dice, p| p.groups = p.groups.max(1));

fields!(lora::Residual = Self::default(); lora::Residual { dtype, layout });
fields!(lora::Problem = Self::default();
lora::Problem {
    m, n, k, rank, adapters, scale, adapter, transposed, x, x_layout, weight, weight_layout, format, a, a_layout, b, b_layout, y,
    y_layout, bias, activation, residual,
});
op!(lora: [x, weight, a, b, y], [scales, adapter, bias, residual, scratch]; |dice, p| {
    if dice.one_in(2) {
        p.format = None;
    }
    p.rank = p.rank.clamp(1, 256);
    p.adapters = p.adapters.max(1);
    let _ = lora::backward(p);
});

fields!(lora_backward::Problem = Self::default();
lora_backward::Problem {
    m, n, k, rank, adapters, scale, adapter, add, x, x_layout, dy, dy_layout, a, a_layout, b, b_layout, da, db,
});
op!(lora_backward: [x, dy, a, b, da, db], [adapter, scratch]; |_dice, p| {
    p.rank = p.rank.clamp(1, 256);
    p.adapters = p.adapters.max(1);
});

fields!(Alibi = Alibi { slopes: 0, per_batch: false }; Alibi { slopes, per_batch });
fields!(Tree = Tree { parents: 0, per_batch: false }; Tree { parents, per_batch });
fields!(Segments = Segments { numbers: 0, per_batch: false, flags: 0, count: 1, ordered: true };
    Segments { numbers, per_batch, flags, count, ordered });
fields!(Packed = Packed { cu_q: 0, cu_kv: 0, total_q: 1, total_kv: 1 }; Packed { cu_q, cu_kv, total_q, total_kv });
fields!(Paged = Paged { pages: 1, page_size: 1, block_table: 0, max_pages: 1 };
    Paged { pages, page_size, block_table, max_pages });
fields!(Codes = Codes { format: quantize::Format::Int8, k_scale: Default::default(), v_scale: Default::default() };
    Codes { format, k_scale, v_scale });
fields!(attention::Problem = Self::default();
attention::Problem {
    batch, heads, kv_heads, seq_q, seq_kv, head_dim, value_dim, x, codes, o, inputs, q_layout, k_layout, v_layout, o_layout,
    scale, softcap, causal, window, mask, tree, segments, alibi, sinks, packed, paged, lengths, lse, sum,
});
op!(attention: [q, k, v, o], [mask, tables, indices, lse, scratch]; |dice, p| {
    p.kv_heads = p.kv_heads.max(1);
    p.heads = p.kv_heads.wrapping_mul(dice.of_these(&[1, 2, 4]));
    [p.head_dim, p.value_dim] = [p.head_dim, p.value_dim].map(|n| n.clamp(1, 576));
    p.lse = p.lse.or(p.sum.map(|_| 0));
    if let Some(paged) = &mut p.paged {
        p.lengths = p.lengths.or(Some(0));
        paged.page_size = paged.page_size.max(1);
        paged.max_pages = paged.max_pages.max(p.seq_kv.div_ceil(paged.page_size));
    }
});

fields!(attention_backward::Add = Self::default(); attention_backward::Add { dq, dk, dv, dmask, dsinks });
fields!(attention_backward::Problem = Self::default();
attention_backward::Problem { forward, do_layout, dq_layout, dk_layout, dv_layout, dlse, dmask, dsinks, add });
op!(attention_backward: [q, k, v, o, d_o, lse, dq, dk, dv], [dlse, mask, tables, indices, dmask, dsinks, scratch]; |dice, p| {
    let own = &mut p.forward;
    own.kv_heads = own.kv_heads.max(1);
    own.heads = own.kv_heads.wrapping_mul(dice.of_these(&[1, 2, 4]));
    [own.head_dim, own.value_dim] = [own.head_dim, own.value_dim].map(|n| n.clamp(1, 576));
    own.lse = own.lse.or(Some(0));
    (own.paged, own.codes, own.tree, own.segments) = (None, None, None, None);
    p.dmask = p.dmask.filter(|_| own.mask.is_some_and(|mask| matches!(mask.kind, MaskKind::Additive(_))));
    p.dsinks = p.dsinks.filter(|_| own.sinks.is_some());
});

one_of!(Buckets: |d| Buckets::t5(d.one_in(2)),
    Buckets { num_buckets: d.size(), max_distance: d.size(), bidirectional: d.one_in(2) });
one_of!(attention_bias::Kind: |d| attention_bias::Kind::Alibi { offset: d.size() },
    attention_bias::Kind::T5 { buckets: Vary::any(d), dtype: Vary::any(d), layout: Vary::any(d) });
fields!(attention_bias::Problem = Self::default();
    attention_bias::Problem { heads, seq_q, seq_kv, bias, bias_layout, kind });
op!(attention_bias: [bias], [slopes, table]; |_dice, _p| ());

one_of!(attention_bias_backward::Kind: |d| attention_bias_backward::Kind::Alibi { offset: d.size() },
    attention_bias_backward::Kind::T5 { buckets: Vary::any(d), layout: Vary::any(d) });
fields!(attention_bias_backward::Problem = Self::default();
    attention_bias_backward::Problem { heads, seq_q, seq_kv, dbias, dbias_layout, kind, add });
op!(attention_bias_backward: [dbias], [dslopes, dtable, scratch]; |_dice, _p| ());

fields!(attention_merge::Problem = Self::default();
    attention_merge::Problem { splits, rows, dim, dims, x, y, o_layout, lse, sum, out_layout, lse_out, sum_out });
op!(attention_merge: [o, lse, o_out], [sum, lse_out]; |dice, p| {
    p.rows = rows(dice, &mut p.dims);
    p.lse_out = p.lse_out.or(p.sum_out.map(|_| 0));
});

fields!(attention_merge_backward::Problem = Self::default();
    attention_merge_backward::Problem { forward, do_layout, dlse, d_parts_layout, dlse_parts });
op!(attention_merge_backward: [o, lse, d_o, d_parts, dlse_parts], [sum, dlse]; |dice, p| {
    p.forward.rows = rows(dice, &mut p.forward.dims);
    (p.forward.lse_out, p.forward.sum_out) = (None, None);
});

one_of!(Axis: |d| Axis::Col, Axis::Row);
fields!(Wave = Wave { frequency: 1.0, cosine: false, axis: Axis::Col }; Wave { frequency, cosine, axis });
fields!(Table = Table { len: 1, offset: 0 }; Table { len, offset });
one_of!(position_encoding::Positions:
    |d| position_encoding::Positions::From { col: Vary::any(d), row: Vary::any(d) },
    position_encoding::Positions::Buffer { signed: Vary::any(d), layout: Vary::any(d) });
one_of!(Encoding: |d| Encoding::Waves(vec![Vary::any(d); 2]),
    Encoding::Learned { dtype: Vary::any(d), table: Vary::any(d), row_table: Vary::any(d) });
fields!(position_encoding::Problem = Self::default();
    position_encoding::Problem { batch, rows, cols, dim, x, y, x_layout, y_layout, scale, positions, encoding });
op!(position_encoding: [x, y], [positions, table, row_table]; |_dice, p| if let Encoding::Waves(waves) = &mut p.encoding {
    waves.resize(p.dim.min(5000), waves[0]);
});

one_of!(Style: |d| Style::Half, Style::Interleaved);
one_of!(Axes: |d| Axes::One, Axes::Axial, Axes::Sections(Vary::any(d)));
fields!(Heads = Heads::new(1); Heads { heads, from, to });
one_of!(rope::Positions: |d| rope::Positions::Offset(Vary::any(d)),
    rope::Positions::Buffer { signed: Vary::any(d), layout: Vary::any(d) });
one_of!(Angles:
    |d| Angles::Frequencies(Frequencies { per_pair: vec![Vary::any(d)], attention_factor: Vary::any(d) }),
    Angles::Frequencies(Frequencies { per_pair: vec![1.0], attention_factor: 1.0 }),
    Angles::Tables { max_pos: Vary::any(d), cos: Vary::any(d), sin: Vary::any(d) });
fields!(rope::Problem = Self::default();
    rope::Problem { batch, seq, head_dim, rotary_dim, q, k, x, y, style, inverse, positions, axes, angles });
op!(rope: [q, q_out], [k, k_out, positions, cos, sin]; |dice, p| {
    p.head_dim = p.head_dim.max(2);
    p.rotary_dim = (p.rotary_dim.clamp(2, p.head_dim) / 2).saturating_mul(2);
    let half = p.rotary_dim / 2;
    if let Angles::Frequencies(frequencies) = &mut p.angles {
        frequencies.per_pair.resize(half.min(5000), frequencies.per_pair[0]);
    }
    if let Axes::Sections(sections) = &mut p.axes {
        let first = dice.below(half);
        *sections = [first, 0, half - first];
    }
});

one_of!(kv_append::Cache: |d| kv_append::Cache::Float(Vary::any(d)), kv_append::Cache::Int8, kv_append::Cache::E4m3);
fields!(kv_append::Query = kv_append::Query { heads: 1, from: Default::default(), to: Default::default() };
    kv_append::Query { heads, from, to });
fields!(kv_append::Norm = kv_append::Norm::of(norm::Kind::Rms);
    kv_append::Norm { kind, eps, weight_offset, dtype, per_head, q_weight, k_weight, q_bias, k_bias });
fields!(kv_append::Rotation = kv_append::Rotation {
    rotary_dim: 2,
    style: Style::Half,
    signed: false,
    positions: Default::default(),
    axes: Axes::One,
    angles: rope::Problem::default().angles,
};
kv_append::Rotation { rotary_dim, style, signed, positions, axes, angles });
fields!(kv_append::Problem = Self::default();
kv_append::Problem {
    tokens, kv_heads, head_dim, value_dim, pages, page_size, x, k, v, cache, k_cache, v_cache, k_scale, v_scale, slots,
    wide, skipped, q, norm, rotation,
});
op!(kv_append: [k, v, k_cache, v_cache, slots],
    [skipped, k_scale, v_scale, q, q_out, norms, positions, cos, sin]; |dice, p| {
    p.page_size = p.page_size.max(1);
    [p.head_dim, p.value_dim] = [p.head_dim, p.value_dim].map(|dim| dim.clamp(2, 300));
    [p.kv_heads] = [p.kv_heads].map(|heads| heads.clamp(1, 40));
    if let Some(norm) = &mut p.norm {
        (norm.eps, norm.weight_offset) = (1e-6, 0.0);
        if p.q.is_none() {
            (norm.q_weight, norm.q_bias) = (None, None);
        }
    }
    if let Some(rotation) = &mut p.rotation {
        rotation.rotary_dim = 2 + 2 * dice.below(p.head_dim / 2);
        rotation.axes = Axes::One;
        if let Angles::Frequencies(frequencies) = &mut rotation.angles {
            frequencies.per_pair.resize(rotation.rotary_dim / 2, frequencies.per_pair[0]);
        }
    }
});

fields!(kv_move::Problem = Self::default();
kv_move::Problem {
    batch, len, depth, kv_heads, head_dim, value_dim, pages, page_size, cache, k_cache, v_cache, k_scale, v_scale, slots,
    wide, path,
});
op!(kv_move: [k_cache, v_cache, slots, path], [k_scale, v_scale]; |_dice, p| p.page_size = p.page_size.max(1));

one_of!(Combine: |d| Combine::Concat, Combine::Sum);
one_of!(Order: |d| Order::ChannelsLast, Order::ChannelsFirst);
one_of!(OutOfRange: |d| OutOfRange::Zero, OutOfRange::First, OutOfRange::Nearest);
one_of!(Index: |d| Index::U32, Index::I32, Index::U16);
fields!(vq_lookup::Problem = Self::default();
vq_lookup::Problem {
    batch, spatial, books, num_codes, code_dim, combine, order, out_of_range, index, indices, x, format, codebook, y,
    y_layout, bad,
});
// Packed weights are one book at the start of its binding.
op!(vq_lookup: [indices, codebook, y], [bad, scales]; |_dice, p| if p.format.is_some() {
    (p.books, p.order, p.codebook) = (1, Order::ChannelsLast, Default::default());
});

fields!(vq_scatter::Problem = Self::default();
vq_scatter::Problem {
    batch, spatial, books, num_codes, code_dim, combine, order, out_of_range, index, indices, x, x_layout, sums,
    counts, add,
});
op!(vq_scatter: [indices, x, sums], [counts, scratch]; |_dice, _p| ());

fields!(counting_sort::Problem = Self::default();
counting_sort::Problem { n, segments, num_keys, index, keys, out_of_range, order, offsets, counts });
op!(counting_sort: [keys, order, offsets], [counts, scratch]; |_dice, _p| ());

one_of!(moe_route::Score: |d| moe_route::Score::Softmax, moe_route::Score::Sigmoid);
fields!(moe_route::Problem = Self::default();
moe_route::Problem {
    n, experts, top_k, logits, logits_layout, score, bias, groups, top_groups, normalize, scale, chosen, weights, order,
    offsets, counts,
});
op!(moe_route: [logits, chosen, weights, order, offsets], [bias, counts, scratch]; |dice, p| {
    p.groups = dice.of_these(&[1, 2, 8]);
    p.experts = p.groups * (1 + dice.below(40));
    p.top_groups = 1 + dice.below(p.groups);
    p.top_k = 1 + dice.below(p.experts / p.groups * p.top_groups);
    p.scale = 1.0;
});

fields!(moe_bias::Problem = Self::default(); moe_bias::Problem { rows, experts, gamma, counts, bias });
op!(moe_bias: [counts, bias], []; |_dice, p| p.gamma = 0.5);

fields!(moe_route_backward::Problem = Self::default();
moe_route_backward::Problem {
    n, experts, top_k, logits, logits_layout, score, normalize, scale, chosen, dweights, dlogits, add,
});
op!(moe_route_backward: [logits, chosen, dweights, dlogits], []; |_dice, p| {
    p.experts = p.experts.clamp(1, 4096);
    p.top_k = p.top_k.clamp(1, p.experts);
});

fields!(moe_balance::Problem = Self::default();
moe_balance::Problem {
    n, experts, top_k, sequences, starts, logits, logits_layout, score, alpha, chosen, loss, dlogits,
});
op!(moe_balance: [logits, chosen, loss], [starts, dlogits, scratch]; |dice, p| {
    p.experts = 1 + dice.below(300);
    p.top_k = 1 + dice.below(p.experts);
    p.sequences = p.sequences.max(1);
    p.n = p.sequences.saturating_mul(dice.below(9));
    p.alpha = 1.0;
});

one_of!(Metric: |d| Metric::L2, Metric::Cosine, Metric::Dot);
fields!(Quantized = Quantized { dtype: Dtype::F32, offset: 0 }; Quantized { dtype, offset });
fields!(vq_assign::Problem = Self::default();
vq_assign::Problem {
    n, books, num_codes, code_dim, metric, residual, top, x, x_layout, codebook, codebook_layout, indices, distance,
    quantized, usage, loss,
});
op!(vq_assign: [x, codebook, indices], [distance, quantized, usage, loss, scratch]; |dice, p| {
    p.top = 1 + dice.below(p.num_codes.min(4));
});

one_of!(vq_scalar::Kind: |d| vq_scalar::Kind::Fsq, vq_scalar::Kind::Lfq);
one_of!(Direction: |d| Direction::Encode, Direction::Decode);
one_of!(&'static [u32]: |d| &[2], &[2, 2, 2], &[8, 5, 5, 5], &[1000, 3], &[], &[1], &[u32::MAX], &[2; 32], &[2; 33],
    &[999; 4]);
fields!(vq_scalar::Problem<'static> = Self::default();
    vq_scalar::Problem { n, kind, levels, direction, x, x_layout, y, y_layout, indices });
target!(vq_scalar::Problem<'static>: [indices, y], [x]; |get| buffers!(vq_scalar, get, [indices, y], [x]); |_dice, _p| ());

fields!(vq_train::Problem = Self::default();
    vq_train::Problem { n, books, num_codes, code_dim, x, x_layout, decay, epsilon, least, seed });
target!(vq_train::Problem: [counts, sums, x, ema_counts, ema_sums, codebook, stats], []; |get| step(get); |_dice, _p| ());

fn step<'a>(get: Get<'_, 'a>) -> vq_train::Buffers<'a> {
    vq_train::Buffers {
        counts: all(get, "counts"),
        sums: all(get, "sums"),
        x: all(get, "x"),
        ema_counts: all(get, "ema_counts"),
        ema_sums: all(get, "ema_sums"),
        codebook: all(get, "codebook"),
        stats: all(get, "stats"),
    }
}

fields!(vq_train::Gradient = vq_train::Gradient { elements: 1, dtype: Dtype::F32, commit: 1.0, pull: None };
    vq_train::Gradient { elements, dtype, commit, pull });
target!(vq_train::Gradient: [x, q, dy, dx], [dq];
    |get| vq_train::GradientBuffers {
        x: all(get, "x"),
        q: all(get, "q"),
        dy: all(get, "dy"),
        dx: all(get, "dx"),
        dq: get("dq"),
    };
    |_dice, _p| ());

/// k-means, which is no op.
#[derive(Debug, Clone)]
struct KMeans {
    problem: vq_train::Problem,
    iterations: usize,
}

impl Target for KMeans {
    const ARGS: [&'static [&'static str]; 2] =
        [&["counts", "sums", "x", "ema_counts", "ema_sums", "codebook", "stats", "indices"], &[]];

    fn any(dice: &mut Dice) -> Self {
        KMeans { problem: Vary::any(dice), iterations: dice.below(3) }
    }

    fn vary_one(&mut self, dice: &mut Dice) {
        dice.rarely();
        self.problem.vary(dice);
        if dice.varies() {
            self.iterations = dice.of_these(&[0, 1, usize::MAX]);
        }
    }

    fn candidates(&self, _: &Caps) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn fits(&self, _: &Caps, _: &str) -> Option<Result<()>> {
        None
    }

    fn prepare(&self, kernels: &Kernels, _: Option<&str>, get: Get) -> Result<Dispatch> {
        let buffers = vq_train::KMeansBuffers { indices: all(get, "indices"), step: step(get) };
        vq_train::prepare_kmeans(kernels, &self.problem, self.iterations, buffers)
    }
}
