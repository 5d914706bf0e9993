//! Attention's Problems of interest.

use tileloom::attention::{Algorithm, Codes, Config, Hide, Load, Problem, Reduce, Segments};
use tileloom::caps::Class;
use tileloom::gemm::Precision;
use tileloom::quantize::Format;
use tileloom::softmax::{Mask, MaskKind};
use tileloom::{Caps, Dtype, Layout};

use super::{alibi_and_sinks, codes, cut, packed, paged, parents, placed, runs, segmented, sequences, tree};
use crate::kernel::{List, Values};
use crate::models;

/// f32, 9 heads over 3 of 64, with LSE.
pub fn shape(seq_q: usize, seq_kv: usize) -> Problem {
    Problem { seq_q, seq_kv, lse: Some(1), ..Problem::new(1, 9, 3, 64) }
}

fn typed(dtype: Dtype, problem: Problem) -> Problem {
    Problem { x: dtype, o: dtype, ..problem }
}

fn causal(problem: Problem) -> Problem {
    Problem { causal: true, ..problem }
}

fn sinks(problem: Problem) -> Problem {
    placed(Problem { sinks: Some(0), ..problem })
}

pub const MASKS: [MaskKind; 5] = [
    MaskKind::Bytes,
    MaskKind::Additive(Dtype::F32),
    MaskKind::Bits,
    MaskKind::Additive(Dtype::F16),
    MaskKind::Additive(Dtype::Bf16),
];

/// Of sequences that a loop over calls also goes through.
pub const LENGTHS: [[usize; 2]; 5] = [[5, 40], [0, 7], [33, 33], [7, 0], [1, 21]];
/// Keys that they have in pages.
pub const KEYS: [usize; 5] = [40, 1, 17, 0, 33];
/// Of two trees.
pub const PARENTS: [u32; 18] = [u32::MAX, 0, 0, 1, 1, 2, 5, 6, 99, 0, 0, 1, 2, 3, 4, 5, 6, 7];

pub(super) fn all(list: &mut List<Problem>) {
    everywhere(list);
    eight_bits(list);
    segments(list);
    faults(list);
    coop(list);
    checks(list);
    wide(list);
    full(list);
    benches(list);
    composed(list);
}

const HIDDEN: &str = "what a hidden key holds does not show";
const TILED: &str = "algorithm=tiled";
const DECODE: &str = "algorithm=decode";
const COOP: &str = "algorithm=coop";

/// About ten pipelines: all but head dims, dtypes and what is bound are parameters.
fn everywhere(list: &mut List<Problem>) {
    for (seq_q, seq_kv) in [(1, 1), (2, 0), (1, 39), (3, 79), (33, 65), (40, 23)] {
        for (causal, window, softcap) in [
            (false, [None, None], 0.0),
            (true, [None, None], 0.0),
            (false, [Some(9), Some(2)], 2.0),
            (true, [Some(0), None], 0.3),
            (true, [Some(usize::MAX), Some(usize::MAX)], 0.0),
            (false, [None, Some(5)], 0.0),
        ] {
            let problem = Problem { causal, window, softcap, ..shape(seq_q, seq_kv) };
            list.narrow("sizes, causal, windows, softcap", problem).seed(7 + seq_kv as u64).candidate(TILED);
        }
    }
    list.narrow("more queries than keys leave dead rows", causal(shape(40, 23))).seed(3).candidate(TILED);
    // Few queries over many keys, split; windows leave most splits with nothing to see.
    for (seq_q, seq_kv, window) in [(1, 700, None), (2, 900, None), (1, 600, Some(5)), (1, 1, None)] {
        let problem = Problem { window: [window, None], ..causal(shape(seq_q, seq_kv)) };
        list.narrow("decode and tiled", problem).seed(9).candidate(DECODE).says(&["attention_merge"]);
        list.narrow("decode and tiled", problem).seed(9).candidate(TILED);
    }
    // More rounds than some drivers let an invocation take, were the keys not split.
    list.narrow("long loops", shape(1, 9000)).seed(11);
    for shift in [-2e5, 2e5] {
        let entry = list.narrow("scores of -2e5", Problem { scale: 1.0, ..shape(5, 40) });
        // The first element of q and k makes the score, the second tells keys apart.
        entry.seed(4).candidate(TILED).set(move |_, values| {
            for (i, v) in values.get_mut("q").into_iter().flatten().enumerate() {
                *v = [shift, 1.0].get(i % 64).copied().unwrap_or(0.0);
            }
            for (i, v) in values.get_mut("k").into_iter().flatten().enumerate() {
                *v = [1.0, (i / 64 % 40) as f64 / 8.0].get(i % 64).copied().unwrap_or(0.0);
            }
        });
    }
    for (batch, per_batch) in [(1, false), (2, true)] {
        let of = |seq_q, seq_kv| Problem { batch, ..causal(shape(seq_q, seq_kv)) };
        let name = "alibi and sinks";
        list.narrow(name, alibi_and_sinks(per_batch, of(17, 33))).seed(5).candidate(TILED);
        // A sink is all that a dead row sees.
        list.narrow(name, sinks(of(33, 17))).seed(5).candidate(TILED);
        list.narrow(name, sinks(of(17, 33))).seed(5).candidate(DECODE);
    }
    // Also where a row's first keys are hidden, or all of them.
    let window = Problem { window: [Some(4), None], ..causal(shape(64, 64)) };
    for problem in [window, causal(shape(33, 17))] {
        let entry = list.narrow("a sink of minus infinity is none", sinks(problem));
        entry.seed(5).candidate(TILED).set(|_, values| drop(values.insert("tables", vec![f64::NEG_INFINITY; 9])));
    }
    let base = Problem { batch: 5, ..causal(shape(33, 40)) };
    for page_size in [1, 5, 16] {
        let lengths = KEYS.map(|keys| [1, keys]);
        let problem = paged(page_size, &lengths, Problem { seq_q: 1, ..base });
        list.narrow("decode over pages", problem).seed(8).candidate(DECODE).set(sequences(&lengths));
    }
    let lengths: [_; 5] = std::array::from_fn(|b| [LENGTHS[b][0], KEYS[b]]);
    let queries = Problem { packed: packed(&LENGTHS, base).packed, ..base };
    let entry = list.narrow("packed queries over pages", paged(16, &lengths, queries));
    entry.seed(6).candidate(TILED).set(sequences(&lengths));
    for seq_kv in [9, 30, 70] {
        for (per_batch, all) in [(false, &PARENTS[..9]), (true, &PARENTS)] {
            let problem = tree(per_batch, Problem { batch: 2, ..shape(9, seq_kv) });
            list.narrow("trees", problem).seed(2 + u64::from(per_batch)).candidate(TILED).set(parents(all));
        }
    }
    for (i, &kind) in MASKS.iter().enumerate() {
        let row = if kind == MaskKind::Bits { 64 } else { 33 };
        let shared = |strides, broadcast_cols| Mask { layout: Layout::strided(2, strides), broadcast_cols, kind };
        // As the scores; [sq, skv] for all; [b, 1, 1, skv]; [h, sq, 1].
        let masks = [Mask::new(kind), shared([0, 0, row], false), shared([row, 0, 0], false), shared([0, 17, 1], true)];
        for (mask, causal) in masks.into_iter().flat_map(|mask| [(mask, false), (mask, true)]) {
            let problem = Problem { batch: 2, causal, mask: Some(mask), ..shape(17, 33) };
            let name = format!("mask {kind:?}");
            let entry = if i == 0 { list.narrow(name, problem) } else { list.wide(name, problem) };
            entry.seed(5).candidate(TILED);
        }
    }
    let odd = Problem { o_layout: Layout::at(3), ..typed(Dtype::F16, Problem::new(1, 6, 2, 59)) };
    let odd = Problem { seq_q: 9, seq_kv: 20, value_dim: 41, lse: Some(0), ..odd };
    let name = "f16, odd head dim, rows that share words";
    list.narrow(name, odd).seed(5).candidate(TILED);
    list.narrow(name, Problem { seq_q: 1, seq_kv: 300, ..odd }).seed(6).candidate(DECODE);
    for problem in [shape(0, 5), Problem { batch: 0, ..shape(3, 5) }] {
        list.narrow("nothing to compute", problem);
    }
}

/// k and v in 8 bits, each vector with a scale.
fn eight_bits(list: &mut List<Problem>) {
    for format in [Format::Int8, Format::E4m3] {
        let of = |problem| codes(format, problem);
        list.narrow("8 bits", of(causal(shape(33, 65)))).seed(30).candidate(TILED);
        list.narrow("8 bits", of(alibi_and_sinks(false, shape(1, 700)))).seed(31).candidate(DECODE);
        let base = Problem { batch: 5, ..causal(shape(33, 40)) };
        let entry = list.narrow("8 bits, packed", of(packed(&LENGTHS, base)));
        entry.seed(32).candidate(TILED).set(sequences(&LENGTHS));
        let lengths = KEYS.map(|keys| [1, keys]);
        let entry = list.narrow("8 bits, paged", of(paged(5, &lengths, Problem { seq_q: 1, ..base })));
        entry.seed(33).candidate(DECODE).set(sequences(&lengths));
        // Scales token by token, as kv_append writes them, and with room between.
        let mut tokens = of(causal(Problem { batch: 2, ..Problem::new(2, 4, 2, 16) }));
        (tokens.seq_q, tokens.seq_kv) = (9, 21);
        tokens.codes = tokens.codes.map(|codes| Codes {
            k_scale: Layout::strided(0, [42, 1, 2]),
            v_scale: Layout::strided(0, [70, 35, 1]),
            ..codes
        });
        list.narrow("8 bits, strided scales", placed(tokens)).seed(37).candidate(TILED);
        // Vectors that share words with others.
        let odd = Problem { value_dim: 41, seq_q: 9, seq_kv: 20, lse: Some(0), ..Problem::new(1, 6, 2, 59) };
        list.narrow("8 bits, odd head dims", of(typed(Dtype::F16, odd))).seed(34).candidate(TILED);
        list.wide("8 bits, chosen", of(shape(40, 90))).seed(35);
        let base = typed(Dtype::F16, Problem { batch: 4, seq_q: 1, seq_kv: 4096, ..Problem::new(1, 32, 8, 128) });
        list.bench(format!("4x32/8x1x4096x128 f16, {format:?} keys"), of(base));
        for (heads, kv_heads, d) in [(32, 8, 128), (9, 3, 64)] {
            let one = Problem { seq_q: 1, seq_kv: 8192, ..Problem::new(1, heads, kv_heads, d) };
            let name = format!("{heads}/{kv_heads}x1 over 8192x{d} f16, {format:?} keys");
            list.bench(name, of(typed(Dtype::F16, one)));
        }
        list.compose(of(typed(Dtype::Bf16, causal(shape(33, 65)))));
        list.compose(of(typed(Dtype::F16, odd)));
    }
}

/// Two documents and more; a prompt that sees all of itself; noised pictures before clean ones, and text; chunks.
pub const RUNS: [&[(usize, u32)]; 4] = [
    &[(13, 2), (1, 2), (24, 2), (0, 2)],
    &[(29, 1), (0, 0)],
    &[(7, 0), (16, 3), (16, 1), (5, 0), (9, 3), (0, 0)],
    &[(8, 1), (8, 1), (8, 1), (8, 1), (8, 1), (0, 1)],
];

pub fn unordered(problem: Problem) -> Problem {
    Problem { segments: problem.segments.map(|segments| Segments { ordered: false, ..segments }), ..problem }
}

/// Sets numbers of segments in no order.
pub fn shuffled(p: &Problem, values: &mut Values) {
    let (at, len) = tileloom::verify::attention::u32_tables(p)[5].expect("there are numbers");
    let numbers = &mut values.get_mut("indices").expect("segments are indices")[at..at + len];
    numbers.iter_mut().enumerate().for_each(|(i, number)| *number = (i * i % 11) as f64);
}

/// Masks by segment.
fn segments(list: &mut List<Problem>) {
    let of = |problem| segmented(9, false, problem);
    let two = |seq_q, seq_kv| segmented(9, true, Problem { batch: 2, ..shape(seq_q, seq_kv) });
    list.narrow("segments", two(33, 65)).seed(50).candidate(TILED);
    list.narrow("segments", of(shape(3, 700))).seed(51).candidate(DECODE);
    let name = "segments: sizes and kinds";
    for (seq_q, seq_kv) in [(1, 1), (2, 0), (1, 39), (33, 65), (40, 23), (70, 131)] {
        for (i, all) in RUNS.into_iter().enumerate() {
            list.wide(name, of(shape(seq_q, seq_kv))).seed(52 + i as u64).candidate(TILED).set(runs(all));
        }
    }
    for all in RUNS {
        list.wide(name, of(shape(2, 900))).seed(56).candidate(DECODE).set(runs(all));
    }
    let name = "segments in no order";
    for (problem, algorithm) in [(two(33, 65), TILED), (of(shape(2, 700)), DECODE)] {
        list.wide(name, unordered(problem)).seed(57).candidate(algorithm).set(shuffled);
    }
    let name = "segments with all else";
    list.wide(name, of(causal(shape(33, 65)))).seed(58).candidate(TILED);
    let window = Problem { window: [Some(9), Some(2)], softcap: 2.0, ..shape(33, 65) };
    list.wide(name, of(window)).seed(59).candidate(TILED);
    let masked = Problem { mask: Some(Mask::shared(MaskKind::Bytes, 65)), ..shape(33, 65) };
    list.wide(name, alibi_and_sinks(false, of(masked))).seed(60).candidate(TILED);
    list.wide(name, of(tree(false, shape(9, 70)))).seed(61).candidate(TILED).set(parents(&PARENTS[..9]));
    let base = Problem { batch: 5, ..shape(33, 40) };
    list.wide(name, of(packed(&LENGTHS, base))).seed(62).candidate(TILED).set(sequences(&LENGTHS));
    let lengths: [_; 5] = std::array::from_fn(|b| [LENGTHS[b][0], KEYS[b]]);
    let queries = Problem { packed: packed(&LENGTHS, base).packed, ..base };
    let all = codes(Format::Int8, segmented(9, true, paged(5, &lengths, queries)));
    list.wide(name, all).seed(63).candidate(TILED).set(sequences(&lengths));
    list.wide(name, of(cut(base))).seed(64).candidate(TILED);
    // A noised picture is hidden from what follows, whatever it holds.
    let name = HIDDEN;
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let cells = [("k", Some(40), 3, nan), ("v", Some(44), 2, nan), ("v", Some(50), 1, inf), ("v", Some(55), 0, -inf)];
    let mut hidden = |problem: Problem, algorithm| {
        list.wide(name, problem).seed(65).candidate(algorithm).set(move |p, values| {
            runs(&[(40, 0), (16, 3), (0, 0)])(p, values);
            planted(&cells)(p, values);
        });
    };
    hidden(of(shape(40, 90)), TILED);
    hidden(of(shape(3, 600)), DECODE);
    hidden(of(typed(Dtype::F16, shape(40, 90))), COOP);
    let name = "matrices: segments";
    for (seq_q, seq_kv) in [(1, 39), (33, 65), (40, 23), (70, 131)] {
        for all in RUNS {
            let problem = typed(Dtype::F16, Problem { seq_q, seq_kv, lse: Some(1), ..Problem::new(1, 8, 2, 32) });
            list.wide(name, of(problem)).seed(66).candidate(COOP).set(runs(all));
        }
    }
    let wide = typed(Dtype::F16, Problem { batch: 5, ..causal(shape(33, 40)) });
    list.wide(name, of(packed(&LENGTHS, wide))).seed(67).candidate(COOP).set(sequences(&LENGTHS));
    list.wide(name, unordered(of(typed(Dtype::F16, shape(33, 65))))).seed(68).candidate(COOP);

    let documents = Problem { seq_q: 2048, seq_kv: 2048, ..Problem::new(1, 8, 8, 64) };
    list.bench("8x2048x64 f32, 4 documents", segmented(4, false, documents)).set(runs(&[(512, 2); 4])).sees(0.25);
    let large = typed(Dtype::F16, Problem { seq_q: 4096, seq_kv: 4096, ..Problem::new(1, 32, 8, 128) });
    list.large("32/8x4096x128 f16, segments", of(large));
    list.compose(of(typed(Dtype::F16, Problem { seq_q: 300, seq_kv: 300, ..Problem::new(2, 8, 2, 64) })));
    list.compose(of(typed(Dtype::F16, Problem { seq_q: 1, seq_kv: 5000, ..Problem::new(2, 8, 2, 64) })));
}

/// Sets elements of the last axis, [`Problem::head_dim`] or `value_dim` of them, of keys: `(tensor, key, element, value)`;
/// of every key for `None`, of every head.
fn planted(
    cells: &[(&'static str, Option<usize>, usize, f64)],
) -> impl Fn(&Problem, &mut Values) + Send + Sync + 'static {
    let cells = cells.to_vec();
    move |p, values| {
        for &(name, key, at, value) in &cells {
            let (dim, seq) = match name {
                "q" => (p.head_dim, p.seq_q),
                "k" => (p.head_dim, p.seq_kv),
                _ => (p.value_dim, p.seq_kv),
            };
            for (row, vector) in values.get_mut(name).into_iter().flat_map(|all| all.chunks_exact_mut(dim)).enumerate()
            {
                if key.is_none_or(|key| key == row % seq) {
                    vector[at] = value;
                }
            }
        }
    }
}

/// Everything is 0 but for what is planted, and v, which is as it comes.
fn bare(cells: &[(&'static str, Option<usize>, usize, f64)]) -> impl Fn(&Problem, &mut Values) + Send + Sync + 'static {
    let plant = planted(cells);
    move |p, values| {
        for name in ["q", "k"] {
            values.get_mut(name).into_iter().flatten().for_each(|v| *v = 0.0);
        }
        plant(p, values);
    }
}

/// What is hidden, and what pads, is not seen; and what is far from 0 is right.
fn faults(list: &mut List<Problem>) {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    // Of rows that see a NaN nothing is judged.
    let cells = [("k", Some(50), 3, nan), ("v", Some(50), 2, nan), ("v", Some(40), 0, inf), ("v", Some(45), 9, -inf)];
    let name = HIDDEN;
    for window in [[None, None], [Some(4), None], [Some(9), Some(2)]] {
        let causal = window[1].is_none();
        let problem = Problem { causal, window, ..shape(33, 65) };
        list.narrow(name, problem).seed(31).candidate(TILED).set(planted(&cells));
    }
    let cells =
        [("k", Some(899), 3, nan), ("v", Some(899), 2, inf), ("v", Some(898), 5, -inf), ("v", Some(700), 1, inf)];
    for window in [None, Some(50)] {
        let problem = Problem { window: [window, None], ..causal(shape(3, 900)) };
        list.narrow(name, problem).seed(32).candidate(DECODE).set(planted(&cells));
    }
    for (kind, hidden) in [(MaskKind::Bytes, 0.0), (MaskKind::Additive(Dtype::F32), f64::NEG_INFINITY)] {
        let shared = Mask::shared(kind, 79);
        let mut entry = |seq_q, algorithm| {
            let problem = Problem { mask: Some(shared), ..shape(seq_q, 79) };
            list.narrow(name, problem).seed(33).candidate(algorithm).set(move |p, values| {
                for (i, v) in values.get_mut("mask").into_iter().flatten().enumerate() {
                    if i % 79 % 7 == 3 {
                        *v = hidden;
                    }
                }
                planted(&[("k", Some(3), 3, nan), ("v", Some(10), 2, inf), ("v", Some(73), 5, nan)])(p, values);
            });
        };
        entry(9, TILED);
        if hidden != 0.0 {
            entry(1, DECODE);
        }
    }
    // As GPUs do it, on any adapter.
    let branch = Config {
        algorithm: Algorithm::Tiled,
        wg_size: 16,
        lanes: 1,
        rows: 2,
        slots: 1,
        keys: 4,
        load: Load::Staged(8),
        splits: 1,
        reduce: Reduce::None,
        hide: Hide::Branch,
        native_f16: false,
    };
    let cells = [("k", Some(40), 3, nan), ("v", Some(40), 2, nan), ("v", Some(45), 1, inf), ("v", Some(35), 0, -inf)];
    list.narrow(name, causal(shape(21, 50))).seed(5).config(branch).set(planted(&cells));
    let name = "what pads is not seen";
    let end = Problem { lse: Some(0), ..shape(3, 79) };
    list.narrow(name, end).seed(34).candidate(TILED).set(planted(&[("v", Some(78), 3, inf), ("v", Some(0), 5, -inf)]));
    for d in [40, 59] {
        let problem = typed(Dtype::F16, Problem { seq_q: 3, seq_kv: 20, ..Problem::new(1, 6, 2, d) });
        let cells = [("q", None, d - 1, 1.0), ("k", Some(1), d - 1, -inf), ("k", Some(19), d - 1, -inf)];
        list.narrow(name, problem).seed(35).candidate(TILED).set(planted(&cells));
    }

    let name = "scores that are large and equal";
    // scale is 1/8.
    for score in [1e7, 1e8, -1e9, 1e30] {
        let cells = [("q", None, 0, 8.0 * score), ("k", None, 0, 1.0)];
        list.narrow(name, shape(1, 700)).seed(36).candidate(DECODE).set(bare(&cells));
    }
    let mask = Some(Mask { layout: Layout::strided(0, [0; 3]), ..Mask::new(MaskKind::Additive(Dtype::F32)) });
    list.narrow(name, cut(Problem { mask, ..shape(1, 257) })).seed(37).candidate(DECODE).set(|p, values| {
        values.insert("indices", vec![137.0]);
        values.get_mut("mask").into_iter().flatten().for_each(|v| *v = -1e9);
        values.get_mut("v").into_iter().flatten().for_each(|v| *v = 0.0);
        bare(&[("v", Some(136), 0, 1.0)])(p, values);
    });
    let name = "scores beyond f32";
    for q in [3e38, -3e38] {
        let cells = [("q", None, 0, q), ("k", None, 0, 100.0)];
        list.narrow(name, Problem { lse: None, ..shape(3, 79) }).seed(38).candidate(TILED).set(bare(&cells));
        list.wide(name, Problem { lse: None, ..shape(1, 700) }).seed(38).candidate(DECODE).set(bare(&cells));
        let cells = [("q", None, 0, q), ("k", Some(7), 0, q.signum() * 100.0)];
        let alone = list.narrow(name, Problem { lse: None, ..shape(3, 79) });
        alone.seed(39).candidate(TILED).within(1e-5).set(bare(&cells));
    }
    let name = "an infinite slope leaves the query's own key, an infinite sink nothing";
    list.narrow(name, alibi_and_sinks(false, causal(shape(17, 33)))).seed(40).candidate(TILED).set(|p, values| {
        let tables = values.get_mut("tables").expect("slopes and sinks");
        tables[0] = f64::INFINITY;
        tables[p.heads + 1] = f64::INFINITY;
    });
    let inf_f16 = typed(Dtype::F16, Problem { seq_q: 3, seq_kv: 20, ..Problem::new(1, 6, 2, 40) });
    let cells = [("q", None, 7, 1.0), ("k", Some(4), 7, inf)];
    list.narrow(name, inf_f16).seed(42).candidate(TILED).within(1e-3).set(bare(&cells));
    let name = "maximum and sum";
    let large = Problem { sum: Some(20), ..shape(1, 700) };
    let cells = [("q", None, 0, 8e8), ("k", None, 0, 1.0)];
    list.narrow(name, large).seed(43).candidate(DECODE).within(1e-6).set(bare(&cells));
    for (problem, algorithm) in [(shape(17, 33), TILED), (shape(1, 700), DECODE)] {
        let rows = problem.heads * problem.seq_q;
        let problem = Problem { lse: Some(1), sum: Some(rows + 5), ..causal(problem) };
        list.narrow(name, problem).seed(41).candidate(algorithm);
    }
}

/// By cooperative matrices, where there are some: all options over few pipelines, then what is special to matrices.
fn coop(list: &mut List<Problem>) {
    // Groups of 4 rows: a tile has 64 rows, or fewer where there are fewer.
    let shape = |seq_q, seq_kv| typed(Dtype::F16, Problem { seq_q, seq_kv, lse: Some(1), ..Problem::new(1, 8, 2, 32) });
    let name = "matrices: sizes, causal, windows";
    for (seq_q, seq_kv) in [(1, 1), (2, 0), (1, 39), (3, 79), (33, 65), (40, 23), (70, 131)] {
        for (causal, window) in [
            (false, [None, None]),
            (true, [None, None]),
            (false, [Some(9), Some(2)]),
            (true, [Some(0), None]),
            (true, [Some(usize::MAX), Some(usize::MAX)]),
            (false, [None, Some(5)]),
        ] {
            list.wide(name, Problem { causal, window, ..shape(seq_q, seq_kv) }).seed(7 + seq_kv as u64).candidate(COOP);
        }
    }
    let name = "matrices: biases and sequences";
    let capped = Problem { softcap: 2.0, window: [Some(9), Some(2)], ..shape(33, 65) };
    list.wide(name, capped).seed(4).candidate(COOP);
    for (batch, per_batch) in [(1, false), (2, true)] {
        let of = |seq_q, seq_kv| Problem { batch, ..causal(shape(seq_q, seq_kv)) };
        list.wide(name, alibi_and_sinks(per_batch, of(17, 33))).seed(5).candidate(COOP);
        list.wide(name, sinks(of(33, 17))).seed(6).candidate(COOP);
    }
    let none = list.wide(name, sinks(causal(shape(33, 17))));
    none.seed(5).candidate(COOP).set(|_, values| drop(values.insert("tables", vec![f64::NEG_INFINITY; 8])));
    for kind in [MaskKind::Bytes, MaskKind::Additive(Dtype::F16)] {
        for (mask, causal) in [(Mask::new(kind), false), (Mask::new(kind), true), (Mask::shared(kind, 70), false)] {
            let problem = Problem { batch: 2, causal, mask: Some(mask), ..shape(17, 70) };
            list.wide(name, problem).seed(7).candidate(COOP);
        }
    }
    for (seq_kv, per_batch, all) in [(9, false, &PARENTS[..9]), (30, true, &PARENTS), (70, false, &PARENTS[..9])] {
        let problem = tree(per_batch, Problem { batch: 2, ..shape(9, seq_kv) });
        list.wide(name, problem).seed(8).candidate(COOP).set(parents(all));
    }
    let base = Problem { batch: 5, ..causal(shape(33, 40)) };
    list.wide(name, packed(&LENGTHS, base)).seed(9).candidate(COOP).set(sequences(&LENGTHS));
    let lengths: [_; 5] = std::array::from_fn(|b| [LENGTHS[b][0], KEYS[b]]);
    let queries = Problem { packed: packed(&LENGTHS, base).packed, ..base };
    list.wide(name, paged(16, &lengths, queries)).seed(10).candidate(COOP).set(sequences(&lengths));
    let rows = 8 * 33;
    let parts = Problem { sum: Some(rows + 5), ..causal(shape(33, 65)) };
    list.wide(name, parts).seed(11).candidate(COOP);

    for (o, head_dim, seq_kv) in [(Dtype::Bf16, 32, 65), (Dtype::F32, 40, 39), (Dtype::Bf16, 35, 23)] {
        let problem = Problem { head_dim, value_dim: head_dim, o, inputs: Precision::F16, ..causal(shape(33, seq_kv)) };
        let name = format!("matrices: bf16 as f16, head dim {head_dim}");
        let problem = Problem { x: Dtype::Bf16, ..problem };
        let entry = if head_dim == 35 { list.wide(name, problem) } else { list.full(name, problem) };
        entry.seed(12).candidate(COOP);
    }

    // A tile of a diagonal is 16 keys: what is not finite at its first, its last and between.
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let name = "matrices: what a hidden key holds does not show";
    for key in [32, 33, 40, 46, 47, 48, 63] {
        for value in [nan, inf] {
            let cells =
                [("v", Some(key), key % 32, value), ("k", Some(key), 3, if value.is_nan() { nan } else { 0.5 })];
            list.wide(name, causal(shape(64, 64))).seed(key as u64).candidate(COOP).set(planted(&cells));
        }
    }
    let cells = [("k", Some(40), 3, nan), ("v", Some(40), 2, nan), ("v", Some(45), 1, inf), ("v", Some(35), 0, -inf)];
    list.wide(name, causal(shape(21, 50))).seed(5).candidate(COOP).set(planted(&cells));
    let cells = [("k", Some(64), 3, nan), ("v", Some(64), 2, nan), ("v", Some(1), 0, nan), ("v", Some(69), 5, inf)];
    let lengths = Problem { batch: 1, ..shape(33, 70) };
    list.wide(name, cut(lengths)).seed(6).candidate(COOP).set(move |p, values| {
        values.insert("indices", vec![64.0]);
        planted(&cells[..2])(p, values);
        planted(&cells[3..])(p, values);
    });
    let mask = Some(Mask::shared(MaskKind::Bytes, 70));
    list.wide(name, Problem { mask, ..shape(21, 70) }).seed(7).candidate(COOP).set(move |p, values| {
        values.get_mut("mask").into_iter().flatten().enumerate().for_each(|(i, v)| *v = f64::from(i % 5 != 0));
        planted(&[("k", Some(40), 3, nan), ("v", Some(10), 2, inf), ("v", Some(65), 1, nan)])(p, values);
    });
    // Visible, with weights from 1 to what f16 does not hold.
    let name = "matrices: what is infinite shows";
    for key in [0, 40, 79] {
        let cells =
            [("v", Some(key), 3, inf), ("v", Some(5), 9, -inf), ("k", Some(key), 0, 9.0), ("q", None, 0, -12.0)];
        list.wide(name, shape(33, 80)).seed(key as u64).candidate(COOP).set(planted(&cells));
    }
    let name = "matrices: scores far apart";
    for (at, far) in [(0.05, 200.0), (1.0, -300.0), (1.0, 60000.0)] {
        let problem = Problem { scale: at, ..shape(33, 80) };
        list.wide(name, problem).seed(12).candidate(COOP).set(move |p, values| {
            for (i, v) in values.get_mut("k").into_iter().flatten().enumerate() {
                if i % p.head_dim == 0 {
                    *v = (i / p.head_dim % 7) as f64 * far / 50.0;
                }
            }
        });
    }

    let name = "matrices: head dims";
    let of = |d, value_dim| Problem { value_dim, ..typed(Dtype::F16, Problem::new(1, 4, 2, d)) };
    // Padded by eights; by single elements, in rows that share words; o of f32, also of rows that see few keys.
    let few = Problem { seq_q: 33, seq_kv: 33, o: Dtype::F32, lse: Some(0), ..of(40, 40) };
    list.wide(name, causal(few)).seed(40).candidate(COOP);
    let odd = Problem { seq_q: 33, seq_kv: 70, o_layout: Layout::at(3), ..of(59, 41) };
    list.wide(name, causal(odd)).seed(59).candidate(COOP);
    let more = |d, value_dim| Problem { seq_q: 35, seq_kv: 70, lse: Some(0), ..of(d, value_dim) };
    list.wide(name, causal(more(64, 64))).seed(64).candidate(COOP);
    list.full(name, causal(Problem { o: Dtype::F32, ..more(1, 1) })).seed(1).candidate(COOP);
    list.full(name, more(1, 1)).seed(2).candidate(COOP);
    for (d, value_dim) in [(128, 128), (192, 128), (256, 256), (576, 512)] {
        list.full(name, causal(more(d, value_dim))).seed(d as u64).candidate(COOP);
    }
    let name = "matrices: slots, and more subgroups than blocks";
    for (lanes, slots, keys) in [(2, 1, 16), (2, 2, 8)] {
        let config = Config {
            algorithm: Algorithm::Coop,
            wg_size: 16 * lanes * slots,
            lanes,
            rows: 1,
            slots,
            keys,
            load: Load::Matrices(8),
            splits: 1,
            reduce: Reduce::Memory,
            hide: Hide::Branch,
            native_f16: true,
        };
        list.wide(name, causal(shape(21, 90))).seed(13).config(config);
        let cells = [("v", Some(75), 2, inf), ("v", Some(80), 1, inf), ("v", Some(20), 0, -inf)];
        list.wide(name, causal(shape(21, 90))).seed(14).config(config).set(planted(&cells));
    }
    let name = "matrices: checked modules give the same";
    let lengths = [[5, 33], [5, 20]];
    let all = paged(4, &lengths, tree(false, Problem { batch: 2, ..shape(5, 33) }));
    list.full(name, all).seed(2).candidate(COOP).checked().set(move |p, values| {
        parents(&[9, 0, 0, 1, 9])(p, values);
        sequences(&lengths)(p, values);
    });
}

/// As a caller has them, by the chosen Config.
fn checks(list: &mut List<Problem>) {
    let of = |heads, kv_heads, seq_q, seq_kv, d| Problem {
        seq_q,
        seq_kv,
        lse: Some(0),
        ..Problem::new(2, heads, kv_heads, d)
    };
    let gqa = of(9, 3, 65, 130, 64);
    list.narrow("9 heads over 3", gqa);
    list.narrow("causal", causal(gqa)).seed(2);
    list.narrow("causal, more queries than keys", causal(of(9, 3, 70, 33, 64))).seed(3);
    list.narrow("window, softcap", Problem { window: [Some(20), Some(3)], softcap: 5.0, ..gqa }).seed(4);
    list.narrow("alibi, sinks", alibi_and_sinks(true, gqa)).seed(5);
    list.narrow("boolean mask", Problem { mask: Some(Mask::new(MaskKind::Bytes)), ..gqa }).seed(6);
    list.narrow("f16, head dim 40", typed(Dtype::F16, of(4, 2, 33, 70, 40))).seed(7);
    list.narrow("bf16, odd head dim", typed(Dtype::Bf16, of(2, 1, 19, 40, 59))).seed(8);
    list.narrow("decode", typed(Dtype::F16, of(8, 2, 1, 1000, 64))).seed(9);
    let speculated = tree(false, of(4, 2, 7, 50, 64));
    list.narrow("tree", speculated).seed(10).set(parents(&[u32::MAX, 0, 0, 1, 2, 2, 3]));
    let lengths = [[40, 70], [17, 17]];
    list.narrow("packed", packed(&lengths, causal(of(9, 3, 40, 70, 64)))).seed(11).set(sequences(&lengths));
    let lengths = [[5, 70], [5, 33]];
    list.narrow("paged", paged(16, &lengths, causal(of(9, 3, 5, 70, 64)))).seed(12).set(sequences(&lengths));
}

/// What one driver is enough for.
fn wide(list: &mut List<Problem>) {
    list.wide("chosen for prefill", shape(128, 128)).says(&[TILED]);
    list.wide("chosen for decode", shape(1, 4096)).says(&[DECODE]);
    list.wide("chosen on a CPU", shape(128, 128)).says(&["load=broadcast("]).unless(|caps: &Caps| {
        let handed = caps.class() == Class::Software && caps.trusted_subgroup_size().is_some();
        (!handed).then_some("a CPU with subgroups of a size that can be trusted")
    });
    let tile = |load, lanes, reduce, rows| Config {
        algorithm: Algorithm::Tiled,
        wg_size: 16,
        lanes,
        rows,
        slots: 1,
        keys: 4,
        load,
        splits: 1,
        reduce,
        hide: Hide::Branch,
        native_f16: false,
    };
    let split = Config {
        algorithm: Algorithm::Decode,
        wg_size: 8,
        slots: 2,
        splits: 3,
        ..tile(Load::Direct, 1, Reduce::None, 1)
    };
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    for config in [
        tile(Load::Direct, 1, Reduce::None, 2),
        tile(Load::Staged(8), 1, Reduce::None, 1),
        tile(Load::Staged(16), 4, Reduce::Memory, 2),
        tile(Load::Staged(8), 8, Reduce::Shuffle, 2),
        tile(Load::Direct, 4, Reduce::Shuffle, 2),
        split,
    ] {
        list.wide("every way of loading and adding up", causal(shape(21, 50))).seed(4).config(config);
        for format in [Format::Int8, Format::E4m3] {
            let problem = codes(format, causal(shape(21, 50)));
            list.wide("8 bits, every way of loading and adding up", problem).seed(36).config(config);
        }
        let pictures = list.wide("segments, every way of loading and adding up", segmented(9, false, shape(21, 90)));
        pictures.seed(6).config(config).set(runs(RUNS[2]));
        let cells =
            [("k", Some(40), 3, nan), ("v", Some(40), 2, nan), ("v", Some(45), 1, inf), ("v", Some(35), 0, -inf)];
        list.wide(HIDDEN, causal(shape(21, 50))).seed(5).config(config).set(planted(&cells));
        let mask = Some(Mask::shared(MaskKind::Bytes, 50));
        let masked = list.wide(HIDDEN, Problem { mask, ..shape(21, 50) });
        masked.seed(6).config(config).set(move |p, values| {
            values.get_mut("mask").into_iter().flatten().enumerate().for_each(|(i, v)| *v = f64::from(i % 5 != 0));
            planted(&[("k", Some(40), 3, nan), ("v", Some(10), 2, inf), ("v", Some(45), 1, nan)])(p, values);
        });
    }
    for d in [1, 40, 80, 111, 128, 256] {
        let problem = Problem { seq_q: 9, seq_kv: 33, lse: Some(0), ..Problem::new(1, 4, 2, d) };
        list.wide("head dims", problem).seed(d as u64).candidate(TILED);
    }
    // Values of another size than keys, and DeepSeek's absorbed MLA.
    for (d, value_dim, kv_heads) in [(192, 128, 2), (576, 512, 1)] {
        let problem = Problem { seq_q: 3, seq_kv: 33, value_dim, ..Problem::new(1, 4, kv_heads, d) };
        list.wide("head dims", problem).seed(d as u64).candidate(TILED);
    }
    for (x, o) in [(Dtype::F16, Dtype::F16), (Dtype::Bf16, Dtype::Bf16), (Dtype::F16, Dtype::F32)] {
        list.wide("dtypes", Problem { x, o, ..causal(shape(33, 70)) }).seed(2).candidate(TILED);
    }
    let mixed = Problem { x: Dtype::F16, o: Dtype::Bf16, ..shape(1, 2000) };
    list.wide("dtypes", mixed).seed(3).candidate(DECODE);
    // A mask, tables and sequences, too, are within bounds that nothing needs to check.
    let name = "checked modules give the same";
    list.wide(name, causal(shape(17, 33))).candidate(TILED).checked();
    let lengths = [[5, 33], [5, 20]];
    let all = paged(4, &lengths, tree(false, Problem { batch: 2, ..shape(5, 33) }));
    list.wide(name, all).seed(2).candidate(TILED).checked().set(move |p, values| {
        parents(&[9, 0, 0, 1, 9])(p, values);
        sequences(&lengths)(p, values);
    });
    let every = paged(4, &lengths, segmented(5, true, Problem { batch: 2, ..shape(5, 33) }));
    list.wide(name, every).seed(3).candidate(TILED).checked().set(sequences(&lengths));
    for (seq_q, seq_kv) in [(113, 203), (127, 513), (1, 8192)] {
        list.wide("long pairs", causal(shape(seq_q, seq_kv)));
    }
}

/// FlashAttention's sweep.
fn full(list: &mut List<Problem>) {
    const PAIRS: [(usize, usize); 11] = [
        (1, 1),
        (1, 239),
        (3, 799),
        (113, 203),
        (128, 217),
        (203, 113),
        (127, 512),
        (127, 513),
        (1023, 1024),
        (1024, 1023),
        (1, 8192),
    ];
    for d in [32, 40, 59, 64, 80, 96, 111, 128, 160, 192, 224, 256] {
        for (x, (seq_q, seq_kv)) in Dtype::ALL.into_iter().flat_map(|x| PAIRS.map(|pair| (x, pair))) {
            // As many heads as keep the oracle's time in bounds.
            let (heads, kv_heads) = match seq_q * seq_kv {
                0..=0xffff => (9, 3),
                0x1_0000..=0x7_ffff => (2, 1),
                _ => (1, 1),
            };
            let problem = Problem { seq_q, seq_kv, lse: Some(0), ..typed(x, Problem::new(1, heads, kv_heads, d)) };
            list.full(format!("sweep of head dim {d}"), problem);
            list.full(format!("sweep of head dim {d}"), causal(problem));
        }
    }
}

fn benches(list: &mut List<Problem>) {
    for (seq, d) in [(128, 64), (512, 64), (1024, 64), (2048, 64), (512, 128), (2048, 128)] {
        let problem = Problem { seq_q: seq, seq_kv: seq, ..Problem::new(1, 8, 8, d) };
        for (problem, word) in [(problem, ""), (causal(problem), " causal")] {
            let entry = list.bench(format!("8x{seq}x{d} f32{word}"), problem);
            if (seq, d) == (512, 64) {
                entry.quick();
            }
        }
    }
    list.beside("8x256x64 f32", Problem { seq_q: 256, seq_kv: 256, ..Problem::new(1, 8, 8, 64) });
    let f16 = |seq_q, seq_kv, heads, kv_heads, d| Problem {
        seq_q,
        seq_kv,
        ..typed(Dtype::F16, Problem::new(1, heads, kv_heads, d))
    };
    list.bench("8/2x512x128 f16", f16(512, 512, 8, 2, 128));
    list.bench("8x1 over 8192x64 f16", f16(1, 8192, 8, 8, 64));
    list.bench("32/8x1 over 8192x128 f16", f16(1, 8192, 32, 8, 128)).quick();
    list.bench("9/3x1 over 8192x64 f16", f16(1, 8192, 9, 3, 64));
    for own in models::attentions() {
        let problem = Problem {
            seq_q: own.queries,
            seq_kv: own.keys,
            value_dim: own.value_dim,
            causal: own.causal,
            ..typed(own.dtype, Problem::new(own.batch, own.heads, own.kv_heads, own.head_dim))
        };
        list.model(format!("{} {}", own.name, own.dtype), problem);
    }
    for n in [64, 128, 256, 512, 1024, 2048] {
        let problem = Problem { seq_q: n, seq_kv: n, ..Problem::new(1, 8, 8, 64) };
        list.sweep("8 x n x 64 f32 causal", n, causal(problem));
    }
    for n in [256, 1024, 4096, 16_384] {
        list.sweep("32/8 x 1 over n x 128 f16", n, f16(1, n, 32, 8, 128));
    }
    for d in [64, 128, 256] {
        list.large(format!("32/8x4096x{d} f16 causal"), causal(f16(4096, 4096, 32, 8, d)));
    }
    let latent = Problem { value_dim: 512, ..f16(4096, 4096, 16, 1, 576) };
    list.large("16/1x4096x576/512 f16 causal", causal(latent));
}

/// Dtypes, what is bound, odd layouts; few queries and many. Head dims are in the other lists, but for the largest.
fn composed(list: &mut List<Problem>) {
    for (seq_q, seq_kv) in [(300, 300), (1, 5000)] {
        let of = |x, o, d| Problem { seq_q, seq_kv, x, o, ..Problem::new(2, 8, 2, d) };
        for (x, o) in
            [(Dtype::F32, Dtype::F32), (Dtype::F16, Dtype::F16), (Dtype::Bf16, Dtype::Bf16), (Dtype::F16, Dtype::F32)]
        {
            let (base, odd) = (of(x, o, 64), of(x, o, 59));
            list.compose(base);
            list.compose(Problem { o_layout: Layout::at(1), lse: Some(0), ..odd });
            let kind = if x == Dtype::F32 { MaskKind::Bits } else { MaskKind::Additive(x) };
            let all = packed(&[[seq_q, seq_kv]; 2], tree(false, alibi_and_sinks(true, base)));
            list.compose(Problem { mask: Some(Mask::new(kind)), lse: Some(0), ..all });
        }
        list.compose(Problem { value_dim: 512, ..of(Dtype::F16, Dtype::F16, 576) });
        list.compose(of(Dtype::F16, Dtype::F16, 128));
        list.compose(Problem { value_dim: 128, ..of(Dtype::F16, Dtype::F16, 192) });
        list.compose(of(Dtype::Bf16, Dtype::Bf16, 256));
    }
}
