//! The gradient of attention, described.

use tileloom::attention::{self, Load, Reduce, bshd};
use tileloom::attention_backward::{Add, Algorithm, Config, Problem};
use tileloom::caps::Class;
use tileloom::gemm::Precision;
use tileloom::softmax::{Mask, MaskKind};
use tileloom::verify::Describe;
use tileloom::verify::attention::attention_backward::{of, settle};
use tileloom::{Caps, Dtype, Layout};

use super::list::{LENGTHS, RUNS, shuffled, unordered};
use super::{alibi_and_sinks, cut, packed, placed, runs, segmented, sequences};
use crate::case::{self, Case, Fault, Options, Reader, Shown, Tensor};
use crate::kernel::{Arg, Cost, Given, List, Listed, Values};

use Dtype::{Bf16, F16, F32};

/// f32, 6 heads over 2 of 32.
pub fn shape(seq_q: usize, seq_kv: usize) -> attention::Problem {
    attention::Problem { seq_q, seq_kv, lse: Some(1), ..attention::Problem::new(1, 6, 2, 32) }
}

fn causal(problem: attention::Problem) -> attention::Problem {
    attention::Problem { causal: true, ..problem }
}

fn typed(dtype: Dtype, problem: attention::Problem) -> attention::Problem {
    attention::Problem { x: dtype, o: dtype, ..problem }
}

/// With an additive mask, and its gradient.
pub fn masked(mask: Mask, forward: attention::Problem) -> Problem {
    Problem { dmask: Some(Layout::at(3)), ..of(attention::Problem { mask: Some(mask), ..forward }) }
}

/// Sets inputs of the forward call, then all that follows from them.
fn then_settle(
    set: impl Fn(&attention::Problem, &mut Values) + Send + Sync + 'static,
) -> impl Fn(&Problem, &mut Values) + Send + Sync + 'static {
    move |p, values| {
        set(&p.forward, values);
        settle(p, values);
    }
}

/// Sets elements of keys and queries, of every head: `(tensor, vector, element, value)`.
fn planted(
    cells: &[(&'static str, usize, usize, f64)],
) -> impl Fn(&attention::Problem, &mut Values) + Send + Sync + 'static + use<> {
    let cells = cells.to_vec();
    move |p, values| {
        for &(name, at, element, value) in &cells {
            let (dim, seq) = match name {
                "q" => (p.head_dim, p.seq_q),
                "do" => (p.value_dim, p.seq_q),
                "k" => (p.head_dim, p.seq_kv),
                _ => (p.value_dim, p.seq_kv),
            };
            let rows = values.get_mut(name).into_iter().flat_map(|all| all.chunks_exact_mut(dim)).enumerate();
            rows.filter(|(row, _)| row % seq == at).for_each(|(_, vector)| vector[element] = value);
        }
    }
}

#[linkme::distributed_slice(crate::registry::KERNELS)]
static KERNEL: &dyn crate::kernel::Kernel = &crate::kernel::Of::<Problem>::KERNEL;

impl Listed for Problem {
    fn list(list: &mut List<Problem>) {
        everywhere(list);
        hidden(list);
        segments(list);
        one_walk(list);
        coop(list);
        wide(list);
        full(list);
        benches(list);
        composed(list);
    }

    /// Five products.
    fn cost(&self) -> Cost {
        let forward = &self.forward;
        let products = 3 * forward.head_dim + 2 * forward.value_dim;
        Cost::of(2.0 * super::pairs(forward) * products as f64, &self.args())
    }

    fn shared() -> &'static [&'static str] {
        &["q", "k", "v", "lse", "o", "do"]
    }

    fn follows() -> bool {
        true
    }

    fn shipped() -> Vec<String> {
        let reductions = Reduce::ALL.iter().map(|reduce| format!("reduce={}", reduce.name()));
        reductions
            .chain(["load=direct", "load=broadcast(8)", "load=staged(24)", ONE_WALK, COOP].map(str::to_string))
            .collect()
    }

    /// The last head of k and v.
    fn parts(&self, values: Values, outputs: Values) -> Vec<(Problem, Values, Values)> {
        let own = &self.forward;
        if own.packed.is_some() || own.mask.is_some() || values.contains_key("tables") || values.contains_key("indices")
        {
            return vec![(*self, values, outputs)];
        }
        let group = own.heads / own.kv_heads.max(1);
        let forward = attention::Problem { batch: 1, heads: group, kv_heads: 1, ..*own };
        let part = Problem { forward, ..*self };
        let take = |all: Values| -> Values {
            let last = |(name, values): (&'static str, Vec<f64>)| {
                let len = part.args().iter().find(|arg| arg.name == name).map_or(0, |arg| arg.view.len());
                (name, values[values.len() - len..].to_vec())
            };
            all.into_iter().map(last).collect()
        };
        vec![(part, take(values), take(outputs))]
    }

    fn options(&mut self, options: &mut Options) -> Result<(), Fault> {
        self.forward.options(options)?;
        self.own_options(options)
    }

    fn read(reader: &mut Reader) -> Result<Given<Problem>, Fault> {
        let Given { problem: forward, mut values, .. } = attention::Problem::read(reader)?;
        if forward.paged.is_some() || forward.codes.is_some() || forward.tree.is_some() {
            let expected = "keys that are not in pages, not in 8 bits and not a tree".to_string();
            return Err(Fault::BadOption { name: "op", value: "attention_backward".into(), expected });
        }
        let first = reader.word("layout", &["bhsd", "bshd"])? == "bshd" && forward.packed.is_none();
        let mut problem = Problem {
            do_layout: forward.o_layout,
            dq_layout: forward.q_layout,
            dk_layout: forward.k_layout,
            dv_layout: forward.v_layout,
            dsinks: forward.sinks.map(|_| 0),
            dlse: reader.optional("dlse").map(|_| 0),
            ..Problem::new(forward)
        };
        let mut dmask = false;
        if reader.option("dmask", false)? {
            dmask = true;
            problem.dmask = Some(Layout::default());
        }
        problem.own_options(&mut Options::Read(reader))?;
        let additive = forward.mask.is_some_and(|mask| matches!(mask.kind, MaskKind::Additive(_)));
        if dmask && !additive {
            let expected = "false without an additive mask".to_string();
            return Err(Fault::BadOption { name: "dmask", value: "true".into(), expected });
        }
        // What has been read before the call: do, dlse, and gradients that are added to.
        let swapped = first || forward.packed.is_some();
        let args = problem.args();
        for arg in args.iter().filter(|arg| !matches!(arg.name, "q" | "k" | "v" | "mask" | "tables" | "indices")) {
            let added = arg.access == crate::kernel::Access::Update;
            if !added && !matches!(arg.name, "do" | "dlse") {
                continue;
            }
            let tensor = reader.tensor(arg.name, "by q, k and v")?;
            case::float(arg.name, tensor)?;
            let shape = problem.shown(arg, first);
            if tensor.shape != shape && tensor.shape != arg.view.shape() {
                return Err(case::bad_shape(arg.name, tensor, format!("{shape:?}")));
            }
            let numbers = tensor.numbers().unwrap_or_default();
            let turned = swapped && problem.turns(arg.name);
            values.insert(arg.name, if turned { arg.view.swapped(true, &numbers) } else { numbers });
        }
        settle(&problem, &mut values);
        let mask_shape = reader.optional("mask").map(|mask| mask.shape.clone());
        let shown = |arg: &Arg| {
            let mut shape = problem.shown(arg, first);
            if let (Some(mask), "dmask") = (&mask_shape, arg.name)
                && mask.iter().product::<usize>() == shape.iter().product::<usize>()
            {
                shape.clone_from(mask);
            }
            Shown { name: arg.name, shape, swapped: swapped && problem.turns(arg.name) }
        };
        let outputs = args.iter().filter(|arg| arg.access != crate::kernel::Access::Read).map(shown).collect();
        Ok(Given { problem, values, outputs, known: Values::new() })
    }

    fn shape(&self, arg: &Arg) -> Vec<usize> {
        self.shown(arg, false)
    }

    fn tensor(&self, arg: &Arg, values: &[f64]) -> Tensor {
        let values = match self.forward.packed.is_some() && self.turns(arg.name) {
            true => arg.view.swapped(false, values),
            false => values.to_vec(),
        };
        Tensor::numbers_of(arg.view.number, &self.shape(arg), &values)
    }

    /// o and the statistics follow from the other inputs.
    fn write(&self, values: &Values) -> Case {
        let mut case = self.forward.write(values).option("op", Self::NAME);
        let mut own = *self;
        own.own_options(&mut Options::Write(&mut case)).expect("options are written without a fault");
        case = case.option("dmask", self.dmask.is_some());
        let follows = ["q", "k", "v", "mask", "tables", "indices", "o", "lse"];
        let args = self.args();
        let inputs =
            args.iter().filter(|arg| arg.access != crate::kernel::Access::Write && !follows.contains(&arg.name));
        inputs.fold(case, |case, arg| case.tensor(arg.name, self.tensor(arg, &values[arg.name])))
    }
}

use tileloom::Op;

/// Options, shapes and orders of case files.
trait Cases {
    fn own_options(&mut self, options: &mut Options) -> Result<(), Fault>;
    fn shown(&self, arg: &Arg, tokens_first: bool) -> Vec<usize>;
    fn turns(&self, name: &str) -> bool;
}

impl Cases for Problem {
    fn own_options(&mut self, options: &mut Options) -> Result<(), Fault> {
        options.value("do_layout", &mut self.do_layout)?;
        options.value("dq_layout", &mut self.dq_layout)?;
        options.value("dk_layout", &mut self.dk_layout)?;
        options.value("dv_layout", &mut self.dv_layout)?;
        options.value("dlse_offset", &mut self.dlse)?;
        options.value("dsinks_offset", &mut self.dsinks)?;
        if let Some(layout) = &mut self.dmask {
            options.value("dmask_layout", layout)?;
        }
        options.value("add_dq", &mut self.add.dq)?;
        options.value("add_dk", &mut self.add.dk)?;
        options.value("add_dv", &mut self.add.dv)?;
        options.value("add_dmask", &mut self.add.dmask)?;
        options.value("add_dsinks", &mut self.add.dsinks)
    }

    fn shown(&self, arg: &Arg, tokens_first: bool) -> Vec<usize> {
        let own = &self.forward;
        let (q, kv, cols) = (own.q_sizes(), own.kv_sizes(), arg.view.cols);
        let vectors = |[batch, heads, seq]: [usize; 3]| match (own.packed.is_some(), tokens_first) {
            (true, _) => vec![seq, heads, cols],
            (false, true) => vec![batch, seq, heads, cols],
            (false, false) => vec![batch, heads, seq, cols],
        };
        match arg.name {
            "q" | "o" | "do" | "dq" => vectors(q),
            "k" | "v" | "dk" | "dv" => vectors(kv),
            "dlse" => q[usize::from(own.packed.is_some())..].to_vec(),
            "dmask" => self.mask_sizes().to_vec(),
            _ => vec![arg.view.len()],
        }
    }

    /// Whether a tensor has heads and tokens.
    fn turns(&self, name: &str) -> bool {
        matches!(name, "q" | "k" | "v" | "o" | "do" | "dq" | "dk" | "dv")
    }
}

/// A few pipelines.
fn everywhere(list: &mut List<Problem>) {
    for (seq_q, seq_kv) in [(1, 1), (2, 0), (1, 39), (17, 33), (33, 17), (40, 71)] {
        for (causal, window) in [
            (false, [None, None]),
            (true, [None, None]),
            (false, [Some(9), Some(2)]),
            (true, [Some(0), None]),
            (true, [Some(usize::MAX), Some(usize::MAX)]),
            (false, [None, Some(5)]),
        ] {
            let forward = attention::Problem { causal, window, ..shape(seq_q, seq_kv) };
            list.narrow("sizes, causal, windows", of(forward)).seed(7 + seq_kv as u64);
        }
    }
    let capped = attention::Problem { softcap: 0.7, ..causal(shape(17, 33)) };
    list.narrow("softcap", of(capped)).seed(3);
    for (batch, per_batch) in [(1, false), (2, true)] {
        let forward = |seq_q, seq_kv| attention::Problem { batch, ..causal(shape(seq_q, seq_kv)) };
        let problem = Problem { dlse: Some(2), ..of(alibi_and_sinks(per_batch, forward(17, 33))) };
        list.narrow("alibi, sinks, and the gradient of the LSE", problem).seed(5);
        // A sink is all that a dead row sees.
        let sinks = placed(attention::Problem { sinks: Some(0), ..forward(33, 17) });
        list.narrow("sinks of rows that see no key", Problem { dlse: Some(0), ..of(sinks) }).seed(6);
    }
    let none = of(placed(attention::Problem { sinks: Some(0), ..causal(shape(33, 17)) }));
    let entry = list.narrow("a sink of minus infinity is none", none);
    entry.seed(5).set(then_settle(|_, values| drop(values.insert("tables", vec![f64::NEG_INFINITY; 6]))));
    let base = attention::Problem { batch: 5, ..causal(shape(33, 40)) };
    let problem = Problem { dlse: Some(0), ..of(packed(&LENGTHS, base)) };
    list.narrow("packed", problem).seed(8).set(then_settle(sequences(&LENGTHS)));
    let few: [_; 5] = LENGTHS.map(|[_, keys]| [33, keys]);
    list.narrow("lengths", of(cut(base))).seed(9).set(then_settle(sequences(&few)));
    for (i, kind) in [F32, F16].map(MaskKind::Additive).into_iter().enumerate() {
        let shared = |strides, broadcast_cols| Mask { layout: Layout::strided(2, strides), broadcast_cols, kind };
        // As the scores; [sq, skv] for all; [b, 1, 1, skv]; [h, sq, 1].
        let masks = [Mask::new(kind), shared([0, 0, 33], false), shared([33, 0, 0], false), shared([0, 17, 1], true)];
        for (mask, causal) in masks.into_iter().flat_map(|mask| [(mask, false), (mask, true)]) {
            let problem = masked(mask, attention::Problem { batch: 2, causal, ..shape(17, 33) });
            let name = format!("an additive mask, {kind:?}");
            if i == 0 { list.narrow(name, problem) } else { list.wide(name, problem) }.seed(5);
        }
    }
    let boolean = of(attention::Problem { mask: Some(Mask::new(MaskKind::Bytes)), ..shape(17, 33) });
    list.narrow("a boolean mask", boolean).seed(6);
    let parts = of(attention::Problem { sum: Some(0), ..causal(shape(33, 20)) });
    list.narrow("maximum and sum", parts).seed(10);
    // Which an f32 LSE loses.
    for score in [-1e9, 1e8] {
        let mask = Mask { layout: Layout::strided(0, [0, 0, 40]), ..Mask::new(MaskKind::Additive(F32)) };
        let problem = masked(mask, attention::Problem { sum: Some(0), ..shape(5, 40) });
        let entry = list.narrow("scores that are large and equal", problem).seed(11);
        entry.set(then_settle(move |_, values| {
            values.get_mut("mask").into_iter().flatten().for_each(|v| *v = score);
            // Their differences are none, in f32.
            values.get_mut("q").into_iter().flatten().for_each(|v| *v = 0.0);
        }));
    }
    let add = Add { dq: true, dk: true, dv: true, dmask: true, dsinks: true };
    let forward = placed(attention::Problem { sinks: Some(0), ..shape(17, 33) });
    let all = masked(Mask::new(MaskKind::Additive(F32)), forward);
    list.narrow("added to what is there", Problem { add, ..all }).seed(12);
    let odd =
        attention::Problem { seq_q: 9, seq_kv: 20, value_dim: 21, ..typed(F16, attention::Problem::new(1, 4, 2, 27)) };
    let odd = attention::Problem { lse: Some(0), ..odd };
    let layouts = Problem { dq_layout: Layout::at(3), dk_layout: Layout::at(1), ..of(causal(odd)) };
    list.narrow("f16, odd head dims, rows that share words", layouts).seed(13);
    list.narrow("f16, odd head dims, rows that share words", Problem { add, ..layouts }).seed(14);
    for forward in [shape(0, 5), shape(5, 0), attention::Problem { batch: 0, ..shape(3, 5) }] {
        list.narrow("nothing to compute, or 0", of(forward));
    }
}

/// What is hidden is not seen.
fn hidden(list: &mut List<Problem>) {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let name = "what is hidden does not show";
    // Of the keys past the last query's, and the queries that see none, nothing shows.
    let cells = [("k", 30, 3, nan), ("v", 31, 2, nan), ("v", 30, 0, inf), ("k", 29, 1, -inf)];
    for window in [[None, Some(0)], [Some(4), Some(0)]] {
        // Query i stands at i + 8: the last sees key 24.
        let window = [window[0], Some(0)];
        let forward = cut(attention::Problem { window, ..shape(17, 33) });
        let entry = list.narrow(name, of(forward)).seed(20);
        let plant = planted(&cells);
        entry.set(then_settle(move |p, values| {
            values.insert("indices", vec![25.0]);
            plant(p, values);
        }));
    }
    let cells = [("q", 0, 3, nan), ("do", 1, 2, nan), ("q", 15, 0, inf), ("do", 15, 9, -inf), ("do", 16, 1, nan)];
    list.narrow(name, of(causal(shape(33, 16)))).seed(21).set(then_settle(planted(&cells)));
    let mask = Mask::shared(MaskKind::Additive(F32), 33);
    let entry = list.narrow(name, masked(mask, shape(17, 33))).seed(22);
    entry.set(then_settle(|p, values| {
        for (i, v) in values.get_mut("mask").into_iter().flatten().enumerate() {
            let (row, key) = (i / 33, i % 33);
            *v = if key % 7 == 3 || row == 5 { f64::NEG_INFINITY } else { 0.25 * (i % 5) as f64 };
        }
        let cells = [("k", 3, 3, f64::NAN), ("v", 10, 2, f64::INFINITY), ("v", 31, 5, f64::NAN), ("q", 5, 0, f64::NAN)];
        planted(&cells)(p, values);
    }));
}

/// Keys in segments.
fn segments(list: &mut List<Problem>) {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let cells = [("k", 40, 3, nan), ("v", 44, 2, nan), ("v", 50, 1, inf), ("v", 55, 0, -inf)];
    // A noised picture is hidden from what follows it, and from what stands before.
    let noised = || {
        let (set, plant) = (runs(&[(40, 0), (16, 3), (0, 0)]), planted(&cells));
        then_settle(move |p, values| {
            set(p, values);
            plant(p, values);
        })
    };
    let two = |seq_q, seq_kv| segmented(9, true, attention::Problem { batch: 2, ..shape(seq_q, seq_kv) });
    list.narrow("segments", of(two(33, 65))).seed(50);
    list.narrow("segments", of(two(65, 33))).seed(51);
    list.narrow("segments: what is hidden does not show", of(segmented(3, false, shape(34, 90))))
        .seed(52)
        .set(noised());
    let base = attention::Problem { batch: 5, ..shape(33, 40) };
    let all = of(segmented(9, false, packed(&LENGTHS, base)));
    list.narrow("segments of packed sequences", all).seed(53).set(then_settle(sequences(&LENGTHS)));
    for (algorithm, typed_as) in [("algorithm=tiled", F32), (ONE_WALK, F32), (COOP, F16)] {
        let shape = |seq_q, seq_kv| {
            let base = attention::Problem { seq_q, seq_kv, ..attention::Problem::new(1, 8, 2, 32) };
            typed(typed_as, attention::Problem { lse: Some(1), ..base })
        };
        let name = |what: &str| format!("segments, {algorithm}{what}");
        for (seq_q, seq_kv) in [(1, 1), (2, 0), (1, 39), (33, 65), (40, 23), (70, 131)] {
            for (i, all) in RUNS.into_iter().enumerate() {
                let problem = of(segmented(9, false, shape(seq_q, seq_kv)));
                list.wide(name(": sizes and kinds"), problem)
                    .seed(54 + i as u64)
                    .candidate(algorithm)
                    .set(then_settle(runs(all)));
            }
        }
        let problem = of(unordered(segmented(9, false, shape(33, 65))));
        list.wide(name(" in no order"), problem).seed(58).candidate(algorithm).set(then_settle(shuffled));
        let all = attention::Problem { window: [Some(29), Some(2)], softcap: 2.0, ..shape(40, 33) };
        let all = alibi_and_sinks(false, segmented(9, false, all));
        let all = Problem { dlse: Some(0), ..masked(Mask::new(MaskKind::Additive(typed_as)), all) };
        list.wide(name(" with all else"), all).seed(59).candidate(algorithm).set(then_settle(runs(RUNS[2])));
        let base = attention::Problem { batch: 5, ..shape(33, 40) };
        list.wide(name(" of packed sequences"), of(segmented(9, false, packed(&LENGTHS, base))))
            .seed(62)
            .candidate(algorithm)
            .set(then_settle(sequences(&LENGTHS)));
        let few: [_; 5] = LENGTHS.map(|[_, keys]| [33, keys]);
        list.wide(name(" and lengths"), of(segmented(9, true, cut(base))))
            .seed(63)
            .candidate(algorithm)
            .set(then_settle(sequences(&few)));
        list.wide(name(": what is hidden does not show"), of(segmented(3, false, shape(34, 90))))
            .seed(64)
            .candidate(algorithm)
            .set(noised());
    }
}

fn config(load: Load, lanes: u32, reduce: Reduce, [queries, keys]: [u32; 2]) -> Config {
    let algorithm = Algorithm::Tiled;
    Config {
        algorithm,
        wg_size: 16,
        lanes,
        queries,
        keys,
        slots: 1,
        parts: 1,
        block: 4,
        load,
        reduce,
        apart: false,
        native_f16: false,
    }
}

const ONE_WALK: &str = "algorithm=one_walk";
const COOP: &str = "algorithm=coop";

/// In one walk, where subgroups of a size that is trusted are there.
fn one_walk(list: &mut List<Problem>) {
    let name = "one walk: sizes, causal, windows";
    for (seq_q, seq_kv) in [(1, 1), (2, 0), (0, 2), (1, 39), (17, 33), (40, 71), (33, 17)] {
        for (causal, window) in
            [(false, [None, None]), (true, [None, None]), (false, [Some(9), Some(2)]), (true, [Some(0), None])]
        {
            let forward = attention::Problem { causal, window, ..shape(seq_q, seq_kv) };
            list.narrow(name, of(forward)).seed(7 + seq_kv as u64).candidate(ONE_WALK);
        }
    }
    let name = "one walk: biases and sequences";
    let base = attention::Problem { batch: 2, softcap: 0.7, ..causal(shape(33, 40)) };
    list.wide(name, Problem { dlse: Some(2), ..of(alibi_and_sinks(true, base)) }).seed(5).candidate(ONE_WALK);
    let base = attention::Problem { batch: 5, ..causal(shape(33, 40)) };
    let sequenced = list.narrow(name, of(packed(&LENGTHS, base))).seed(9).candidate(ONE_WALK);
    sequenced.set(then_settle(sequences(&LENGTHS)));
    let few: [_; 5] = LENGTHS.map(|[_, keys]| [33, keys]);
    list.narrow(name, of(cut(base))).seed(10).candidate(ONE_WALK).set(then_settle(sequences(&few)));
    let add = Add { dq: true, dk: true, dv: true, dmask: true, dsinks: false };
    let all = masked(Mask::new(MaskKind::Additive(F32)), shape(17, 70));
    list.narrow("one walk: added to what is there", Problem { add, ..all }).seed(12).candidate(ONE_WALK);
    let cells =
        [("k", 30, 3, f64::NAN), ("v", 31, 2, f64::NAN), ("v", 30, 0, f64::INFINITY), ("k", 29, 1, f64::INFINITY)];
    let forward = cut(attention::Problem { window: [Some(4), Some(0)], ..shape(17, 33) });
    let entry = list.narrow("one walk: what is hidden does not show", of(forward)).seed(20).candidate(ONE_WALK);
    let plant = planted(&cells);
    entry.set(then_settle(move |p, values| {
        values.insert("indices", vec![25.0]);
        plant(p, values);
    }));
    for (d, value_dim, x) in [(27, 21, F16), (64, 64, F32), (128, 128, Bf16), (192, 128, F32)] {
        let forward = attention::Problem {
            seq_q: 21,
            seq_kv: 50,
            value_dim,
            lse: Some(0),
            ..typed(x, attention::Problem::new(1, 4, 2, d))
        };
        let problem = Problem { dq_layout: Layout::at(3), ..of(causal(forward)) };
        list.wide("one walk: head dims", problem).seed(d as u64).candidate(ONE_WALK);
    }
    list.wide("one walk: the same bits again", of(causal(shape(70, 90)))).seed(3).candidate(ONE_WALK).twice();
}

/// By cooperative matrices, where there are some: all options over few pipelines, then what is special to matrices.
fn coop(list: &mut List<Problem>) {
    let shape = |seq_q, seq_kv| {
        let base = attention::Problem { seq_q, seq_kv, ..attention::Problem::new(1, 8, 2, 32) };
        typed(F16, attention::Problem { lse: Some(1), ..base })
    };
    let name = "matrices: sizes, causal, windows";
    for (seq_q, seq_kv) in [(1, 1), (2, 0), (1, 39), (3, 79), (33, 65), (40, 23), (70, 131)] {
        for (causal, window) in [
            (false, [None, None]),
            (true, [None, None]),
            (false, [Some(9), Some(2)]),
            (true, [Some(0), None]),
            (false, [None, Some(5)]),
        ] {
            let forward = attention::Problem { causal, window, ..shape(seq_q, seq_kv) };
            list.wide(name, of(forward)).seed(7 + seq_kv as u64).candidate(COOP);
        }
    }
    let name = "matrices: biases and sequences";
    let capped = attention::Problem { softcap: 2.0, window: [Some(9), Some(2)], ..shape(33, 65) };
    list.wide(name, of(capped)).seed(4).candidate(COOP);
    let base = attention::Problem { batch: 2, ..causal(shape(33, 17)) };
    let all = Problem { dlse: Some(2), ..of(alibi_and_sinks(true, base)) };
    list.wide(name, all).seed(5).candidate(COOP);
    list.wide(name, of(attention::Problem { mask: Some(Mask::new(MaskKind::Bytes)), ..shape(17, 70) }))
        .seed(7)
        .candidate(COOP);
    for (mask, causal) in
        [(Mask::new(MaskKind::Additive(F16)), false), (Mask::shared(MaskKind::Additive(F16), 70), true)]
    {
        let problem = masked(mask, attention::Problem { batch: 2, causal, ..shape(17, 70) });
        list.wide(name, problem).seed(7).candidate(COOP);
    }
    let base = attention::Problem { batch: 5, ..causal(shape(33, 40)) };
    let sequenced = list.wide(name, of(packed(&LENGTHS, base))).seed(9).candidate(COOP);
    sequenced.set(then_settle(sequences(&LENGTHS)));
    let few: [_; 5] = LENGTHS.map(|[_, keys]| [33, keys]);
    list.wide(name, of(cut(base))).seed(10).candidate(COOP).set(then_settle(sequences(&few)));
    let parts = attention::Problem { sum: Some(0), ..causal(shape(33, 65)) };
    list.wide(name, of(parts)).seed(11).candidate(COOP);
    let add = Add { dq: true, dk: true, dv: true, dmask: false, dsinks: false };
    list.wide("matrices: added to what is there", Problem { add, ..of(causal(shape(33, 65))) })
        .seed(12)
        .candidate(COOP);

    for (head_dim, seq_kv) in [(32, 65), (40, 39), (35, 23)] {
        let base = typed(Bf16, attention::Problem { head_dim, value_dim: head_dim, ..causal(shape(33, seq_kv)) });
        let forward = attention::Problem { inputs: Precision::F16, ..base };
        // Such a pipeline takes a software driver 20 seconds: a case each, and one in every run.
        let name = format!("matrices: bf16 as f16, head dim {head_dim}");
        let entry = if head_dim == 32 { list.wide(name, of(forward)) } else { list.full(name, of(forward)) };
        entry.seed(12).candidate(COOP);
    }

    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let name = "matrices: what is hidden does not show";
    let cells = [("k", 30, 3, nan), ("v", 31, 2, nan), ("v", 30, 0, inf), ("k", 29, 1, -inf)];
    let forward = cut(attention::Problem { window: [Some(4), Some(0)], ..shape(17, 33) });
    let (entry, plant) = (list.wide(name, of(forward)).seed(20).candidate(COOP), planted(&cells));
    entry.set(then_settle(move |p, values| {
        values.insert("indices", vec![25.0]);
        plant(p, values);
    }));
    let cells = [("q", 0, 3, nan), ("do", 1, 2, nan), ("q", 15, 0, inf), ("do", 15, 9, -inf), ("do", 16, 1, nan)];
    let entry = list.wide(name, of(causal(shape(33, 16)))).seed(21).candidate(COOP);
    entry.set(then_settle(planted(&cells)));

    let name = "matrices: head dims";
    let of_dims = |d, value_dim| {
        let base = attention::Problem {
            seq_q: 35,
            seq_kv: 70,
            value_dim,
            lse: Some(0),
            ..attention::Problem::new(1, 4, 2, d)
        };
        causal(typed(F16, base))
    };
    let odd = Problem { dq_layout: Layout::at(3), dk_layout: Layout::at(1), ..of(of_dims(59, 41)) };
    list.wide(name, odd).seed(59).candidate(COOP);
    list.wide(name, of(of_dims(64, 64))).seed(64).candidate(COOP);
    for (d, value_dim) in [(1, 1), (128, 128), (192, 128)] {
        list.full(name, of(of_dims(d, value_dim))).seed(d as u64).candidate(COOP);
    }
    let name = "matrices: slots, and more subgroups than blocks";
    for (groups, lanes, slots, block) in [(2, 2, 1, 16), (2, 2, 2, 8), (4, 1, 1, 16)] {
        let config = Config {
            algorithm: Algorithm::Coop,
            wg_size: 8 * groups * lanes * slots,
            lanes,
            queries: 1,
            keys: 1,
            slots,
            parts: 1,
            block,
            load: Load::Matrices(8),
            reduce: Reduce::Memory,
            apart: false,
            native_f16: true,
        };
        list.wide(name, of(causal(shape(21, 90)))).seed(13).config(config);
    }
    let name = "matrices: checked modules give the same";
    list.full(name, of(causal(shape(33, 65)))).seed(2).candidate(COOP).checked();
    let name = "matrices: the same bits again";
    list.wide(name, of(causal(shape(70, 90)))).seed(3).candidate(COOP).twice();
}

/// What one driver is enough for.
fn wide(list: &mut List<Problem>) {
    list.wide("chosen on a CPU", of(shape(64, 64))).says(&["load=broadcast("]).unless(|caps: &Caps| {
        let handed = caps.class() == Class::Software && caps.trusted_subgroup_size().is_some();
        (!handed).then_some("a CPU with subgroups of a size that can be trusted")
    });
    for config in [
        config(Load::Direct, 1, Reduce::None, [2, 1]),
        config(Load::Staged(8), 1, Reduce::None, [1, 2]),
        config(Load::Staged(16), 4, Reduce::Memory, [2, 2]),
        config(Load::Staged(8), 8, Reduce::Shuffle, [2, 1]),
        config(Load::Direct, 4, Reduce::Shuffle, [1, 2]),
        Config { apart: true, block: 2, ..config(Load::Staged(6), 2, Reduce::Memory, [1, 1]) },
    ] {
        let name = "every way of loading and adding up";
        for forward in [
            causal(shape(21, 50)),
            causal(shape(50, 21)),
            attention::Problem { window: [Some(9), Some(2)], ..shape(30, 40) },
        ] {
            list.wide(name, of(forward)).seed(4).config(config);
        }
        list.wide(name, masked(Mask::new(MaskKind::Additive(F32)), shape(21, 50))).seed(6).config(config);
    }
    for d in [1, 40, 64, 111, 128] {
        let forward = attention::Problem { seq_q: 9, seq_kv: 33, lse: Some(0), ..attention::Problem::new(1, 4, 2, d) };
        list.wide("head dims", of(causal(forward))).seed(d as u64);
    }
    for (d, value_dim, kv_heads) in [(192, 128, 2), (256, 256, 2), (576, 512, 1)] {
        let forward = attention::Problem {
            seq_q: 5,
            seq_kv: 19,
            value_dim,
            lse: Some(0),
            ..attention::Problem::new(1, 4, kv_heads, d)
        };
        list.wide("head dims", of(causal(forward))).seed(d as u64);
    }
    for (x, o) in [(F16, F16), (Bf16, Bf16), (F16, F32), (F32, Bf16)] {
        list.wide("dtypes", of(attention::Problem { x, o, ..causal(shape(33, 40)) })).seed(2);
    }
    list.wide("the same bits again", of(causal(shape(70, 90)))).seed(3).twice();
    let lengths = [[5, 33], [5, 20]];
    let all = packed(&lengths, alibi_and_sinks(true, attention::Problem { batch: 2, ..causal(shape(5, 33)) }));
    let name = "checked modules give the same";
    list.wide(name, of(all)).seed(2).checked().set(then_settle(sequences(&lengths)));
    list.wide(name, masked(Mask::new(MaskKind::Additive(F32)), causal(shape(17, 33)))).checked();
    let tokens = |heads, seq| bshd(heads, seq, 32);
    let (q, kv) = (tokens(6, 21), tokens(2, 30));
    let forward = attention::Problem { q_layout: q, k_layout: kv, v_layout: kv, o_layout: q, ..causal(shape(21, 30)) };
    let turned = Problem { do_layout: q, dq_layout: q, dk_layout: kv, dv_layout: kv, ..of(forward) };
    list.wide("tokens first", turned).seed(15);
    // [6 q | 2 k | 2 v] heads per token, in one buffer, and their gradients in another.
    let fused = |first| attention::fused(first, 21, 32, 10 * 32);
    let forward =
        attention::Problem { q_layout: fused(0), k_layout: fused(6), v_layout: fused(8), ..causal(shape(21, 21)) };
    let fused = Problem { dq_layout: fused(0), dk_layout: fused(6), dv_layout: fused(8), ..of(forward) };
    let entry = list.wide("in one buffer", fused).seed(16);
    entry.memory(&[&["q", "k", "v"], &["dq", "dk", "dv"]]);
    list.wide("one buffer for all", of(causal(shape(21, 30)))).arena();
    for (seq_q, seq_kv) in [(113, 203), (203, 113), (127, 513)] {
        list.wide("long pairs", of(causal(shape(seq_q, seq_kv)))).unless(cut_short);
    }
}

/// Walks are not split.
fn cut_short(caps: &Caps) -> Option<&'static str> {
    caps.loop_rounds().map(|_| "a driver that cuts long loops short")
}

fn full(list: &mut List<Problem>) {
    for d in [32, 64, 80, 96, 128, 256] {
        for x in Dtype::ALL {
            for (seq_q, seq_kv) in [(1, 239), (113, 203), (203, 113), (128, 217)] {
                let forward =
                    attention::Problem { seq_q, seq_kv, lse: Some(0), ..typed(x, attention::Problem::new(1, 4, 2, d)) };
                list.full(format!("sweep of head dim {d}"), of(forward)).unless(cut_short);
                list.full(format!("sweep of head dim {d}"), of(causal(forward))).unless(cut_short);
            }
        }
    }
}

fn benches(list: &mut List<Problem>) {
    for n in [64, 128, 256, 512, 1024] {
        let forward = attention::Problem { seq_q: n, seq_kv: n, lse: Some(0), ..attention::Problem::new(1, 8, 8, 64) };
        list.sweep("8 x n x 64 f32 causal", n, of(causal(forward))).unless(cut_short);
    }
    for (seq, d) in [(512, 64), (512, 128), (2048, 64), (2048, 128)] {
        let forward =
            attention::Problem { seq_q: seq, seq_kv: seq, lse: Some(0), ..attention::Problem::new(1, 8, 8, d) };
        for (forward, word) in [(forward, ""), (causal(forward), " causal")] {
            let entry = list.bench(format!("8x{seq}x{d} f32{word}"), of(forward)).unless(cut_short);
            if seq == 512 && d == 64 {
                entry.quick();
            }
        }
    }
    let documents =
        attention::Problem { seq_q: 2048, seq_kv: 2048, lse: Some(0), ..attention::Problem::new(1, 8, 8, 64) };
    let entry = list.bench("8x2048x64 f32, 4 documents", of(segmented(4, false, documents))).unless(cut_short);
    entry.set(then_settle(runs(&[(512, 2); 4]))).sees(0.25);
    for d in [64, 128] {
        let forward =
            attention::Problem { seq_q: 4096, seq_kv: 4096, lse: Some(0), ..attention::Problem::new(1, 32, 8, d) };
        list.large(format!("32/8x4096x{d} f16 causal"), of(causal(typed(F16, forward)))).unless(cut_short);
    }
}

fn composed(list: &mut List<Problem>) {
    let forward = |x, o, d| attention::Problem {
        seq_q: 300,
        seq_kv: 300,
        x,
        o,
        lse: Some(0),
        ..attention::Problem::new(2, 8, 2, d)
    };
    for (x, o) in [(F32, F32), (F16, F16), (Bf16, Bf16), (F16, F32)] {
        list.compose(of(forward(x, o, 64))).unless(cut_short);
        list.compose(Problem { dq_layout: Layout::at(1), dlse: Some(0), ..of(forward(x, o, 59)) }).unless(cut_short);
        let all = packed(&[[300, 300]; 2], alibi_and_sinks(true, forward(x, o, 64)));
        list.compose(masked(Mask::new(MaskKind::Additive(x)), attention::Problem { sum: Some(0), ..all }))
            .unless(cut_short);
        list.compose(of(forward(x, o, 128))).unless(cut_short);
    }
    list.compose(of(segmented(9, false, forward(F32, F32, 64)))).unless(cut_short);
    list.compose(of(segmented(9, false, forward(F16, F16, 64)))).unless(cut_short);
    for (d, value_dim) in [(192, 128), (256, 256), (576, 512)] {
        list.compose(of(attention::Problem { value_dim, ..forward(F16, F16, d) })).unless(cut_short);
    }
}
