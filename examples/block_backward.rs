//! The gradients of one block of a transformer, joined by hand, beside finite differences in f64.
//!
//! ```sh
//! cargo run --example block_backward
//! ```
//!
//! ```text
//! n = norm(x)         qkv = n Wqkv^T     q, k = rope(q, k)     o = attention(q, k, v)
//! h = x + o Wo^T      m = norm(h)        a = silu(m Wg^T) * (m Wu^T)
//! y = h + a Wd^T      loss = sum(y * target)
//! ```
//!
//! Forward keeps what the gradients read: qkv after rotation, o with its log-sum-exps, and the inputs of norms, products and the gate. q, k, v and
//! their gradients are views of one buffer each. Each sequence is a micro-batch of its own: gradients of parameters are added to what those
//! before it have left. `tileloom` has no tape; an engine that has one records the same calls.

use std::error::Error;

use tileloom::norm::{self, Kind, Vector};
use tileloom::rope::{self, Angles, Frequencies, Heads};
use tileloom::verify::random::Random;
use tileloom::{
    Context, Dispatch, Dtype, Tensor, activation, activation_backward, attention, attention_backward, axpby, gemm,
    norm_backward,
};

/// Sequences, one after the other.
const BATCH: usize = 2;
/// Tokens of a sequence.
const SEQ: usize = 9;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 8;
/// Elements of a token in q, k and v together.
const QKV: usize = (HEADS + 2 * KV_HEADS) * HEAD_DIM;
/// Elements of a token.
const D: usize = 24;
/// Elements of a token between the products of the gated network.
const HIDDEN: usize = 40;
const EPS: f32 = 1e-6;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The block's input and its parameters.
const NAMES: [&str; 8] = ["x", "norm1", "Wqkv", "Wo", "norm2", "Wg", "Wu", "Wd"];
const SHAPES: [[usize; 2]; 8] =
    [[BATCH * SEQ, D], [1, D], [QKV, D], [D, HEADS * HEAD_DIM], [1, D], [HIDDEN, D], [HIDDEN, D], [D, HIDDEN]];

/// What a sequence has gone through, and the gradients on the way back.
struct Pass<'a> {
    context: &'a Context,
    dispatches: Vec<Dispatch>,
}

impl Pass<'_> {
    fn floats(&self, shape: &[usize]) -> Result<Tensor<f32>> {
        Ok(self.context.zeros(shape)?)
    }

    fn norm(&mut self, x: &Tensor<f32>, weight: &Tensor<f32>) -> Result<Tensor<f32>> {
        let y = self.floats(x.shape())?;
        let problem = norm::Problem {
            rows: x.shape()[0],
            cols: D,
            weight: Some(Vector::of(Dtype::F32)),
            eps: EPS,
            ..norm::Problem::of(Kind::Rms)
        };
        let buffers = norm::Buffers::new(x.buffer(), y.buffer()).weight(weight.buffer());
        self.dispatches.push(norm::prepare(self.context.kernels(), &problem, buffers)?);
        Ok(y)
    }

    /// The gradient of `x`; that of the weight is added.
    fn norm_backward(&mut self, x: &Tensor<f32>, weight: &[Tensor<f32>; 2], dy: &Tensor<f32>) -> Result<Tensor<f32>> {
        let dx = self.floats(x.shape())?;
        let problem = norm_backward::Problem {
            rows: x.shape()[0],
            cols: D,
            weight: Some(Vector::of(Dtype::F32)),
            eps: EPS,
            dweight: Some(0),
            add: true,
            ..norm_backward::Problem::of(Kind::Rms)
        };
        let buffers = norm_backward::Buffers::new(x.buffer(), dy.buffer())
            .weight(weight[0].buffer())
            .dx(dx.buffer())
            .dweight(weight[1].buffer());
        self.dispatches.push(norm_backward::prepare(self.context.kernels(), &problem, buffers)?);
        Ok(dx)
    }

    /// `x W^T`, with W `[outputs, inputs]`.
    fn linear(x: &Tensor<f32>, w: &Tensor<f32>) -> gemm::Problem {
        let [outputs, inputs] = [w.shape()[0], w.shape()[1]];
        gemm::Problem { trans_b: true, ..gemm::Problem::new(x.shape()[0], outputs, inputs, Dtype::F32) }
    }

    /// This product, into `d` or added to it.
    fn product(&mut self, problem: gemm::Problem, [a, b, d]: [&Tensor<f32>; 3], add: bool) -> Result<()> {
        let problem = gemm::Problem { c: add.then_some(problem.d), ..problem };
        let mut buffers = gemm::Buffers::new(a.buffer(), b.buffer(), d.buffer());
        if add {
            buffers = buffers.c(d.buffer());
        }
        self.dispatches.push(gemm::prepare(self.context.kernels(), &problem, buffers)?);
        Ok(())
    }

    fn project(&mut self, x: &Tensor<f32>, w: &Tensor<f32>) -> Result<Tensor<f32>> {
        let y = self.floats(&[x.shape()[0], w.shape()[0]])?;
        self.product(Self::linear(x, w), [x, w, &y], false)?;
        Ok(y)
    }

    /// The gradient of `x`, into `dx` or added to it; that of W is added.
    fn project_backward(
        &mut self,
        x: &Tensor<f32>,
        w: &[Tensor<f32>; 2],
        dy: &Tensor<f32>,
        dx: &Tensor<f32>,
        add: bool,
    ) -> Result<()> {
        let gradients = gemm::backward(&Self::linear(x, &w[0]))?;
        self.product(gradients.da, [dy, &w[0], dx], add)?;
        self.product(gradients.db, [dy, x, &w[1]], true)
    }

    /// Turns q and k of `qkv` where they are, or their gradients back.
    fn rope(&mut self, qkv: &Tensor<f32>, inverse: bool) -> Result<()> {
        let heads = |first, heads| Heads::fused(first, heads, SEQ, HEAD_DIM, QKV);
        let problem = rope::Problem {
            seq: SEQ,
            head_dim: HEAD_DIM,
            rotary_dim: HEAD_DIM,
            q: heads(0, HEADS),
            k: Some(heads(HEADS, KV_HEADS)),
            angles: Angles::Frequencies(Frequencies::new(HEAD_DIM, 10000.0)?),
            inverse,
            ..Default::default()
        };
        let buffers = rope::Buffers::in_place(qkv.buffer()).k_in_place(qkv.buffer());
        self.dispatches.push(rope::prepare(self.context.kernels(), &problem, buffers)?);
        Ok(())
    }

    fn attention() -> attention::Problem {
        let view = |first| attention::fused(first, SEQ, HEAD_DIM, QKV);
        attention::Problem {
            seq_q: SEQ,
            seq_kv: SEQ,
            causal: true,
            q_layout: view(0),
            k_layout: view(HEADS),
            v_layout: view(HEADS + KV_HEADS),
            o_layout: attention::bshd(HEADS, SEQ, HEAD_DIM),
            lse: Some(0),
            ..attention::Problem::new(1, HEADS, KV_HEADS, HEAD_DIM)
        }
    }

    /// o, and the log-sum-exps of its rows.
    fn attend(&mut self, qkv: &Tensor<f32>) -> Result<[Tensor<f32>; 2]> {
        let (o, lse) = (self.floats(&[SEQ, HEADS * HEAD_DIM])?, self.floats(&[HEADS, SEQ])?);
        let [q, k, v] = [qkv.buffer(); 3];
        let buffers = attention::Buffers::new(q, k, v, o.buffer()).lse(lse.buffer());
        self.dispatches.push(attention::prepare(self.context.kernels(), &Self::attention(), buffers)?);
        Ok([o, lse])
    }

    /// The gradients of q, k and v, in one buffer as these are.
    fn attend_backward(
        &mut self,
        qkv: &Tensor<f32>,
        [o, lse]: &[Tensor<f32>; 2],
        d_o: &Tensor<f32>,
    ) -> Result<Tensor<f32>> {
        let dqkv = self.floats(&[SEQ, QKV])?;
        let forward = Self::attention();
        let problem = attention_backward::Problem {
            do_layout: forward.o_layout,
            dq_layout: forward.q_layout,
            dk_layout: forward.k_layout,
            dv_layout: forward.v_layout,
            ..attention_backward::Problem::new(forward)
        };
        let ([q, k, v], [dq, dk, dv]) = ([qkv.buffer(); 3], [dqkv.buffer(); 3]);
        let buffers = attention_backward::Buffers::new(q, k, v, o.buffer(), d_o.buffer(), lse.buffer(), dq, dk, dv);
        self.dispatches.push(attention_backward::prepare(self.context.kernels(), &problem, buffers)?);
        Ok(dqkv)
    }

    fn gate(&mut self, gate: &Tensor<f32>, up: &Tensor<f32>) -> Result<Tensor<f32>> {
        let y = self.floats(gate.shape())?;
        let problem = activation::Problem { rows: SEQ, cols: HIDDEN, up: Some(Dtype::F32), ..Default::default() };
        let buffers = activation::Buffers::new(gate.buffer(), y.buffer()).up(up.buffer());
        self.dispatches.push(activation::prepare(self.context.kernels(), &problem, buffers)?);
        Ok(y)
    }

    /// The gradients of `gate` and `up`.
    fn gate_backward(&mut self, gate: &Tensor<f32>, up: &Tensor<f32>, dy: &Tensor<f32>) -> Result<[Tensor<f32>; 2]> {
        let gradients = [self.floats(gate.shape())?, self.floats(gate.shape())?];
        let problem =
            activation_backward::Problem { rows: SEQ, cols: HIDDEN, up: Some(Dtype::F32), ..Default::default() };
        let buffers = activation_backward::Buffers::new(gate.buffer(), dy.buffer(), gradients[0].buffer())
            .up(up.buffer())
            .dup(gradients[1].buffer());
        self.dispatches.push(activation_backward::prepare(self.context.kernels(), &problem, buffers)?);
        Ok(gradients)
    }

    /// Adds `z` to `x`, where it is.
    fn add(&mut self, x: &Tensor<f32>, z: &Tensor<f32>) -> Result<()> {
        let problem = axpby::Problem { rows: SEQ, cols: D, z: Some(Dtype::F32), ..Default::default() };
        let buffers = axpby::Buffers::new(x.buffer(), x.buffer()).z(z.buffer());
        self.dispatches.push(axpby::prepare(self.context.kernels(), &problem, buffers)?);
        Ok(())
    }

    /// Forward and back through one sequence: the gradient of `x`. Those of parameters, each beside its parameter, are added.
    fn run(&mut self, x: &Tensor<f32>, parameters: &[[Tensor<f32>; 2]], dy: &Tensor<f32>) -> Result<Tensor<f32>> {
        let [norm1, qkv_weight, o_weight, norm2, gate_weight, up_weight, down_weight] = parameters else {
            return Err("seven parameters".into());
        };
        let n = self.norm(x, &norm1[0])?;
        let qkv = self.project(&n, &qkv_weight[0])?;
        self.rope(&qkv, false)?;
        let attended = self.attend(&qkv)?;
        let o = attended[0].reshape(&[SEQ, HEADS * HEAD_DIM])?;
        let h = self.project(&o, &o_weight[0])?;
        self.add(&h, x)?;
        let m = self.norm(&h, &norm2[0])?;
        let (gate, up) = (self.project(&m, &gate_weight[0])?, self.project(&m, &up_weight[0])?);
        let a = self.gate(&gate, &up)?;

        let da = self.floats(&[SEQ, HIDDEN])?;
        self.project_backward(&a, down_weight, dy, &da, false)?;
        let [dgate, dup] = self.gate_backward(&gate, &up, &da)?;
        let dm = self.floats(&[SEQ, D])?;
        self.project_backward(&m, gate_weight, &dgate, &dm, false)?;
        self.project_backward(&m, up_weight, &dup, &dm, true)?;
        let dh = self.norm_backward(&h, norm2, &dm)?;
        self.add(&dh, dy)?;
        let d_o = self.floats(&[SEQ, HEADS * HEAD_DIM])?;
        self.project_backward(&o, o_weight, &dh, &d_o, false)?;
        let dqkv = self.attend_backward(&qkv, &attended, &d_o)?;
        self.rope(&dqkv, true)?;
        let dn = self.floats(&[SEQ, D])?;
        self.project_backward(&n, qkv_weight, &dqkv, &dn, false)?;
        let dx = self.norm_backward(x, norm1, &dn)?;
        self.add(&dx, &dh)?;
        Ok(dx)
    }
}

/// The gradients of all of [`NAMES`], by kernels.
fn gradients(context: &Context, values: &[Vec<f32>], target: &[f32]) -> Result<Vec<Vec<f32>>> {
    let parameters: Vec<[Tensor<f32>; 2]> = (1..NAMES.len())
        .map(|i| Ok([context.upload(&values[i], &SHAPES[i])?, context.zeros(&SHAPES[i])?]))
        .collect::<Result<_>>()?;
    let mut pass = Pass { context, dispatches: Vec::new() };
    let mut dx = Vec::new();
    for (x, target) in values[0].chunks(SEQ * D).zip(target.chunks(SEQ * D)) {
        let [x, dy] = [context.upload(x, &[SEQ, D])?, context.upload(target, &[SEQ, D])?];
        dx.push(pass.run(&x, &parameters, &dy)?);
    }
    let mut encoder = context.device().create_command_encoder(&Default::default());
    pass.dispatches.iter().for_each(|dispatch| dispatch.record(&mut encoder));
    context.queue().submit([encoder.finish()]);
    pollster::block_on(async {
        let mut found = vec![Vec::new()];
        for dx in &dx {
            found[0].extend(dx.read().await?);
        }
        for [_, gradient] in &parameters {
            found.push(gradient.read().await?);
        }
        Ok(found)
    })
}

/// The block in f64, as its formula says.
mod host {
    use super::{BATCH, D, EPS, HEAD_DIM, HEADS, HIDDEN, KV_HEADS, QKV, SEQ};

    fn norm(x: &[f64], weight: &[f64]) -> Vec<f64> {
        let rows = x.chunks(D).flat_map(|row| {
            let rms = (row.iter().map(|x| x * x).sum::<f64>() / D as f64 + f64::from(EPS)).sqrt();
            row.iter().zip(weight).map(move |(x, w)| x / rms * w)
        });
        rows.collect()
    }

    fn project(x: &[f64], w: &[f64], inputs: usize) -> Vec<f64> {
        let dot = |x: &[f64], w: &[f64]| x.iter().zip(w).map(|(x, w)| x * w).sum();
        x.chunks(inputs).flat_map(|x| w.chunks(inputs).map(move |w| dot(x, w))).collect()
    }

    fn rope(qkv: &mut [f64]) {
        let half = HEAD_DIM / 2;
        for (s, token) in qkv.chunks_mut(QKV).enumerate() {
            for head in token.chunks_mut(HEAD_DIM).take(HEADS + KV_HEADS) {
                for i in 0..half {
                    let (sin, cos) = (s as f64 * 10000f64.powf(-(i as f64) / half as f64)).sin_cos();
                    let (a, b) = (head[i], head[i + half]);
                    (head[i], head[i + half]) = (a * cos - b * sin, b * cos + a * sin);
                }
            }
        }
    }

    fn attention(qkv: &[f64]) -> Vec<f64> {
        let vector = |s: usize, head: usize| &qkv[s * QKV + head * HEAD_DIM..][..HEAD_DIM];
        let mut o = vec![0.0; SEQ * HEADS * HEAD_DIM];
        for (i, o) in o.chunks_mut(HEAD_DIM).enumerate() {
            let (s, head) = (i / HEADS, i % HEADS);
            let kv = HEADS + head * KV_HEADS / HEADS;
            let weights: Vec<f64> = (0..=s)
                .map(|t| vector(s, head).iter().zip(vector(t, kv)).map(|(q, k)| q * k).sum::<f64>())
                .map(|score| (score / (HEAD_DIM as f64).sqrt()).exp())
                .collect();
            let sum: f64 = weights.iter().sum();
            for (t, weight) in weights.iter().enumerate() {
                o.iter_mut().zip(vector(t, kv + KV_HEADS)).for_each(|(o, v)| *o += weight / sum * v);
            }
        }
        o
    }

    /// `sum(y * target)`.
    pub fn loss(values: &[Vec<f64>], target: &[f64]) -> f64 {
        let [x, norm1, qkv, o, norm2, gate, up, down] = values else { unreachable!("eight tensors") };
        let sequence = |x: &[f64], target: &[f64]| -> f64 {
            let mut qkv = project(&norm(x, norm1), qkv, D);
            rope(&mut qkv);
            let attended = project(&attention(&qkv), o, HEADS * HEAD_DIM);
            let h: Vec<f64> = x.iter().zip(attended).map(|(x, y)| x + y).collect();
            let m = norm(&h, norm2);
            let gated =
                project(&m, gate, D).into_iter().zip(project(&m, up, D)).map(|(g, u)| g / (1.0 + (-g).exp()) * u);
            let y = project(&gated.collect::<Vec<f64>>(), down, HIDDEN);
            h.iter().zip(y).zip(target).map(|((h, y), target)| (h + y) * target).sum()
        };
        (0..BATCH).map(|i| i * SEQ * D).map(|at| sequence(&x[at..][..SEQ * D], &target[at..][..SEQ * D])).sum()
    }
}

/// How a gradient agrees with finite differences of the loss.
#[derive(Debug)]
pub struct Agreement {
    /// Of which of the block's tensors.
    pub name: &'static str,
    /// Along a random direction.
    pub kernel: f64,
    /// The same by finite differences.
    pub difference: f64,
    /// The largest difference of the two, along that direction and along single elements, relative to the largest element's gradient
    /// and the direction's length.
    pub error: f64,
}

/// The gradients of a random block, by the kernels of `context`, beside finite differences.
///
/// # Errors
/// Those of the kernels.
pub fn check(context: &Context) -> Result<Vec<Agreement>> {
    let mut random = Random::new(5);
    let mut normal = |n: usize, scale: f64, mean: f64| -> Vec<f32> {
        (0..n).map(|_| (scale * random.normal() + mean) as f32).collect()
    };
    let values: Vec<Vec<f32>> = SHAPES
        .iter()
        .zip(NAMES)
        .map(|(&[rows, cols], name)| match name {
            "x" => normal(rows * cols, 1.0, 0.1),
            "norm1" | "norm2" => normal(cols, 0.2, 1.0),
            _ => normal(rows * cols, 1.5 / (cols as f64).sqrt(), 0.0),
        })
        .collect();
    let target = normal(BATCH * SEQ * D, 1.0, 0.0);
    let directions: Vec<Vec<f32>> = values.iter().map(|values| normal(values.len(), 1.0, 0.0)).collect();
    let found = gradients(context, &values, &target)?;

    let exact = |values: &[f32]| -> Vec<f64> { values.iter().map(|&value| f64::from(value)).collect() };
    let values: Vec<Vec<f64>> = values.iter().map(|values| exact(values)).collect();
    let target = exact(&target);
    let along = |tensor: usize, direction: &[f64]| {
        let loss = |step: f64| {
            let mut moved = values.clone();
            moved[tensor].iter_mut().zip(direction).for_each(|(value, d)| *value += step * d);
            host::loss(&moved, &target)
        };
        // The error of a central difference of four values is of the order of step^4.
        let step = 1e-3;
        (8.0 * (loss(step) - loss(-step)) - (loss(2.0 * step) - loss(-2.0 * step))) / (12.0 * step)
    };
    let agreements = found.iter().enumerate().map(|(tensor, gradient)| {
        let gradient = exact(gradient);
        let largest = gradient.iter().fold(0f64, |most, g| most.max(g.abs()));
        let direction = exact(&directions[tensor]);
        let length = direction.iter().map(|d| d * d).sum::<f64>().sqrt();
        let kernel: f64 = gradient.iter().zip(&direction).map(|(g, d)| g * d).sum();
        let difference = along(tensor, &direction);
        let mut errors = vec![(kernel - difference).abs() / (largest * length)];
        for element in (0..gradient.len()).step_by(gradient.len() / 7 + 1) {
            let mut direction = vec![0.0; gradient.len()];
            direction[element] = 1.0;
            errors.push((gradient[element] - along(tensor, &direction)).abs() / largest);
        }
        // What is not a number is no agreement.
        let error =
            errors.into_iter().fold(0.0, |most, error| if error.is_nan() { f64::INFINITY } else { error.max(most) });
        Agreement { name: NAMES[tensor], kernel, difference, error }
    });
    Ok(agreements.collect())
}

/// The most that [`Agreement::error`] may be, in f32.
pub const TOLERANCE: f64 = 2e-6;

// A test has this file as a module, and no use for this.
#[allow(dead_code)]
fn main() -> Result<()> {
    let context = pollster::block_on(Context::new())?;
    let agreements = check(&context)?;
    println!("gradient of    kernels along a direction    finite differences     error");
    for Agreement { name, kernel, difference, error } in &agreements {
        println!("{name:<11} {kernel:28.7} {difference:21.7} {error:9.1e}");
    }
    match agreements.iter().find(|agreement| agreement.error > TOLERANCE) {
        Some(agreement) => Err(format!("the gradient of {} is wrong", agreement.name).into()),
        None => Ok(()),
    }
}
