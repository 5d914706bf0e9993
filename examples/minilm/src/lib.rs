//! Sentence embeddings by all-MiniLM-L6-v2, or another BERT of sentence-transformers that takes the mean of its tokens, on
//! tileloom's tensors. f32 or f16: the type of [`Encoder`]'s weights and activations; sums are f32 either way.
//!
//! Sentences lie one after the other, without padding: every product has a row per token, and attention is told where each
//! sentence starts.

use std::error::Error;
use std::fs;
use std::path::Path;

use half::f16;
use safetensors::SafeTensors;
use serde::Deserialize;
use tileloom::gemm::Activation;
use tileloom::vq_lookup::Combine;
use tileloom::{
    AttentionOptions, Batch, Context, Element, MatmulOptions, NormOptions, PositionEncoding, PositionOptions, Tensor,
};
use tokenizers::{Tokenizer, TruncationParams};

pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What weights and activations are held in.
pub trait Float: Element {
    fn of(value: f32) -> Self;
    fn value(self) -> f32;
}

impl Float for f32 {
    fn of(value: f32) -> f32 {
        value
    }

    fn value(self) -> f32 {
        self
    }
}

impl Float for f16 {
    fn of(value: f32) -> f16 {
        f16::from_f32(value)
    }

    fn value(self) -> f32 {
        self.to_f32()
    }
}

/// Tokenizer and model. `T` is f32 or f16.
pub struct Encoder<T> {
    context: Context,
    tokenizer: Tokenizer,
    config: Config,
    /// The most tokens that go through the model at once.
    pub pack: usize,
    /// `[words, hidden]`.
    words: Tensor<T>,
    /// `[longest, hidden]`.
    positions: Tensor<T>,
    norm: Norm,
    layers: Vec<Layer<T>>,
    /// `[hidden]`: 1 / sqrt(hidden), by which an RMS norm makes unit vectors.
    unit: Tensor<f32>,
}

/// `config.json`.
#[derive(Deserialize)]
struct Config {
    model_type: String,
    hidden_act: String,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    layer_norm_eps: f32,
}

/// `sentence_bert_config.json`.
#[derive(Deserialize)]
struct SentenceConfig {
    max_seq_length: usize,
}

impl<T: Float> Encoder<T> {
    /// The model in `folder`: `model.safetensors`, `tokenizer.json`, `config.json` and `sentence_bert_config.json`.
    pub fn open(context: &Context, folder: &Path) -> Result<Encoder<T>> {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read(&path).map_err(|error| format!("{}: {error}; tools/minilm fetches the model", path.display()))
        };
        let config: Config = serde_json::from_slice(&read("config.json")?)?;
        let SentenceConfig { max_seq_length } = serde_json::from_slice(&read("sentence_bert_config.json")?)?;
        let Config { model_type, hidden_act, hidden_size: hidden, num_attention_heads: heads, .. } = &config;
        if (model_type.as_str(), hidden_act.as_str()) != ("bert", "gelu") || hidden.checked_rem(*heads) != Some(0) {
            return Err(format!("a {model_type} with {hidden_act}, {heads} heads of {hidden}: not supported").into());
        }
        let mut tokenizer = Tokenizer::from_bytes(read("tokenizer.json")?)?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(Some(TruncationParams { max_length: max_seq_length, ..Default::default() }))?;

        let bytes = read("model.safetensors")?;
        let weights = Weights { context, tensors: SafeTensors::deserialize(&bytes)? };
        let layers = 0..config.num_hidden_layers;
        Ok(Encoder {
            tokenizer,
            pack: 2048,
            words: weights.tensor("embeddings.word_embeddings.weight")?,
            positions: weights.positions(*hidden)?,
            norm: weights.norm("embeddings.LayerNorm")?,
            layers: layers.map(|i| weights.layer(&format!("encoder.layer.{i}"))).collect::<Result<_>>()?,
            unit: context.upload(&vec![1.0 / (*hidden as f32).sqrt(); *hidden], &[*hidden])?,
            context: context.clone(),
            config,
        })
    }

    /// Ids of the tokens of each sentence; what is longer than the model takes is cut off.
    pub fn tokenize(&self, sentences: &[String]) -> Result<Vec<Vec<u32>>> {
        let encodings = self.tokenizer.encode_batch_fast(sentences.to_vec(), true)?;
        Ok(encodings.iter().map(|encoding| encoding.get_ids().to_vec()).collect())
    }

    /// Unit vectors, `[sentences, hidden]`, of sentences by their tokens. The products of them are cosines.
    pub async fn embed(&self, sentences: &[Vec<u32>]) -> Result<Tensor<f32>> {
        let (mut means, mut rest) = (Vec::new(), sentences);
        while !rest.is_empty() {
            let mut tokens = 0;
            let fit = rest.iter().take_while(|ids| {
                tokens += ids.len();
                tokens <= self.pack
            });
            let (pack, behind) = rest.split_at(fit.count().max(1));
            means.extend(self.forward(pack)?.read().await?.into_iter().map(T::value));
            rest = behind;
        }
        let means = self.context.upload(&means, &[sentences.len(), self.config.hidden_size])?;
        let unit = NormOptions { weight: Some((&self.unit).into()), eps: Some(1e-12), ..Default::default() };
        Ok(means.rms_norm(&unit)?)
    }

    /// The mean of each sentence's tokens behind the last layer, `[sentences, hidden]`: the model, in one submit.
    fn forward(&self, sentences: &[Vec<u32>]) -> Result<Tensor<T>> {
        let Encoder { context, config, .. } = self;
        let ids = sentences.concat();
        let positions: Vec<i32> = sentences.iter().flat_map(|ids| 0..ids.len() as i32).collect();
        // Sentence `i` has the tokens from starts[i] up to starts[i + 1].
        let mut starts = vec![0];
        for ids in sentences {
            starts.push(starts[starts.len() - 1] + ids.len() as u32);
        }
        let (n, tokens) = (sentences.len(), ids.len());

        let mut batch = context.batch();
        let x = batch.vq_lookup(&self.words, &context.upload(&ids, &[1, tokens])?, Combine::Concat)?;
        let table = PositionOptions::new(PositionEncoding::Table(&self.positions));
        let positions = context.upload(&positions, &[1, tokens])?;
        let x = batch.add_positions(&x, &PositionOptions { positions: Some(&positions), ..table })?;
        let mut x = self.norm.of(&mut batch, &x.reshape(&[tokens, config.hidden_size])?, None, config)?;
        for layer in &self.layers {
            x = layer.forward(&mut batch, &x, &starts, config)?;
        }

        // Means are a product with a matrix [sentences, tokens].
        let mut weights = vec![T::of(0.0); n * tokens];
        for (i, ids) in sentences.iter().enumerate() {
            let start = i * tokens + starts[i] as usize;
            weights[start..start + ids.len()].fill(T::of(1.0 / ids.len() as f32));
        }
        let means = batch.matmul(&context.upload(&weights, &[n, tokens])?, &x, &MatmulOptions::default())?;
        batch.submit()?;
        Ok(means)
    }
}

/// A block of the encoder: attention and a hidden layer, each added to its input and normed.
struct Layer<T> {
    query: Linear<T>,
    key: Linear<T>,
    value: Linear<T>,
    attended: Linear<T>,
    attended_norm: Norm,
    up: Linear<T>,
    down: Linear<T>,
    down_norm: Norm,
}

impl<T: Float> Layer<T> {
    /// `x` is `[tokens, hidden]`.
    fn forward(&self, batch: &mut Batch, x: &Tensor<T>, starts: &[u32], config: &Config) -> Result<Tensor<T>> {
        let heads = [x.shape()[0], config.num_attention_heads, config.hidden_size / config.num_attention_heads];
        let q = self.query.of(batch, x, Activation::None)?.reshape(&heads)?;
        let k = self.key.of(batch, x, Activation::None)?.reshape(&heads)?;
        let v = self.value.of(batch, x, Activation::None)?.reshape(&heads)?;
        let packed = AttentionOptions { packed: Some([starts, starts]), ..Default::default() };
        let o = batch.attention(&q, &k, &v, &packed)?.reshape(x.shape())?;
        let o = self.attended.of(batch, &o, Activation::None)?;
        let x = self.attended_norm.of(batch, &o, Some(x), config)?;
        let h = self.up.of(batch, &x, Activation::Gelu)?;
        let y = self.down.of(batch, &h, Activation::None)?;
        self.down_norm.of(batch, &y, Some(&x), config)
    }
}

struct Linear<T> {
    /// `[out, in]`.
    weight: Tensor<T>,
    bias: Tensor<T>,
}

impl<T: Float> Linear<T> {
    fn of(&self, batch: &mut Batch, x: &Tensor<T>, activation: Activation) -> Result<Tensor<T>> {
        let options = MatmulOptions { trans_b: true, bias: Some(&self.bias), activation, ..Default::default() };
        Ok(batch.matmul(x, &self.weight, &options)?)
    }
}

/// Weight and bias of a layer norm, f32 whatever is normed.
struct Norm {
    weight: Tensor<f32>,
    bias: Tensor<f32>,
}

impl Norm {
    fn of<T: Float>(
        &self,
        batch: &mut Batch,
        x: &Tensor<T>,
        residual: Option<&Tensor<T>>,
        config: &Config,
    ) -> Result<Tensor<T>> {
        let options = NormOptions {
            residual: residual.map(Into::into),
            weight: Some((&self.weight).into()),
            bias: Some((&self.bias).into()),
            eps: Some(config.layer_norm_eps),
            ..Default::default()
        };
        Ok(batch.layer_norm(x, &options)?)
    }
}

/// The tensors of a file, on their way to the device.
struct Weights<'a> {
    context: &'a Context,
    tensors: SafeTensors<'a>,
}

impl Weights<'_> {
    /// Values, which the file must hold in f32, and their shape.
    fn values(&self, name: &str) -> Result<(Vec<f32>, Vec<usize>)> {
        let view = self.tensors.tensor(name).map_err(|error| format!("{name}: {error}"))?;
        if view.dtype() != safetensors::Dtype::F32 {
            return Err(format!("{name} is {:?}, not f32", view.dtype()).into());
        }
        Ok((bytemuck::pod_collect_to_vec(view.data()), view.shape().to_vec()))
    }

    fn tensor<T: Float>(&self, name: &str) -> Result<Tensor<T>> {
        let (values, shape) = self.values(name)?;
        let values: Vec<T> = values.into_iter().map(T::of).collect();
        Ok(self.context.upload(&values, &shape)?)
    }

    /// The vectors of positions, with that of the first type added to each: a sentence has no other.
    fn positions<T: Float>(&self, hidden: usize) -> Result<Tensor<T>> {
        let (values, shape) = self.values("embeddings.position_embeddings.weight")?;
        let (types, _) = self.values("embeddings.token_type_embeddings.weight")?;
        let first = types.iter().take(hidden).cycle();
        let values: Vec<T> = values.iter().zip(first).map(|(v, first)| T::of(v + first)).collect();
        Ok(self.context.upload(&values, &shape)?)
    }

    fn linear<T: Float>(&self, name: &str) -> Result<Linear<T>> {
        Ok(Linear { weight: self.tensor(&format!("{name}.weight"))?, bias: self.tensor(&format!("{name}.bias"))? })
    }

    fn norm(&self, name: &str) -> Result<Norm> {
        Ok(Norm { weight: self.tensor(&format!("{name}.weight"))?, bias: self.tensor(&format!("{name}.bias"))? })
    }

    fn layer<T: Float>(&self, name: &str) -> Result<Layer<T>> {
        Ok(Layer {
            query: self.linear(&format!("{name}.attention.self.query"))?,
            key: self.linear(&format!("{name}.attention.self.key"))?,
            value: self.linear(&format!("{name}.attention.self.value"))?,
            attended: self.linear(&format!("{name}.attention.output.dense"))?,
            attended_norm: self.norm(&format!("{name}.attention.output.LayerNorm"))?,
            up: self.linear(&format!("{name}.intermediate.dense"))?,
            down: self.linear(&format!("{name}.output.dense"))?,
            down_norm: self.norm(&format!("{name}.output.LayerNorm"))?,
        })
    }
}
