//! GPU compute kernels on [wgpu]: each one a handwritten WGSL shader behind a dispatch layer that
//! picks tiles and workgroup sizes for the adapter, each one held against a CPU [`mod@reference`].
//!
//! | kernel | what | file |
//! |---|---|---|
//! | [`activation`] | relu, leaky relu, relu6, hard swish, hard sigmoid, sigmoid, tanh, elu, gelu, silu, with a bias, gated | `src/ops/pointwise/activation.rs` |
//! | [`activation_backward`] | their gradients, with those of biases | `src/ops/pointwise/activation_backward.rs` |
//! | [`axpby`] | `a x + b z`; casts | `src/ops/pointwise/axpby.rs` |
//! | [`column_sums`] | sums over leading axes | `src/ops/pointwise/column_sums.rs` |
//! | [`dropout`] | dropout with residual, its mask drawn again in backward | `src/ops/pointwise/dropout.rs` |
//! | [`attention`] | exact, tiled, decoded or by cooperative matrices: GQA, causal, windows, ALiBi, sinks, masks, segments, trees, packed, paged, LSE | `src/ops/attention/mod.rs` |
//! | [`attention_backward`] | dq, dk, dv, and the gradients of an additive mask and of sinks, from the statistics of rows; memory linear in the sequence | `src/ops/attention/attention_backward.rs` |
//! | [`attention_bias`] | ALiBi's and T5's biases, written out | `src/ops/attention/attention_bias.rs` |
//! | [`attention_bias_backward`] | the gradients of their slopes and tables | `src/ops/attention/attention_bias_backward.rs` |
//! | [`attention_merge`] | joins partial results of attention by their LSE | `src/ops/attention/attention_merge.rs` |
//! | [`conv`] | convolution in one or two dimensions as a product, without im2col: strides, groups, padding, bias, residual, activation | `src/ops/conv/mod.rs` |
//! | [`resize`] | pictures in another size: nearest, bilinear, bicubic, antialiased; average pooling; their gradients | `src/ops/conv/resize.rs` |
//! | [`group_norm`] | group, instance and batch norm, layer norm over channels, with an activation | `src/ops/conv/group_norm.rs` |
//! | [`group_norm_backward`] | their gradients | `src/ops/conv/group_norm_backward.rs` |
//! | [`max_pool`] | the largest element of each window, and its place | `src/ops/conv/max_pool.rs` |
//! | [`max_pool_backward`] | its gradient, gathered by places | `src/ops/conv/max_pool_backward.rs` |
//! | [`space_to_depth`] | blocks of pixels to channels and back; merging of packed patches | `src/ops/conv/space_to_depth.rs` |
//! | [`conv_transpose`] | transposed convolution, by phases | `src/ops/conv/conv_transpose.rs` |
//! | [`conv_backward`] | gradients of a convolution by x, weights and bias | `src/ops/conv/conv_backward.rs` |
//! | [`snake_backward`] | gradients of snake, the activation of audio codecs | `src/ops/conv/snake_backward.rs` |
//! | [`attention_merge_backward`] | the gradients of the parts and of their LSE | `src/ops/attention/attention_merge_backward.rs` |
//! | [`gemm`] | matrix product with epilogue: batched, transposed, gated, split k, cooperative matrices | `src/ops/gemm/mod.rs` |
//! | [`gemm_quant`] | matrix product with packed weights: GGUF, GPTQ, AWQ, NF4, int8, FP8; one row to many, gated | `src/ops/gemm/gemm_quant.rs` |
//! | [`grouped_gemm`] | products of rows by group, one matrix each: experts | `src/ops/gemm/grouped_gemm.rs` |
//! | [`grouped_gemm_backward`] | gradients of the groups' matrices and biases | `src/ops/gemm/grouped_gemm_backward.rs` |
//! | [`lora`] | a product with adapters of low rank, one or each row's own | `src/ops/gemm/lora.rs` |
//! | [`lora_backward`] | gradients of the adapters | `src/ops/gemm/lora_backward.rs` |
//! | [`position_encoding`] | sinusoidal or learned encodings added to tokens, sequences and pictures | `src/ops/position/position_encoding.rs` |
//! | [`quantize`] | activations in 8 bits: int8 per token, e4m3 per 128 | `src/ops/rows/quantize.rs` |
//! | [`rope`] | rotary embedding of q and k in one dispatch; scalings, sections, axial, tables | `src/ops/position/rope.rs` |
//! | [`sample`] | tokens of logits: penalties, temperature, top-k, top-p, min-p, a draw on the device | `src/ops/sampling/sample.rs` |
//! | [`beam_step`] | the best continuations of beams, with back pointers | `src/ops/sampling/beam_step.rs` |
//! | [`speculative_verify`] | which tokens of a draft stand, and the next one | `src/ops/sampling/speculative_verify.rs` |
//! | [`advance`] | lengths, positions, slots and history moved on by the tokens of a step | `src/ops/sampling/advance.rs` |
//! | [`speculative_tree`] | which path of a tree of proposed tokens stands, and the next token | `src/ops/sampling/speculative_tree.rs` |
//! | [`kv_append`] | keys and values into a cache, paged or contiguous, in up to 8 bits; QK-norm and RoPE on the way | `src/ops/attention/kv_append.rs` |
//! | [`kv_move`] | keys and values of an accepted path, moved together in their cache | `src/ops/attention/kv_move.rs` |
//! | [`moe_route`] | tokens to experts: scores, bias, groups, top-k, pairs sorted by expert | `src/ops/routing/moe_route.rs` |
//! | [`moe_bias`] | the bias that balances experts, from counts | `src/ops/routing/moe_bias.rs` |
//! | [`moe_route_backward`] | the gradient of the weights by the logits | `src/ops/routing/moe_route_backward.rs` |
//! | [`moe_balance`] | the loss that balances experts within sequences, and its gradient | `src/ops/routing/moe_balance.rs` |
//! | [`counting_sort`] | positions sorted by small keys, stable | `src/ops/sort/counting_sort.rs` |
//! | [`softmax`] | scale, mask, causal, softmax or log-softmax, LSE in one dispatch | `src/ops/rows/softmax.rs` |
//! | [`softmax_backward`] | the gradient of softmax and log-softmax from their results | `src/ops/rows/softmax_backward.rs` |
//! | [`vq_assign`] | nearest codes in L2, cosine, dot: one or several books, residual, without a distance matrix | `src/ops/vq/vq_assign.rs` |
//! | [`vq_lookup`] | vectors of codes: one or several books, NHWC and NCHW, rows of packed [`weights`], indices never leave the table | `src/ops/vq/vq_lookup.rs` |
//! | [`vq_scalar`] | FSQ and LFQ: levels and signs to indices, and back | `src/ops/vq/vq_scalar.rs` |
//! | [`vq_scatter`] | vectors summed by code: the codebook's gradient, without float atomics | `src/ops/vq/vq_scatter.rs` |
//! | [`vq_train`] | straight-through and commitment gradients, EMA of a codebook, dead codes, k-means, perplexity | `src/ops/vq/vq_train.rs` |
//!
//! # Low level: your device, your buffers, your encoder
//!
//! ```no_run
//! use tileloom::{Caps, Kernels, softmax, wgpu};
//!
//! fn scores_to_weights(
//!     adapter: &wgpu::Adapter,
//!     device: &wgpu::Device,
//!     queue: &wgpu::Queue,
//!     scores: &wgpu::Buffer,  // f32 [rows, cols]
//!     weights: &wgpu::Buffer, // f32 [rows, cols]
//! ) -> Result<(), tileloom::Error> {
//!     let kernels = Kernels::new(device, Caps::of(adapter, device)); // once
//!     let problem = softmax::Problem { rows: 4096, cols: 1024, ..Default::default() };
//!     let dispatch = softmax::prepare(&kernels, &problem, softmax::Buffers::new(scores, weights))?;
//!
//!     let mut encoder = device.create_command_encoder(&Default::default());
//!     dispatch.record(&mut encoder); // cannot fail, allocates nothing
//!     queue.submit([encoder.finish()]);
//!     Ok(())
//! }
//! ```
//!
//! # High level: tensors
//!
//! ```no_run
//! # async fn run() -> Result<(), tileloom::Error> {
//! use tileloom::{Context, SoftmaxOptions};
//!
//! let context = Context::new().await?;
//! let x = context.upload(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3])?;
//! let y = x.softmax(&SoftmaxOptions::default())?;
//! println!("{:?}", y.read().await?);
//! # Ok(())
//! # }
//! ```
//!
//! # Words
//!
//! `Problem` is what is computed and never mentions tiles; `Config` is how, and names a pipeline;
//! `Buffers` is which memory; [`Dispatch`] is ready to record; [`Caps`] is what the adapter can do.
//! `choose` is pure, `prepare` may fail, `record` cannot.

#![deny(missing_docs)]

mod args;
pub mod caps;
pub mod compose;
mod config;
mod context;
mod dispatch;
mod dtype;
mod error;
pub mod kernels;
mod layout;
mod mask;
mod ops;
mod poll;
mod probe;
pub mod reference;
mod rounds;
mod scopes;
mod sequence;
mod tensor;
pub mod traps;
pub mod tune;
pub mod verify;
pub mod weights;

pub use caps::Caps;
pub use context::{Batch, Context};
pub use dispatch::{Binding, Dispatch};
pub use dtype::{Dtype, Element};
pub use error::{Error, ErrorKind, Misfit, Result};
pub use kernels::{Kernels, Options as KernelsOptions};
pub use layout::Layout;
pub use mask::{Mask, MaskKind};
pub use ops::*;
pub use sequence::{Cost as SequenceCost, Sequence};
pub use tensor::*;
pub use wgpu;

/// The examples of the README compile with the crate.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
