//! VQ lookup, described.

use tileloom::verify::Describe;
use tileloom::vq_lookup::{Combine, Index, Order, OutOfRange, Problem};
use tileloom::weights::{Format, Packed, Scales};
use tileloom::{Caps, Dtype, Layout};

use crate::case::{self, Case, Fault, Options, Reader, Shown, Tensor};
use crate::kernel::{Access, Arg, Cost, Given, List, Listed, Values};
use crate::models;
use crate::packed::FORMATS;
use crate::weights;

/// Words of options, with their values.
pub const COMBINE: [(&str, Combine); 2] = [("concat", Combine::Concat), ("sum", Combine::Sum)];
pub const OUT_OF_RANGE: [(&str, OutOfRange); 3] =
    [("zero", OutOfRange::Zero), ("first", OutOfRange::First), ("nearest", OutOfRange::Nearest)];
pub const ORDER: [(&str, Order); 2] =
    [("channels_last", Order::ChannelsLast), ("channels_first", Order::ChannelsFirst)];

fn shape(batch: usize, spatial: usize, books: usize, num_codes: usize, code_dim: usize) -> Problem {
    Problem { batch, spatial, books, num_codes, code_dim, bad: Some(0), ..Problem::default() }
}

fn typed(dtype: Dtype, problem: Problem) -> Problem {
    Problem { x: dtype, y: dtype, ..problem }
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    // Of a workgroup that shares its vectors.
    const RUNTIME: &'static [&'static str] = &["rows"];

    fn list(list: &mut List<Problem>) {
        narrow(list);
        wide(list);
        benches(list);
        composed(list);
    }

    fn cost(&self) -> Cost {
        let elements = (self.positions() * self.channels()) as u64;
        if let Some(format) = &self.format {
            let words = format.code_words(self.code_dim) + format.scale_words(self.code_dim) + 1;
            let bytes = elements * self.y.bytes() + self.positions() as u64 * 4 * words;
            return Cost { flops: 0.0, bytes: bytes as f64 };
        }
        let bytes = elements * (self.x.bytes() + self.y.bytes()) + self.positions() as u64 * 4;
        Cost { flops: 0.0, bytes: bytes as f64 }
    }

    fn shared() -> &'static [&'static str] {
        &["codebook", "scales"]
    }

    fn options(&mut self, options: &mut Options) -> std::result::Result<(), Fault> {
        options.word("combine", &mut self.combine, &COMBINE)?;
        options.word("out_of_range", &mut self.out_of_range, &OUT_OF_RANGE)?;
        options.word("order", &mut self.order, &ORDER)?;
        options.value("out_dtype", &mut self.y)?;
        options.value("batch", &mut self.batch)?;
        options.value("indices_layout", &mut self.indices)?;
        options.value("codebook_layout", &mut self.codebook)?;
        options.value("y_layout", &mut self.y_layout)?;
        options.value("bad_offset", &mut self.bad)
    }

    fn read(reader: &mut Reader) -> std::result::Result<Given<Problem>, Fault> {
        if weights::given(reader) {
            return read_packed(reader);
        }
        let (codebook, x) = reader.values("codebook", "[num_codes, dim] or [books, num_codes, dim]")?;
        let [books, num_codes, code_dim] = codebook_shape(codebook)?;
        let (indices, index, values) = read_indices(reader, "indices", "[.., (books)]")?;
        let mut shape = indices.shape.clone();
        if codebook.shape.len() == 3 && shape.pop() != Some(books) {
            return Err(case::bad_shape("indices", indices, format!("[.., {books}], one index per book")));
        }
        let mut problem = Problem { books, num_codes, code_dim, x, y: x, index, ..Problem::default() };
        problem.options(&mut Options::Read(reader))?;
        let positions = values.len() / books;
        if problem.batch == 0 || !positions.is_multiple_of(problem.batch) {
            let expected = format!("a divisor of {positions}");
            return Err(Fault::BadOption { name: "batch", value: problem.batch.to_string(), expected });
        }
        problem.spatial = positions / problem.batch;
        match problem.order {
            Order::ChannelsLast => shape.push(problem.channels()),
            Order::ChannelsFirst => shape = vec![problem.batch, problem.channels(), problem.spatial],
        }
        let values = [("indices", values), ("codebook", codebook.numbers().unwrap_or_default())];
        let bad = problem.bad.map(|_| Shown::new("bad", [1]));
        let outputs = [Shown::new("y", shape)].into_iter().chain(bad).collect();
        Ok(Given { problem, values: values.into(), outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        match arg.name {
            "indices" => vec![self.positions(), self.books],
            "codebook" => vec![self.books, self.num_codes, self.code_dim],
            "y" if self.order == Order::ChannelsFirst => vec![self.batch, self.channels(), self.spatial],
            "y" => vec![self.positions(), self.channels()],
            _ => arg.view.shape(),
        }
    }

    /// Packed weights as a checkpoint has them.
    fn write(&self, values: &Values) -> Case {
        let args = self.args();
        let weights = |name| self.format.is_some() && ["codebook", "scales"].contains(&name);
        let inputs = args.iter().filter(|arg| arg.access != Access::Write && !weights(arg.name));
        let case = inputs.fold(self.header(), |case, arg| case.tensor(arg.name, self.tensor(arg, &values[arg.name])));
        match &self.format {
            None => case,
            Some(format) => weights::write(case, &self.packed(format, values)),
        }
    }
}

trait PackedBook {
    /// The packed weights of its arguments.
    fn packed(&self, format: &Format, values: &Values) -> Packed;
}

impl PackedBook for Problem {
    fn packed(&self, format: &Format, values: &Values) -> Packed {
        weights::packed(*format, self.num_codes, self.code_dim, &values["codebook"], &values["scales"])
    }
}

/// A case whose codebook is packed weights.
fn read_packed(reader: &mut Reader) -> std::result::Result<Given<Problem>, Fault> {
    let Packed { format, n, k, codes, scales } = weights::read(reader, None)?;
    let (indices, index, values) = read_indices(reader, "indices", "[..]")?;
    let format = Some(format);
    let mut problem = Problem { spatial: values.len(), num_codes: n, code_dim: k, index, format, ..Problem::default() };
    problem.options(&mut Options::Read(reader))?;
    if problem.batch == 0 || !values.len().is_multiple_of(problem.batch) {
        let expected = format!("a divisor of {}", values.len());
        return Err(Fault::BadOption { name: "batch", value: problem.batch.to_string(), expected });
    }
    problem.spatial = values.len() / problem.batch;
    let shape: Vec<usize> = indices.shape.iter().copied().chain([k]).collect();
    let bad = problem.bad.map(|_| Shown::new("bad", [1]));
    let outputs = [Shown::new("y", shape)].into_iter().chain(bad).collect();
    let values = [("indices", values), ("codebook", weights::numbers(&codes)), ("scales", weights::numbers(&scales))];
    Ok(Given { problem, values: values.into(), outputs, known: Values::new() })
}

/// A tensor of indices that must be there, and its values as they are stored.
///
/// # Errors
/// [`Fault::MissingTensor`] and [`Fault::BadDtype`].
pub fn read_indices<'a>(
    reader: &mut Reader<'a>,
    name: &'static str,
    expected: &'static str,
) -> std::result::Result<(&'a Tensor, Index, Vec<f64>), Fault> {
    let tensor = reader.tensor(name, expected)?;
    let values = case::integers(name, tensor)?;
    let index = match tensor.dtype.to_string().as_str() {
        "I32" => Index::I32,
        "U16" => Index::U16,
        _ => Index::U32,
    };
    // Of 64 bits, all that do not fit in 32 are out of range alike.
    let word = |&v: &i64| if index == Index::U32 { u32::try_from(v).unwrap_or(u32::MAX).into() } else { v as f64 };
    Ok((tensor, index, values.iter().map(word).collect()))
}

/// `[num_codes, dim]` or `[books, num_codes, dim]`.
pub fn codebook_shape(tensor: &Tensor) -> std::result::Result<[usize; 3], Fault> {
    match tensor.shape[..] {
        [num_codes, dim] if num_codes > 0 && dim > 0 => Ok([1, num_codes, dim]),
        [books, num_codes, dim] if books > 0 && num_codes > 0 && dim > 0 => Ok([books, num_codes, dim]),
        _ => {
            let expected = "[num_codes, dim] or [books, num_codes, dim], none of them 0";
            Err(case::bad_shape("codebook", tensor, expected))
        }
    }
}

fn narrow(list: &mut List<Problem>) {
    for (batch, spatial, books, num_codes, code_dim) in
        [(1, 1, 1, 1, 4), (2, 9, 1, 13, 64), (1, 300, 3, 1000, 32), (3, 65, 2, 7, 260)]
    {
        for (_, out_of_range) in OUT_OF_RANGE {
            for index in [Index::U32, Index::I32] {
                let problem = Problem { out_of_range, index, ..shape(batch, spatial, books, num_codes, code_dim) };
                list.narrow("f32, sizes, books, garbage indices", problem).says(&["vec: 4", "count: true"]);
            }
        }
    }
    for dtype in [Dtype::F16, Dtype::Bf16] {
        let problem = typed(dtype, shape(2, 33, 2, 19, 64));
        list.narrow("f16 and bf16 move in words", problem).seed(3).says(&["x: F32, y: F32", "vec: 4"]);
    }
    for (code_dim, books, offset) in [(7, 1, 1), (5, 3, 0), (1, 1, 0)] {
        let layout = Layout::at(offset);
        let problem = Problem { y_layout: layout, codebook: layout, ..shape(2, 13, books, 11, code_dim) };
        list.narrow("16-bit rows that share words", typed(Dtype::F16, problem)).seed(5).says(&["edge: true"]);
    }
    for (_, out_of_range) in OUT_OF_RANGE {
        let problem = Problem { combine: Combine::Sum, out_of_range, ..shape(2, 21, 5, 40, 48) };
        list.narrow("books added up", problem).seed(6).says(&["sum: true", "vec: 4"]);
    }
    for (batch, spatial, books, code_dim) in [(2, 9, 2, 20), (1, 1, 1, 3), (3, 70, 1, 64)] {
        let problem = Problem { order: Order::ChannelsFirst, ..shape(batch, spatial, books, 17, code_dim) };
        list.narrow("channels first", problem).seed(7).says(&["planes: true"]);
    }
    // Books of indices in planes, rows of y apart, every book the same.
    let problem = Problem {
        index: Index::U16,
        indices: Layout::strided(3, [1, 50]),
        codebook: Layout::strided(8, [0, 36]),
        y_layout: Layout::strided(4, [2000, 100]),
        ..shape(2, 17, 3, 29, 32)
    };
    list.narrow("strides, a shared book, u16 indices", problem).seed(8).says(&["short: true", "vec: 4"]);
    let name = "rows longer than a round of turns, batches apart";
    for (problem, word) in [
        (shape(2, 9, 1, 13, 1100), "parts: 3,"),
        (Problem { y_layout: Layout::strided(4, [4000, 300]), ..shape(2, 9, 3, 13, 100) }, "parts: 1,"),
        (typed(Dtype::F16, shape(2, 9, 1, 13, 56)), "turns: 1,"),
        (Problem { y: Dtype::Bf16, ..shape(1, 301, 2, 13, 64) }, "turns: 2,"),
    ] {
        list.narrow(name, problem).seed(12);
        // How many turns follows from the subgroup's width; 8 is what the words stand for.
        list.narrow(format!("{name}: {word}"), problem).seed(12).says(&[word]).unless(|caps| {
            let eight = caps.trusted_subgroup_size().unwrap_or(8) == 8;
            let software = caps.class() == tileloom::caps::Class::Software;
            (!eight || !software).then_some("a CPU with subgroups of 8")
        });
    }
    let nothing = Problem { bad: None, ..shape(1, 0, 1, 8, 8) };
    list.narrow("nothing to compute", nothing);
    // One pipeline for all formats.
    for (_, format) in FORMATS {
        list.narrow("packed weights", book(format, 13)).seed(14).exact().says(&["vq_lookup_packed", "vec: 4"]);
    }
    let odd = Problem { y_layout: Layout::at(1), out_of_range: OutOfRange::First, ..book(Format::Q4_1, 9) };
    list.narrow("packed weights, rows that share words", typed(Dtype::F16, odd)).seed(15).says(&["edge: true"]);
    list.narrow("packed weights, no index", Problem { spatial: 0, bad: None, ..book(Format::Q8_0, 9) });
}

/// Packed weights of some rows, with rows of padding; k is what the format has of least convenience.
fn book(format: Format, num_codes: usize) -> Problem {
    let code_dim = match format.scales {
        Scales::K | Scales::K6 => 512,
        Scales::Flat => 100,
        Scales::Float if format.group == 64 => 192,
        Scales::Block => 260,
        _ if format.order > 0 => 140,
        Scales::HalfZero => 200,
        _ => 160,
    };
    Problem { format: Some(format), ..shape(2, 23, 1, num_codes, code_dim) }
}

fn no_software(caps: &Caps) -> Option<&'static str> {
    (caps.class() != tileloom::caps::Class::Software).then_some("a CPU")
}

fn wide(list: &mut List<Problem>) {
    for (x, y) in [(Dtype::F16, Dtype::F32), (Dtype::F32, Dtype::Bf16), (Dtype::Bf16, Dtype::Bf16)] {
        for order in [Order::ChannelsLast, Order::ChannelsFirst] {
            for code_dim in [16, 9] {
                let problem = Problem { x, y, combine: Combine::Sum, order, ..shape(2, 15, 3, 10, code_dim) };
                list.wide("dtypes", problem).seed(9).says(&["count: true"]);
            }
        }
    }
    for problem in [shape(2, 33, 2, 19, 64), typed(Dtype::F16, shape(2, 13, 1, 11, 7))] {
        list.wide("checked modules give the same", problem).seed(4).checked();
    }
    list.wide("an arena", shape(2, 33, 2, 19, 64)).seed(4).arena();
    for (name, format) in FORMATS {
        for interleave in [1, 8] {
            let format = Format { interleave, ..format };
            for (y, offset) in [(Dtype::F32, 0), (Dtype::F32, 3), (Dtype::F16, 2), (Dtype::Bf16, 0)] {
                let of = book(format, 130);
                let strided = Layout::strided(offset, [30 * (of.code_dim + 8), of.code_dim + 8]);
                let problem = Problem { y, y_layout: strided, index: Index::I32, ..of };
                list.wide(format!("packed weights, {name}"), problem).seed(16);
            }
        }
        // Rows that no index names hold NaN, and places and columns of an order garbage.
        let problem = Problem { out_of_range: OutOfRange::Zero, ..book(format, 24) };
        if !format.by_matrix() {
            list.wide("packed weights, NaN in what is not asked for", problem).seed(17).exact().set(hide_odd_rows);
        }
        list.wide("packed weights, checked modules give the same", book(format, 24)).seed(17).checked();
    }
    list.wide("packed weights, an arena", book(Format::Q4_0, 24)).seed(18).arena();
    let long = Problem { spatial: 3000, ..book(Format::Q6_K, 700) };
    list.wide("packed weights, many rows", long).seed(19).unless(no_software);
}

/// Indices name even rows; the scales of odd ones are NaN, or what gives the largest values.
fn hide_odd_rows(problem: &Problem, values: &mut Values) {
    let format = problem.format.expect("packed weights");
    let (wide, words) = (format.interleave as usize, format.scale_words(problem.code_dim) as usize);
    let first = format.order_words(problem.code_dim) as usize;
    let scales = values.get_mut("scales").expect("scales");
    for (i, word) in scales[first..].iter_mut().enumerate() {
        let row = i / wide / words * wide + i % wide;
        if row % 2 == 1 {
            *word = f64::from(u32::MAX);
        }
    }
    let indices = values.get_mut("indices").expect("indices");
    for index in indices.iter_mut().filter(|index| **index >= 0.0 && **index < problem.num_codes as f64) {
        *index -= *index % 2.0;
    }
}

fn benches(list: &mut List<Problem>) {
    let of = |spatial, num_codes, code_dim, dtype| {
        typed(dtype, Problem { bad: None, ..shape(1, spatial, 1, num_codes, code_dim) })
    };
    let small = of(65_536, 8192, 64, Dtype::F32);
    list.bench("65536 of 8192x64 f32", small).quick();
    list.bench("65536 of 16384x256 f32", of(65_536, 16_384, 256, Dtype::F32));
    list.bench("8192 of 32000x1024 f16", of(8192, 32_000, 1024, Dtype::F16));
    list.bench("65536 of 8192x64 f32 channels first", Problem { order: Order::ChannelsFirst, ..small });
    for (name, n, num_codes, code_dim) in models::codebooks() {
        list.model(name, of(n, num_codes, code_dim, Dtype::F32));
    }
    for n in [16, 64, 256, 1024] {
        list.sweep("16384 of 8192 x n f32", n, of(16_384, 8192, n, Dtype::F32));
    }
    for (name, format) in [("q4_0", Format::Q4_0), ("q8_0", Format::Q8_0), ("q6_k", Format::Q6_K)] {
        let k = if format.scales == Scales::K6 { 768 } else { 576 };
        let packed = Problem { format: Some(format), ..of(4096, 49_152, k, Dtype::F32) };
        list.bench(format!("4096 of 49152x{k} {name}"), packed);
    }
}

fn composed(list: &mut List<Problem>) {
    for (x, y) in
        [(Dtype::F32, Dtype::F32), (Dtype::F16, Dtype::F16), (Dtype::Bf16, Dtype::Bf16), (Dtype::F16, Dtype::F32)]
    {
        for (code_dim, offset) in [(64, 0), (6, 2), (7, 1)] {
            for (combine, order) in [
                (Combine::Concat, Order::ChannelsLast),
                (Combine::Sum, Order::ChannelsLast),
                (Combine::Concat, Order::ChannelsFirst),
            ] {
                let (layout, index) = (Layout::at(offset), if offset == 0 { Index::U32 } else { Index::U16 });
                let base = Problem { combine, order, index, x, y, ..shape(1, 100, 2, 50, code_dim) };
                list.compose(Problem { codebook: layout, y_layout: layout, ..base });
            }
        }
    }
    for y in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        for offset in [0, 1, 2] {
            list.compose(Problem { y, y_layout: Layout::at(offset), ..book(Format::Q4_K, 9) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_name_what_is_wrong() {
        let of = |codebook: &[usize], indices: &[usize]| {
            let zeros = |shape: &[usize]| Tensor::values(Dtype::F32, shape, &vec![0.0; shape.iter().product()]);
            let indices = Tensor::indices(indices, &vec![0; indices.iter().product()]);
            Case::new("vq_lookup").tensor("codebook", zeros(codebook)).tensor("indices", indices)
        };
        let fault = crate::kernel::fault::<Problem>;
        assert_eq!(fault(&of(&[5, 4], &[3])), "understood");
        assert_eq!(fault(&of(&[2, 5, 4], &[7, 3, 2])), "understood");
        assert!(fault(&of(&[2, 5, 4], &[3])).contains("one index per book"));
        assert!(fault(&of(&[0, 4], &[3])).contains("none of them 0"));
        assert!(fault(&of(&[5, 4], &[3]).option("combine", "mean")).contains("concat or sum"));
        assert!(fault(&of(&[5, 4], &[3]).option("batch", "2")).contains("a divisor of 3"));
    }
}
