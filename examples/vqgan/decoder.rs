//! The decoder by kernels: prepared once for a size, then recorded for each picture.

use tileloom::activation::Activation;
use tileloom::conv::{self, Bias, Order, Padding, Residual};
use tileloom::group_norm::{self, Over};
use tileloom::norm::Vector;
use tileloom::{Context, Dispatch, Dtype, Tensor, attention, gemm, vq_lookup};

use super::weights::Weights;
use super::{COARSEST, EPS, RATIO, Result, Shape};

/// A decoder for pictures of one size.
pub struct Decoder {
    context: Context,
    shape: Shape,
    codes: Tensor<u32>,
    y: Tensor<f32>,
    steps: Vec<Dispatch>,
}

impl Decoder {
    /// `size` counts codes.
    pub fn new(context: &Context, weights: &Weights, shape: Shape, size: [usize; 2]) -> Result<Decoder> {
        let [height, width] = size;
        let most = (0..=COARSEST).flat_map(|level| {
            let pixels = (height * width) << (2 * (COARSEST - level));
            // What enlarges a level has its channels at the size of the next.
            let enlarged = if level > 0 { 4 } else { 1 };
            let [from, _] = shape.block(level, 0);
            [pixels * from, pixels * enlarged * shape.level(level)]
        });
        let most = most.max().unwrap_or(0).max(height * width * shape.z.max(shape.code_dim));
        let room = || context.zeros::<f32>(&[most]);
        let mut builder = Builder {
            context,
            weights,
            groups: shape.groups,
            size,
            channels: shape.code_dim,
            x: room()?,
            other: [room()?, room()?],
            steps: Vec::new(),
        };
        let codes = context.zeros(&[height * width])?;
        let y = context.zeros(&[height * RATIO, width * RATIO, 3])?;
        builder.look_up(&shape, &codes)?;
        builder.replace("post_quant_conv", 1)?;
        builder.replace("decoder.conv_in", 1)?;
        builder.block("decoder.mid.block_1")?;
        builder.attention("decoder.mid.attn_1")?;
        builder.block("decoder.mid.block_2")?;
        for level in (0..=COARSEST).rev() {
            for block in 0..shape.blocks {
                builder.block(&format!("decoder.up.{level}.block.{block}"))?;
                if level == COARSEST {
                    builder.attention(&format!("decoder.up.{level}.attn.{block}"))?;
                }
            }
            if level > 0 {
                builder.replace(&format!("decoder.up.{level}.upsample.conv"), 2)?;
            }
        }
        let [a, _] = builder.other.clone();
        builder.norm("decoder.norm_out", &builder.x.clone(), &a, Activation::Silu)?;
        builder.conv("decoder.conv_out", [&a, &y], None, 1)?;
        Ok(Decoder { context: context.clone(), shape, codes, y, steps: builder.steps })
    }

    /// Pixels `[height, width, 3]` of these codes, row by row.
    pub fn decode(&self, codes: &[u32]) -> Result<Vec<f32>> {
        let need = self.codes.len();
        if codes.len() != need {
            return Err(format!("{} codes, not {need}", codes.len()).into());
        }
        if let Some(code) = codes.iter().find(|&&code| code as usize >= self.shape.codes) {
            return Err(format!("code {code} of {}", self.shape.codes).into());
        }
        let bytes: Vec<u8> = codes.iter().flat_map(|code| code.to_le_bytes()).collect();
        self.context.queue().write_buffer(self.codes.buffer(), 0, &bytes);
        let mut encoder = self.context.device().create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            self.steps.iter().for_each(|step| step.record_in(&mut pass));
        }
        self.context.queue().submit([encoder.finish()]);
        Ok(pollster::block_on(self.y.read())?)
    }
}

/// Steps are added to what lies in `x`: `size` pixels of `channels`.
struct Builder<'a> {
    context: &'a Context,
    weights: &'a Weights,
    groups: usize,
    size: [usize; 2],
    channels: usize,
    x: Tensor<f32>,
    other: [Tensor<f32>; 2],
    steps: Vec<Dispatch>,
}

impl Builder<'_> {
    /// The tensor of this name and shape.
    fn weight(&self, name: &str, shape: &[usize]) -> Result<Tensor<f32>> {
        Ok(self.context.upload(self.weights.of(name, shape)?, shape)?)
    }

    fn look_up(&mut self, shape: &Shape, codes: &Tensor<u32>) -> Result<()> {
        let book = self.weight("quantize.embedding.weight", &[shape.codes, shape.code_dim])?;
        let problem = vq_lookup::Problem {
            spatial: codes.len(),
            num_codes: shape.codes,
            code_dim: shape.code_dim,
            ..Default::default()
        };
        let buffers = vq_lookup::Buffers::new(codes.buffer(), book.buffer(), self.x.buffer());
        self.steps.push(vq_lookup::prepare(self.context.kernels(), &problem, buffers)?);
        Ok(())
    }

    fn norm(&mut self, name: &str, x: &Tensor<f32>, y: &Tensor<f32>, activation: Activation) -> Result<()> {
        let channels = self.weights.any(&format!("{name}.weight"))?.0.len();
        let [weight, bias] = ["weight", "bias"].map(|part| self.weight(&format!("{name}.{part}"), &[channels]));
        let (weight, bias) = (weight?, bias?);
        let problem = group_norm::Problem {
            channels,
            size: self.size,
            over: Over::Group(self.groups),
            order: Order::Nhwc,
            weight: Some(Vector::of(Dtype::F32)),
            bias: Some(Vector::of(Dtype::F32)),
            activation,
            eps: EPS,
            ..Default::default()
        };
        let buffers = group_norm::Buffers::new(x.buffer(), y.buffer()).weight(weight.buffer()).bias(bias.buffer());
        self.steps.push(group_norm::prepare(self.context.kernels(), &problem, buffers)?);
        Ok(())
    }

    /// A convolution of `x`, enlarged so often, to `y`; a residual may be `y`. One of 1 x 1 is a product. The channels that it gives.
    fn conv(
        &mut self,
        name: &str,
        [x, y]: [&Tensor<f32>; 2],
        residual: Option<&Tensor<f32>>,
        upsample: usize,
    ) -> Result<usize> {
        let (_, shape) = self.weights.any(&format!("{name}.weight"))?;
        let &[outputs, channels, height, width] = shape else { return Err(format!("{name}: {shape:?}").into()) };
        let (weight, bias) =
            (self.weight(&format!("{name}.weight"), shape)?, self.weight(&format!("{name}.bias"), &[outputs])?);
        let kernels = self.context.kernels();
        if [height, width, upsample] == [1; 3] {
            let columns = gemm::Vector { dtype: Dtype::F32, along: gemm::Along::Columns, offset: 0 };
            let residual_of = residual.map(|_| gemm::Matrix::new(Dtype::F32));
            let problem = gemm::Problem {
                trans_b: true,
                epilogue: gemm::Epilogue { bias: Some(columns), residual: residual_of, ..Default::default() },
                ..gemm::Problem::new(self.size[0] * self.size[1], outputs, channels, Dtype::F32)
            };
            let mut buffers = gemm::Buffers::new(x.buffer(), weight.buffer(), y.buffer()).bias(bias.buffer());
            if let Some(residual) = residual {
                buffers = buffers.residual(residual.buffer());
            }
            self.steps.push(gemm::prepare(kernels, &problem, buffers)?);
            return Ok(outputs);
        }
        let problem = conv::Problem {
            channels,
            outputs,
            size: self.size,
            kernel: [height, width],
            upsample: [upsample; 2],
            padding: Padding::Same,
            order: Order::Nhwc,
            bias: Some(Bias::of(Dtype::F32)),
            residual: residual.map(|_| Residual::of(Dtype::F32)),
            ..Default::default()
        };
        let mut buffers = conv::Buffers::new(x.buffer(), weight.buffer(), y.buffer()).bias(bias.buffer());
        if let Some(residual) = residual {
            buffers = buffers.residual(residual.buffer());
        }
        self.steps.push(conv::prepare(kernels, &problem, buffers)?);
        Ok(outputs)
    }

    /// `x` is what a convolution gives of it.
    fn replace(&mut self, name: &str, upsample: usize) -> Result<()> {
        let (x, [a, b]) = (self.x.clone(), self.other.clone());
        self.channels = self.conv(name, [&x, &a], None, upsample)?;
        self.size = self.size.map(|size| size * upsample);
        (self.x, self.other) = (a, [x, b]);
        Ok(())
    }

    /// `x + conv2(silu(norm2(conv1(silu(norm1(x))))))`, where channels change with a product of `x` in place of `x`.
    fn block(&mut self, name: &str) -> Result<()> {
        let (x, [a, b]) = (self.x.clone(), self.other.clone());
        let name = |part: &str| format!("{name}.{part}");
        self.norm(&name("norm1"), &x, &a, Activation::Silu)?;
        let channels = self.conv(&name("conv1"), [&a, &b], None, 1)?;
        self.norm(&name("norm2"), &b, &a, Activation::Silu)?;
        if channels == self.channels {
            self.conv(&name("conv2"), [&a, &x], Some(&x), 1)?;
        } else {
            self.conv(&name("nin_shortcut"), [&x, &b], None, 1)?;
            self.conv(&name("conv2"), [&a, &b], Some(&b), 1)?;
            (self.x, self.other, self.channels) = (b, [x, a], channels);
        }
        Ok(())
    }

    /// `x + proj_out(attention(q(n), k(n), v(n)))` with `n = norm(x)`, of all pixels, in one head.
    fn attention(&mut self, name: &str) -> Result<()> {
        let (x, [a, b]) = (self.x.clone(), self.other.clone());
        let pixels = self.size[0] * self.size[1];
        self.norm(&format!("{name}.norm"), &x, &a, Activation::None)?;
        let [q, k, v] = [(); 3].map(|()| self.context.zeros::<f32>(&[pixels, self.channels]));
        let (q, k, v) = (q?, k?, v?);
        for (part, y) in [("q", &q), ("k", &k), ("v", &v)] {
            self.conv(&format!("{name}.{part}"), [&a, y], None, 1)?;
        }
        let problem =
            attention::Problem { seq_q: pixels, seq_kv: pixels, ..attention::Problem::new(1, 1, 1, self.channels) };
        let buffers = attention::Buffers::new(q.buffer(), k.buffer(), v.buffer(), b.buffer());
        self.steps.push(attention::prepare(self.context.kernels(), &problem, buffers)?);
        self.conv(&format!("{name}.proj_out"), [&b, &x], Some(&x), 1)?;
        Ok(())
    }
}
