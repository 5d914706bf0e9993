//! Keys and values of the tokens so far.

use clap::ValueEnum;
use tileloom::attention::Codes;
use tileloom::wgpu::Buffer;
use tileloom::{Dtype, Layout, kv_append, quantize};

use crate::Result;
use crate::gpu::Gpu;
use crate::model::Sizes;

/// What the cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    F32,
    F16,
    Int8,
    E4m3,
}

impl Kind {
    /// As [`kv_append`] has it.
    pub fn cache(self) -> kv_append::Cache {
        match self {
            Kind::F32 => kv_append::Cache::Float(Dtype::F32),
            Kind::F16 => kv_append::Cache::Float(Dtype::F16),
            Kind::Int8 => kv_append::Cache::Int8,
            Kind::E4m3 => kv_append::Cache::E4m3,
        }
    }

    /// The dtype of queries, and of keys and values on their way into the cache: that of a cache of floats.
    pub fn x(self) -> Dtype {
        if self == Kind::F16 { Dtype::F16 } else { Dtype::F32 }
    }
}

/// The pages of one layer.
pub struct Layer {
    pub k: Buffer,
    pub v: Buffer,
    /// The scales of k, then of v, of a cache of 8 bits.
    pub scales: Option<Buffer>,
}

/// The caches of all layers: `pages` of `page_size` tokens each. A single sequence has one page for all that it may hold.
pub struct Cache {
    pub kind: Kind,
    pub pages: usize,
    pub page_size: usize,
    pub layers: Vec<Layer>,
}

impl Cache {
    /// An empty one.
    pub fn new(gpu: &Gpu, sizes: &Sizes, kind: Kind, pages: usize, page_size: usize) -> Result<Cache> {
        let vectors = pages * page_size * sizes.kv_heads;
        let words = (vectors * sizes.head_dim * kind.cache().bytes() as usize).div_ceil(4);
        let coded = matches!(kind, Kind::Int8 | Kind::E4m3);
        let layer = |_| -> Result<Layer> {
            let scales = coded.then(|| gpu.zeros(2 * vectors)).transpose()?;
            Ok(Layer { k: gpu.zeros(words)?, v: gpu.zeros(words)?, scales })
        };
        Ok(Cache { kind, pages, page_size, layers: (0..sizes.layers).map(layer).collect::<Result<_>>()? })
    }

    /// Where the scales of v begin.
    pub fn v_scale(&self, sizes: &Sizes) -> usize {
        self.pages * self.page_size * sizes.kv_heads
    }

    /// Strides of page, head and place, of vectors of `dim`.
    pub fn layout(&self, sizes: &Sizes, dim: usize, offset: usize) -> Layout<3> {
        let place = sizes.kv_heads * dim;
        Layout::strided(offset, [self.page_size * place, dim, place])
    }

    /// How attention reads 8 bits.
    pub fn codes(&self, sizes: &Sizes) -> Option<Codes> {
        let format = match self.kind {
            Kind::Int8 => quantize::Format::Int8,
            Kind::E4m3 => quantize::Format::E4m3,
            _ => return None,
        };
        let scale = |offset| self.layout(sizes, 1, offset);
        Some(Codes { format, k_scale: scale(0), v_scale: scale(self.v_scale(sizes)) })
    }
}
