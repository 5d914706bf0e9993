//! The shapes of models' layers, in one place: the lists of kernels take their Problems of `loom bench --suite models`
//! from here.

use tileloom::Dtype;
use tileloom::weights::Format;

/// A transformer, as far as the shapes of its calls go.
struct Transformer {
    name: &'static str,
    hidden: usize,
    intermediate: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    vocab: usize,
    /// Root mean square norms and rotated heads, else layer norms.
    decoder: bool,
    dtype: Dtype,
    /// Sequences and their tokens, seen at once.
    prefill: [usize; 2],
    /// Keys that one more token sees, where it generates.
    decode: Option<usize>,
    /// Of packed weights.
    packed: Option<Format>,
}

const TRANSFORMERS: [Transformer; 5] = [
    Transformer {
        name: "BERT-base",
        hidden: 768,
        intermediate: 3072,
        heads: 12,
        kv_heads: 12,
        head_dim: 64,
        vocab: 30_522,
        decoder: false,
        dtype: Dtype::F32,
        prefill: [1, 512],
        decode: None,
        packed: None,
    },
    Transformer {
        name: "ViT-B/16",
        hidden: 768,
        intermediate: 3072,
        heads: 12,
        kv_heads: 12,
        head_dim: 64,
        vocab: 1000,
        decoder: false,
        dtype: Dtype::F16,
        prefill: [8, 197],
        decode: None,
        packed: None,
    },
    Transformer {
        name: "Llama-3 8B",
        hidden: 4096,
        intermediate: 14_336,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        vocab: 128_256,
        decoder: true,
        dtype: Dtype::F16,
        prefill: [1, 512],
        decode: Some(4096),
        packed: Some(Format::Q4_K),
    },
    Transformer {
        name: "Qwen2.5 0.5B",
        hidden: 896,
        intermediate: 4864,
        heads: 14,
        kv_heads: 2,
        head_dim: 64,
        vocab: 151_936,
        decoder: true,
        dtype: Dtype::F16,
        prefill: [1, 512],
        decode: Some(4096),
        packed: Some(Format::Q8_0),
    },
    Transformer {
        name: "SmolLM2 135M",
        hidden: 576,
        intermediate: 1536,
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        vocab: 49_152,
        decoder: true,
        dtype: Dtype::F16,
        prefill: [1, 512],
        decode: Some(2048),
        packed: Some(Format::Q4_0),
    },
];

impl Transformer {
    /// The word of a phase, its tokens in all, and the queries and keys of a sequence.
    fn phases(&self) -> Vec<(&'static str, usize, [usize; 2])> {
        let [sequences, tokens] = self.prefill;
        let prefill = if self.decoder { " prefill" } else { "" };
        let mut all = vec![(prefill, sequences * tokens, [tokens; 2])];
        all.extend(self.decode.map(|keys| (" decode", 1, [1, keys])));
        all
    }
}

/// `a [m, k] x weights [n, k]`.
pub struct Product {
    pub name: String,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub dtype: Dtype,
    /// What its weights may be packed as.
    pub packed: Option<Format>,
}

/// Multi-head latent attention and experts of DeepSeek-V3: 7168 wide, 128 heads of 128 and 64 rotated, queries and keys
/// by way of 1536 and 512; 256 experts 2048 wide, of which a token takes 8.
const DEEPSEEK: &str = "DeepSeek-V3";
const DEEPSEEK_PRODUCTS: [(&str, usize, usize); 5] = [
    ("queries down", 1536, 7168),
    ("queries up", 24_576, 1536),
    ("keys and values down", 576, 7168),
    ("keys and values up", 32_768, 512),
    ("out", 7168, 16_384),
];
const DEEPSEEK_EXPERT: [(&str, usize, usize); 2] = [("expert up", 2048, 7168), ("expert down", 7168, 2048)];
const DEEPSEEK_PREFILL: usize = 512;

/// The products of all models.
pub fn products() -> Vec<Product> {
    let mut all = Vec::new();
    let mut push = |name: String, [m, n, k]: [usize; 3], dtype: Dtype, packed| {
        all.push(Product { name: format!("{name} {m}x{n}x{k}"), m, n, k, dtype, packed });
    };
    for model in &TRANSFORMERS {
        let Transformer { hidden, intermediate, head_dim, dtype, packed, .. } = *model;
        let qkv = (model.heads + 2 * model.kv_heads) * head_dim;
        for (phase, m, _) in model.phases() {
            let of = |what| format!("{}{phase}, {what}", model.name);
            push(of("q, k and v"), [m, qkv, hidden], dtype, packed);
            push(of("up"), [m, intermediate, hidden], dtype, packed);
            push(of("down"), [m, hidden, intermediate], dtype, packed);
            if phase == " decode" {
                push(of("logits"), [m, model.vocab, hidden], dtype, packed);
            }
        }
    }
    for (phase, m, routed) in [("prefill", DEEPSEEK_PREFILL, DEEPSEEK_PREFILL * 8 / 256), ("decode", 1, 1)] {
        for (what, n, k) in DEEPSEEK_PRODUCTS {
            push(format!("{DEEPSEEK} {phase}, {what}"), [m, n, k], Dtype::F16, None);
        }
        for (what, n, k) in DEEPSEEK_EXPERT {
            push(format!("{DEEPSEEK} {phase}, {what}"), [routed, n, k], Dtype::F16, Some(Format::FP8));
        }
    }
    // The convolution of one pixel behind the codebook, over 16 x 16 of them.
    push(format!("{VQGAN}, after the codebook"), [256, 256, 256], Dtype::F32, None);
    all
}

/// Attention of one layer.
pub struct Heads {
    pub name: String,
    pub batch: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub queries: usize,
    pub keys: usize,
    pub head_dim: usize,
    pub value_dim: usize,
    pub dtype: Dtype,
    pub causal: bool,
}

pub fn attentions() -> Vec<Heads> {
    let mut all = Vec::new();
    for model in &TRANSFORMERS {
        for (phase, _, [queries, keys]) in model.phases() {
            all.push(Heads {
                name: format!("{}{phase}, {queries} over {keys}", model.name),
                batch: model.prefill[0],
                heads: model.heads,
                kv_heads: model.kv_heads,
                queries,
                keys,
                head_dim: model.head_dim,
                value_dim: model.head_dim,
                dtype: model.dtype,
                causal: model.decoder,
            });
        }
    }
    // Prefill by heads of their own; decode by the latent that all heads share.
    for (phase, kv_heads, queries, keys, dims) in
        [("prefill", 128, DEEPSEEK_PREFILL, DEEPSEEK_PREFILL, [192, 128]), ("decode", 1, 1, 4096, [576, 512])]
    {
        all.push(Heads {
            name: format!("{DEEPSEEK} {phase}, {queries} over {keys}"),
            batch: 1,
            heads: 128,
            kv_heads,
            queries,
            keys,
            head_dim: dims[0],
            value_dim: dims[1],
            dtype: Dtype::F16,
            causal: true,
        });
    }
    all.push(Heads {
        name: format!("{VQGAN}, 256 pixels"),
        batch: 1,
        heads: 1,
        kv_heads: 1,
        queries: 256,
        keys: 256,
        head_dim: 512,
        value_dim: 512,
        dtype: Dtype::F32,
        causal: false,
    });
    all
}

/// Rows of a norm, or of a softmax.
pub struct Rows {
    pub name: String,
    pub rows: usize,
    pub cols: usize,
    pub dtype: Dtype,
    /// A norm by root mean square.
    pub rms: bool,
}

pub fn norms() -> Vec<Rows> {
    let mut all = Vec::new();
    let mut push = |name: String, rows, cols, dtype, rms| {
        all.push(Rows { name: format!("{name}, {rows}x{cols}"), rows, cols, dtype, rms });
    };
    for model in &TRANSFORMERS {
        for (phase, rows, _) in model.phases() {
            push(format!("{}{phase}", model.name), rows, model.hidden, model.dtype, model.decoder);
        }
    }
    for (phase, rows) in [("prefill", DEEPSEEK_PREFILL), ("decode", 1)] {
        push(format!("{DEEPSEEK} {phase}"), rows, 7168, Dtype::F16, true);
    }
    all
}

/// Softmax over classes, tokens, or the keys of encoders.
pub fn softmaxes() -> Vec<Rows> {
    let mut all = Vec::new();
    let mut push = |name: String, rows, cols, dtype| {
        all.push(Rows { name: format!("{name}, {rows}x{cols}"), rows, cols, dtype, rms: false });
    };
    for model in &TRANSFORMERS {
        let [sequences, tokens] = model.prefill;
        match model.decode {
            Some(_) => push(format!("{} decode, tokens", model.name), 1, model.vocab, Dtype::F32),
            None => push(format!("{}, scores", model.name), sequences * model.heads * tokens, tokens, model.dtype),
        }
    }
    push(format!("{DEEPSEEK} decode, tokens"), 1, 129_280, Dtype::F32);
    all
}

/// Heads that are rotated, all of `dim`.
pub struct Turned {
    pub name: String,
    pub heads: usize,
    pub kv_heads: usize,
    pub tokens: usize,
    pub first: usize,
    pub dim: usize,
}

pub fn ropes() -> Vec<Turned> {
    let mut all = Vec::new();
    for model in TRANSFORMERS.iter().filter(|model| model.decoder) {
        for (phase, tokens, [queries, keys]) in model.phases() {
            all.push(Turned {
                name: format!("{}{phase}, {}+{}x{tokens}x{}", model.name, model.heads, model.kv_heads, model.head_dim),
                heads: model.heads,
                kv_heads: model.kv_heads,
                tokens,
                first: keys - queries,
                dim: model.head_dim,
            });
        }
    }
    for (phase, tokens, first) in [("prefill", DEEPSEEK_PREFILL, 0), ("decode", 1, 4095)] {
        all.push(Turned {
            name: format!("{DEEPSEEK} {phase}, 128+1x{tokens}x64"),
            heads: 128,
            kv_heads: 1,
            tokens,
            first,
            dim: 64,
        });
    }
    all
}

/// The VQGAN of 16 times fewer pixels a side, of ImageNet.
const VQGAN: &str = "VQGAN f16 16384";

/// Vectors, codes, and how long they are.
pub fn codebooks() -> Vec<(String, usize, usize, usize)> {
    let of = |pictures: usize| (format!("{VQGAN}, {pictures} of 256 pixels a side"), pictures * 256, 16_384, 256);
    vec![of(1), of(8)]
}

/// A convolution of pictures, height and width alike.
pub struct Convolved {
    pub name: String,
    pub batch: usize,
    pub channels: usize,
    pub outputs: usize,
    pub size: usize,
    pub kernel: usize,
    pub stride: usize,
    /// Repeated so often in front.
    pub upsample: usize,
    pub dtype: Dtype,
}

/// The decoder of VQGAN from 16 x 16 to 256 x 256 pixels, a layer of each kind: channels of x and y, size, repeats in front.
const VQGAN_LAYERS: [[usize; 4]; 10] = [
    [256, 512, 16, 1],
    [512, 512, 16, 1],
    [512, 512, 16, 2],
    [512, 256, 32, 1],
    [256, 256, 32, 2],
    [256, 256, 64, 2],
    [256, 128, 128, 1],
    [128, 128, 128, 2],
    [128, 128, 256, 1],
    [128, 3, 256, 1],
];

pub fn convolutions() -> Vec<Convolved> {
    let vqgan = VQGAN_LAYERS.map(|[channels, outputs, size, upsample]| {
        let enlarged = if upsample > 1 { format!(" enlarged to {}", size * upsample) } else { String::new() };
        let name = format!("{VQGAN}, {channels} to {outputs} at {size}{enlarged}");
        let dtype = Dtype::F32;
        Convolved { name, batch: 1, channels, outputs, size, kernel: 3, stride: 1, upsample, dtype }
    });
    let patches = Convolved {
        name: "ViT-B/16, 8 pictures to patches".into(),
        batch: 8,
        channels: 3,
        outputs: 768,
        size: 224,
        kernel: 16,
        stride: 16,
        upsample: 1,
        dtype: Dtype::F16,
    };
    vqgan.into_iter().chain([patches]).collect()
}

/// Channels and sizes of the norms of VQGAN's decoder, over 32 groups, with SiLU.
pub fn group_norms() -> Vec<(String, usize, usize)> {
    let of = |(channels, size)| (format!("{VQGAN}, {channels} at {size}"), channels, size);
    [(512, 16), (512, 32), (256, 64), (128, 128), (128, 256)].map(of).into()
}

/// Rows, n and k of an expert's products of DeepSeek-V3 by a device that has this many of the 256, with their share of the tokens.
pub const DEEPSEEK_EXPERTS: usize = 8;

pub fn experts() -> Vec<(String, [usize; 3])> {
    let mut all = Vec::new();
    for (phase, tokens) in [("prefill of 4096", 4096), ("decode of 128", 128)] {
        for (what, n, k) in DEEPSEEK_EXPERT {
            let rows = tokens * 8 * DEEPSEEK_EXPERTS / 256;
            let name = format!("{DEEPSEEK} {phase}, {what}, {DEEPSEEK_EXPERTS} of 256, {rows}x{n}x{k}");
            all.push((name, [rows, n, k]));
        }
    }
    all
}

/// Tokens that are routed to the experts of DeepSeek-V3.
pub fn routed() -> [(String, usize); 2] {
    [("prefill", 4096), ("decode", 128)].map(|(phase, tokens)| (format!("{DEEPSEEK} {phase}, {tokens} tokens"), tokens))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_shapes_apart() {
        let all: [Vec<String>; 9] = [
            products().into_iter().map(|own| own.name).collect(),
            attentions().into_iter().map(|own| own.name).collect(),
            norms().into_iter().map(|own| own.name).collect(),
            softmaxes().into_iter().map(|own| own.name).collect(),
            ropes().into_iter().map(|own| own.name).collect(),
            codebooks().into_iter().map(|own| own.0).collect(),
            convolutions().into_iter().map(|own| own.name).collect(),
            group_norms().into_iter().map(|own| own.0).collect(),
            experts().into_iter().map(|own| own.0).collect(),
        ];
        for names in all {
            let mut once = names.clone();
            once.sort();
            once.dedup();
            assert_eq!(once.len(), names.len());
            assert!(names.iter().all(|name| !name.contains('\'')), "a shell's quote: {names:?}");
        }
        // Llama-3 8B: 32 heads and twice 8 of 128 are 6144 rows of weights.
        assert!(products().iter().any(|own| own.name == "Llama-3 8B decode, q, k and v 1x6144x4096"));
    }
}
