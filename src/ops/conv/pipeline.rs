//! What names a pipeline, and the shader that it gives.

use super::gather::{Gather, Packing, Params};
use super::{Activation, Algorithm, Border, Config, Order};
use crate::Dtype;
use crate::caps::LEAST_INVOCATIONS;
use crate::compose::{Shader, Slots, Storage, slots};
use crate::kernels::{Pass, Pipeline};
use crate::layout::product;
use crate::weights::{ANY_BYTES, any};

slots!(pub(super) X, WEIGHT, Y, BIAS, RESIDUAL, SCRATCH, PHASES, ALPHA, SCALES);

/// Invocations of a workgroup of the first step.
pub(super) const PACK_WG: u32 = LEAST_INVOCATIONS;

/// The row of a k in the table that only pads: no place that a window has.
const NO_TAP: u32 = 1 << 31;

/// What follows from the Problem, the device and the buffers, for the first step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PackForm {
    /// Of weights that are not packed.
    weight: Option<Storage>,
    bias: Option<Storage>,
    snake: bool,
    phases: bool,
    /// Weights are packed for matrices that take eight k of a column at a time.
    eights: bool,
}

/// The same for the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Form {
    /// x is read by this many channels: 4 or 1.
    vec: u32,
    /// A group has a multiple of four channels.
    fours: bool,
    /// `Coop`: x is read by eight channels, and weights are packed so.
    eights: bool,
    /// `Coop` by eights: a step of k has one tap.
    one_tap: bool,
    /// Besides, signed numbers tell where windows begin, and they are not mapped.
    in_eights: bool,
    /// Places are mapped into x: enlarged, mirrored or repeated.
    mapped: bool,
    channels_last: bool,
    strips: Option<Strips>,
    residual: bool,
    /// In place of an activation.
    snake: bool,
    phases: bool,
    x: Storage,
    y: Storage,
    store: Store,
    /// y is added to.
    add: bool,
}

/// What `Strips` has as constants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Strips {
    /// Height and width.
    kernel: [u32; 2],
    stride: [u32; 2],
    lines: u32,
    /// How x is read.
    reads: Reads,
    /// Where that is by fours of a row: of a block's first place in its four.
    shift: u32,
}

/// How `Strips` reads x.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Reads {
    /// One by one.
    #[default]
    One,
    /// By fours of a row.
    Row,
    /// By fours of channels, which are last.
    Channels,
}

impl Strips {
    /// Those of a Config, where the algorithm takes the problem.
    pub fn of(problem: &Gather, config: &Config) -> Option<Strips> {
        let [kernel, stride] = problem.strips()?;
        let channels_last = problem.order == Order::Nhwc;
        let reads = match config.thread[1] {
            4 => Reads::Channels,
            _ if !channels_last && problem.x.0.multiple_of(4) => Reads::Row,
            _ => Reads::One,
        };
        Some(Strips {
            kernel: kernel.map(|n| n as u32),
            stride: stride.map(|n| n as u32),
            lines: config.thread[0] / config.tile[2].max(1),
            reads,
            shift: if reads == Reads::Row { (problem.before[1] as u32).wrapping_neg() % 4 } else { 0 },
        })
    }

    /// The same with loads of one element.
    pub fn one_by_one(self) -> Strips {
        Strips { reads: Reads::One, shift: 0, ..self }
    }

    /// Of x, elements of a load.
    pub fn vec(self) -> u32 {
        if self.reads == Reads::One { 1 } else { 4 }
    }

    /// A place is four channels.
    pub fn channels(self) -> bool {
        self.reads == Reads::Channels
    }

    /// With the constants and the loads of x.
    pub fn shader(self, shader: Shader) -> Shader {
        let Strips { kernel: [height, width], stride: [down, across], lines, shift, reads } = self;
        shader
            .constants([("LINES", lines), ("SHIFT", shift), ("KERNEL_H", height), ("KERNEL_W", width)])
            .constants([("STRIDE_H", down), ("STRIDE_W", across)])
            .import(match reads {
                Reads::One => "conv_strips_first",
                Reads::Row => "conv_strips_fours",
                Reads::Channels => "conv_strips_last",
            })
    }
}

/// How y is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Store {
    /// By fours.
    Four,
    /// One by one.
    One,
    /// Packed, where neighbours may share words: by atomics.
    Halves,
    /// The same in turns, in each of which an invocation has a word for itself.
    Turns,
}

/// The pipelines of a Config, in the order in which they run.
pub(super) fn passes(problem: &Gather, config: &Config, writable: Slots) -> (Pass<(), PackForm>, Pass<Config, Form>) {
    let held = |dtype| Storage::held(dtype, config.native_f16);
    let bias = problem.bias.map(|(_, dtype)| held(dtype));
    let (snake, phases) = (problem.snake.is_some(), problem.phases.is_some());
    let Packing { cols, eights, .. } = problem.packing(config.algorithm);
    let weight = problem.format.is_none().then(|| held(problem.weight.1));
    let form = PackForm { weight, bias, snake, phases, eights };
    let pack = Pass { stem: "conv_pack", config: (), form, writable };
    let channels_last = problem.order == Order::Nhwc;
    let depthwise = matches!(config.algorithm, Algorithm::Depthwise | Algorithm::Strips);
    // Four pixels follow each other in y, or four channels.
    let whole = match channels_last {
        true => cols.is_multiple_of(4),
        false => problem.phases.as_ref().is_none_or(|phases| phases.step[1] == 1 && phases.columns == 1),
    };
    // Neighbours of a line are of other phases.
    let apart = problem.phases.as_ref().is_some_and(|phases| !phases.turns.is_empty());
    let turns = !channels_last && apart && problem.y.0.multiple_of(2);
    let fours = problem.by_fours();
    let side_by_side = if depthwise { problem.group_outputs == 1 } else { fours };
    let y = held(problem.y.1);
    let strips = Strips::of(problem, config).filter(|_| config.algorithm == Algorithm::Strips);
    let fours_of_x = side_by_side && channels_last && problem.x.0.multiple_of(4);
    let one_tap = eights && problem.group_channels.is_multiple_of(config.tile[2].max(1) as usize);
    let [_, _, height, width] = problem.strides(&problem.x.0);
    let outside = product!(problem.before[0], height).saturating_add(product!(problem.before[1], width));
    let signed = outside.max(problem.x.0.end) <= 1 << 31;
    let form = Form {
        vec: strips.map_or(if fours_of_x { 4 } else { 1 }, Strips::vec),
        fours,
        eights,
        one_tap,
        in_eights: one_tap && !problem.mapped() && signed,
        mapped: problem.mapped(),
        channels_last,
        strips,
        residual: problem.residual.is_some(),
        snake,
        phases,
        x: held(problem.x.1),
        y,
        store: match y {
            _ if whole && problem.y.0.multiple_of(4) => Store::Four,
            storage if storage.packed() && turns => Store::Turns,
            storage if storage.packed() => Store::Halves,
            _ => Store::One,
        },
        add: problem.add,
    };
    let stem = match config.algorithm {
        Algorithm::Direct => "conv_direct",
        Algorithm::Tiled => "conv_tiled",
        Algorithm::Depthwise => "conv_depthwise",
        Algorithm::Strips => "conv_strips",
        Algorithm::Coop => "conv_coop",
    };
    (pack, Pass { stem, config: *config, form, writable })
}

/// With the constants of `conv_window.wgsl`, but `MAPPED`.
pub(super) fn window(shader: Shader) -> Shader {
    let borders = Border::ALL
        .iter()
        .fold(shader, |shader, one| shader.constant(&format!("BORDER_{}", one.name().to_uppercase()), *one as u32));
    borders.constant("NO_TAP", NO_TAP).import("conv_window")
}

/// What the residual is, as shaders call it; see [`KINDS`].
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

impl Pipeline for Pass<(), PackForm> {
    fn shader(&self) -> Shader {
        let PackForm { weight, bias, snake, phases, eights } = self.form;
        let bytes = if weight.is_some() { 0 } else { ANY_BYTES };
        let shader = self.begin(PACK_WG, bytes, 1).params::<Params>().constant("NO_TAP", NO_TAP);
        let shader = shader.flag("EIGHTS", eights);
        let mut shader = match weight {
            Some(weight) => shader.input(WEIGHT, "weight", weight).import("conv_weights"),
            None => any(shader, WEIGHT, SCALES).import("conv_weights_packed"),
        };
        if let Some(bias) = bias {
            shader = shader.input(BIAS, "bias", bias);
        }
        if phases {
            shader = shader.reads(PHASES, "phases", "vec4<u32>").bounded_by(PHASES, "phases");
        }
        if snake {
            shader = shader.reads(ALPHA, "alpha", "f32");
        }
        let shader = shader.import_if(bias.is_some(), "conv_bias").import_if(snake, "conv_alpha").writes(
            SCRATCH,
            "scratch",
            "vec4<u32>",
        );
        shader.import(if phases { "conv_transpose_taps" } else { "conv_pack_taps" })
    }
}

impl Pipeline for Pass<Config, Form> {
    fn shader(&self) -> Shader {
        let Config { algorithm, tile: [tile_m, tile_n, tile_k], thread, lanes, .. } = self.config;
        let Form {
            vec,
            fours,
            eights,
            one_tap,
            in_eights,
            mapped,
            channels_last,
            strips,
            residual,
            snake,
            phases,
            x,
            add,
            ..
        } = self.form;
        let mut shader = self
            .begin(self.config.wg_size(), self.config.wg_bytes(), vec)
            .params::<Params>()
            .flag("FOURS", fours)
            .flag("MAPPED", mapped)
            .flag("CHANNELS_LAST", channels_last)
            .flag("RESIDUAL", residual)
            .flag("ADD", add)
            .constants([("TILE_M", tile_m), ("TILE_N", tile_n), ("TILE_K", tile_k)])
            .constants([("THREAD_M", thread[0]), ("THREAD_N", thread[1]), ("LANES", lanes)])
            .constants(KINDS.map(|(name, dtype)| (name, kind(dtype))))
            .reads(SCRATCH, "scratch", "vec4<u32>");
        shader = if eights { shader.words(X, "x", true, false) } else { shader.input(X, "x", x) };
        if residual {
            shader = shader.reads(RESIDUAL, "residual", "u32");
        }
        shader = shader.import_if(residual, "conv_residual");
        if phases {
            shader = shader.reads(PHASES, "phases", "vec4<u32>").bounded_by(PHASES, "phases");
        }
        shader = match snake {
            true => shader.import("conv_snake"),
            false => Activation::constants(shader).import("conv_activate"),
        };
        shader = self.form.store(shader);
        let load = match (algorithm == Algorithm::Depthwise, vec) {
            _ if eights => "conv_coop_eights",
            _ if strips.is_some() && channels_last => "conv_strips_four",
            _ if strips.is_some() => "conv_strips_one",
            (true, 4) => "conv_channels4",
            (true, _) => "conv_channels1",
            (false, 4) => "conv_load4",
            (false, _) => "conv_load1",
        };
        let phase = if phases { "conv_transpose_phase" } else { "conv_phase_one" };
        let shader = window(shader).import("conv_place").import(phase).import("conv_finish").import(load);
        match algorithm {
            Algorithm::Direct if lanes > 1 => shader.import("conv_direct_shuffle"),
            Algorithm::Direct => shader.import("conv_direct_alone"),
            Algorithm::Tiled | Algorithm::Depthwise => shader,
            // The check refuses what has none.
            Algorithm::Strips => strips.unwrap_or_default().shader(shader),
            Algorithm::Coop => {
                let size = self.config.size();
                let shader = if eights {
                    shader.flag("ONE_TAP", one_tap).flag("IN_EIGHTS", in_eights)
                } else {
                    shader.import("conv_coop_fours")
                };
                let matrix = |scalar: &str, role: &str| format!("coop_mat{size}x{size}<{scalar}, {role}>");
                shader
                    .constant("SIZE", size)
                    .constant("RUN", if eights { 8 } else { 4 })
                    .alias("LEFT", &matrix("f16", "A"))
                    .alias("RIGHT", &matrix("f16", "B"))
                    .alias("PRODUCT", &matrix("f32", "C"))
            }
        }
    }
}

impl Form {
    /// Whether the phases take turns.
    pub fn takes_turns(self) -> bool {
        self.store == Store::Turns
    }

    /// y, and how it is written.
    fn store(self, shader: Shader) -> Shader {
        let bf16 = self.y == Storage::Bf16Packed;
        let scalar = if self.y == Storage::F16 { "f16" } else { "f32" };
        match self.store {
            Store::Four if self.y.packed() => {
                shader.flag("Y_BF16", bf16).writes(Y, "y", "vec2<u32>").import("conv_store_words")
            }
            Store::Four => {
                let element = format!("vec4<{scalar}>");
                shader.alias("Y", &element).writes(Y, "y", &element).import("conv_store_four")
            }
            Store::One => shader.alias("Y", scalar).writes(Y, "y", scalar).import("conv_store_one"),
            Store::Turns => shader.flag("Y_BF16", bf16).writes(Y, "y", "u32").import("conv_transpose_turns"),
            Store::Halves => shader.flag("Y_BF16", bf16).writes(Y, "y", "atomic<u32>").import("conv_store_halves"),
        }
    }
}
