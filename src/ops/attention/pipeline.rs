//! The pipelines of attention: what follows from a Problem, and the shader.

use super::prepare::{Params, Views};
use super::{Algorithm, Config, Hide, Load, Problem, Reduce, Segments, coop};
use crate::compose::{Shader, Slots, Storage, slots};
use crate::kernels::{Pass, Pipeline};
use crate::quantize::Format;
use crate::softmax::MaskKind;

/// An option that is a bit of `Params::flags`.
struct Flag {
    /// In the shader.
    name: &'static str,
    given: fn(&Problem) -> bool,
}

/// From the lowest bit on.
const FLAGS: [Flag; 8] = [
    Flag { name: "ALIBI", given: |problem| problem.alibi.is_some() },
    Flag { name: "SINKS", given: |problem| problem.sinks.is_some() },
    Flag { name: "PACKED", given: |problem| problem.packed.is_some() },
    Flag { name: "PAGED", given: |problem| problem.paged.is_some() },
    Flag { name: "LENGTHS", given: |problem| problem.lengths.is_some() },
    Flag { name: "TREE", given: |problem| problem.tree.is_some() },
    Flag { name: "ORDERED", given: |problem| problem.segments.is_some_and(|segments| segments.ordered) },
    Flag { name: "SUMS", given: |problem| problem.sum.is_some() },
];

/// What follows from the Problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Form {
    /// Elements per load: 4 or 1.
    pub vec: u32,
    /// Chunks of four of a head vector, and of a value vector.
    pub chunks: [u32; 2],
    /// Vectors do not fill their chunks.
    pub padded: bool,
    pub x: Storage,
    /// Of k and v.
    pub kv: Storage,
    pub o: Storage,
    pub softcap: bool,
    pub mask: Option<MaskKind>,
    /// ALiBi slopes or sinks are read.
    pub tables: bool,
    /// Sequences, pages, segments or a tree are read.
    pub indices: bool,
    pub segments: bool,
    pub lse: bool,
    /// `Coop`: q, k and v are read by eights.
    pub eights: bool,
    /// `Coop`: matrices of f16 that a weight is the sum of; else 0.
    pub parts: u32,
}

/// The flags by their names in shaders, with their bits.
pub(super) fn flag_bits() -> impl Iterator<Item = (&'static str, u32)> {
    (0..).zip(FLAGS).map(|(bit, flag)| (flag.name, 1 << bit))
}

/// The bit of the last flag.
pub(super) const SUMS: u32 = 1 << (FLAGS.len() - 1);

impl Problem {
    /// `Params::flags`.
    pub(super) fn flags(&self) -> u32 {
        (0..).zip(FLAGS).filter(|(_, flag)| (flag.given)(self)).map(|(bit, _)| 1 << bit).sum()
    }

    /// The pipeline of the walk; `splits` is a parameter, the rest of the Config names the pipeline.
    pub(super) fn pass(&self, views: &Views, config: &Config, writable: Slots) -> Pass<Config, Form> {
        let decode = config.algorithm == Algorithm::Decode;
        let coop = config.algorithm == Algorithm::Coop;
        let by = |n| [&views.q, &views.k, &views.v].iter().all(|view| view.multiple_of(n));
        let inputs = coop || by(4);
        let output = if decode { self.value_dim.is_multiple_of(4) } else { views.o.multiple_of(4) };
        let chunks = if coop { self.columns(config).map(|columns| columns / 4) } else { self.chunks(config.lanes) };
        let form = Form {
            vec: if inputs && output { 4 } else { 1 },
            chunks,
            padded: chunks.map(|chunks| 4 * chunks as usize) != [self.head_dim, self.value_dim],
            x: Storage::held(self.x, config.native_f16),
            kv: match self.codes.map(|codes| codes.format) {
                None => Storage::held(self.x, config.native_f16),
                Some(Format::Int8) => Storage::Int8,
                Some(Format::E4m3) => Storage::E4m3,
            },
            // Parts are f32.
            o: if decode { Storage::F32 } else { Storage::held(self.o, config.native_f16) },
            softcap: self.softcap > 0.0,
            mask: self.mask.map(|mask| mask.kind),
            tables: views.tables.is_some(),
            indices: views.indices.is_some(),
            segments: self.segments.is_some(),
            lse: decode || self.lse.is_some(),
            eights: coop && by(8),
            parts: if coop { self.weight_parts() } else { 0 },
        };
        let stem = match config.algorithm {
            Algorithm::Tiled => "attention_tiled",
            Algorithm::Decode => "attention_decode",
            Algorithm::Coop => "attention_coop",
        };
        Pass { stem, config: Config { splits: 1, ..*config }, form, writable }
    }
}

slots!(pub(super) Q, K, V, O, MASK, TABLES, INDICES, LSE);

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        if self.config.algorithm == Algorithm::Coop {
            return coop::shader(self);
        }
        let Config { wg_size, lanes, rows, slots, keys, load, reduce, hide, .. } = self.config;
        let Form { vec, chunks, padded, x, kv, o, softcap, segments, .. } = self.form;
        // Single elements of a packed o are stored half by half of a word.
        let edge = vec == 1 && o.packed();
        let shader = self
            .begin(wg_size, self.config.wg_bytes(chunks), if edge { 2 } else { vec })
            .params::<Params>()
            .constants(flag_bits())
            .constant("LANES", lanes)
            .constant("ROWS", rows)
            .constant("SLOTS", slots)
            .constant("KEYS", keys)
            .constant("TILE", self.config.tile())
            .constant("K_CHUNKS", chunks[0] / lanes)
            .constant("V_CHUNKS", chunks[1] / lanes)
            .flag("PADDED", padded)
            .flag("SOFTCAP", softcap)
            .flag("BRANCH", hide == Hide::Branch)
            .import(if hide == Hide::Branch { "attention_accumulate_branch" } else { "attention_accumulate_apart" })
            .flag("APART", hide == Hide::Apart)
            .input(Q, "q", x)
            .input(K, "k", kv)
            .input(V, "v", kv)
            .output(O, "o", o, edge)
            .import(if vec == 4 { "attention_chunks" } else { "attention_elements" })
            .import(if segments { "attention_steps_segments" } else { "attention_steps" })
            .import(match reduce {
                Reduce::None if matches!(load, Load::Broadcast(_)) => "attention_sum_broadcast",
                Reduce::None => "attention_sum_none",
                Reduce::Shuffle => "attention_sum_shuffle",
                Reduce::Memory => "attention_sum_memory",
            });
        let shader = match load {
            Load::Direct => shader.import("attention_direct"),
            Load::Staged(_) => shader.import("attention_staged"),
            Load::Broadcast(size) => shader.constant("LOAD_LANES", size).import("attention_broadcast"),
            Load::Matrices(_) => unreachable!("the check leaves them to coop"),
        };
        self.form.options(shader)
    }
}

impl Form {
    /// The bindings that the Problem may do without.
    pub(super) fn options(&self, shader: Shader) -> Shader {
        let Form { kv, mask, tables, indices, segments, lse, .. } = *self;
        let shader =
            shader.flag("SEGMENTS", segments).constants([("FULL", Segments::FULL), ("PRIVATE", Segments::PRIVATE)]);
        let shader = shader.flag("CODES", matches!(kv, Storage::Int8 | Storage::E4m3));
        let shader = shader.mask(MASK, mask).table(TABLES, "tables", "f32", tables);
        let shader = shader.table(INDICES, "indices", "u32", indices).bounded_by(INDICES, "indices");
        shader.writes_if(lse, LSE, "lse", "f32", "lse")
    }
}
