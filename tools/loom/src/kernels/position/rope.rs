//! RoPE, described.

use tileloom::rope::{Angles, Axes, Frequencies, Heads, Positions, Problem, Scaling, Style, Yarn};
use tileloom::verify::Describe;
use tileloom::verify::position::frequencies;
use tileloom::{Dtype, Layout};

use super::scaling::scaling;
use super::{IN_PLACE, bytes, case_shape, last_batch, read_positions};
use crate::case::{self, Fault, Options, Reader, Shown, Tensor};
use crate::kernel::{Arg, Cost, Given, List, Listed, Values};
use crate::models;

pub fn plain(rotary_dim: usize) -> Angles {
    Angles::Frequencies(frequencies(rotary_dim))
}

fn read(signed: bool) -> Positions {
    Positions::Buffer { signed, layout: Layout::default() }
}

/// Positions from a buffer.
pub fn shape(batch: usize, heads: usize, seq: usize, head_dim: usize, rotary_dim: usize) -> Problem {
    let (q, angles, positions) = (Heads::new(heads), plain(rotary_dim), read(false));
    Problem { batch, seq, head_dim, rotary_dim, q, angles, positions, ..Problem::default() }
}

fn typed(dtype: Dtype, problem: Problem) -> Problem {
    Problem { x: dtype, y: dtype, ..problem }
}

const STYLES: [Style; 2] = [Style::Half, Style::Interleaved];
const TABLES: Angles = Angles::Tables { max_pos: 37, cos: 3, sin: 1 };

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    const RUNTIME: &'static [&'static str] = &["share"];

    fn list(list: &mut List<Problem>) {
        narrow(list);
        wide(list);
        full(list);
        benches(list);
        composed(list);
    }

    /// Four products and two sums per pair; angles are shared by heads.
    fn cost(&self) -> Cost {
        let heads = self.q.heads + self.k.map_or(0, |k| k.heads);
        Cost { flops: 3.0 * (self.batch * heads * self.seq * self.head_dim) as f64, bytes: bytes(&self.args()) }
    }

    fn shipped() -> Vec<String> {
        vec!["native_f16=true".into(), "native_f16=false".into()]
    }

    fn shared() -> &'static [&'static str] {
        &["positions", "cos", "sin"]
    }

    /// The last batch, all its heads; benchmarks count their positions.
    fn parts(&self, values: Values, outputs: Values) -> Vec<(Problem, Values, Values)> {
        let last = |values| last_batch(self.batch, &["x", "k", "y", "k_out"], values);
        vec![(Problem { batch: 1, ..self.clone() }, last(values), last(outputs))]
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.word("style", &mut self.style, &[("half", Style::Half), ("interleaved", Style::Interleaved)])?;
        options.value("rotary_dim", &mut self.rotary_dim)?;
        options.value("inverse", &mut self.inverse)?;
        options.value("out_dtype", &mut self.y)?;
        options.value("x_layout", &mut self.q.from)?;
        options.value("y_layout", &mut self.q.to)?;
        if let Some(k) = &mut self.k {
            options.value("k_layout", &mut k.from)?;
            options.value("k_out_layout", &mut k.to)?;
        }
        match &mut self.positions {
            Positions::Offset(first) => options.value("first_position", first)?,
            Positions::Buffer { layout, .. } => options.value("positions_layout", layout)?,
        }
        if let Axes::Sections(sections) = &mut self.axes {
            options.value("sections", sections)?;
        }
        match &mut self.angles {
            // In place of those that follow from `base` and `scaling`.
            Angles::Frequencies(Frequencies { per_pair, attention_factor }) => {
                options.value("frequencies", per_pair)?;
                options.value("attention_factor", attention_factor)
            }
            Angles::Tables { cos, sin, .. } => {
                options.value("cos_offset", cos)?;
                options.value("sin_offset", sin)
            }
        }
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        const SHAPE: &str = "[b, h, s, d], by `layout`";
        let (x, dtype) = reader.values("x", SHAPE)?;
        let bshd = reader.word("layout", &["bhsd", "bshd"])? == "bshd";
        let heads = |name, tensor: &Tensor| match (&tensor.shape[..], bshd) {
            (&[b, h, s, d], false) => Ok(([b, s, d], Heads::new(h))),
            (&[b, s, h, d], true) => Ok(([b, s, d], Heads::bshd(h, s, d))),
            _ => Err(case::bad_shape(name, tensor, SHAPE)),
        };
        let ([batch, seq, head_dim], q) = heads("x", x)?;
        let rotary_dim = reader.option("rotary_dim", head_dim)?;
        if rotary_dim < 2 || !rotary_dim.is_multiple_of(2) || rotary_dim > head_dim {
            let expected = format!("an even number from 2 to {head_dim}");
            return Err(Fault::BadOption { name: "rotary_dim", value: rotary_dim.to_string(), expected });
        }
        let mut problem = Problem { batch, seq, head_dim, rotary_dim, q, ..typed(dtype, Problem::default()) };
        let mut values = Values::from([("x", x.numbers().unwrap_or_default())]);
        let shown = |name, tensor: &Tensor| Shown { swapped: bshd, ..Shown::new(name, tensor.shape.clone()) };
        let mut outputs = vec![shown("y", x)];
        if let Some(tensor) = reader.optional("k") {
            let (sizes, k) = heads("k", tensor)?;
            if (sizes, tensor.float()) != ([batch, seq, head_dim], Some(dtype)) {
                return Err(case::bad_shape("k", tensor, format!("that of x but for h, as {dtype}")));
            }
            problem.k = Some(k);
            values.insert("k", tensor.numbers().unwrap_or_default());
            outputs.push(shown("k_out", tensor));
        }
        read_axes(reader, &mut problem, &mut values, false)?;
        read_angles(reader, &mut problem, &mut values)?;
        problem.options(&mut Options::Read(reader))?;
        for arg in problem.args().iter().filter(|arg| bshd && ["x", "k"].contains(&arg.name)) {
            let swapped = arg.view.swapped(true, &values[arg.name]);
            values.insert(arg.name, swapped);
        }
        let nothing = q.heads == 0 && problem.k.is_none();
        let known = if nothing { [("y", Vec::new())].into() } else { Values::new() };
        Ok(Given { problem, values, outputs, known })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        case_shape(arg, self.axes.count())
    }
}

/// Takes the positions of a case file, of which there are as many per token as there are axes; without an axis of batches where they are `flat`.
pub fn read_axes(reader: &mut Reader, problem: &mut Problem, values: &mut Values, flat: bool) -> Result<(), Fault> {
    let sections: Option<[usize; 3]> = reader.option("sections", None)?;
    let Some(tensor) = reader.optional("positions") else {
        return match sections {
            Some(_) => Err(Fault::MissingTensor { name: "positions", expected: "[3, b, s], by `sections`" }),
            None => Ok(()),
        };
    };
    let Problem { batch, seq, rotary_dim, .. } = *problem;
    let half = rotary_dim / 2;
    let mut shape = tensor.shape.clone();
    if flat {
        shape.insert(shape.len().saturating_sub(1), 1);
    }
    problem.axes = match (&shape[..], sections) {
        (&[b, s], None) if [b, s] == [batch, seq] => Axes::One,
        (&[3, b, s], Some(sections)) if [b, s] == [batch, seq] => Axes::Sections(sections),
        (&[2, b, s], None) if [b, s] == [batch, seq] => Axes::Axial,
        (_, None) => {
            let expected = format!("[{batch}, {seq}], or [2, {batch}, {seq}] for two axes");
            return Err(case::bad_shape("positions", tensor, expected));
        }
        _ => return Err(case::bad_shape("positions", tensor, format!("[3, {batch}, {seq}], by `sections`"))),
    };
    let bad = |name, value, expected| Err(Fault::BadOption { name, value, expected });
    match problem.axes {
        Axes::Sections(all) if all.iter().try_fold(0usize, |n, &s| n.checked_add(s)) != Some(half) => {
            return bad("sections", format!("{all:?}"), format!("numbers that add up to {half}"));
        }
        Axes::Axial if !half.is_multiple_of(2) => {
            return bad("rotary_dim", rotary_dim.to_string(), "a multiple of 4, for two axes".into());
        }
        _ => {}
    }
    let (signed, positions) = read_positions(tensor)?;
    problem.positions = read(signed);
    values.insert("positions", positions);
    Ok(())
}

/// Takes the tables of a case file, or computes its frequencies.
pub fn read_angles(reader: &mut Reader, problem: &mut Problem, values: &mut Values) -> Result<(), Fault> {
    let (half, axial) = (problem.rotary_dim / 2, problem.axes == Axes::Axial);
    let base: f64 = reader.option("base", 10_000.0)?;
    let last = values.get("positions").and_then(|all| all.iter().copied().reduce(f64::max));
    let seq_len = reader.option("seq_len", last.map_or(problem.seq as i64, |last| last as i64 + 1))?;
    let text = reader.option("scaling", String::from("null"))?;
    let scaling = scaling(&text, reader.option("max_position_embeddings", 0.0)?)?;
    let factors = reader.optional("freq_factors");
    match (reader.optional("cos"), reader.optional("sin")) {
        (None, None) => {
            let dim = if axial { half } else { problem.rotary_dim };
            let scaled = Frequencies::scaled(dim, base, &scaling, seq_len.max(0) as usize);
            let mut frequencies = scaled.map_err(|error| Fault::BadOption {
                name: "scaling",
                value: text,
                expected: format!("what {error} does not refuse"),
            })?;
            if axial {
                frequencies = frequencies.twice();
            }
            if let Some(tensor) = factors {
                case::float("freq_factors", tensor)?;
                let bad =
                    |error| case::bad_shape("freq_factors", tensor, format!("[{half}], positive numbers: {error}"));
                frequencies = frequencies.with_factors(&tensor.numbers().unwrap_or_default()).map_err(bad)?;
            }
            problem.angles = Angles::Frequencies(frequencies);
        }
        (Some(cos), Some(sin)) => {
            for (name, tensor) in [("cos", cos), ("sin", sin)] {
                case::float(name, tensor)?;
                if !matches!(tensor.shape[..], [rows, cols] if rows > 0 && cols == half) || tensor.shape != cos.shape {
                    return Err(case::bad_shape(name, tensor, format!("[max_pos, {half}], cos and sin alike")));
                }
                values.insert(name, tensor.numbers().unwrap_or_default());
            }
            problem.angles = Angles::Tables { max_pos: cos.shape[0], cos: 0, sin: 0 };
        }
        (cos, _) => {
            let name = if cos.is_none() { "cos" } else { "sin" };
            return Err(Fault::MissingTensor { name, expected: "[max_pos, rotary_dim / 2], cos and sin together" });
        }
    }
    Ok(())
}

/// Six pipelines.
fn narrow(list: &mut List<Problem>) {
    for (batch, heads, seq, head_dim, rotary_dim) in
        [(1, 1, 1, 8, 8), (2, 9, 7, 64, 64), (1, 3, 130, 40, 24), (3, 32, 1, 128, 128), (2, 5, 33, 96, 32)]
    {
        for (style, inverse) in STYLES.into_iter().flat_map(|style| [(style, false), (style, true)]) {
            let problem = Problem { style, inverse, ..shape(batch, heads, seq, head_dim, rotary_dim) };
            list.narrow("f32, styles, sizes, inverse", problem).seed(7).says(&["pairs: 4", "positions: true"]);
        }
    }
    for (head_dim, rotary_dim, offset) in [(2, 2, 0), (59, 10, 0), (80, 20, 0), (64, 64, 1), (7, 6, 3)] {
        for style in STYLES {
            let mut problem = Problem { style, ..shape(2, 3, 5, head_dim, rotary_dim) };
            (problem.q.from, problem.q.to) = (Layout::at(offset), Layout::at(2 * offset));
            list.narrow("f32, odd sizes and offsets", problem).seed(3).says(&["pairs: 1"]);
        }
    }
    for signed in [false, true] {
        let problem = Problem { positions: read(signed), ..shape(2, 2, 131, 64, 64) };
        list.narrow("positions of every size and sign", problem).seed(5).says(&["pairs: 4"]);
    }
    for axes in [Axes::Sections([8, 12, 12]), Axes::Sections([0, 31, 1]), Axes::Axial] {
        let axial = Frequencies::axial(64, 10_000.0).expect("a multiple of 4");
        let angles = if axes == Axes::Axial { Angles::Frequencies(axial) } else { plain(64) };
        // Axis and batch strides of their own, batches in the other order.
        let positions = Positions::Buffer { signed: true, layout: Layout::strided(5, [13, 40]) };
        let problem = Problem { axes, angles, positions, ..shape(2, 3, 11, 64, 64) };
        list.narrow("sections and two axes", problem).seed(2).says(&["pairs: 4"]);
    }
    for scaling in scalings() {
        let frequencies = Frequencies::scaled(64, 500_000.0, &scaling, 131_072).expect("numbers of the papers");
        // Faster than a turn per position: reduced on the host.
        let fast = frequencies.clone().with_factors(&[0.01; 32]).expect("as many as pairs");
        for angles in [frequencies, fast].map(Angles::Frequencies) {
            list.narrow("scalings", Problem { angles, ..shape(1, 2, 70, 64, 64) }).seed(9).says(&["pairs: 4"]);
        }
    }
    // Tokens of [q: 6 | k: 2 | v: 2] heads, and [b, heads, s, d] with 2 heads of k behind 6 of q.
    let fused = |first, heads| Heads::fused(first, heads, 9, 32, 320);
    let stacked = |first: usize, heads| {
        let layout = Layout::strided(first * 288, [8 * 288, 288, 32]);
        Heads { heads, from: layout, to: layout }
    };
    for (q, k) in [(fused(0, 6), fused(6, 2)), (stacked(0, 6), stacked(6, 2))] {
        let problem = Problem { q, k: Some(k), ..shape(2, 6, 9, 32, 24) };
        let entry = list.narrow("q and k, in place in one fused buffer", problem).seed(4);
        entry.memory(&[&["x", "y", "k", "k_out"]]).says(&["in_place: [true, true]"]);
    }
    for (signed, axes) in [(false, Axes::One), (true, Axes::One), (true, Axes::Sections([4, 4, 8]))] {
        let problem = Problem { angles: TABLES, axes, positions: read(signed), ..shape(2, 3, 21, 40, 32) };
        list.narrow("tables, hostile positions", problem).seed(8).says(&["tables: true"]);
    }
    for (first, seq) in [(0, 17), (1_048_560, 16), (-5, 9), (u32::MAX as i64 - 8, 9)] {
        let problem = Problem { positions: Positions::Offset(first), ..shape(2, 3, seq, 72, 64) };
        list.narrow("f16, counted positions", typed(Dtype::F16, problem)).seed(8).says(&["pairs: 4"]);
    }
    // Odd numbers of elements per head vector: every second word has two owners.
    for (head_dim, rotary_dim) in [(7, 6), (59, 10)] {
        let problem = typed(Dtype::Bf16, shape(2, 3, 5, head_dim, rotary_dim));
        let entry = list.narrow("bf16 pairs that share words", problem).seed(3);
        entry.memory(IN_PLACE).says(&["edge: true", "in_place: [true, false]"]);
    }
    for (batch, seq) in [(0, 8), (8, 0)] {
        list.narrow("nothing to compute", shape(batch, 2, seq, 8, 8));
    }
}

fn scalings() -> [Scaling; 5] {
    let llama3 = Scaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192.0,
    };
    let long = Scaling::LongRope {
        short_factor: vec![1.0; 32],
        long_factor: (0..32).map(|i| 1.0 + 0.37 * f64::from(i)).collect(),
        original_max_position_embeddings: 4096.0,
        factor: 32.0,
        attention_factor: None,
    };
    let dynamic = Scaling::Dynamic { factor: 4.0, max_position_embeddings: 2048.0 };
    [Scaling::Linear { factor: 3.7 }, dynamic, Scaling::Yarn(Yarn::new(40.0, 4096.0)), llama3, long]
}

fn wide(list: &mut List<Problem>) {
    for (problem, seed) in [(shape(2, 3, 17, 64, 48), 1), (shape(2, 3, 5, 59, 10), 2)] {
        list.wide("checked modules give the same", problem).seed(seed).checked();
    }
    for (x, y) in
        [(Dtype::F16, Dtype::F32), (Dtype::F32, Dtype::Bf16), (Dtype::Bf16, Dtype::F16), (Dtype::F16, Dtype::F16)]
    {
        for (head_dim, rotary_dim, word) in [(64, 64, "pairs: 4"), (22, 12, "pairs: 2"), (9, 6, "edge: true")] {
            for style in STYLES {
                let (q, k) = (Heads::bshd(4, 6, head_dim), Some(Heads::new(2)));
                let problem = Problem { x, y, style, q, k, ..shape(2, 4, 6, head_dim, rotary_dim) };
                let entry = list.wide("dtypes, words, layouts", problem).seed(6).says(&[" k: true"]);
                // f16 is packed on some devices only.
                if y == Dtype::Bf16 {
                    entry.says(&[word]);
                }
            }
        }
    }
    list.wide("q and k", Problem { k: Some(Heads::new(2)), ..shape(2, 4, 9, 64, 64) });
    let inverse = Problem { inverse: true, ..shape(2, 4, 9, 64, 64) };
    list.wide("in place, inverse", inverse).memory(IN_PLACE).says(&["in_place: [true, false]"]);
    list.wide("f16, positions read", typed(Dtype::F16, shape(2, 4, 9, 64, 64)));
    list.wide("bf16, odd pairs", typed(Dtype::Bf16, shape(2, 4, 9, 11, 6))).says(&["edge: true"]);
}

/// Heads by items' widths, k or not, counted positions or read ones, tables or frequencies.
fn forms(x: Dtype, y: Dtype) -> Vec<Problem> {
    let mut all = Vec::new();
    for (head_dim, rotary_dim, offset) in [(64, 48, 0), (22, 12, 2), (9, 6, 1)] {
        for (k, counted, tables) in
            [(false, true, false), (true, false, false), (false, false, true), (true, true, true)]
        {
            let heads = Heads { from: Layout::at(offset), to: Layout::at(offset), ..Heads::new(5) };
            let k = k.then_some(Heads { heads: 2, ..heads });
            let positions = if counted { Positions::Offset(1_000_003) } else { read(false) };
            let angles = if tables { TABLES } else { plain(rotary_dim) };
            let base = shape(2, 5, 7, head_dim, rotary_dim);
            all.push(Problem { x, y, q: heads, k, positions, angles, ..base });
        }
    }
    all
}

/// Every form by every candidate.
fn full(list: &mut List<Problem>) {
    for (x, y) in Dtype::ALL.into_iter().flat_map(|x| Dtype::ALL.map(|y| (x, y))) {
        for problem in forms(x, y) {
            for style in STYLES {
                let problem = Problem { style, ..problem.clone() };
                list.full(format!("{x} to {y}"), problem).seed(2).every_candidate();
            }
        }
    }
}

fn benches(list: &mut List<Problem>) {
    let of = |batch, heads, seq, dtype| {
        typed(dtype, Problem { positions: Positions::Offset(0), ..shape(batch, heads, seq, 128, 128) })
    };
    let f32 = of(4, 32, 512, Dtype::F32);
    list.bench("4x32x512x128 f32", f32.clone()).quick();
    list.bench("4x32x512x128 f16", of(4, 32, 512, Dtype::F16)).quick();
    list.bench("4x32x512x128 f32 interleaved", Problem { style: Style::Interleaved, ..f32 });
    let decode = Problem { positions: Positions::Offset(4095), ..of(32, 32, 1, Dtype::F16) };
    list.bench("32x32x1x128 f16 decode", decode);
    for own in models::ropes() {
        let base = typed(Dtype::F16, shape(1, own.heads, own.tokens, own.dim, own.dim));
        let (k, positions) = (Some(Heads::new(own.kv_heads)), Positions::Offset(own.first as i64));
        list.model(format!("{} f16", own.name), Problem { k, positions, ..base });
    }
    for n in [1, 16, 128, 1024] {
        list.sweep("32 x n x 128 f16", n, of(1, 32, n, Dtype::F16));
    }
}

/// Each dtype as that of inputs and of outputs.
fn composed(list: &mut List<Problem>) {
    for (x, y) in [(Dtype::F32, Dtype::Bf16), (Dtype::F16, Dtype::F16), (Dtype::Bf16, Dtype::F32)] {
        for problem in forms(x, y) {
            list.compose(problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Case;

    #[test]
    fn faults_name_what_is_wrong() {
        let fault = crate::kernel::fault::<Problem>;
        let ones = |shape: &[usize]| Tensor::values(Dtype::F32, shape, &vec![1.0; shape.iter().product()]);
        let x = |shape: &[usize]| Case::new("rope").tensor("x", ones(shape));
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
        assert!(fault(&good().tensor("cos", ones(&[2, 4]))).contains("tensor `sin` is missing"));
        let tables = |rows| good().tensor("cos", ones(&[2, 4])).tensor("sin", ones(&[rows, 4]));
        assert!(fault(&tables(3)).contains("cos and sin alike"));
        assert_eq!(fault(&tables(2)), "understood");
        assert_eq!(fault(&good().tensor("k", ones(&[1, 5, 3, 8]))), "understood");
        assert!(fault(&good().tensor("k", ones(&[1, 2, 4, 8]))).contains("that of x but for h"));
        assert!(fault(&good().tensor("freq_factors", ones(&[3]))).contains("expected [4], positive numbers"));
    }

    #[test]
    fn tokens_may_come_first() {
        // Three tokens of two heads each.
        let x: Vec<f64> = (0..12).map(f64::from).collect();
        let case = Case::new("rope").tensor("x", Tensor::values(Dtype::F32, &[1, 3, 2, 2], &x));
        let given = Problem::read(&mut Reader::new(&case.option("layout", "bshd"))).unwrap();
        assert_eq!(given.problem.q, Heads::bshd(2, 3, 2));
        assert_eq!(given.values["x"], [0.0, 1.0, 4.0, 5.0, 8.0, 9.0, 2.0, 3.0, 6.0, 7.0, 10.0, 11.0]);
        assert_eq!(given.outputs, [Shown { swapped: true, ..Shown::new("y", [1, 3, 2, 2]) }]);
    }
}
