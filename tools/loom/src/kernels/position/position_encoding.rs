//! Position encodings, described.

use tileloom::position_encoding::{Axis, Encoding, Order, Positions, Problem, Table, Wave};
use tileloom::rope::Frequencies;
use tileloom::verify::Describe;
use tileloom::verify::position::frequencies;
use tileloom::verify::position::position_encoding::tables;
use tileloom::{Dtype, Layout};

use super::{IN_PLACE, bytes, case_shape, last_batch, read_positions};
use crate::case::{self, Fault, OptionValue, Options, Reader, Shown};
use crate::kernel::{Arg, Cost, Given, List, Listed, Values};

/// Positions from a buffer.
pub fn read(signed: bool) -> Positions {
    Positions::Buffer { signed, layout: Layout::default() }
}

pub fn sequence(batch: usize, cols: usize, dim: usize) -> Problem {
    let encoding = Encoding::sequence(&frequencies(dim).per_pair, Order::Interleaved);
    Problem { batch, cols, dim, scale: 1.5, encoding, ..Problem::default() }
}

fn picture(dim: usize, order: Order, first: Axis) -> Encoding {
    Encoding::picture(&frequencies(dim / 2).per_pair, order, first)
}

pub fn learned(dtype: Dtype, len: usize, rows: Option<usize>, offset: usize) -> Encoding {
    let table = |len| Table { len, offset };
    Encoding::Learned { dtype, table: table(len), row_table: rows.map(table) }
}

fn typed(dtype: Dtype, problem: Problem) -> Problem {
    Problem { x: dtype, y: dtype, ..problem }
}

const ORDERS: [(&str, Order); 2] = [("interleaved", Order::Interleaved), ("halves", Order::Halves)];

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

    /// Scale and sum; angles count nothing. Waves are read once, and rows of tables once per token of a batch.
    fn cost(&self) -> Cost {
        let token_elements = (self.rows * self.cols * self.dim) as f64;
        let encoding = match &self.encoding {
            Encoding::Waves(waves) => 8.0 * waves.len() as f64,
            learned => tables(learned).iter().map(|(_, _, dtype)| token_elements * dtype.bytes() as f64).sum(),
        };
        let args = self.args();
        let others = args.iter().filter(|arg| !arg.name.ends_with("table"));
        Cost { flops: 2.0 * self.batch as f64 * token_elements, bytes: bytes(others) + encoding }
    }

    fn shipped() -> Vec<String> {
        vec!["native_f16=true".into(), "native_f16=false".into()]
    }

    fn shared() -> &'static [&'static str] {
        &["positions", "table", "row_table"]
    }

    /// The last batch; benchmarks count their positions.
    fn parts(&self, values: Values, outputs: Values) -> Vec<(Problem, Values, Values)> {
        let last = |values| last_batch(self.batch, &["x", "y"], values);
        vec![(Problem { batch: 1, ..self.clone() }, last(values), last(outputs))]
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.value("scale", &mut self.scale)?;
        options.value("out_dtype", &mut self.y)?;
        options.value("x_layout", &mut self.x_layout)?;
        options.value("y_layout", &mut self.y_layout)?;
        match &mut self.positions {
            Positions::From { col, row } => {
                options.value("first_col", col)?;
                options.value("first_row", row)?;
            }
            Positions::Buffer { layout, .. } => options.value("positions_layout", layout)?,
        }
        match &mut self.encoding {
            // In place of those that follow from `axes`, `base`, `order` and `first`.
            Encoding::Waves(waves) => options.value("waves", waves),
            Encoding::Learned { table, row_table, .. } => {
                options.value("table_offset", &mut table.offset)?;
                row_table.iter_mut().try_for_each(|table| options.value("row_table_offset", &mut table.offset))
            }
        }
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        const SHAPE: &str = "[b, tokens, dim] or [b, rows, cols, dim]";
        let (x, dtype) = reader.values("x", SHAPE)?;
        let [batch, rows, cols, dim] = match x.shape[..] {
            [batch, tokens, dim] => [batch, 1, tokens, dim],
            [batch, rows, cols, dim] => [batch, rows, cols, dim],
            _ => return Err(case::bad_shape("x", x, SHAPE)),
        };
        let mut values = Values::from([("x", x.numbers().unwrap_or_default())]);
        let encoding = match read_tables(reader, dim, &mut values)? {
            Some(learned) => learned,
            None => read_waves(reader, dim, if x.shape.len() == 4 { ["2", "1"] } else { ["1", "2"] })?,
        };
        let mut problem = typed(dtype, Problem { batch, rows, cols, dim, encoding, ..Problem::default() });
        if let Some(tensor) = reader.optional("positions") {
            let tokens = [2, batch, rows * cols];
            let expected = if problem.encoding.axes() == 2 { &tokens[..] } else { &tokens[1..] };
            if tensor.shape != expected {
                return Err(case::bad_shape("positions", tensor, format!("{expected:?}")));
            }
            let (signed, positions) = read_positions(tensor)?;
            problem.positions = read(signed);
            values.insert("positions", positions);
        }
        problem.options(&mut Options::Read(reader))?;
        Ok(Given { problem, values, outputs: vec![Shown::new("y", x.shape.clone())], known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        case_shape(arg, self.encoding.axes())
    }
}

/// As in `sin 0.01 col`.
impl OptionValue for Wave {
    const EXPECTED: &'static str = "sin or cos, a frequency, col or row";

    fn parse(text: &str) -> Option<Wave> {
        let words: Vec<_> = text.split_whitespace().collect();
        let [kind, frequency, axis] = words[..] else { return None };
        let cosine = ["sin", "cos"].iter().position(|&word| word == kind)? == 1;
        let axis = [Axis::Col, Axis::Row][["col", "row"].iter().position(|&word| word == axis)?];
        Some(Wave { frequency: OptionValue::parse(frequency)?, cosine, axis })
    }

    fn text(&self) -> String {
        let axis = if self.axis == Axis::Row { "row" } else { "col" };
        format!("{} {} {axis}", if self.cosine { "cos" } else { "sin" }, self.frequency)
    }
}

/// The learned tables of a case file.
fn read_tables(reader: &mut Reader, dim: usize, values: &mut Values) -> Result<Option<Encoding>, Fault> {
    let Some(table) = reader.optional("table") else { return Ok(None) };
    let dtype = case::float("table", table)?;
    let mut take = |name, tensor: &case::Tensor| match (&tensor.shape[..], tensor.float()) {
        (&[len, cols], Some(own)) if len > 0 && cols == dim && own == dtype => {
            values.insert(name, tensor.numbers().unwrap_or_default());
            Ok(Table { len, offset: 0 })
        }
        _ => Err(case::bad_shape(name, tensor, format!("[len, {dim}] with a row at least, as {dtype}"))),
    };
    let table = take("table", table)?;
    let row_table = reader.optional("row_table").map(|tensor| take("row_table", tensor)).transpose()?;
    Ok(Some(Encoding::Learned { dtype, table, row_table }))
}

/// The waves of a case file; `axes` are the words of their number, the default first.
fn read_waves(reader: &mut Reader, dim: usize, axes: [&'static str; 2]) -> Result<Encoding, Fault> {
    if let Some(waves) = reader.option("waves", None)? {
        return Ok(Encoding::Waves(waves));
    }
    let axes = if reader.word("axes", &axes)? == "2" { 2 } else { 1 };
    let bad = |name, value: String, expected: String| Fault::BadOption { name, value, expected };
    if !dim.is_multiple_of(2 * axes) {
        return Err(bad(
            "axes",
            axes.to_string(),
            format!("one that fits x, whose dim {dim} is no multiple of {}", 2 * axes),
        ));
    }
    let each = dim / axes;
    let frequencies = match reader.optional("frequencies") {
        Some(tensor) => {
            case::float("frequencies", tensor)?;
            let numbers = tensor.numbers().unwrap_or_default();
            if tensor.shape != [each / 2] || numbers.iter().any(|f| !(0.0..=65_536.0).contains(f)) {
                let expected = format!("[{}], numbers from 0 to 65536", each / 2);
                return Err(case::bad_shape("frequencies", tensor, expected));
            }
            numbers
        }
        None => {
            let base: f64 = reader.option("base", 10_000.0)?;
            let refused = |error| bad("base", base.to_string(), format!("what {error} does not refuse"));
            // Without elements, there is nothing to add to.
            Frequencies::new(each.max(2), base).map_err(refused)?.per_pair[..each / 2].to_vec()
        }
    };
    let mut order = Order::Interleaved;
    Options::Read(reader).word("order", &mut order, &ORDERS)?;
    if axes == 1 {
        return Ok(Encoding::sequence(&frequencies, order));
    }
    let first = if reader.word("first", &["col", "row"])? == "row" { Axis::Row } else { Axis::Col };
    Ok(Encoding::picture(&frequencies, order, first))
}

/// Eight pipelines.
fn narrow(list: &mut List<Problem>) {
    for (batch, cols, dim) in [(1, 1, 4), (3, 7, 64), (37, 5, 16), (2, 130, 40)] {
        let mut counted = |seed, problem| {
            let entry = list.narrow("sequences and pictures, counted", problem).seed(seed);
            entry.says(&["vec: 4, x: F32, y: F32", "table: None"]);
        };
        for (_, order) in ORDERS {
            let encoding = Encoding::sequence(&frequencies(dim).per_pair, order);
            let positions = Positions::From { col: 1_000_000, row: 0 };
            counted(7, Problem { encoding, positions, ..sequence(batch, cols, dim) });
            for first in [Axis::Col, Axis::Row] {
                let positions = Positions::From { col: -3, row: 70_000 };
                let encoding = picture(dim, order, first);
                counted(9, Problem { rows: 6, encoding, positions, ..sequence(batch, cols, dim) });
            }
        }
    }
    for signed in [false, true] {
        let mut of = |problem| {
            list.narrow("positions of every size and sign", problem).seed(5).says(&["table: None", "positions: true"]);
        };
        of(Problem { positions: read(signed), ..sequence(3, 131, 64) });
        // By two axes, batches in the other order; all batches at one position.
        for layout in [Layout::strided(5, [20, 40]), Layout::strided(1, [20, 0])] {
            let (positions, encoding) = (Positions::Buffer { signed, layout }, picture(64, Order::Halves, Axis::Col));
            of(Problem { rows: 2, positions, encoding, ..sequence(3, 9, 64) });
        }
    }
    for (rows, words) in [(None, &["table: Some(F32)"][..]), (Some(5), &["table: Some(F32)", "rows: true"])] {
        for signed in [false, true] {
            let encoding = learned(Dtype::F32, 9, rows, 8);
            let problem = Problem { rows: 3, encoding, positions: read(signed), ..sequence(2, 11, 64) };
            list.narrow("learned, hostile positions", problem).seed(8).says(words);
        }
    }
    for (dim, offset) in [(2, 0), (6, 0), (64, 1), (10, 3)] {
        let (x_layout, y_layout) = (Layout::at(offset), Layout::at(2 * offset));
        let problem = Problem { x_layout, y_layout, ..sequence(3, 5, dim) };
        list.narrow("odd sizes and offsets", problem).seed(3).says(&["vec: 1, x: F32, y: F32", "table: None"]);
    }
    let entry = list.narrow("f16, in place", typed(Dtype::F16, sequence(3, 17, 72))).seed(8);
    entry.memory(IN_PLACE).says(&["in_place: true", "table: None"]);
    // Seven elements per token: by batch a token starts in either half of a word.
    let odd = Problem { dim: 7, encoding: learned(Dtype::Bf16, 9, None, 1), ..sequence(5, 9, 8) };
    let odd = typed(Dtype::Bf16, odd);
    let name = "bf16 tokens that share words";
    list.narrow(name, odd.clone()).seed(3).says(&["edge: true", "table: Some(Bf16Packed)"]);
    list.narrow(name, odd).seed(3).memory(IN_PLACE).says(&["edge: true", "in_place: true"]);
    for (batch, cols) in [(0, 8), (8, 0)] {
        list.narrow("nothing to compute", sequence(batch, cols, 8));
    }
}

fn wide(list: &mut List<Problem>) {
    let encoding = learned(Dtype::F32, 4, Some(2), 0);
    let read_tables = Problem { rows: 3, positions: read(true), encoding, ..sequence(2, 5, 64) };
    for problem in [sequence(3, 17, 64), read_tables] {
        list.wide("checked modules give the same", problem).checked();
    }
    for (x, y, dim) in [(Dtype::F16, Dtype::F32, 12), (Dtype::F32, Dtype::Bf16, 6), (Dtype::Bf16, Dtype::F16, 9)] {
        // Tokens within rows of 20, batches innermost.
        let (x_layout, y_layout) = (Layout::strided(4, [20, 500, 100]), Layout::strided(8, [24, 600, 120]));
        let encoding = learned(x, 30, Some(30), 0);
        let problem = Problem { rows: 3, dim, x, y, x_layout, y_layout, encoding, ..sequence(4, 4, 8) };
        list.wide("strided views, dtypes of their own", problem).seed(6).says(&["rows: true"]);
    }
    list.wide("f16, odd words", typed(Dtype::F16, sequence(3, 37, 6)));
    let encoding = learned(Dtype::F32, 37, None, 0);
    list.wide("learned, counted", Problem { encoding, ..sequence(3, 37, 64) }).says(&["positions: false"]);
}

/// Widths of chunks by encodings and sources of positions.
fn forms(x: Dtype, y: Dtype) -> Vec<Problem> {
    let mut all = Vec::new();
    for (dim, offset) in [(64, 0), (10, 2), (6, 1)] {
        let waves = sequence(1, 1, dim).encoding;
        for encoding in [waves, learned(x, 40, None, 0), learned(y, 40, Some(2), 0)] {
            for positions in [Positions::default(), read(true)] {
                let (encoding, y_layout) = (encoding.clone(), Layout::at(offset));
                all.push(Problem { rows: 3, x, y, y_layout, positions, encoding, ..sequence(5, 7, dim) });
            }
        }
    }
    all
}

fn full(list: &mut List<Problem>) {
    for (x, y) in Dtype::ALL.into_iter().flat_map(|x| Dtype::ALL.map(|y| (x, y))) {
        for problem in forms(x, y) {
            list.full(format!("{x} to {y}"), problem).seed(2);
        }
    }
}

fn benches(list: &mut List<Problem>) {
    let of = |batch, dtype| typed(dtype, Problem { scale: 1.0, ..sequence(batch, 1024, 1024) });
    list.bench("8x1024x1024 f32", of(8, Dtype::F32)).quick();
    list.bench("8x1024x1024 f16", of(8, Dtype::F16));
    list.bench("1x1024x1024 f32", of(1, Dtype::F32));
    let encoding = learned(Dtype::F32, 1024, None, 0);
    list.bench("8x1024x1024 f32 learned", Problem { encoding, ..of(8, Dtype::F32) });
    let encoding = picture(768, Order::Halves, Axis::Col);
    let patches = Problem { batch: 16, rows: 14, cols: 14, dim: 768, encoding, ..Problem::default() };
    list.bench("16x14x14x768 f32 picture", patches);
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
    use crate::case::{Case, Tensor};

    fn ones(shape: &[usize]) -> Tensor {
        Tensor::values(Dtype::F32, shape, &vec![1.0; shape.iter().product()])
    }

    fn x(shape: &[usize]) -> Case {
        Case::new("position_encoding").tensor("x", ones(shape))
    }

    #[test]
    fn faults_name_what_is_wrong() {
        let fault = crate::kernel::fault::<Problem>;
        let good = || x(&[2, 3, 8]);
        assert_eq!(fault(&good()), "understood");
        assert!(fault(&x(&[3, 8])).contains("expected [b, tokens, dim] or [b, rows, cols, dim]"));
        assert!(fault(&x(&[2, 3, 7])).contains("whose dim 7 is no multiple of 2"));
        assert!(fault(&x(&[2, 3, 3, 6])).contains("option `axes` is \"2\""));
        assert_eq!(fault(&x(&[2, 3, 3, 6]).option("axes", 1)), "understood");
        assert!(fault(&good().option("first", "row")).starts_with("option `first` is not known"));
        assert!(fault(&good().option("base", -1)).contains("option `base`"));
        assert!(fault(&good().tensor("frequencies", ones(&[3]))).contains("expected [4], numbers from 0 to 65536"));
        let given = good().tensor("frequencies", ones(&[4]));
        assert!(fault(&given.option("base", 2)).starts_with("option `base` is not known"));
        let positions = |shape: &[usize]| Tensor::indices(shape, &vec![0; shape.iter().product()]);
        assert_eq!(fault(&good().tensor("positions", positions(&[2, 3]))), "understood");
        assert!(fault(&good().tensor("positions", positions(&[2, 2, 3]))).contains("expected [2, 3]"));
        assert!(fault(&good().tensor("row_table", ones(&[5, 8]))).contains("`row_table` is not used"));
        let learned = || good().tensor("table", ones(&[5, 8]));
        assert_eq!(fault(&learned()), "understood");
        assert!(fault(&learned().option("order", "halves")).contains("option `order` is not known"));
        assert!(fault(&learned().tensor("row_table", ones(&[5, 7]))).contains("expected [len, 8]"));
        let two = learned().tensor("row_table", ones(&[5, 8]));
        assert_eq!(fault(&two.tensor("positions", positions(&[2, 2, 3]))), "understood");
    }

    #[test]
    fn encodings_are_those_of_the_options() {
        let waves = |case: &Case| {
            let problem = Problem::read(&mut Reader::new(case)).map(|given| given.problem.encoding);
            match problem {
                Ok(Encoding::Waves(waves)) => waves.text(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(waves(&x(&[1, 2, 4])), "sin 1 col,cos 1 col,sin 0.01 col,cos 0.01 col");
        let halves = x(&[1, 2, 4]).option("order", "halves").option("base", 100);
        assert_eq!(waves(&halves), "sin 1 col,sin 0.1 col,cos 1 col,cos 0.1 col");
        let rows = x(&[1, 2, 2, 4]).option("first", "row");
        assert_eq!(waves(&rows), "sin 1 row,cos 1 row,sin 1 col,cos 1 col");
        assert_eq!(waves(&x(&[1, 2, 2]).option("waves", "cos 0.5 row, sin 3 col")), "cos 0.5 row,sin 3 col");
    }
}
