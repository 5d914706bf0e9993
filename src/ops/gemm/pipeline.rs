//! What names a pipeline, and the shader that it gives.

use super::prepare::Params;
use super::{Activation, Algorithm, Config, Epilogue, Problem, Views};
use crate::Dtype;
use crate::caps::LEAST_INVOCATIONS;
use crate::compose::{Shader, Slots, Storage, slots};
use crate::kernels::{Pass, Pipeline};
use crate::ops::Plan;
use crate::weights::Coded;

slots!(pub(super) A, B, D, B2, C, RESIDUAL, BIAS, SCALE, SCRATCH);

/// The names of the slots of [`Views::all`].
pub(super) const NAMES: [&str; 8] = ["a", "b", "d", "b2", "c", "residual", "bias", "scale"];

/// Invocations of a workgroup of the second step of a product whose k is split.
pub(super) const SPLIT_WG: u32 = LEAST_INVOCATIONS;

/// What follows from the Problem, the device and the buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Form {
    /// a and b are read by this many elements: 4 or 1.
    pub vec: u32,
    a: Storage,
    b: Storage,
    /// b is packed weights.
    pub packed: Option<Coded>,
    /// a is tokens of int8.
    pub tokens: bool,
    /// Matter to loads by fours only: single ones go by strides.
    trans_a: bool,
    trans_b: bool,
    pub gated: bool,
    /// `Vector`: the columns of d are few, not the rows.
    few_columns: bool,
    /// `Vector`: the weights are stored along k.
    along_k: bool,
    /// `Coop`: a and b are read by eights.
    whole: bool,
    /// The same, and the last tile lacks some of its k.
    tail: bool,
    /// `Coop`: matrices that lie wholly in d, or in its sums in scratch, are stored as they are.
    straight: bool,
    /// What happens to the sums; without it they go to scratch.
    pub finish: Option<Finish>,
    role: Role,
}

/// What op a product is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Role {
    /// Its own.
    #[default]
    Product,
    /// Rows of a are those of groups, each with a b of its own: tiles of rows are found in a table.
    Grouped,
    /// k are rows that are sorted by group, and each group has a d of its own: ranges of k are found in a table.
    ByGroup,
    /// A product of low rank is added, before the activation.
    LowRank(LowRank),
}

/// How the right factor of a product of low rank is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LowRank {
    /// By fours of elements of 16 bits, of 32 bits, or word by word.
    pub load: LowRankLoad,
    /// It is stored [n, r], not [r, n].
    pub along_rank: bool,
}

/// See [`LowRank::load`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum LowRankLoad {
    Halves,
    Floats,
    Words,
}

impl Role {
    /// The files that tell what a workgroup has: where rows end, and which tile.
    fn place(self) -> &'static str {
        if self == Role::Grouped { "grouped_gemm_place" } else { "gemm_place" }
    }

    fn tile(self) -> &'static str {
        match self {
            Role::Grouped => "grouped_gemm_tile",
            Role::ByGroup => "grouped_gemm_backward_tile",
            _ => "gemm_tile",
        }
    }
}

/// The epilogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Finish {
    gated: bool,
    /// Some of c, residual, bias and scale are there.
    extras: bool,
    d: Storage,
    store: Store,
    role: Role,
}

/// How d is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Store {
    /// By fours.
    Four,
    /// One by one.
    One,
    /// Packed, where rows may share words: by atomics.
    Halves,
}

/// The pipelines of a Config, in the order in which they run: the second joins the parts of k. It does not depend on how
/// the sums came about, nor the first on what is done with them.
pub(super) fn passes(
    problem: &Problem,
    views: &Views,
    config: &Config,
    writable: Slots,
) -> (Pass<Config, Form>, Option<Pass<(), Finish>>) {
    passes_of(problem, views, config, writable, Role::Product)
}

/// The same of another op.
pub(super) fn passes_of(
    problem: &Problem,
    views: &Views,
    config: &Config,
    writable: Slots,
    role: Role,
) -> (Pass<Config, Form>, Option<Pass<(), Finish>>) {
    let held = |dtype| Storage::held(dtype, config.native_f16);
    let by_fours = views.by_fours;
    let few_columns = config.few_columns(problem);
    let gated = problem.products() > 1;
    let d = held(views.d.dtype);
    let coop = config.algorithm == Algorithm::Coop;
    let split = config.parts > 1;
    let straight = coop
        && match split {
            true => problem.has_whole_sums(views, config),
            false => {
                let as_it_is = problem.is_plain(views) && !matches!(role, Role::LowRank(_));
                as_it_is && views.d.view.multiple_of(4)
            }
        };
    let store = match d {
        _ if straight && !split => Store::One,
        _ if by_fours && !few_columns && views.d.view.multiple_of(4) => Store::Four,
        storage if storage.packed() => Store::Halves,
        _ => Store::One,
    };
    let finish = Finish { gated, extras: views.has_extras(), d, store, role };
    let whole = coop && views.by_eights && views.packed.is_none();
    let form = Form {
        vec: if by_fours { 4 } else { 1 },
        whole,
        tail: whole && (role == Role::ByGroup || !problem.k.is_multiple_of(config.tile[2].max(1) as usize)),
        straight,
        a: held(views.a.dtype),
        b: held(views.b.dtype),
        packed: views.packed,
        tokens: false,
        trans_a: (by_fours || whole) && views.trans_a,
        trans_b: (by_fours || whole) && views.trans_b,
        gated,
        few_columns,
        along_k: config.algorithm == Algorithm::Vector && views.weights_along_k(few_columns),
        finish: (!split).then_some(finish),
        role,
    };
    let stem = match config.algorithm {
        Algorithm::Direct => "gemm_direct",
        Algorithm::Tiled => "gemm_tiled",
        Algorithm::Vector => "gemm_vector",
        Algorithm::Coop => "gemm_coop",
    };
    // How many parts there are is a parameter.
    let first = Pass { stem, config: Config { parts: 1, ..*config }, form, writable };
    let second = Pass { stem: "gemm_split_k", config: (), form: finish, writable };
    (first, split.then_some(second))
}

impl Problem {
    /// Nothing is done to the products, and d holds them as they are.
    fn is_plain(&self, views: &Views) -> bool {
        let Epilogue { activation, gate, .. } = self.epilogue;
        let as_it_is = self.alpha == 1.0 && activation == Activation::None && gate.is_none();
        as_it_is && !views.has_extras() && views.d.dtype == Dtype::F32
    }

    /// Rows of scratch have no more than n sums, and all of them can be counted.
    fn has_whole_sums(&self, views: &Views, config: &Config) -> bool {
        let bytes = self.scratch(views, config);
        self.epilogue.gate.is_none() && self.n.is_multiple_of(4) && bytes <= u32::MAX.into()
    }
}

impl Views {
    /// Some of c, residual, bias and scale are there: the pipeline then declares all of them.
    pub(super) fn has_extras(&self) -> bool {
        [self.c, self.residual, self.bias, self.scale].iter().any(Option::is_some)
    }
}

/// What an argument of the epilogue is, as shaders call it; see [`KINDS`].
pub(super) fn kind(dtype: Option<Dtype>) -> u32 {
    dtype.map_or(0, |dtype| 1 + dtype as u32)
}

/// The kinds by their names in shaders.
const KINDS: [(&str, Option<Dtype>); 4] = [
    ("KIND_NONE", None),
    ("KIND_F32", Some(Dtype::F32)),
    ("KIND_F16", Some(Dtype::F16)),
    ("KIND_BF16", Some(Dtype::Bf16)),
];

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let wg_bytes = self.config.wg_bytes(if self.form.gated { 2 } else { 1 });
        self.form.of(&self.config, self.begin(self.config.wg_size(), wg_bytes, self.form.vec))
    }
}

impl Form {
    /// The shader of a Config, from its beginning on.
    pub fn of(self, config: &Config, shader: Shader) -> Shader {
        let Config { algorithm, tile: [tile_m, tile_n, tile_k], thread, lanes, stages, .. } = *config;
        let form = self;
        let [tile_m, tile_n] = if form.few_columns { [tile_n, tile_m] } else { [tile_m, tile_n] };
        let mut shader = shader
            .params::<Params>()
            .flag("GATED", form.gated)
            .flag("TRANS_A", form.trans_a)
            .flag("TRANS_B", form.trans_b)
            .constants([("TILE_M", tile_m), ("TILE_N", tile_n), ("TILE_K", tile_k)])
            .constants([("THREAD_M", thread[0]), ("THREAD_N", thread[1]), ("LANES", lanes), ("STAGES", stages)]);
        shader = if form.whole { form.by_eights(shader) } else { form.by_chunks(shader) };
        // Never written beside it, so that control flow by it is uniform to see.
        shader = match form.role {
            Role::Grouped => shader.buffer(SCRATCH, "row_tiles", "vec4<u32>", false),
            Role::ByGroup => shader.buffer(SCRATCH, "row_ranges", "vec4<u32>", false),
            _ => shader,
        };
        shader = shader.import(form.role.place()).import(form.role.tile());
        shader = match algorithm {
            Algorithm::Direct => {
                let shader = if form.packed.is_none() { shader.import("gemm_block") } else { shader };
                let shader = shader.flag("RAGGED", form.role == Role::ByGroup);
                shader.import(if lanes > 1 { "gemm_direct_shuffle" } else { "gemm_direct_alone" })
            }
            Algorithm::Tiled => shader,
            Algorithm::Vector if form.packed.is_some() => shader,
            Algorithm::Vector => shader.flag("ALONG_K", form.along_k).import(if form.few_columns {
                "gemm_vector_columns"
            } else {
                "gemm_vector_rows"
            }),
            Algorithm::Coop => {
                let matrix = |scalar: &str, role: &str| format!("coop_mat{stages}x{stages}<{scalar}, {role}>");
                shader
                    .constant("SIZE", stages)
                    .alias("LEFT", &matrix("f16", "A"))
                    .alias("RIGHT", &matrix("f16", "B"))
                    .alias("PRODUCT", &matrix("f32", "C"))
                    .flag("STRAIGHT", form.straight)
                    .flag("TAIL", form.tail)
                    .import(if form.whole { "gemm_coop_whole" } else { "gemm_coop_guarded" })
                    .import_if(form.straight, form.store_straight())
            }
        };
        match form.finish {
            Some(finish) => finish.to(shader),
            None if form.straight => shader.writes(SCRATCH, "scratch", "f32"),
            None => shader.writes(SCRATCH, "scratch", "vec4<f32>").import("gemm_partial"),
        }
    }

    /// The file that stores matrices as they are.
    fn store_straight(self) -> &'static str {
        if self.straight && self.finish.is_none() { "gemm_partial_matrices" } else { "gemm_store_straight" }
    }

    /// a, b and b2, and their loads by 4 elements or 1.
    fn by_chunks(self, mut shader: Shader) -> Shader {
        let fours = self.vec == 4;
        if let Some(packed) = self.packed.filter(|_| self.tokens) {
            let shader = packed.declare(shader.reads(A, "tokens", "u32"), B, B2);
            return shader.import("gemm_packed").import(packed.dots());
        }
        shader = shader.input(A, "a", self.a).import(if fours { "gemm_load4" } else { "gemm_load1" });
        if let Some(packed) = self.packed {
            return packed.declare(shader, B, B2).import("gemm_packed");
        }
        shader = shader.input(B, "b", self.b).import(if fours { "gemm_right4" } else { "gemm_right1" });
        if self.gated {
            shader = shader.input(B2, "b2", self.b);
        }
        shader.import_if(self.gated, if fours { "gemm_gate4" } else { "gemm_gate1" })
    }

    /// The same by eights.
    fn by_eights(self, shader: Shader) -> Shader {
        let shader = shader.eights(A, "a", self.a).eights(B, "b", self.b);
        if self.gated { shader.eights(B2, "b2", self.b) } else { shader.no_eights("b2") }
    }
}

impl Pipeline for Pass<(), Finish> {
    fn shader(&self) -> Shader {
        let vec = if self.form.store == Store::Four { 4 } else { 1 };
        let shader = self.begin(SPLIT_WG, 0, vec).params::<Params>().flag("GATED", self.form.gated);
        self.form.to(shader.writes(SCRATCH, "scratch", "vec4<f32>"))
    }
}

impl Finish {
    /// Adds the epilogue.
    fn to(self, shader: Shader) -> Shader {
        let Finish { gated, extras, d, store, role } = self;
        let mut shader = match store {
            Store::Four => shader.output(D, "d", d, false).import("gemm_store_four"),
            Store::One => {
                let element = if d == Storage::F16 { "f16" } else { "f32" };
                shader.alias("D", element).writes(D, "d", element).import("gemm_store_one")
            }
            Store::Halves => shader
                .flag("D_BF16", d == Storage::Bf16Packed)
                .writes(D, "d", "atomic<u32>")
                .import("gemm_store_halves"),
        };
        let low_rank = match role {
            Role::LowRank(low_rank) => Some(low_rank),
            _ => None,
        };
        if let Some(LowRank { load, along_rank }) = low_rank {
            let (element, file) = match load {
                LowRankLoad::Halves => ("vec2<u32>", "lora_right_halves"),
                LowRankLoad::Floats => ("vec4<f32>", "lora_right_floats"),
                LowRankLoad::Words => ("u32", "lora_right_words"),
            };
            shader = shader.flag("ALONG_RANK", along_rank).reads(C, "right", element).import(file);
            shader = shader.reads(SCALE, "lora_t", "vec4<u32>");
            shader = shader.reads(RESIDUAL, "residual", "u32").reads(BIAS, "bias", "u32");
        } else if role == Role::ByGroup {
            // What is added lies in d.
        } else if role == Role::Grouped {
            if extras {
                shader = shader.reads(C, "c", "u32").import("gemm_c");
            }
        } else if extras {
            // A gated product has no c.
            if !gated {
                shader = shader.reads(C, "c", "u32");
            }
            shader = shader.import_if(!gated, "gemm_c");
            shader = shader.reads(RESIDUAL, "residual", "u32").reads(BIAS, "bias", "u32").reads(SCALE, "scale", "u32");
        }
        let activation = |shader: Shader, &one: &Activation| {
            shader.constant(&format!("ACTIVATION_{}", one.name().to_uppercase()), one as u32)
        };
        Activation::ALL
            .iter()
            .fold(shader, activation)
            .constants(KINDS.map(|(name, dtype)| (name, kind(dtype))))
            .import(match low_rank {
                Some(_) => "lora_extras",
                None if extras && role == Role::Grouped => "grouped_gemm_extras",
                None if extras && role == Role::ByGroup => {
                    if store == Store::Four {
                        "grouped_gemm_backward_add4"
                    } else {
                        "grouped_gemm_backward_add1"
                    }
                }
                None if extras => "gemm_extras",
                None => "gemm_plain",
            })
            .import(role.place())
            .import("gemm_epilogue")
    }
}
