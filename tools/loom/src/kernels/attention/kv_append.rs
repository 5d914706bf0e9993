//! New keys and values into a cache, described.

use tileloom::kv_append::{Cache, Norm, Problem, Query, Rotation};
use tileloom::norm::Kind;
use tileloom::rope::{Angles, Axes, Frequencies, Positions, Style};
use tileloom::verify::Describe;
use tileloom::verify::attention::kv_append::{norm_vectors, norms_range};
use tileloom::{Dtype, Layout};

use crate::case::{self, Case, Fault, Options, Reader, Shown, Tensor};
use crate::kernel::{Arg, Cost, Given, List, Listed, Values};
use crate::kernels::position::rope as ropes;

/// `pages` of 16 places.
fn shape(tokens: usize, kv_heads: usize, head_dim: usize, pages: usize) -> Problem {
    let value_dim = head_dim;
    Problem { tokens, kv_heads, head_dim, value_dim, pages, page_size: 16, skipped: Some(0), ..Problem::default() }
}

fn stored(x: Dtype, cache: Cache, problem: Problem) -> Problem {
    Problem { x, cache, ..problem }
}

/// Of base 10,000, by signed positions.
fn rotation(rotary_dim: usize, style: Style) -> Option<Rotation> {
    let angles = Frequencies::new(rotary_dim, 10_000.0).expect("an even number");
    let (positions, axes, angles) = (Layout::default(), Axes::One, Angles::Frequencies(angles));
    Some(Rotation { rotary_dim, style, signed: true, positions, axes, angles })
}

fn query(heads: usize) -> Option<Query> {
    Some(Query { heads, from: Layout::default(), to: Layout::default() })
}

/// The Problem with a norm that has all these vectors, one after the other from `offset` on.
fn normed(mut problem: Problem, mut norm: Norm, names: &[&str], offset: usize) -> Problem {
    for (name, at) in [
        ("q_weight", &mut norm.q_weight),
        ("q_bias", &mut norm.q_bias),
        ("k_weight", &mut norm.k_weight),
        ("k_bias", &mut norm.k_bias),
    ] {
        *at = names.contains(&name).then_some(0);
    }
    problem.norm = Some(norm);
    let mut at = offset;
    for (name, _, len) in norm_vectors(&problem) {
        let norm = problem.norm.as_mut().expect("it was set");
        let place = match name {
            "q_weight" => &mut norm.q_weight,
            "q_bias" => &mut norm.q_bias,
            "k_weight" => &mut norm.k_weight,
            _ => &mut norm.k_bias,
        };
        *place = Some(at);
        at += len;
    }
    problem
}

const STYLES: [Style; 2] = [Style::Half, Style::Interleaved];
const FLOATS: [Cache; 3] = [Cache::Float(Dtype::F32), Cache::Float(Dtype::F16), Cache::Float(Dtype::Bf16)];

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    const RUNTIME: &'static [&'static str] = &["share", "together"];

    fn list(list: &mut List<Problem>) {
        narrow(list);
        wide(list);
        for (name, tokens) in [("1", 1), ("64", 64), ("2048", 2048)] {
            let base = Problem { rotation: rotation(128, Style::Half), ..shape(tokens, 8, 128, 256) };
            let base = Problem { q: query(32), skipped: None, ..base };
            let of = |cache| stored(Dtype::F16, cache, base.clone());
            list.bench(format!("{name} tokens, 32 and 8 heads of 128, rotated, f16"), of(Cache::Float(Dtype::F16)));
            list.bench(format!("{name} tokens, 32 and 8 heads of 128, rotated, f16 to int8"), of(Cache::Int8));
        }
        for cache in FLOATS.into_iter().chain([Cache::Int8, Cache::E4m3]) {
            for (head_dim, rotary_dim) in [(64, 64), (22, 12), (9, 6)] {
                let base =
                    Problem { rotation: rotation(rotary_dim, Style::Half), q: query(4), ..shape(5, 2, head_dim, 2) };
                let base = normed(base, Norm::of(Kind::Rms), &["q_weight", "k_weight"], 0);
                list.compose(stored(Dtype::Bf16, cache, base));
                list.compose(stored(Dtype::F16, cache, shape(5, 2, head_dim, 2)));
            }
        }
    }

    fn cost(&self) -> Cost {
        let caches = ["k_cache", "v_cache", "k_scale", "v_scale"];
        let bytes = |arg: &Arg| (arg.view.len() * arg.view.number.bits()) as f64 / 8.0;
        let args = self.args();
        let read: f64 = args.iter().filter(|arg| !caches.contains(&arg.name)).map(bytes).sum();
        let per_place: f64 = args.iter().filter(|arg| caches.contains(&arg.name)).map(bytes).sum();
        let places = (self.pages * self.page_size).max(1) as f64;
        Cost { flops: 0.0, bytes: read + per_place / places * self.tokens as f64 }
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.value("k_layout", &mut self.k)?;
        options.value("v_layout", &mut self.v)?;
        options.value("k_cache_layout", &mut self.k_cache)?;
        options.value("v_cache_layout", &mut self.v_cache)?;
        if !matches!(self.cache, Cache::Float(_)) {
            options.value("k_scale_offset", &mut self.k_scale)?;
            options.value("v_scale_offset", &mut self.v_scale)?;
        }
        options.value("slots_offset", &mut self.slots)?;
        options.value("skipped_offset", &mut self.skipped)?;
        if let Some(q) = &mut self.q {
            options.value("q_layout", &mut q.from)?;
            options.value("q_out_layout", &mut q.to)?;
        }
        if let Some(norm) = &mut self.norm {
            options.value("eps", &mut norm.eps)?;
            options.value("weight_offset", &mut norm.weight_offset)?;
            options.value("per_head", &mut norm.per_head)?;
        }
        let Some(Rotation { style, positions, angles, .. }) = &mut self.rotation else { return Ok(()) };
        options.word("style", style, &[("half", Style::Half), ("interleaved", Style::Interleaved)])?;
        options.value("positions_layout", positions)?;
        match angles {
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
        const K: &str = "[tokens, hkv, d]";
        let (k, x) = reader.values("k", K)?;
        let (v, v_dtype) = reader.values("v", K)?;
        let &[tokens, kv_heads, head_dim] = &k.shape[..] else { return Err(case::bad_shape("k", k, K)) };
        let value_dim = match v.shape[..] {
            [t, h, dim] if [t, h] == [tokens, kv_heads] && v_dtype == x => dim,
            _ => return Err(case::bad_shape("v", v, format!("[{tokens}, {kv_heads}, dv], as {x}"))),
        };
        let mut problem = Problem { x, value_dim, ..shape(tokens, kv_heads, head_dim, 0) };
        let mut values = Values::from([("k", k), ("v", v)].map(|(name, t)| (name, t.numbers().unwrap_or_default())));
        read_cache(reader, &mut problem, &mut values)?;
        let slots = reader.tensor("slots", "I64 or I32 [tokens]")?;
        if slots.shape != [tokens] {
            return Err(case::bad_shape("slots", slots, format!("[{tokens}]")));
        }
        problem.wide = slots.dtype.to_string() == "I64";
        let numbers = case::integers("slots", slots)?;
        values.insert("slots", numbers.into_iter().map(|slot| slot as f64).collect());
        if let Some(q) = reader.optional("q") {
            problem.q = match q.shape[..] {
                [t, heads, d] if [t, d] == [tokens, head_dim] && q.float() == Some(x) => query(heads),
                _ => return Err(case::bad_shape("q", q, format!("[{tokens}, hq, {head_dim}], as {x}"))),
            };
            values.insert("q", q.numbers().unwrap_or_default());
        }
        read_norm(reader, &mut problem, &mut values)?;
        if reader.option("rope", false)? {
            read_rotation(reader, &mut problem, &mut values)?;
        }
        problem.options(&mut Options::Read(reader))?;
        let cache = |dim| vec![problem.pages, problem.page_size, kv_heads, dim];
        let mut outputs = vec![Shown::new("k_cache", cache(head_dim)), Shown::new("v_cache", cache(value_dim))];
        if !matches!(problem.cache, Cache::Float(_)) {
            let scales =
                ["k_scale", "v_scale"].map(|name| Shown::new(name, [problem.pages, problem.page_size, kv_heads]));
            outputs.extend(scales);
        }
        outputs.extend(problem.q.map(|q| Shown::new("q_out", [tokens, q.heads, head_dim])));
        outputs.extend(problem.skipped.map(|_| Shown::new("skipped", [1])));
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        let Problem { tokens, kv_heads, head_dim, value_dim, pages, page_size, .. } = *self;
        match arg.name {
            "k" => vec![tokens, kv_heads, head_dim],
            "v" => vec![tokens, kv_heads, value_dim],
            "q" | "q_out" => vec![tokens, arg.view.sizes[2], head_dim],
            "k_cache" | "v_cache" => vec![pages, page_size, kv_heads, arg.view.cols],
            "k_scale" | "v_scale" => vec![pages, page_size, kv_heads],
            "cos" | "sin" => vec![arg.view.sizes[2], arg.view.cols],
            "positions" if arg.view.sizes[2] > 1 => vec![arg.view.sizes[2], tokens],
            _ => vec![arg.view.len()],
        }
    }

    fn write(&self, values: &Values) -> Case {
        let mut case = self.header();
        for arg in self.args().iter().filter(|arg| values.contains_key(arg.name) && arg.name != "norms") {
            case = case.tensor(arg.name, self.tensor(arg, &values[arg.name]));
        }
        let (first, _) = norms_range(self);
        for (name, at, len) in norm_vectors(self) {
            let own = &values["norms"][at - first..][..len];
            let shape = [len / self.head_dim, self.head_dim];
            let shape = if shape[0] == 1 { &shape[1..] } else { &shape[..] };
            case = case.tensor(name, Tensor::values(self.norm.expect("it has vectors").dtype, shape, own));
        }
        if let Some(norm) = &self.norm {
            case = case.option("norm", norm.kind.name()).option("norms_offset", first);
        }
        if let Some(rotation) = &self.rotation {
            case = case.option("rope", true).option("rotary_dim", rotation.rotary_dim);
            if let Axes::Sections(sections) = rotation.axes {
                case = case.option("sections", sections.map(|n| n.to_string()).join(","));
            }
        }
        if self.cache == Cache::E4m3 { case.option("cache", "e4m3") } else { case }
    }
}

/// The caches of a case file, with their scales.
pub fn read_cache(reader: &mut Reader, problem: &mut Problem, values: &mut Values) -> Result<(), Fault> {
    const CACHE: &str = "[pages, page_size, hkv, d]";
    let e4m3 = reader.option("cache", String::new())?;
    if !["", "e4m3"].contains(&e4m3.as_str()) {
        return Err(Fault::BadOption { name: "cache", value: e4m3, expected: "e4m3".into() });
    }
    let k = reader.tensor("k_cache", CACHE)?;
    let v = reader.tensor("v_cache", CACHE)?;
    problem.cache = match (k.float(), k.dtype.to_string().as_str(), e4m3.is_empty()) {
        (Some(dtype), _, true) => Cache::Float(dtype),
        (None, "I8", true) => Cache::Int8,
        (None, "U8", false) => Cache::E4m3,
        _ => {
            let expected = "F32, F16, BF16 or I8, or U8 with `cache` = `e4m3`";
            return Err(Fault::BadDtype { name: "k_cache".into(), have: k.dtype.to_string(), expected });
        }
    };
    let Problem { kv_heads, head_dim, value_dim, .. } = *problem;
    (problem.pages, problem.page_size) = match k.shape[..] {
        [pages, page_size, h, d] if [h, d] == [kv_heads, head_dim] && page_size > 0 => (pages, page_size),
        _ => return Err(case::bad_shape("k_cache", k, format!("[pages, page_size, {kv_heads}, {head_dim}]"))),
    };
    let want = [problem.pages, problem.page_size, kv_heads, value_dim];
    if v.shape != want || v.dtype != k.dtype {
        return Err(case::bad_shape("v_cache", v, format!("{want:?}, as k_cache")));
    }
    values.insert("k_cache", k.numbers().unwrap_or_default());
    values.insert("v_cache", v.numbers().unwrap_or_default());
    if matches!(problem.cache, Cache::Float(_)) {
        return Ok(());
    }
    for name in ["k_scale", "v_scale"] {
        let scale = reader.tensor(name, "F32 [pages, page_size, hkv]")?;
        if scale.shape != want[..3] || scale.float() != Some(Dtype::F32) {
            return Err(case::bad_shape(name, scale, format!("{:?}, F32", &want[..3])));
        }
        values.insert(name, scale.numbers().unwrap_or_default());
    }
    Ok(())
}

/// The norm of a case file: its kind, and the vectors that there are.
fn read_norm(reader: &mut Reader, problem: &mut Problem, values: &mut Values) -> Result<(), Fault> {
    let kind = match reader.word("norm", &["none", "rms", "layer"])? {
        "none" => return Ok(()),
        "rms" => Kind::Rms,
        _ => Kind::Layer,
    };
    let mut norm = Norm { per_head: reader.option("per_head", false)?, ..Norm::of(kind) };
    let offset = reader.option("norms_offset", 0usize)?;
    let (mut names, mut all) = (Vec::new(), Vec::new());
    let q_heads = problem.q.map(|q| q.heads);
    for (name, heads) in [
        ("q_weight", q_heads),
        ("q_bias", q_heads),
        ("k_weight", Some(problem.kv_heads)),
        ("k_bias", Some(problem.kv_heads)),
    ] {
        let (Some(tensor), Some(heads)) = (heads.and_then(|_| reader.optional(name)), heads) else { continue };
        let dtype = case::float(name, tensor)?;
        let want = if norm.per_head { vec![heads, problem.head_dim] } else { vec![problem.head_dim] };
        if tensor.shape != want || !(names.is_empty() || norm.dtype == dtype) {
            return Err(case::bad_shape(name, tensor, format!("{want:?}, all of one dtype")));
        }
        norm.dtype = dtype;
        names.push(name);
        all.extend(tensor.numbers().unwrap_or_default());
    }
    *problem = normed(problem.clone(), norm, &names, offset);
    if !names.is_empty() {
        values.insert("norms", all);
    }
    Ok(())
}

/// The rotation of a case file, in the words of `rope`.
fn read_rotation(reader: &mut Reader, problem: &mut Problem, values: &mut Values) -> Result<(), Fault> {
    let Problem { tokens, head_dim, .. } = *problem;
    let rotary_dim = reader.option("rotary_dim", head_dim)?;
    if rotary_dim < 2 || !rotary_dim.is_multiple_of(2) || rotary_dim > head_dim {
        let expected = format!("an even number from 2 to {head_dim}");
        return Err(Fault::BadOption { name: "rotary_dim", value: rotary_dim.to_string(), expected });
    }
    reader.tensor("positions", "[tokens], or of several axes [axes, tokens]")?;
    let mut rope = ropes::shape(1, 1, tokens, head_dim, rotary_dim);
    ropes::read_axes(reader, &mut rope, values, true)?;
    ropes::read_angles(reader, &mut rope, values)?;
    let signed = matches!(rope.positions, Positions::Buffer { signed: true, .. });
    let (style, positions) = (Style::Half, Layout::default());
    problem.rotation = Some(Rotation { rotary_dim, style, signed, positions, axes: rope.axes, angles: rope.angles });
    Ok(())
}

fn narrow(list: &mut List<Problem>) {
    for (x, cache) in Dtype::ALL.into_iter().map(|x| (x, Cache::Float(x))) {
        for (head_dim, tokens) in [(64, 21), (7, 12)] {
            let problem = Problem { wide: head_dim == 7, ..shape(tokens, 3, head_dim, 2) };
            list.narrow("moved, bit by bit", stored(x, cache, problem)).seed(2);
        }
    }
    for style in STYLES {
        let base = Problem { rotation: rotation(48, style), q: query(6), ..shape(19, 2, 64, 3) };
        list.narrow("f32, rotated, with q", base.clone()).seed(3);
        let bf16 = stored(Dtype::Bf16, Cache::Float(Dtype::Bf16), base);
        let weights = ["q_weight", "k_weight"];
        list.narrow("bf16, normed, rotated, with q", normed(bf16, Norm::of(Kind::Rms), &weights, 4)).seed(4);
    }
    for cache in [Cache::Int8, Cache::E4m3] {
        let base = Problem { value_dim: 32, ..shape(17, 3, 64, 2) };
        list.narrow("8 bits", stored(Dtype::F32, cache, base.clone())).seed(5).set(odd_vectors);
        let rotated = Problem { rotation: rotation(64, Style::Half), q: query(4), ..base };
        list.narrow("8 bits, rotated, with q", stored(Dtype::F32, cache, rotated)).seed(6);
        let odd = Problem { value_dim: 5, rotation: rotation(4, Style::Interleaved), ..shape(17, 3, 7, 2) };
        list.narrow("8 bits that share words", stored(Dtype::F32, cache, odd)).seed(7);
    }
    list.narrow("no pages: all are skipped", shape(9, 2, 8, 0));
}

fn wide(list: &mut List<Problem>) {
    for (x, cache) in
        [(Dtype::F16, Dtype::F32), (Dtype::F32, Dtype::Bf16), (Dtype::Bf16, Dtype::F16), (Dtype::F16, Dtype::F16)]
    {
        for (head_dim, rotary_dim) in [(64, 64), (22, 12), (9, 6)] {
            let base = Problem {
                rotation: rotation(rotary_dim, Style::Interleaved),
                q: query(3),
                ..shape(23, 2, head_dim, 2)
            };
            list.wide("dtypes, words", stored(x, Cache::Float(cache), base)).seed(8);
        }
    }
    for cache in [Cache::Int8, Cache::E4m3] {
        for (x, head_dim, rotary_dim) in [(Dtype::F16, 64, 32), (Dtype::Bf16, 9, 6)] {
            let base =
                Problem { rotation: rotation(rotary_dim, Style::Half), q: query(3), ..shape(23, 2, head_dim, 2) };
            let layer = Norm { dtype: Dtype::F16, ..Norm::of(Kind::Layer) };
            let all = ["q_weight", "q_bias", "k_weight", "k_bias"];
            list.wide("8 bits of 16, normed, rotated", normed(stored(x, cache, base), layer, &all, 8)).seed(9);
        }
    }
    let base = Problem { q: query(4), ..shape(13, 2, 40, 2) };
    let heads = Norm { per_head: true, weight_offset: 1.0, ..Norm::of(Kind::Layer) };
    list.wide("layer norm per head", normed(base.clone(), heads, &["q_weight", "k_weight", "k_bias"], 3)).seed(10);
    list.wide("a norm without weights", normed(base.clone(), Norm::of(Kind::Rms), &[], 0)).seed(11);
    let rotated = Problem { rotation: rotation(40, Style::Half), ..base };
    let rms = normed(rotated.clone(), Norm::of(Kind::Rms), &["q_weight", "k_weight"], 0);
    list.wide("every candidate", rms.clone()).seed(12).every_candidate().twice();
    list.wide("every candidate", stored(Dtype::F32, Cache::Int8, rms.clone())).seed(13).every_candidate();
    list.wide("checked modules give the same", stored(Dtype::F32, Cache::E4m3, rms)).seed(14).checked();
    let mut tables = rotated.clone();
    tables.rotation = rotation(32, Style::Half).map(|rotation| {
        let angles = Angles::Tables { max_pos: 37, cos: 3, sin: 1 };
        Rotation { angles, axes: Axes::Sections([4, 4, 8]), positions: Layout::strided(5, [20]), ..rotation }
    });
    list.wide("tables, sections", tables).seed(15);
    // Tokens of [q: 4 | k: 2 | v: 2] heads of 40; a contiguous cache of three sequences, heads before places.
    let part = |first: usize| Layout::strided(first * 40, [320, 40]);
    let fused = Problem {
        q: Some(Query { heads: 4, from: part(0), to: part(0) }),
        k: part(4),
        v: part(6),
        k_cache: Layout::strided(4, [2 * 16 * 40 + 4, 16 * 40, 40]),
        pages: 3,
        ..rotated
    };
    list.wide("a fused buffer, in place; heads before places", fused).seed(16).memory(&[&["k", "v", "q", "q_out"]]);
}

/// Zeros, an infinity, NaN, magnitudes near both ends of f32; of k and v.
fn odd_vectors(problem: &Problem, values: &mut Values) {
    for (name, dim) in [("k", problem.head_dim), ("v", problem.value_dim)] {
        values.entry(name).and_modify(|all| {
            all[..dim].fill(0.0);
            all[dim] = f64::INFINITY;
            all[3 * dim - 1] = f64::NAN;
            all[3 * dim..4 * dim].iter_mut().for_each(|v| *v *= 1e-38);
            all[4 * dim..5 * dim].iter_mut().for_each(|v| *v *= 1e37);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tileloom::verify::attention::kv_append::number;

    #[test]
    fn what_is_written_is_understood() {
        let fault = crate::kernel::fault::<Problem>;
        for entry in crate::kernel::entries::<Problem>() {
            assert_eq!(fault(&entry.call().case()), "understood", "{}", entry.name);
        }
    }

    #[test]
    fn faults_name_what_is_wrong() {
        let fault = crate::kernel::fault::<Problem>;
        let ones = |shape: &[usize]| Tensor::values(Dtype::F32, shape, &vec![1.0; shape.iter().product()]);
        let case = |cache: Tensor| {
            let case = Case::new("kv_append").tensor("k", ones(&[3, 2, 4])).tensor("v", ones(&[3, 2, 4]));
            let case = case.tensor("k_cache", cache.clone()).tensor("v_cache", cache);
            case.tensor("slots", Tensor::numbers_of(tileloom::verify::image::Number::I64, &[3], &[0.0, -1.0, 5.0]))
        };
        let good = || case(ones(&[1, 8, 2, 4]));
        assert_eq!(fault(&good()), "understood");
        assert!(fault(&case(ones(&[1, 8, 3, 4]))).contains("expected [pages, page_size, 2, 4]"));
        let codes = || case(Tensor::numbers_of(number(Cache::Int8), &[1, 8, 2, 4], &[0.0; 64]));
        assert!(fault(&codes()).contains("tensor `k_scale` is missing"));
        let scaled = |case: Case| case.tensor("k_scale", ones(&[1, 8, 2])).tensor("v_scale", ones(&[1, 8, 2]));
        assert_eq!(fault(&scaled(codes())), "understood");
        assert!(fault(&scaled(codes()).option("cache", "e4m3")).contains("U8 with `cache` = `e4m3`"));
        assert!(fault(&good().option("rope", true)).contains("tensor `positions` is missing"));
        let rotated = good().option("rope", true).tensor("positions", Tensor::indices(&[3], &[0, 1, 2]));
        assert_eq!(fault(&rotated), "understood");
        assert!(fault(&good().tensor("q", ones(&[3, 5, 2]))).contains("expected [3, hq, 4]"));
        let normed = good().option("norm", "rms").tensor("k_weight", ones(&[4]));
        assert_eq!(fault(&normed), "understood");
        assert!(fault(&good().option("norm", "rms").tensor("k_weight", ones(&[2, 4]))).contains("expected [4]"));
    }
}
