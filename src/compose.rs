//! From a Config to one WGSL source: generated constants, aliases, bindings and accessors, then the
//! file of the kernel with its `#import` lines replaced by the files of those names.
//!
//! A shader file never sees how a tensor is stored. For a tensor `x` the composer writes
//! `x_load(i) -> f32` (element `i`), `x_chunk(base, c, phase, cols) -> V` (the chunk `c` of the row
//! that starts at element `base`) and, for outputs, `x_store(base, c, phase, cols, v)`. A chunk is
//! 4 elements where every row is aligned to that, 2 where an output packs two 16-bit values into one
//! word, 1 otherwise; `V` is the matching vector of f32. `phase` is 1 where a row of a packed output
//! starts in the upper half of a word, so that chunks follow words, not elements.

use std::collections::HashMap;
use std::fmt::{Display, Write};
use std::sync::LazyLock;

use include_dir::{Dir, include_dir};

use crate::Dtype;

/// Every shader file, by its path below `shaders/`.
static SHADERS: Dir = include_dir!("$CARGO_MANIFEST_DIR/shaders");

/// The uniform buffer's binding where the device has no immediates.
pub const PARAMS_BINDING: u32 = 15;

/// Bytes of parameters that travel as immediates at most, whatever more the device offers; a Dispatch holds them in
/// place.
pub const MAX_IMMEDIATES: usize = 128;

/// How a tensor of some [`Dtype`] is declared in a shader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Storage {
    /// `f32`.
    F32,
    /// `f16`, which needs `SHADER_F16`.
    F16,
    /// Two binary16 in a u32.
    F16Packed,
    /// Two bfloat16 in a u32.
    Bf16Packed,
    /// Two halves of a u32 that are only moved: in the shader their bits as a number, which no conversion changes.
    Halves,
    /// Four int8 in a u32; inputs only.
    Int8,
    /// Four e4m3fn in a u32; inputs only.
    E4m3,
}

impl Storage {
    /// How `dtype` is held, f16 natively or packed.
    pub fn held(dtype: Dtype, native_f16: bool) -> Storage {
        match dtype {
            Dtype::F32 => Storage::F32,
            Dtype::F16 if native_f16 => Storage::F16,
            Dtype::F16 => Storage::F16Packed,
            Dtype::Bf16 => Storage::Bf16Packed,
        }
    }

    /// The function of `pack.wgsl` that packs two elements.
    fn pack(self) -> &'static str {
        match self {
            Storage::F16Packed => "pack_f16",
            Storage::Halves => "pack_halves",
            _ => "pack_bf16",
        }
    }

    /// Whether two elements share a word that a shader can only address whole.
    pub fn packed(self) -> bool {
        matches!(self, Storage::F16Packed | Storage::Bf16Packed | Storage::Halves)
    }
}

/// A set of binding slots.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Slots(u32);

impl Slots {
    /// No slot.
    pub const NONE: Slots = Slots(0);
    /// Every slot.
    pub const ALL: Slots = Slots(u32::MAX);

    /// These, and `slot`.
    #[must_use]
    pub const fn with(self, slot: u32) -> Slots {
        Slots(self.0 | 1 << slot)
    }

    /// Whether `slot` is one of them.
    pub const fn has(self, slot: u32) -> bool {
        self.0 & 1 << slot != 0
    }
}

impl std::fmt::Debug for Slots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries((0..32).filter(|&slot| self.has(slot))).finish()
    }
}

/// Declares the binding slots of an op's arguments, from 0 on.
macro_rules! slots {
    (@ $vis:vis, $slot:expr; $name:ident $($rest:ident)*) => {
        $vis const $name: u32 = $slot;
        slots!(@ $vis, $slot + 1; $($rest)*);
    };
    (@ $vis:vis, $slot:expr;) => {};
    ($vis:vis $($name:ident),* $(,)?) => {
        slots!(@ $vis, 0; $($name)*);
    };
}

pub(crate) use slots;

/// A view as a shader reads it, WGSL `vec4<u32>`: the first element, and three outer strides.
pub type Strides = [u32; 4];

/// The parameters of one run as the shader reads them; made by [`params!`](crate::params).
pub trait Params: bytemuck::Pod {
    /// The WGSL struct.
    const WGSL: &'static str;
    /// Field names with their byte offsets in Rust.
    const FIELDS: &'static [(&'static str, usize)];
    /// Bytes of the WGSL struct: those of the Rust struct, where it has `Strides` rounded up to 16.
    const BYTES: usize;
}

/// The WGSL name of a type of parameter.
#[doc(hidden)]
#[macro_export]
macro_rules! wgsl_type {
    (u32) => {
        "u32"
    };
    (i32) => {
        "i32"
    };
    (f32) => {
        "f32"
    };
    (Strides) => {
        "vec4<u32>"
    };
}

/// Declares a `Params` struct once, for Rust and for WGSL. Fields are [`Strides`], which come first, `u32`, `i32` or
/// `f32`. With `fn of(arguments)` each field has its value beside it, and `of` makes Params of these arguments.
#[doc(hidden)]
#[macro_export]
macro_rules! params {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* $field:ident: $ty:tt,)* }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
        pub struct $name { $($(#[$field_meta])* pub(crate) $field: $ty,)* }

        impl $crate::compose::Params for $name {
            const WGSL: &'static str = concat!(
                "struct Params {\n", $("  ", stringify!($field), ": ", $crate::wgsl_type!($ty), ",\n",)* "}\n"
            );
            const FIELDS: &'static [(&'static str, usize)] =
                &[$((stringify!($field), std::mem::offset_of!($name, $field)),)*];
            const BYTES: usize = {
                let has_strides = false $(|| size_of::<$ty>() == 16)*;
                let bytes = size_of::<$name>();
                if has_strides { bytes.next_multiple_of(16) } else { bytes }
            };
        }
    };
    (
        $(#[$meta:meta])* pub struct $name:ident;
        fn of($($arg:ident: $arg_ty:ty),*) { $($field:ident: $ty:tt = $value:expr,)* }
    ) => {
        $crate::params! { $(#[$meta])* pub struct $name { $($field: $ty,)* } }

        impl $name {
            fn of($($arg: $arg_ty),*) -> $name {
                $name { $($field: $value,)* }
            }
        }
    };
}

/// A storage buffer that the shader declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Declared {
    /// The binding's slot.
    pub binding: u32,
    /// The variable's name.
    pub name: &'static str,
    /// Declared read_write.
    pub writable: bool,
    /// Bytes that a binding must have: one element, in whole words.
    pub least_bytes: u64,
}

/// Bytes of an element: a scalar of WGSL, a `vec2`, `vec4` or `mat2x4` of one, or an atomic.
fn element_bytes(element: &str) -> u64 {
    let (count, scalar) = match element.split_once('<') {
        Some(("vec2", scalar)) => (2, scalar),
        Some(("vec4", scalar)) => (4, scalar),
        Some(("mat2x4", scalar)) => (8, scalar),
        Some((_, scalar)) => (1, scalar),
        None => (1, element),
    };
    match scalar.trim_end_matches('>') {
        "f16" => 2 * count,
        _ => 4 * count,
    }
}

/// The parts of [`Params`] that a shader keeps.
#[derive(Debug, Clone, Copy)]
struct ParamsOf {
    wgsl: &'static str,
    fields: &'static [(&'static str, usize)],
    bytes: u32,
}

/// One pipeline's shader: the file, and all that its Config generates.
#[derive(Debug, Clone)]
pub struct Shader {
    stem: &'static str,
    enable_f16: bool,
    enable_coop: bool,
    vec: u32,
    header: String,
    imports: Vec<&'static str>,
    bindings: Vec<Declared>,
    params: Option<ParamsOf>,
    wg_size: u32,
    wg_bytes: u32,
    writable: Slots,
    bounding: Vec<(u32, &'static str)>,
}

/// How one tensor is bound and accessed.
#[derive(Debug, Clone, Copy)]
pub struct Tensor {
    /// The binding's slot.
    pub binding: u32,
    /// The variable's name.
    pub name: &'static str,
    /// How its elements are held.
    pub storage: Storage,
    /// Declared read_write: it is written, or it shares its buffer with something that is.
    pub writable: bool,
    /// Generate the store, too.
    pub output: bool,
    /// Rows of a packed output share words, which are then written by atomics, half by half.
    pub edge: bool,
}

impl Shader {
    /// The shader of the file `<stem>.wgsl`, whose entry point is `<stem>`, run by `wg_size`
    /// invocations that share `wg_bytes` bytes of workgroup memory, in chunks of `vec` elements.
    pub fn new(stem: &'static str, wg_size: u32, wg_bytes: u32, vec: u32) -> Shader {
        let mut shader = Shader {
            stem,
            enable_f16: false,
            enable_coop: false,
            vec,
            header: String::new(),
            imports: Vec::new(),
            bindings: Vec::new(),
            params: None,
            wg_size,
            wg_bytes,
            writable: Slots::NONE,
            bounding: Vec::new(),
        };
        shader = shader.constant("WG_SIZE", wg_size).constant("VEC", vec);
        shader.import(match vec {
            1 => "chunk1",
            2 => "chunk2",
            4 => "chunk4",
            _ => unreachable!("chunks have 1, 2 or 4 elements, not {vec}"),
        })
    }

    /// Inputs of these slots are declared read_write: they share their buffer with something that is written.
    pub fn writable(mut self, slots: Slots) -> Self {
        self.writable = slots;
        self
    }

    /// What lies in this binding, of this argument, bounds loops in which there may be barriers or subgroup operations.
    pub fn bounded_by(mut self, binding: u32, argument: &'static str) -> Self {
        self.bounding.push((binding, argument));
        self
    }

    /// The argument that bounds loops with barriers or subgroup operations in them, although its binding may be written: WGSL
    /// takes what is read of it for different in each invocation, and browsers refuse such a shader.
    pub fn not_uniform(&self) -> Option<&'static str> {
        let written = |(slot, _): &&(u32, _)| self.bindings.iter().any(|own| own.binding == *slot && own.writable);
        let (_, argument) = self.bounding.iter().find(written)?;
        let body = self.body(true);
        (body.contains("workgroupBarrier()") || uses_subgroups(&body)).then_some(argument)
    }

    /// An input tensor with its accessors.
    pub fn input(self, binding: u32, name: &'static str, storage: Storage) -> Self {
        let writable = self.writable.has(binding);
        self.tensor(Tensor { binding, name, storage, writable, output: false, edge: false })
    }

    /// An input of which single elements are read, whatever chunks there are: `x_load(i)`.
    pub fn scalars(mut self, binding: u32, name: &'static str, storage: Storage) -> Self {
        let (element, value) = match storage {
            Storage::F32 => ("f32", format!("{name}[i]")),
            Storage::F16 => ("f16", format!("f32({name}[i])")),
            Storage::F16Packed => ("u32", format!("unpack2x16float({name}[i >> 1u] >> (16u * (i & 1u))).x")),
            _ => ("u32", format!("unpack_bf16({name}[i >> 1u] >> (16u * (i & 1u))).x")),
        };
        self.enable_f16 |= storage == Storage::F16;
        if storage.packed() {
            self.imports.push("pack");
        }
        self = self.reads(binding, name, element);
        let _ = writeln!(self.header, "fn {name}_load(i: u32) -> f32 {{ return {value}; }}");
        self
    }

    /// An input that is read by eights: `x_eight(i)` is elements 8 i to 8 i + 7 in f16, however they are held.
    pub fn eights(mut self, binding: u32, name: &'static str, storage: Storage) -> Self {
        let unpack = if storage == Storage::F16Packed { "unpack2x16float" } else { "unpack_bf16" };
        let pairs = |x, y| format!("vec4<f32>({unpack}(x.{x}), {unpack}(x.{y}))");
        let halves = || ["x[0u]".to_string(), "x[1u]".to_string()];
        let (element, [low, high]) = match storage {
            Storage::F32 => ("mat2x4<f32>", halves()),
            Storage::F16 => ("mat2x4<f16>", halves()),
            _ => ("vec4<u32>", [pairs("x", "y"), pairs("z", "w")]),
        };
        self.enable_f16 = true;
        if storage.packed() {
            self.imports.push("pack");
        }
        self = self.reads(binding, name, element);
        let _ = writeln!(
            self.header,
            "fn {name}_eight(i: u32) -> mat2x4<f16> {{\n  let x = {name}[i];\n  \
             return mat2x4<f16>(vec4<f16>({low}), vec4<f16>({high}));\n}}"
        );
        self
    }

    /// An input of 16-bit elements that is read by eights, as words: `x_words(row, c, len)` is chunk `c` of a row of `len`
    /// elements; zeros past its end, where it is `padded`. `row` is its first element, or where rows are whole eights and `aligned`
    /// to these, its first eight.
    pub fn words(mut self, binding: u32, name: &'static str, aligned: bool, padded: bool) -> Self {
        self = self.reads(binding, name, if aligned { "vec4<u32>" } else { "u32" });
        let body = match aligned {
            true => format!("return {name}[row + c];"),
            false => format!(
                "let first = row + 8u * c;\n  let last = (row + len - 1u) >> 1u;\n  var w: array<u32, 5>;\n  \
                 for (var i = 0u; i < 5u; i++) {{ w[i] = {name}[min((first >> 1u) + i, last)]; }}\n  \
                 return eight_of(w, first & 1u, len - 8u * c);"
            ),
        };
        let past = if padded { "if 8u * c >= len { return vec4<u32>(0u); }\n  " } else { "" };
        if !aligned {
            self.imports.push("eight_of");
        }
        let _ =
            writeln!(self.header, "fn {name}_words(row: u32, c: u32, len: u32) -> vec4<u32> {{\n  {past}{body}\n}}");
        self
    }

    /// An output tensor with its accessors; `edge` where rows of a packed one share words.
    pub fn output(self, binding: u32, name: &'static str, storage: Storage, edge: bool) -> Self {
        self.tensor(Tensor { binding, name, storage, writable: true, output: true, edge })
    }

    /// An output whose words are not those of the chunks, which follow another output: in chunks of two, elements are
    /// stored one by one, and halves of a packed output by atomics.
    pub fn output_apart(mut self, binding: u32, name: &'static str, storage: Storage) -> Self {
        if self.vec != 2 {
            return self.output(binding, name, storage, false);
        }
        let edge = storage.packed();
        let t = Tensor { binding, name, storage, writable: true, output: false, edge };
        let put = match storage {
            Storage::F32 => format!("{name}[i] = v;"),
            Storage::F16 => format!("{name}[i] = f16(v);"),
            _ => format!(
                "let shift = 16u * (i & 1u);\n  atomicAnd(&{name}[i >> 1u], 0xffff0000u >> shift);\n  \
                 atomicOr(&{name}[i >> 1u], ({}(vec2<f32>(v, 0.0)) & 0xffffu) << shift);",
                storage.pack()
            ),
        };
        self = self.tensor(t);
        let _ = writeln!(
            self.header,
            "fn {name}_put(i: u32, v: f32) {{\n  {put}\n}}\n\
             fn {name}_store(base: u32, c: u32, phase: u32, cols: u32, v: V) {{\n  let i = base + 2u * c - phase;\n  \
             let live = chunk_live(c, phase, cols);\n  if live.x {{ {name}_put(i, v.x); }}\n  \
             if live.y {{ {name}_put(i + 1u, v.y); }}\n}}"
        );
        self
    }

    /// Integers in the chunks of the tensors, as [`lanes`](Self::lanes) of these: `name_chunk(base, c, phase, cols) -> U`, or, where it is
    /// an `output`, `name_store(base, c, phase, cols, v: U)`.
    pub fn integers(mut self, binding: u32, name: &'static str, output: bool) -> Self {
        let element = if self.vec == 4 { "vec4<u32>" } else { "u32" };
        self = if output { self.writes(binding, name, element) } else { self.reads(binding, name, element) };
        let body = match (self.vec, output) {
            (4, true) => format!("{name}[(base >> 2u) + c] = v;"),
            (4, false) => format!("return {name}[(base >> 2u) + c];"),
            (2, true) => format!(
                "let i = base + 2u * c - phase;\n  let live = chunk_live(c, phase, cols);\n  \
                 if live.x {{ {name}[i] = v.x; }}\n  if live.y {{ {name}[i + 1u] = v.y; }}"
            ),
            (2, false) => format!(
                "let j = vec2<u32>(clamp(chunk_cols(c, phase), vec2<i32>(0), vec2<i32>(i32(cols) - 1)));\n  \
                 return U({name}[base + j.x], {name}[base + j.y]);"
            ),
            (_, true) => format!("{name}[base + c] = v;"),
            (_, false) => format!("return {name}[base + c];"),
        };
        let (function, value, result) = if output { ("store", ", v: U", "") } else { ("chunk", "", " -> U") };
        let _ = writeln!(
            self.header,
            "fn {name}_{function}(base: u32, c: u32, phase: u32, cols: u32{value}){result} {{\n  {body}\n}}"
        );
        self
    }

    /// An output of [`integers`](Self::integers) that the Problem lacks.
    pub fn no_integers(mut self, name: &str) -> Self {
        let _ = writeln!(self.header, "fn {name}_store(base: u32, c: u32, phase: u32, cols: u32, v: U) {{}}");
        self
    }

    /// An input that the Problem lacks: `value` everywhere.
    pub fn no_input(mut self, name: &str, value: &str) -> Self {
        let _ = writeln!(
            self.header,
            "fn {name}_chunk(base: u32, c: u32, phase: u32, cols: u32) -> V {{ return V({value}); }}"
        );
        if self.vec != 4 {
            let _ = writeln!(self.header, "fn {name}_load(i: u32) -> f32 {{ return {value}; }}");
        }
        self
    }

    /// An input by [`scalars`](Self::scalars) that the Problem lacks: zeros.
    pub fn no_scalars(mut self, name: &str) -> Self {
        let _ = writeln!(self.header, "fn {name}_load(i: u32) -> f32 {{ return 0.0; }}");
        self
    }

    /// An input by [`eights`](Self::eights) that the Problem lacks: zeros.
    pub fn no_eights(mut self, name: &str) -> Self {
        let _ = writeln!(self.header, "fn {name}_eight(i: u32) -> mat2x4<f16> {{ return mat2x4<f16>(); }}");
        self
    }

    /// An output that the Problem lacks, or the step.
    pub fn no_output(mut self, name: &str) -> Self {
        let _ = writeln!(self.header, "fn {name}_store(base: u32, c: u32, phase: u32, cols: u32, v: V) {{}}");
        self
    }

    /// Loads of `name` that read the binding of the output `of`: an op that works in place.
    pub fn in_place(self, name: &'static str, of: &'static str, storage: Storage, edge: bool) -> Self {
        self.accessors(name, Tensor { binding: 0, name: of, storage, writable: true, output: true, edge }, false)
    }

    /// A plain storage buffer of `element`s that is read.
    pub fn reads(self, binding: u32, name: &'static str, element: &str) -> Self {
        let writable = self.writable.has(binding);
        self.buffer(binding, name, element, writable)
    }

    /// A plain storage buffer of `element`s that is written.
    pub fn writes(self, binding: u32, name: &'static str, element: &str) -> Self {
        self.buffer(binding, name, element, true)
    }

    /// A small table of `element`s that the Problem may lack: `HAS_NAME`, and `name_load(i)`, which is 0 without it.
    pub fn table(self, binding: u32, name: &'static str, element: &str, given: bool) -> Self {
        let shader = self.flag(&format!("HAS_{}", name.to_uppercase()), given);
        let (mut shader, value) = match given {
            true => (shader.reads(binding, name, element), format!("{name}[i]")),
            false => (shader, format!("{element}(0)")),
        };
        let _ = writeln!(shader.header, "fn {name}_load(i: u32) -> {element} {{ return {value}; }}");
        shader
    }

    /// A `const NAME: u32` each.
    pub fn constants<'a>(self, all: impl IntoIterator<Item = (&'a str, u32)>) -> Self {
        all.into_iter().fold(self, |shader, (name, value)| shader.constant(name, value))
    }

    /// `const NAME: u32 = value;`
    pub fn constant(mut self, name: &str, value: u32) -> Self {
        let _ = writeln!(self.header, "const {name}: u32 = {value}u;");
        self
    }

    /// `const NAME: bool = value;`
    pub fn flag(mut self, name: &str, value: bool) -> Self {
        let _ = writeln!(self.header, "const {name}: bool = {value};");
        self
    }

    /// `const NAME = array<f32, N>(values);`
    pub fn floats(mut self, name: &str, values: &[f32]) -> Self {
        let list: Vec<String> = values.iter().map(|value| format!("{value:?}f")).collect();
        let _ = writeln!(self.header, "const {name} = array<f32, {}>({});", values.len(), list.join(", "));
        self
    }

    /// `alias NAME = ty;`
    pub fn alias(mut self, name: &str, ty: &str) -> Self {
        self.enable_f16 |= ty.contains("f16");
        self.enable_coop |= ty.contains("coop_mat");
        let _ = writeln!(self.header, "alias {name} = {ty};");
        self
    }

    /// A file, besides those that the kernel's own imports.
    pub fn import(mut self, name: &'static str) -> Self {
        self.imports.push(name);
        self
    }

    /// A file whose functions read or write what the Problem may lack: without it they do nothing, and return zeros. These are
    /// variables, since naga 30 defines `u32()` twice in HLSL where a name for u32 has a zero, too.
    pub fn import_if(mut self, given: bool, name: &'static str) -> Self {
        if given {
            return self.import(name);
        }
        for signature in file(name).lines().filter(|line| line.starts_with("fn ")) {
            let signature = signature.split('{').next().unwrap_or(signature).trim_end();
            let result =
                signature.split(" -> ").nth(1).map_or(String::new(), |ty| format!(" var zero: {ty}; return zero;"));
            let _ = writeln!(self.header, "{signature} {{{result} }}");
        }
        self
    }

    /// A plain storage buffer of `element`s that is written, where it is `given`, by the functions of a file.
    pub fn writes_if(self, given: bool, binding: u32, name: &'static str, element: &str, file: &'static str) -> Self {
        let shader = if given { self.writes(binding, name, element) } else { self };
        shader.import_if(given, file)
    }

    /// The parameters, as `params`.
    pub fn params<P: Params>(mut self) -> Self {
        self.params = Some(ParamsOf { wgsl: P::WGSL, fields: P::FIELDS, bytes: P::BYTES as u32 });
        self
    }

    /// A plain storage buffer of `element`s.
    pub fn buffer(mut self, binding: u32, name: &'static str, element: &str, writable: bool) -> Self {
        self.declare(binding, name, element, writable);
        self
    }

    /// A tensor with its accessors.
    pub fn tensor(mut self, t: Tensor) -> Self {
        let element = match (t.storage, self.vec) {
            (Storage::F32, 4) => "vec4<f32>",
            (Storage::F16, 4) => "vec4<f16>",
            (Storage::Int8 | Storage::E4m3, _) => "u32",
            (_, 4) => "vec2<u32>",
            (Storage::F32, _) => "f32",
            (Storage::F16, _) => "f16",
            _ if t.edge => "atomic<u32>",
            _ => "u32",
        };
        self.enable_f16 |= t.storage == Storage::F16;
        match t.storage {
            Storage::Int8 => self.imports.push("int8"),
            Storage::E4m3 => self.imports.push("e4m3"),
            storage if storage.packed() => self.imports.push("pack"),
            _ => {}
        }
        self.declare(t.binding, t.name, element, t.writable);
        self.accessors(t.name, t, t.output)
    }

    /// A chunk of any scalar function `f(i: u32) -> f32`, as `f_chunk(base, step, c, phase, cols)`;
    /// `step` is the distance of neighbours.
    pub fn gather(mut self, f: &str) -> Self {
        let body = match self.vec {
            4 => format!(
                "  let i = base + 4u * c * step;\n  return V({f}(i), {f}(i + step), {f}(i + 2u * step), {f}(i + 3u * step));"
            ),
            // A half that is not of this row is loaded from within the row, and ignored by the caller.
            2 => format!(
                "  let j = vec2<u32>(clamp(chunk_cols(c, phase), vec2<i32>(0), vec2<i32>(i32(cols) - 1)));\n  return V({f}(base + step * j.x), {f}(base + step * j.y));"
            ),
            _ => format!("  return {f}(base + step * c);"),
        };
        let _ = writeln!(
            self.header,
            "fn {f}_chunk(base: u32, step: u32, c: u32, phase: u32, cols: u32) -> V {{\n{body}\n}}"
        );
        self
    }

    /// `F`, `U`, `I`: vectors of `n` f32, u32, i32, or for 1 these scalars.
    pub fn lanes(self, n: u32) -> Self {
        self.alias("F", &lanes_of(n, "f32")).alias("U", &lanes_of(n, "u32")).alias("I", &lanes_of(n, "i32"))
    }

    /// A function `f(i: u32)` of each of the `n` [`lanes`](Self::lanes) of an index, as `f_each(i: U) -> ty`.
    pub fn each(mut self, f: &str, ty: &str, n: u32) -> Self {
        let lanes = if n == 1 { &["i"][..] } else { &["i.x", "i.y", "i.z", "i.w"][..n as usize] };
        let values: Vec<String> = lanes.iter().map(|lane| format!("{f}({lane})")).collect();
        let _ = writeln!(self.header, "fn {f}_each(i: U) -> {ty} {{ return {ty}({}); }}", values.join(", "));
        self
    }

    fn declare(&mut self, binding: u32, name: &'static str, element: &str, writable: bool) {
        let access = if writable { "read_write" } else { "read" };
        let _ = writeln!(self.header, "@group(0) @binding({binding}) var<storage, {access}> {name}: array<{element}>;");
        let least_bytes = element_bytes(element).next_multiple_of(4);
        self.bindings.push(Declared { binding, name, writable, least_bytes });
    }

    fn accessors(mut self, name: &str, t: Tensor, output: bool) -> Self {
        let memory = t.name;
        let unpack = match t.storage {
            Storage::F16Packed => "unpack2x16float",
            Storage::Halves => "unpack_halves",
            _ => "unpack_bf16",
        };
        let of_codes = match t.storage {
            Storage::Int8 => Some("int8"),
            Storage::E4m3 => Some("e4m3"),
            _ => None,
        };
        let pack = t.storage.pack();
        let word = |i: &str| {
            if t.edge { format!("atomicLoad(&{memory}[{i}])") } else { format!("{memory}[{i}]") }
        };
        let mut text = String::new();
        if self.vec == 4 {
            let load = match t.storage {
                Storage::Int8 | Storage::E4m3 => {
                    format!("return {}_word({memory}[(base >> 2u) + c]);", of_codes.unwrap_or_default())
                }
                Storage::F32 => format!("return {memory}[(base >> 2u) + c];"),
                Storage::F16 => format!("return V({memory}[(base >> 2u) + c]);"),
                _ => format!("let w = {memory}[(base >> 2u) + c];\n  return V({unpack}(w.x), {unpack}(w.y));"),
            };
            let _ = writeln!(text, "fn {name}_chunk(base: u32, c: u32, phase: u32, cols: u32) -> V {{\n  {load}\n}}");
        } else {
            let load = match t.storage {
                Storage::Int8 | Storage::E4m3 => {
                    format!("{}_of(vec4<u32>({memory}[i >> 2u] >> (8u * (i & 3u)))).x", of_codes.unwrap_or_default())
                }
                Storage::F32 => format!("{memory}[i]"),
                Storage::F16 => format!("f32({memory}[i])"),
                _ => format!("{unpack}({} >> (16u * (i & 1u))).x", word("i >> 1u")),
            };
            let _ = writeln!(text, "fn {name}_load(i: u32) -> f32 {{ return {load}; }}");
            self.header.push_str(&std::mem::take(&mut text));
            self = self.gather(&format!("{name}_load"));
            let _ = writeln!(
                text,
                "fn {name}_chunk(base: u32, c: u32, phase: u32, cols: u32) -> V {{\n  return {name}_load_chunk(base, 1u, c, phase, cols);\n}}"
            );
        }
        if output {
            let store = match (t.storage, self.vec) {
                (Storage::F32, 4) => format!("{memory}[(base >> 2u) + c] = v;"),
                (Storage::F16, 4) => format!("{memory}[(base >> 2u) + c] = vec4<f16>(v);"),
                (_, 4) => format!("{memory}[(base >> 2u) + c] = vec2<u32>({pack}(v.xy), {pack}(v.zw));"),
                (Storage::F32, _) => format!("{memory}[base + c] = v;"),
                (Storage::F16, _) => format!("{memory}[base + c] = f16(v);"),
                // base is rounded down to its word: phase says in which half the row starts.
                _ if t.edge => format!(
                    "let i = (base >> 1u) + c;\n  let w = {pack}(v);\n  let live = chunk_live(c, phase, cols);\n  \
                     if (all(live)) {{\n    atomicStore(&{memory}[i], w);\n  }} else if (live.x) {{\n    \
                     atomicAnd(&{memory}[i], 0xffff0000u);\n    atomicOr(&{memory}[i], w & 0xffffu);\n  }} else if (live.y) {{\n    \
                     atomicAnd(&{memory}[i], 0xffffu);\n    atomicOr(&{memory}[i], w & 0xffff0000u);\n  }}"
                ),
                _ => format!("{memory}[(base >> 1u) + c] = {pack}(v);"),
            };
            let _ = writeln!(text, "fn {name}_store(base: u32, c: u32, phase: u32, cols: u32, v: V) {{\n  {store}\n}}");
        }
        self.header.push_str(&text);
        self
    }

    /// The file's and the entry point's name.
    pub fn stem(&self) -> &'static str {
        self.stem
    }

    /// The storage buffers, in the order of declaration.
    pub fn bindings(&self) -> &[Declared] {
        &self.bindings
    }

    /// Bytes of the parameters.
    pub fn params_bytes(&self) -> u32 {
        self.params.map_or(0, |params| params.bytes)
    }

    /// Names of the parameters with their byte offsets.
    pub fn params_fields(&self) -> &'static [(&'static str, usize)] {
        self.params.map_or(&[], |params| params.fields)
    }

    /// Invocations per workgroup.
    pub fn wg_size(&self) -> u32 {
        self.wg_size
    }

    /// Bytes of workgroup memory.
    pub fn wg_bytes(&self) -> u32 {
        self.wg_bytes
    }

    /// Whether it needs `SHADER_F16`.
    pub fn needs_f16(&self) -> bool {
        self.enable_f16
    }

    /// Whether it needs cooperative matrices.
    pub fn needs_coop(&self) -> bool {
        self.enable_coop
    }

    /// The WGSL source as naga takes it; parameters come as immediates or in the uniform buffer at [`PARAMS_BINDING`].
    ///
    /// # Panics
    /// If a file that is named does not exist: a defect of the crate, which its tests would show.
    pub fn source(&self, immediates: bool) -> String {
        let coop = if self.enable_coop { "enable wgpu_cooperative_matrix;\n" } else { "" };
        format!("{}{coop}{}", self.enables(), self.body(immediates))
    }

    /// The WGSL source as Dawn takes it, which wants subgroups to be enabled. There is none of a shader that needs [cooperative
    /// matrices](Self::needs_coop), since Dawn has others, nor of one that is [not uniform](Self::not_uniform).
    ///
    /// # Panics
    /// As [`source`](Self::source).
    pub fn dawn_source(&self, immediates: bool) -> Option<String> {
        if self.enable_coop || self.not_uniform().is_some() {
            return None;
        }
        let body = self.body(immediates);
        let subgroups = if uses_subgroups(&body) { "enable subgroups;\n" } else { "" };
        Some(format!("{}{subgroups}{body}", self.enables()))
    }

    fn enables(&self) -> &'static str {
        if self.enable_f16 { "enable f16;\n" } else { "" }
    }

    fn body(&self, immediates: bool) -> String {
        let mut out = String::new();
        if let Some(params) = self.params {
            out.push_str(params.wgsl);
            if immediates {
                out.push_str("var<immediate> params: Params;\n");
            } else {
                let _ = writeln!(out, "@group(0) @binding({PARAMS_BINDING}) var<uniform> params: Params;");
            }
        }
        out.push_str(&self.header);
        let mut seen = Vec::new();
        for name in &self.imports {
            import(name, &mut seen, &mut out);
        }
        paste(file(self.stem), &mut seen, &mut out);
        // In HLSL naga 30 gives what a struct has of subgroups a value only where an argument by itself is of subgroups, too.
        if out.contains("@builtin(subgroup_") {
            const ARGUMENTS: &str = "(@builtin(workgroup_id) wg: vec3<u32>, ids: Ids";
            out = out.replace(ARGUMENTS, &format!("{ARGUMENTS}, @builtin(subgroup_size) subgroup_size: u32"));
        }
        out
    }
}

impl Display for Shader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.source(true))
    }
}

/// Whether some line says `subgroup` before its comment.
fn uses_subgroups(source: &str) -> bool {
    source.lines().any(|line| line.split("//").next().is_some_and(|code| code.contains("subgroup")))
}

/// A vector of `n` scalars, or for 1 the scalar.
pub(crate) fn lanes_of(n: u32, scalar: &str) -> String {
    if n == 1 { scalar.to_string() } else { format!("vec{n}<{scalar}>") }
}

/// Every shader file: its name without the suffix, and its text. Names differ between families, too.
fn files() -> impl Iterator<Item = (&'static str, &'static str)> {
    let name = |f: &'static include_dir::File| Some((f.path().file_stem()?.to_str()?, f.contents_utf8()?));
    SHADERS.dirs().flat_map(|family| family.files()).filter_map(name)
}

/// The stems of all kernel shaders: the files that have an entry point.
pub fn stems() -> impl Iterator<Item = &'static str> {
    files().filter(|(_, text)| text.contains("@compute")).map(|(name, _)| name)
}

/// The text of the file `<name>.wgsl`, whichever family it is of.
fn file(name: &str) -> &'static str {
    static BY_NAME: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| files().collect());
    BY_NAME.get(name).unwrap_or_else(|| panic!("no shader file {name}.wgsl"))
}

fn import(name: &str, seen: &mut Vec<String>, out: &mut String) {
    if !seen.iter().any(|s| s == name) {
        seen.push(name.to_string());
        paste(file(name), seen, out);
    }
}

fn paste(text: &str, seen: &mut Vec<String>, out: &mut String) {
    for line in text.lines() {
        match line.strip_prefix("#import ") {
            Some(name) => import(name.trim(), seen, out),
            None => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
}
