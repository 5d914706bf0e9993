//! What RoPE brings to the commands: checks, case files, benchmarks.

use std::rc::Rc;

use serde_json::Value;
use tileloom::rope::{self, Angles, Axes, Buffers, Frequencies, Heads, Positions, Problem, Scaling, Style, Yarn};
use tileloom::{Dtype, Layout};

use super::{Call, Memory, Output};
use crate::Gpu;
use crate::case::{self, Case, Fault, Reader, Tensor};
use crate::kernels::{Bench, Check, Kernel, Outputs, Replay, Rule};
use crate::memory::POISON;
use crate::pool::{Pool, Prepared};

/// RoPE, for the commands.
pub struct Rope;

pub const KERNEL: Rope = Rope;

/// Of base 10,000.
fn plain(rotary_dim: usize) -> Angles {
    Angles::Frequencies(Frequencies::new(rotary_dim, 10_000.0).expect("an even number"))
}

impl Kernel for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn ops(&self) -> &'static [&'static str] {
        &["rope"]
    }

    fn checks(&self) -> Vec<Check> {
        let read = |signed| Positions::Buffer { signed, layout: Layout::default() };
        let base = |head_dim, rotary_dim| Problem {
            batch: 2,
            seq: 9,
            head_dim,
            rotary_dim,
            q: Heads::new(4),
            positions: read(false),
            angles: plain(rotary_dim),
            ..Problem::default()
        };
        let typed = |dtype, problem| Problem { x: dtype, y: dtype, ..problem };
        let far = 1 << 20;
        let cases = [
            ("half", base(64, 64), far, Memory::Separate),
            ("interleaved", Problem { style: Style::Interleaved, ..base(64, 64) }, far, Memory::Separate),
            ("partial", base(40, 24), far, Memory::Separate),
            ("q and k", Problem { k: Some(Heads::new(2)), ..base(64, 64) }, far, Memory::Separate),
            ("in place, inverse", Problem { inverse: true, ..base(64, 64) }, far, Memory::InPlace),
            ("odd pairs", base(10, 6), far, Memory::Separate),
            ("f16", typed(Dtype::F16, base(64, 64)), far, Memory::Separate),
            ("bf16, odd pairs", typed(Dtype::Bf16, base(11, 6)), far, Memory::Separate),
            ("every u32 position", base(64, 64), u32::MAX as usize, Memory::Separate),
            ("negative positions", Problem { positions: read(true), ..base(64, 64) }, far, Memory::Separate),
            ("sections", Problem { axes: Axes::Sections([8, 12, 12]), ..base(64, 64) }, far, Memory::Separate),
            (
                "tables, hostile positions",
                Problem { angles: Angles::Tables { max_pos: 50, cos: 0, sin: 0 }, ..base(64, 64) },
                u32::MAX as usize,
                Memory::Separate,
            ),
        ];
        let check = |(name, problem, reach, memory): (&'static str, Problem, usize, Memory)| {
            Check::new(name, move |gpu| {
                let call = Call::random(problem.clone(), 1, reach).in_memory(memory);
                Ok(call.judge(&call.run(gpu, &gpu.kernels, None)?))
            })
        };
        cases.into_iter().map(check).collect()
    }

    fn replay(&self, case: &Case) -> Result<Replay, Fault> {
        let (call, expected, shape) = understand(case)?;
        let call = Rc::new(call);
        let ruled = call.clone();
        let run = move |gpu: &Gpu| {
            let output = if call.q.is_empty() {
                Output { q: Vec::new(), k: None, steps: vec!["nothing to compute".into()] }
            } else {
                call.run(gpu, &gpu.kernels, None)?
            };
            let y = Tensor::values(call.problem.y, &shape, &to_layout(&call.problem, &shape, &output.q));
            Ok(Outputs { tensors: vec![("y", y)], config: output.steps.join("; ") })
        };
        let rules = move || {
            let p = &ruled.problem;
            let [oracle, low] = ruled.references().swap_remove(0);
            let shape = case_shape(p);
            let (mag_shape, one) = ([shape[0], shape[1], shape[2], 1], Problem { head_dim: 1, ..p.clone() });
            let mag = to_layout(&one, &mag_shape, &oracle.mag);
            let [oracle, low] = [oracle, low].map(|out| to_layout(p, &shape, &out.y));
            vec![("y", Rule::Rows { cols: p.head_dim, dtype: p.y, oracle, low, mag })]
        };
        Ok(Replay { expected, run: Box::new(run), rules: Box::new(rules) })
    }

    fn benches(&self) -> Vec<Bench> {
        let of = |batch, heads, seq, dtype| Problem {
            batch,
            seq,
            head_dim: 128,
            rotary_dim: 128,
            q: Heads::new(heads),
            x: dtype,
            y: dtype,
            angles: plain(128),
            ..Problem::default()
        };
        vec![
            bench("4x32x512x128 f32", of(4, 32, 512, Dtype::F32)),
            bench("4x32x512x128 f16", of(4, 32, 512, Dtype::F16)),
            bench("4x32x512x128 f32 interleaved", Problem { style: Style::Interleaved, ..of(4, 32, 512, Dtype::F32) }),
            bench(
                "32x32x1x128 f16 decode",
                Problem { positions: Positions::Offset(4095), ..of(32, 32, 1, Dtype::F16) },
            ),
        ]
    }
}

/// Whether the case's tensors are `[b, s, h, d]`.
fn tokens_first(p: &Problem) -> bool {
    p.q.from.strides.is_some()
}

/// The shape of `x` in its case.
fn case_shape(p: &Problem) -> [usize; 4] {
    match tokens_first(p) {
        true => [p.batch, p.seq, p.q.heads, p.head_dim],
        false => [p.batch, p.q.heads, p.seq, p.head_dim],
    }
}

/// `[b, h, s, d]` in the order of the case.
fn to_layout(p: &Problem, shape: &[usize], values: &[f64]) -> Vec<f64> {
    if !tokens_first(p) || values.is_empty() {
        return values.to_vec();
    }
    swap_middle([p.batch, p.q.heads, p.seq, shape[3]], values)
}

/// `[a, b, c, d]` as `[a, c, b, d]`.
fn swap_middle([a, b, c, d]: [usize; 4], values: &[f64]) -> Vec<f64> {
    let mut out = Vec::with_capacity(values.len());
    for (i, k, j) in (0..a).flat_map(|i| (0..c).flat_map(move |k| (0..b).map(move |j| (i, k, j)))) {
        out.extend_from_slice(&values[((i * b + j) * c + k) * d..][..d]);
    }
    out
}

fn bad_shape(name: &str, tensor: &Tensor, expected: impl Into<String>) -> Fault {
    Fault::BadShape { name: name.into(), have: tensor.shape.clone(), expected: expected.into() }
}

fn understand(case: &Case) -> Result<(Call, case::Expected, Vec<usize>), Fault> {
    const SHAPE: &str = "[b, h, s, d], by `layout`";
    let mut reader = Reader::new(case);
    let x = reader.tensor("x", SHAPE)?;
    let dtype = case::float("x", x)?;
    let bshd = reader.word("layout", &["bhsd", "bshd"])? == "bshd";
    let &[batch, n1, n2, head_dim] = &x.shape[..] else {
        return Err(bad_shape("x", x, SHAPE));
    };
    let (heads, seq) = if bshd { (n2, n1) } else { (n1, n2) };
    let style = match reader.word("style", &["half", "interleaved"])? {
        "half" => Style::Half,
        _ => Style::Interleaved,
    };
    let whole = reader.option("rotary_dim", head_dim as i64)?;
    let rotary_dim = usize::try_from(whole).ok().filter(|&n| n >= 2 && n.is_multiple_of(2) && n <= head_dim);
    let rotary_dim = rotary_dim.ok_or_else(|| Fault::BadOption {
        name: "rotary_dim",
        value: whole.to_string(),
        expected: format!("an even number from 2 to {head_dim}"),
    })?;
    let half = rotary_dim / 2;
    let mut problem = Problem {
        batch,
        seq,
        head_dim,
        rotary_dim,
        q: if bshd { Heads::bshd(heads, seq, head_dim) } else { Heads::new(heads) },
        x: dtype,
        y: reader.option("out_dtype", dtype)?,
        style,
        inverse: reader.option("inverse", false)?,
        ..Problem::default()
    };

    let positions = reader.optional("positions");
    let sections: Option<[usize; 3]> = reader.option("sections", None)?;
    let sections = sections.map_or(Vec::new(), Vec::from);
    let mut values = None;
    if let Some(tensor) = positions {
        let numbers = tensor.integers().ok_or_else(|| Fault::BadDtype {
            name: "positions".into(),
            have: tensor.dtype.to_string(),
            expected: case::INDICES,
        })?;
        let axes = match (&tensor.shape[..], &sections[..]) {
            (&[b, s], []) if (b, s) == (batch, seq) => Axes::One,
            (&[3, b, s], &[i, j, k]) if (b, s) == (batch, seq) => Axes::Sections([i, j, k]),
            (&[2, b, s], []) if (b, s) == (batch, seq) => Axes::Axial,
            _ => {
                let expected = match sections.is_empty() {
                    true => format!("[{batch}, {seq}], or [2, {batch}, {seq}] for two axes"),
                    false => format!("[3, {batch}, {seq}], by `sections`"),
                };
                return Err(bad_shape("positions", tensor, expected));
            }
        };
        let signed = numbers.iter().any(|&p| p < 0);
        let fits = |p: i64| if signed { i32::try_from(p).is_ok() } else { u32::try_from(p).is_ok() };
        if let Some(p) = numbers.iter().find(|&&p| !fits(p)) {
            return Err(bad_shape("positions", tensor, format!("positions of 32 bits, not {p}")));
        }
        problem.axes = axes;
        problem.positions = Positions::Buffer { signed, layout: Layout::default() };
        values = Some(numbers);
    } else if !sections.is_empty() {
        return Err(Fault::MissingTensor { name: "positions", expected: "[3, b, s], by `sections`" });
    }
    if let Axes::Sections(all) = problem.axes
        && all.iter().try_fold(0usize, |n, &s| n.checked_add(s)) != Some(half)
    {
        let value = all.map(|n| n.to_string()).join(",");
        return Err(Fault::BadOption { name: "sections", value, expected: format!("numbers that add up to {half}") });
    }
    if problem.axes == Axes::Axial && !half.is_multiple_of(2) {
        let expected = "a multiple of 4, for two axes".into();
        return Err(Fault::BadOption { name: "rotary_dim", value: rotary_dim.to_string(), expected });
    }

    let base: f64 = reader.option("base", 10_000.0)?;
    let largest = values.as_ref().and_then(|v| v.iter().copied().max()).unwrap_or(seq as i64 - 1);
    let seq_len = reader.option("seq_len", largest + 1)?.max(0) as usize;
    let scaling_text = reader.option("scaling", String::from("null"))?;
    let max_position_embeddings: f64 = reader.option("max_position_embeddings", 0.0)?;
    let scaling = scaling(&scaling_text, max_position_embeddings)?;
    let mut factors = None;
    if let Some(tensor) = reader.optional("freq_factors") {
        case::float("freq_factors", tensor)?;
        if tensor.shape != [half] {
            return Err(bad_shape("freq_factors", tensor, format!("[{half}]")));
        }
        factors = tensor.numbers();
    }
    let mut tables = None;
    match (reader.optional("cos"), reader.optional("sin")) {
        (None, None) => {
            let axial = problem.axes == Axes::Axial;
            let of = |error: tileloom::Error| Fault::BadOption {
                name: "scaling",
                value: scaling_text.clone(),
                expected: format!("what {error} does not refuse"),
            };
            let dim = if axial { half } else { rotary_dim };
            let mut frequencies = Frequencies::scaled(dim, base, &scaling, seq_len).map_err(of)?;
            if axial {
                frequencies = frequencies.twice();
            }
            if let Some(factors) = factors {
                frequencies = frequencies.with_factors(&factors).map_err(|error| Fault::BadShape {
                    name: "freq_factors".into(),
                    have: vec![half],
                    expected: format!("positive numbers: {error}"),
                })?;
            }
            problem.angles = Angles::Frequencies(frequencies);
        }
        (Some(cos), Some(sin)) => {
            for (name, tensor) in [("cos", cos), ("sin", sin)] {
                case::float(name, tensor)?;
                if tensor.shape.len() != 2
                    || tensor.shape != cos.shape
                    || tensor.shape[1] != half
                    || tensor.shape[0] == 0
                {
                    return Err(bad_shape(name, tensor, format!("[max_pos, {half}], cos and sin alike")));
                }
            }
            problem.angles = Angles::Tables { max_pos: cos.shape[0], cos: 0, sin: 0 };
            tables = Some([cos, sin].map(|t| t.numbers().unwrap_or_default()));
        }
        (cos, _) => {
            let name = if cos.is_none() { "cos" } else { "sin" };
            return Err(Fault::MissingTensor { name, expected: "[max_pos, rotary_dim / 2], cos and sin together" });
        }
    }
    let expected = reader.finish(&[("y", x.shape.clone())])?;
    let stored = x.numbers().unwrap_or_default();
    let q = if bshd { swap_middle([batch, seq, heads, head_dim], &stored) } else { stored };
    let mut call = Call::new(problem, q);
    (call.positions, call.tables) = (values, tables);
    Ok((call, expected, x.shape.clone()))
}

/// Hugging Face's `rope_scaling`.
fn scaling(text: &str, max_position_embeddings: f64) -> Result<Scaling, Fault> {
    let bad = |expected: String| Fault::BadOption { name: "scaling", value: text.into(), expected };
    let json: Value = serde_json::from_str(text).map_err(|error| bad(format!("JSON: {error}")))?;
    if json.is_null() {
        return Ok(Scaling::None);
    }
    let fields = json.as_object().ok_or_else(|| bad("a JSON object".into()))?;
    let kind = fields.get("rope_type").or_else(|| fields.get("type")).and_then(Value::as_str);
    let known: &[&str] = match kind {
        Some("default") => &[],
        Some("linear") => &["factor"],
        Some("dynamic") => &["factor", "original_max_position_embeddings"],
        Some("yarn") => &[
            "factor",
            "original_max_position_embeddings",
            "attention_factor",
            "beta_fast",
            "beta_slow",
            "mscale",
            "mscale_all_dim",
            "truncate",
        ],
        Some("llama3") => &["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"],
        Some("longrope") => {
            &["factor", "short_factor", "long_factor", "original_max_position_embeddings", "attention_factor"]
        }
        _ => return Err(bad("rope_type default, linear, dynamic, yarn, llama3 or longrope".into())),
    };
    if let Some(name) = fields.keys().find(|n| !known.contains(&n.as_str()) && *n != "rope_type" && *n != "type") {
        return Err(bad(format!("no field `{name}`, only: {}", known.join(", "))));
    }
    let number = |name: &str| match fields.get(name).filter(|v| !v.is_null()) {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or_else(|| bad(format!("a number as `{name}`"))),
    };
    let needed = |name: &str| number(name)?.ok_or_else(|| bad(format!("a field `{name}`")));
    let list = |name: &str| -> Result<Vec<f64>, Fault> {
        let values = fields.get(name).and_then(Value::as_array);
        let values = values.and_then(|values| values.iter().map(Value::as_f64).collect());
        values.ok_or_else(|| bad(format!("a list of numbers as `{name}`")))
    };
    let longest = || match max_position_embeddings > 0.0 {
        true => Ok(max_position_embeddings),
        false => Err(Fault::BadOption {
            name: "max_position_embeddings",
            value: String::new(),
            expected: "a length, by `scaling`".into(),
        }),
    };
    // The length that the model was trained with, and how far it is stretched.
    let original = || number("original_max_position_embeddings")?.map_or_else(longest, Ok);
    let stretch = || number("factor")?.map_or_else(|| Ok(longest()? / original()?), Ok);
    Ok(match kind {
        Some("linear") => Scaling::Linear { factor: needed("factor")? },
        Some("dynamic") => Scaling::Dynamic { factor: needed("factor")?, max_position_embeddings: original()? },
        Some("yarn") => {
            let plain = Yarn::new(stretch()?, original()?);
            let truncate = match fields.get("truncate") {
                None => true,
                Some(value) => value.as_bool().ok_or_else(|| bad("true or false as `truncate`".into()))?,
            };
            Scaling::Yarn(Yarn {
                beta_fast: number("beta_fast")?.unwrap_or(plain.beta_fast),
                beta_slow: number("beta_slow")?.unwrap_or(plain.beta_slow),
                truncate,
                attention_factor: number("attention_factor")?,
                mscale: number("mscale")?,
                mscale_all_dim: number("mscale_all_dim")?,
                ..plain
            })
        }
        Some("llama3") => Scaling::Llama3 {
            factor: needed("factor")?,
            low_freq_factor: needed("low_freq_factor")?,
            high_freq_factor: needed("high_freq_factor")?,
            original_max_position_embeddings: original()?,
        },
        Some("longrope") => Scaling::LongRope {
            short_factor: list("short_factor")?,
            long_factor: list("long_factor")?,
            original_max_position_embeddings: original()?,
            factor: stretch()?,
            attention_factor: number("attention_factor")?,
        },
        _ => Scaling::None,
    })
}

/// Head vectors that a benchmark's check looks at, per batch: all heads of one.
/// Measures `problem`; input set `i` is set `i` of the pool.
pub fn bench(shape: &str, problem: Problem) -> Bench {
    let elements = problem.batch * problem.q.heads * problem.seq * problem.head_dim;
    Bench {
        shape: shape.into(),
        quick: matches!(shape, "4x32x512x128 f32" | "4x32x512x128 f16"),
        // Four products and two sums per pair; angles are shared by heads.
        flops: 3.0 * elements as f64,
        bytes: elements as f64 * (problem.x.bytes() + problem.y.bytes()) as f64,
        prepare: Box::new(move |gpu: &Gpu, pool: &Pool, sets: usize| {
            let config = rope::choose(&gpu.kernels.caps(), &problem).map_err(|error| error.to_string())?;
            let mut dispatches = Vec::with_capacity(sets);
            let mut first = None;
            for set in 0..sets {
                let x = gpu.buffer(&pool.bytes(problem.x, elements, set));
                let y = gpu.buffer(&vec![POISON; elements * problem.y.bytes() as usize]);
                let dispatch = rope::prepare_with(&gpu.kernels, &problem, &config, Buffers::new(&x, &y));
                dispatches.push(dispatch.map_err(|error| error.to_string())?);
                first.get_or_insert((x, y));
            }
            let (x, y) = first.ok_or("no input set was asked for")?;
            let problem = problem.clone();
            let check = move |gpu: &Gpu| {
                // The last batch: heads are told apart there, and the ends of the buffers seen.
                let one = elements / problem.batch;
                let last =
                    |bytes: Vec<u8>, dtype: Dtype| dtype.decode(&bytes[(elements - one) * dtype.bytes() as usize..]);
                let (x, y) = (last(gpu.read(&x)?, problem.x), last(gpu.read(&y)?, problem.y));
                let call = Call::new(Problem { batch: 1, ..problem.clone() }, x);
                Ok(call.judge(&Output { q: y, k: None, steps: Vec::new() }))
            };
            Ok(Prepared { dispatches, config: format!("{config:?}"), check: Box::new(check) })
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(case: &Case) -> String {
        match KERNEL.replay(case) {
            Ok(_) => "understood".into(),
            Err(fault) => fault.to_string(),
        }
    }

    fn x(shape: &[usize]) -> Case {
        Case::new("rope").tensor("x", Tensor::values(Dtype::F32, shape, &vec![1.0; shape.iter().product()]))
    }

    #[test]
    fn faults_name_what_is_wrong() {
        let good = || x(&[1, 2, 3, 8]);
        assert_eq!(fault(&good()), "understood");
        assert_eq!(fault(&x(&[3, 8])), "tensor `x` has shape [3, 8], expected [b, h, s, d], by `layout`");
        assert!(fault(&good().option("rotary_dim", 9)).contains("expected an even number from 2 to 8"));
        assert!(fault(&good().option("sections", "1,2,1")).contains("tensor `positions` is missing"));
        let positions = |shape: &[usize]| Tensor::indices(shape, &vec![0; shape.iter().product()]);
        assert_eq!(fault(&good().tensor("positions", positions(&[1, 3]))), "understood");
        assert_eq!(fault(&good().tensor("positions", positions(&[2, 1, 3]))), "understood");
        let three = || good().tensor("positions", positions(&[3, 1, 3]));
        assert!(fault(&three()).contains("expected [1, 3], or [2, 1, 3] for two axes"));
        assert_eq!(fault(&three().option("sections", "1,2,1")), "understood");
        assert!(fault(&three().option("sections", "1,2,3")).contains("add up to 4"));
        let table = |n: usize| Tensor::values(Dtype::F32, &[n, 4], &vec![0.0; 4 * n]);
        assert!(fault(&good().tensor("cos", table(2))).contains("tensor `sin` is missing"));
        assert!(fault(&good().tensor("cos", table(2)).tensor("sin", table(3))).contains("cos and sin alike"));
        assert_eq!(fault(&good().tensor("cos", table(2)).tensor("sin", table(2))), "understood");
    }

    #[test]
    fn scalings_in_the_words_of_hugging_face() {
        let of = |text: &str| scaling(text, 8192.0);
        assert_eq!(of("null").unwrap(), Scaling::None);
        assert_eq!(of(r#"{"type": "linear", "factor": 2}"#).unwrap(), Scaling::Linear { factor: 2.0 });
        let yarn = of(r#"{"rope_type": "yarn", "original_max_position_embeddings": 2048}"#).unwrap();
        assert_eq!(yarn, Scaling::Yarn(Yarn::new(4.0, 2048.0)));
        let dynamic = of(r#"{"rope_type": "dynamic", "factor": 2.0}"#).unwrap();
        assert_eq!(dynamic, Scaling::Dynamic { factor: 2.0, max_position_embeddings: 8192.0 });
        for (text, expected) in [
            ("{", "JSON"),
            ("[]", "a JSON object"),
            (r#"{"rope_type": "su"}"#, "rope_type default, linear"),
            (r#"{"rope_type": "linear"}"#, "a field `factor`"),
            (r#"{"rope_type": "linear", "factor": "2"}"#, "a number as `factor`"),
            (r#"{"rope_type": "linear", "factor": 2, "beta": 1}"#, "no field `beta`"),
            (
                r#"{"rope_type": "longrope", "short_factor": 3, "long_factor": []}"#,
                "a list of numbers as `short_factor`",
            ),
        ] {
            assert!(of(text).unwrap_err().to_string().contains(expected), "{text}");
        }
    }

    #[test]
    fn layouts_swap_and_come_back() {
        let values: Vec<f64> = (0..24).map(f64::from).collect();
        let swapped = swap_middle([1, 2, 3, 4], &values);
        assert_eq!(&swapped[..8], &[0.0, 1.0, 2.0, 3.0, 12.0, 13.0, 14.0, 15.0]);
        assert_eq!(swap_middle([1, 3, 2, 4], &swapped), values);
    }
}
