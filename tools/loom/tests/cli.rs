//! The commands as people meet them: exit codes, messages, files. What needs an adapter runs on whatever the
//! machine offers, in this process, so that a cargo runner that sets up a driver reaches it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use loom::case::{Case, Fault, Tensor};
use loom::commands::bench;
use loom::commands::check::{self, Tally};
use loom::harness;
use loom::kernel::{Cost, Depth, Held, Kernel, Memory, Prepared, Replay, Run, Use, Values};
use loom::pool::Pool;
use loom::report::{self, Outcome, Record};
use loom::roofline::{Limit, Roofline};
use loom::timer::{Source, Timer};
use loom::{Gpu, figures, gpu, registry};
use tileloom::compose::Shader;
use tileloom::reference::Verdict;
use tileloom::tune::{Entry, Table};
use tileloom::verify::Subject;
use tileloom::{Caps, Dtype, Kernels, Op};

/// A folder of one test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("loom-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn case(&self, name: &str, case: &Case) -> PathBuf {
        let path = self.file(name);
        case.write(&path).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Exit code, stdout and stderr.
fn loom(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let program = std::ffi::OsString::from("loom");
    let all = std::iter::once(program).chain(arguments.iter().map(|argument| argument.as_ref().to_owned()));
    let code = loom::commands::cli::run(all, &mut out, &mut err);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// Fails without an adapter, as a run must.
fn adapter(case: &Path) {
    if gpu::adapters().is_empty() {
        let (code, out, err) = loom(&[&"run", &case]);
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.contains(gpu::NO_ADAPTER), "{err}");
        panic!("{}", gpu::NO_ADAPTER);
    }
}

/// `softmax([0, ln 3]) = [1/4, 3/4]` with an LSE of `ln 4`, in rows of two.
fn quarters(dtype: Dtype, rows: usize) -> Case {
    let x: Vec<f64> = (0..rows).flat_map(|row| [row as f64, row as f64 + 3f64.ln()]).collect();
    Case::new("softmax").tensor("x", Tensor::values(dtype, &[rows, 2], &x))
}

fn expect(case: Case, shape: &[usize], y: &[f64], lse: &[f64]) -> Case {
    case.tensor("expected.y", Tensor::values(Dtype::F32, shape, y))
        .tensor("expected.lse", Tensor::values(Dtype::F32, &shape[..shape.len() - 1], lse))
}

#[test]
fn isa_refuses_what_it_does_not_know() {
    let folder = Folder::new("isa");
    let file = folder.file("kernel.wgsl");
    std::fs::write(&file, "").unwrap();
    let (code, _, err) = loom(&[&"isa", &"--target", &"amd:navi99"]);
    assert!(
        code == 2 && err.contains("target `amd:navi99` is not known, expected one of: amd:vega20, amd:navi21,"),
        "{err}"
    );
    let (code, _, err) = loom(&[&"isa", &"softmix"]);
    assert!(code == 2 && err.contains("kernel `softmix` is not known"), "{err}");
    let (code, _, err) = loom(&[&"isa", &"softmax", &file]);
    assert!(code == 2 && err.contains("kernels and WGSL files cannot be named together"), "{err}");
    let (code, _, err) = loom(&[&"isa", &folder.file("none.wgsl")]);
    assert!(code == 2 && err.contains("none.wgsl: "), "{err}");
    let (code, _, err) = loom(&[&"isa", &"--diff", &file]);
    assert!(code == 2 && err.contains("kernel.wgsl: "), "{err}");
    let (code, _, err) = loom(&[&"isa", &"softmax", &"--write"]);
    assert!(code == 2 && err.contains("--write takes all kernels"), "{err}");
}

#[test]
fn right_wrong_and_malformed() {
    let folder = Folder::new("codes");
    let (lse, y) = ([4f64.ln(), 1.0 + 4f64.ln()], [0.25, 0.75, 0.25, 0.75]);
    let right = folder.case("right.safetensors", &expect(quarters(Dtype::F32, 2), &[2, 2], &y, &lse));
    let off = [0.25, 0.75, 0.26, 0.75];
    let wrong = folder.case("wrong.safetensors", &expect(quarters(Dtype::F32, 2), &[2, 2], &off, &lse));
    let out = folder.file("out.safetensors");

    // A malformed case is refused before an adapter is asked for, and writes nothing.
    let bad = folder.case("bad.txt", &quarters(Dtype::F32, 2).option("scael", 2));
    let (code, text, err) = loom(&[&"run", &bad, &"--out", &out]);
    assert_eq!((code, text.as_str()), (2, ""));
    assert!(err.contains("bad.txt: option `scael` is not known, expected one of: causal,"), "{err}");
    assert!(!out.exists());
    let plain = folder.case("plain.txt", &quarters(Dtype::F32, 2));
    let (code, _, err) = loom(&[&"run", &plain, &"--check"]);
    assert_eq!(code, 2);
    assert!(
        err.ends_with("there is no tensor `expected.*` to check against, expected one of: expected.y, expected.lse\n")
    );
    let (code, _, err) = loom(&[&"run", &folder.file("none.txt")]);
    assert!(code == 2 && err.contains("none.txt: cannot be read: "), "{err}");
    let known: Vec<_> = registry::all().iter().flat_map(|kernel| kernel.ops()).copied().collect();
    let expected = format!("expected one of: {}", known.join(", "));
    let (code, _, err) = loom(&[&"run", &folder.case("op.txt", &Case::new("softmix"))]);
    assert!(code == 2 && err.contains(&format!("op.txt: op `softmix` is not known, {expected}")), "{err}");
    let (code, _, err) = loom(&[&"run", &folder.case("noop.txt", &Case::default())]);
    assert!(code == 2 && err.contains(&format!("noop.txt: metadata `op` is missing, {expected}")), "{err}");

    adapter(&right);
    let (code, text, err) = loom(&[&"run", &right, &"--check", &"--out", &out]);
    assert_eq!((code, err.as_str()), (0, ""), "{text}");
    assert!(text.contains("y [2, 2]: ok, 0 of 4 wrong") && text.contains("lse [2]: ok, 0 of 2 wrong"), "{text}");
    let written = Case::read(&out).unwrap();
    assert_eq!(written.tensors.keys().collect::<Vec<_>>(), ["lse", "y"]);
    assert_eq!((written.tensors["y"].shape.as_slice(), written.tensors["y"].float()), (&[2, 2][..], Some(Dtype::F32)));
    assert_eq!(written.tensors["lse"].shape, [2]);
    for name in ["adapter", "driver", "config"] {
        assert!(!written.metadata[name].is_empty(), "{name}");
    }
    assert!(written.metadata["config"].contains("softmax_"), "{}", written.metadata["config"]);

    let (code, text, _) = loom(&[&"run", &wrong, &"--check"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("y [2, 2]: WRONG, 1 of 4 wrong; worst at [1, 0]: 2.5"), "{text}");
    assert!(text.contains(", expected 2.6e-1 (error 1.00e-2, allowed "), "{text}");
    // The case may widen what is allowed; without --check nothing is compared.
    let widened = Case::read(&wrong).unwrap().option("tolerance", 0.02);
    assert_eq!(loom(&[&"run", &folder.case("widened.txt", &widened), &"--check"]).0, 0);
    assert_eq!(loom(&[&"run", &wrong]).0, 0);

    let (code, text, _) = loom(&[&"run", &folder.0]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("| right.safetensors") && text.contains("passed") && text.contains("WRONG"), "{text}");
    std::fs::remove_file(&wrong).unwrap();
    std::fs::remove_file(&out).unwrap();
    assert_eq!(loom(&[&"run", &folder.0]).0, 0);
    folder.case("bad.safetensors", &Case::read(&bad).unwrap());
    let (code, text, err) = loom(&[&"run", &folder.0]);
    assert!(code == 2 && text.contains("malformed") && err.contains("scael"), "{text}{err}");
    assert_eq!(loom(&[&"run", &folder.0, &"--out", &out]).0, 2);
    let (code, _, err) = loom(&[&"run", &right, &"--adapter", &"no such adapter"]);
    assert!(code == 2 && err.contains("no adapter is called `no such adapter`; there are: "), "{err}");
}

/// Each runs and gives what was worked out by hand.
#[test]
fn every_input_of_softmax() {
    let folder = Folder::new("inputs");
    let inf = f64::INFINITY;
    let ln = f64::ln;
    let x =
        |shape: &[usize], values: &[f64]| Case::new("softmax").tensor("x", Tensor::values(Dtype::F32, shape, values));
    let six = [0.0, ln(2.0), ln(5.0), 0.0, ln(2.0), ln(5.0)];
    let mut cases = vec![
        ("scale", expect(x(&[2], &[0.0, 2.0 * ln(3.0)]).option("scale", 0.5), &[2], &[0.25, 0.75], &[ln(4.0)])),
        ("log", expect(x(&[2], &[0.0, ln(3.0)]).option("log", true), &[2], &[-ln(4.0), ln(0.75)], &[ln(4.0)])),
        (
            "causal",
            expect(
                x(&[2, 3], &six).option("causal", true).option("format", "pt"),
                &[2, 3],
                &[1.0 / 3.0, 2.0 / 3.0, 0.0, 0.125, 0.25, 0.625],
                &[ln(3.0), ln(8.0)],
            ),
        ),
        ("no rows", expect(x(&[0, 3], &[]), &[0, 3], &[], &[])),
        ("no columns", expect(x(&[2, 0], &[]), &[2, 0], &[], &[-inf, -inf])),
        (
            "boolean mask",
            expect(
                x(&[2, 3], &six).tensor("mask", Tensor::bools(&[2, 3], &[true, true, false, false, false, false])),
                &[2, 3],
                &[1.0 / 3.0, 2.0 / 3.0, 0.0, 0.0, 0.0, 0.0],
                &[ln(3.0), -inf],
            ),
        ),
    ];
    for dtype in Dtype::ALL {
        let name = ["f32 mask", "f16 mask", "bf16 mask"][cases.len() % 3];
        let mask = Tensor::values(dtype, &[3], &[0.0, -inf, 0.0]);
        let y = [1.0 / 6.0, 0.0, 5.0 / 6.0];
        cases.push((name, expect(x(&[2, 3], &six).tensor("mask", mask), &[2, 3], &y.repeat(2), &[ln(6.0); 2])));
        let rows = quarters(dtype, 1).option("out_dtype", dtype).option("rtolerance", 0.01);
        cases.push(("dtype", expect(rows, &[1, 2], &[0.25, 0.75], &[ln(4.0)])));
    }
    // Bytes other than 0 and 1 show, too; and axes that alternate between broadcast and not.
    let bytes = Tensor {
        dtype: Tensor::bools(&[0], &[]).dtype,
        shape: vec![2, 1, 2, 1, 2, 1],
        data: vec![1, 0, 7, 0, 1, 0, 1, 0],
    };
    let y: Vec<f64> = (0..72).flat_map(|row| if row % 2 == 0 { [0.5, 0.5] } else { [0.0, 0.0] }).collect();
    let lse: Vec<f64> = (0..72).map(|row| if row % 2 == 0 { ln(2.0) } else { -inf }).collect();
    let shape = [2, 3, 2, 3, 2, 2];
    cases.push(("alternating mask", expect(x(&shape, &[0.0; 144]).tensor("mask", bytes), &shape, &y, &lse)));

    let any = folder.case("any", &cases[0].1);
    adapter(&any);
    for (name, case) in cases {
        let path = folder.case("case", &case);
        let (code, out, err) = loom(&[&"run", &path, &"--check", &"--out", &folder.file("out")]);
        assert_eq!(code, 0, "{name}: {out}{err}");
        let y = &Case::read(&folder.file("out")).unwrap().tensors["y"];
        assert_eq!(y.shape, case.tensors["expected.y"].shape, "{name}");
    }
    let halves = quarters(Dtype::F32, 3).option("out_dtype", "bf16");
    assert_eq!(loom(&[&"run", &folder.case("case", &halves), &"--out", &folder.file("out")]).0, 0);
    let out = Case::read(&folder.file("out")).unwrap();
    assert_eq!((out.tensors["y"].float(), out.tensors["lse"].float()), (Some(Dtype::Bf16), Some(Dtype::F32)));
}

#[test]
fn gemm_is_replayed() {
    let folder = Folder::new("gemm");
    // [1 2; 3 4; 5 6] x [1 0 -1; 2 1 3] = [5 2 5; 11 4 9; 17 6 13]; b and its transpose; relu(2 ab - c + bias).
    let values = |shape: &[usize], values: &[f64]| Tensor::values(Dtype::F32, shape, values);
    let a = Case::new("gemm").tensor("a", values(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let b = values(&[2, 3], &[1.0, 0.0, -1.0, 2.0, 1.0, 3.0]);
    let product = values(&[3, 3], &[5.0, 2.0, 5.0, 11.0, 4.0, 9.0, 17.0, 6.0, 13.0]);
    let plain = a.clone().tensor("b", b.clone()).tensor("expected.d", product.clone());
    folder.case("plain.safetensors", &plain);
    let turned = a.clone().option("trans_b", true).tensor("b", values(&[3, 2], &[1.0, 2.0, 0.0, 1.0, -1.0, 3.0]));
    folder.case("turned.safetensors", &turned.tensor("expected.d", product));
    // Two batches of b share a.
    let twice = values(&[2, 2, 1], &[1.0, 0.0, 0.0, 1.0]);
    let columns = values(&[2, 3, 1], &[1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
    folder.case("batches.safetensors", &a.clone().tensor("b", twice).tensor("expected.d", columns));
    let all = a.option("alpha", 2).option("beta", -1).option("activation", "relu").tensor("b", b);
    let all = all.tensor("c", values(&[3, 3], &[4.0; 9])).tensor("bias", values(&[3], &[0.0, -20.0, 1.0]));
    let want = values(&[3, 3], &[6.0, 0.0, 7.0, 18.0, 0.0, 15.0, 30.0, 0.0, 23.0]);
    let any = folder.case("all.safetensors", &all.tensor("expected.d", want));
    adapter(&any);
    let (code, text, err) = loom(&[&"run", &folder.0, &"--check"]);
    assert_eq!((code, err.as_str()), (0, ""), "{text}");
    assert_eq!(text.matches("passed").count(), 4, "{text}");
    let wrong = folder.case("wrong", &plain.clone().option("alpha", 2));
    assert_eq!(loom(&[&"run", &wrong, &"--check"]).0, 1);
    let bad = folder.case("bad", &plain.option("activation", "swish"));
    let (code, _, err) = loom(&[&"run", &bad]);
    assert!(code == 2 && err.contains("activation"), "{err}");
}

#[test]
fn rope_is_replayed() {
    let folder = Folder::new("rope");
    // d = 4: frequencies 1 and 1/100; the pairs of `half` are (0, 2) and (1, 3), of `interleaved` (0, 1) and (2, 3).
    let turn = |a: f64, b: f64, angle: f64| (a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin());
    let (near, far) = (5.0, 1_000_003.0);
    let x = [1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0];
    let case = |style: &str, pairs: [[usize; 2]; 2]| {
        let mut y = x;
        for (row, position) in [(0, near), (4, far)] {
            for ([a, b], frequency) in pairs.into_iter().zip([1.0, 0.01]) {
                (y[row + a], y[row + b]) = turn(x[row + a], x[row + b], position * frequency);
            }
        }
        Case::new("rope")
            .option("style", style)
            .tensor("x", Tensor::values(Dtype::F32, &[1, 1, 2, 4], &x))
            .tensor("positions", Tensor::indices(&[1, 2], &[near as u32, far as u32]))
            .tensor("expected.y", Tensor::values(Dtype::F32, &[1, 1, 2, 4], &y))
    };
    let half = case("half", [[0, 2], [1, 3]]);
    folder.case("half.safetensors", &half);
    folder.case("interleaved.safetensors", &case("interleaved", [[0, 1], [2, 3]]));
    // Linear scaling by 2 halves the positions; the same by a base of one's own stays as it is.
    let scaled = half.clone().option("scaling", r#"{"rope_type": "linear", "factor": 2.0}"#);
    let scaled = scaled.tensor("positions", Tensor::indices(&[1, 2], &[2 * near as u32, 2 * far as u32]));
    let any = folder.case("scaled.safetensors", &scaled);
    adapter(&any);
    let (code, text, err) = loom(&[&"run", &folder.0, &"--check"]);
    assert_eq!((code, err.as_str()), (0, ""), "{text}");
    assert_eq!(text.matches("passed").count(), 3, "{text}");
    // The other style is wrong, and said so.
    let wrong = folder.case("wrong", &half.clone().option("style", "interleaved"));
    assert_eq!(loom(&[&"run", &wrong, &"--check"]).0, 1);
    let bad = folder.case("bad", &half.option("rotary_dim", 3));
    let (code, _, err) = loom(&[&"run", &bad]);
    assert!(code == 2 && err.contains("rotary_dim"), "{err}");
}

#[test]
fn position_encodings_are_replayed() {
    let folder = Folder::new("position_encoding");
    let values = |shape: &[usize], values: &[f64]| Tensor::values(Dtype::F32, shape, values);
    // dim = 4: frequencies 1 and 1/100; tokens at positions 7 and 8.
    let y = |p: f64| [p.sin(), p.cos(), (p / 100.0).sin(), (p / 100.0).cos()].map(|e| 1.0 + e);
    let waves = Case::new("position_encoding")
        .option("scale", 2)
        .option("first_col", 7)
        .tensor("x", values(&[1, 2, 4], &[0.5; 8]))
        .tensor("expected.y", values(&[1, 2, 4], &[y(7.0), y(8.0)].concat()));
    let any = folder.case("waves.safetensors", &waves);
    // A picture of two columns: the second is past the end of its table.
    let learned = Case::new("position_encoding")
        .tensor("x", values(&[1, 1, 2, 2], &[0.5, 0.25, 0.5, 0.25]))
        .tensor("table", values(&[1, 2], &[1.0, 2.0]))
        .tensor("row_table", values(&[2, 2], &[10.0, 20.0, 30.0, 40.0]))
        .tensor("expected.y", values(&[1, 1, 2, 2], &[31.5, 42.25, 31.5, 42.25]));
    folder.case("learned.safetensors", &learned.option("first_row", 1));
    adapter(&any);
    let (code, text, err) = loom(&[&"run", &folder.0, &"--check"]);
    assert_eq!((code, err.as_str()), (0, ""), "{text}");
    assert_eq!(text.matches("passed").count(), 2, "{text}");
    // The other order is wrong, and said so.
    let wrong = folder.case("wrong", &waves.option("order", "halves"));
    assert_eq!(loom(&[&"run", &wrong, &"--check"]).0, 1);
}

#[test]
fn codebooks_are_replayed() {
    let folder = Folder::new("vq");
    let values = |shape: &[usize], values: &[f64]| Tensor::values(Dtype::F32, shape, values);
    let book = values(&[3, 2], &[0.0, 0.0, 4.0, 0.0, 4.0, 0.0]);
    let lookup = Case::new("vq_lookup")
        .tensor("codebook", book.clone())
        .tensor("indices", Tensor::indices(&[2, 2], &[1, 0, 7, 2]))
        .tensor("expected.y", values(&[2, 2, 2], &[4.0, 0.0, 0.0, 0.0, 0.0, 0.0, 4.0, 0.0]));
    let any = folder.case("lookup.safetensors", &lookup);
    // Codes 1 and 2 are equal: the lower is taken.
    let assign = Case::new("vq_assign")
        .tensor("codebook", book)
        .tensor("x", values(&[2, 2], &[3.0, 1.0, 1.0, 0.0]))
        .tensor("expected.indices", Tensor::indices(&[2], &[1, 0]))
        .tensor("expected.quantized", values(&[2, 2], &[4.0, 0.0, 0.0, 0.0]))
        .tensor("expected.distance", values(&[2], &[2.0, 1.0]))
        .tensor("expected.usage", Tensor::indices(&[1, 3], &[1, 1, 0]));
    folder.case("assign.safetensors", &assign);
    let residual = Case::new("vq_assign")
        .option("residual", true)
        .tensor("codebook", values(&[2, 2, 1], &[4.0, 9.0, 3.0, 1.0]))
        .tensor("x", values(&[1, 1], &[5.0]))
        .tensor("expected.indices", Tensor::indices(&[1, 2], &[0, 1]))
        .tensor("expected.distance", values(&[1, 2], &[1.0, 0.0]))
        .tensor("expected.quantized", values(&[1, 1], &[5.0]));
    folder.case("residual.safetensors", &residual);
    let signs = Case::new("vq_scalar")
        .option("kind", "lfq")
        .option("levels", "2,2,2")
        .tensor("x", values(&[1, 3], &[0.5, -0.0, 3.0]))
        .tensor("expected.indices", Tensor::indices(&[1], &[5]))
        .tensor("expected.y", values(&[1, 3], &[1.0, -1.0, 1.0]));
    folder.case("signs.safetensors", &signs);
    // 5 levels, then 4: values -1, -0.5, 0, 0.5, 1, and -1, -0.5, 0, 0.5.
    let digits = Case::new("vq_scalar")
        .option("levels", "5,4")
        .tensor("indices", Tensor::indices(&[3], &[0, 14, 23]))
        .tensor("expected.y", values(&[3, 2], &[-1.0, -1.0, 1.0, 0.0, 0.5, -1.0]));
    folder.case("digits.safetensors", &digits);
    let scatter = Case::new("vq_scatter")
        .option("books", 2)
        .option("num_codes", 2)
        .tensor("indices", Tensor::indices(&[3, 2], &[0, 1, 0, 7, 1, 1]))
        .tensor("x", values(&[3, 2], &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0]))
        .tensor("expected.sums", values(&[2, 2, 1], &[5.0, 16.0, 0.0, 34.0]))
        .tensor("expected.counts", Tensor::indices(&[2, 2], &[2, 1, 0, 2]));
    folder.case("scatter.safetensors", &scatter);
    // Code 1 is dead: it becomes row 1 of the batch.
    let train = Case::new("vq_train")
        .option("decay", 0.5)
        .option("epsilon", 0)
        .option("least", 0.25)
        .option("seed", 1)
        .tensor("codebook", values(&[2, 1], &[3.0, 9.0]))
        .tensor("x", values(&[2, 1], &[4.0, 6.0]))
        .tensor("counts", Tensor::indices(&[2], &[2, 0]))
        .tensor("sums", values(&[2, 1], &[10.0, 0.0]))
        .tensor("ema_counts", values(&[2], &[2.0, 0.0]))
        .tensor("ema_sums", values(&[2, 1], &[6.0, 0.0]))
        .tensor("expected.codebook", values(&[2, 1], &[4.0, 6.0]))
        .tensor("expected.ema_counts", values(&[2], &[2.0, 0.25]))
        .tensor("expected.ema_sums", values(&[2, 1], &[8.0, 1.5]))
        .tensor("expected.stats", values(&[1, 2], &[2.0, 1.0]));
    folder.case("train.safetensors", &train);
    let gradient = Case::new("vq_train_gradient").option("commit", 2).option("pull", 3);
    let gradient = [("x", 5.0), ("q", 4.0), ("dy", 1.0), ("expected.dx", 3.0), ("expected.dq", -3.0)]
        .into_iter()
        .fold(gradient, |case, (name, value)| case.tensor(name, values(&[1], &[value])));
    folder.case("gradient.safetensors", &gradient);
    adapter(&any);
    let (code, text, err) = loom(&[&"run", &folder.0, &"--check"]);
    assert_eq!((code, err.as_str()), (0, ""), "{text}");
    assert_eq!(text.matches("passed").count(), 8, "{text}");
    let (code, _, err) = loom(&[&"run", &folder.case("levels", &signs.option("levels", "2,2"))]);
    assert!(code == 2 && err.contains("expected [.., 2], by `levels`"), "{err}");
    let first = assign.clone().tensor("expected.indices", Tensor::indices(&[2], &[1, 1]));
    let (code, text, _) = loom(&[&"run", &folder.case("wrong", &first), &"--check"]);
    assert!(code == 1 && text.contains("indices [2]: WRONG, 1 of 2 wrong; worst at [1]"), "{text}");
    let (code, _, err) = loom(&[&"run", &folder.case("bad", &assign.option("metric", "l1"))]);
    assert!(code == 2 && err.contains("metric"), "{err}");
}

#[test]
fn attention_is_replayed() {
    let folder = Folder::new("attention");
    // Keys of ln 1, ln 2, ln 5 weigh 1 : 2 : 5 to a query of 1; the second head asks with 0.
    let k: Vec<f64> = [1.0f64, 2.0, 5.0].map(f64::ln).into();
    let tensor = |shape: &[usize], values: &[f64]| Tensor::values(Dtype::F32, shape, values);
    let (v, o, lse) = ([8.0, 16.0, 24.0], [20.0, 16.0], [8f64.ln(), 3f64.ln()]);
    let dense = Case::new("attention")
        .tensor("q", tensor(&[1, 2, 1, 1], &[1.0, 0.0]))
        .tensor("k", tensor(&[1, 1, 3, 1], &k))
        .tensor("v", tensor(&[1, 1, 3, 1], &v))
        .tensor("expected.o", tensor(&[1, 2, 1, 1], &o))
        .tensor("expected.lse", tensor(&[1, 2, 1], &lse));
    let any = folder.case("dense.safetensors", &dense);
    // The same packed after a sequence of one key, and in pages of two that lie backwards.
    let packed = Case::new("attention")
        .tensor("q", tensor(&[2, 2, 1], &[0.0, 0.0, 1.0, 0.0]))
        .tensor("k", tensor(&[4, 1, 1], &[&[7.0], &k[..]].concat()))
        .tensor("v", tensor(&[4, 1, 1], &[3.0, 8.0, 16.0, 24.0]))
        .tensor("cu_seqlens_q", Tensor::indices(&[3], &[0, 1, 2]))
        .tensor("cu_seqlens_k", Tensor::indices(&[3], &[0, 1, 4]))
        .tensor("expected.o", tensor(&[2, 2, 1], &[3.0, 3.0, 20.0, 16.0]))
        .tensor("expected.lse", tensor(&[2, 2], &[0.0, lse[0], 0.0, lse[1]]));
    folder.case("packed.safetensors", &packed);
    let nan = f64::NAN;
    let paged = dense
        .clone()
        .tensor("k", tensor(&[2, 2, 1, 1], &[k[2], nan, k[0], k[1]]))
        .tensor("v", tensor(&[2, 2, 1, 1], &[24.0, nan, 8.0, 16.0]))
        .tensor("block_table", Tensor::indices(&[1, 3], &[1, 0, 0xdead]))
        .tensor("seqused_k", Tensor::indices(&[1], &[3]));
    folder.case("paged.safetensors", &paged);
    // With tokens before heads.
    let turned = dense
        .clone()
        .option("layout", "bshd")
        .tensor("q", tensor(&[1, 1, 2, 1], &[1.0, 0.0]))
        .tensor("k", tensor(&[1, 3, 1, 1], &k))
        .tensor("v", tensor(&[1, 3, 1, 1], &v))
        .tensor("expected.o", tensor(&[1, 1, 2, 1], &o));
    folder.case("turned.safetensors", &turned);
    // The second token descends from the first, the third does not: it sees itself alone.
    let tree = Case::new("attention")
        .tensor("q", tensor(&[1, 1, 3, 1], &[0.0; 3]))
        .tensor("k", tensor(&[1, 1, 3, 1], &k))
        .tensor("v", tensor(&[1, 1, 3, 1], &v))
        .tensor("parents", Tensor::indices(&[3], &[9, 0, 9]))
        .tensor("expected.o", tensor(&[1, 1, 3, 1], &[8.0, 12.0, 24.0]));
    folder.case("tree.safetensors", &tree);
    // Of four buckets, the first is for distance 0, the second and the fourth for keys before and after.
    let bias = Case::new("attention_bias")
        .option("seq_q", 1)
        .option("seq_kv", 2)
        .option("max_distance", 8)
        .tensor("table", tensor(&[4, 1], &[7.0, 8.0, 9.0, 10.0]))
        .tensor("expected.bias", tensor(&[1, 1, 2], &[8.0, 7.0]));
    folder.case("bias.safetensors", &bias);
    // The two heads as parts of one row: weights 8 : 3.
    let merge = Case::new("attention_merge")
        .tensor("o", tensor(&[2, 1, 1], &o))
        .tensor("lse", tensor(&[2, 1], &lse))
        .tensor("expected.o", tensor(&[1, 1], &[208.0 / 11.0]))
        .tensor("expected.lse", tensor(&[1], &[11f64.ln()]));
    folder.case("merge.safetensors", &merge);
    adapter(&any);
    let (code, text, err) = loom(&[&"run", &folder.0, &"--check"]);
    assert_eq!((code, err.as_str()), (0, ""), "{text}");
    assert_eq!(text.matches("passed").count(), 7, "{text}");
    let wrong = folder.case("wrong", &dense.option("window_left", 0));
    assert_eq!(loom(&[&"run", &wrong, &"--check"]).0, 1);
}

#[test]
fn kernels_are_verified() {
    let folder = Folder::new("verify");
    let (code, _, err) = loom(&[&"verify", &"softmix"]);
    assert_eq!(code, 2);
    assert!(err.contains("softmix"), "{err}");
    adapter(&folder.case("case.safetensors", &quarters(Dtype::F32, 1)));
    let slug = gpu::slug(&gpu::select(None).unwrap()[0].get_info());
    let file = folder.file("verdicts");
    let run = |json: bool| {
        let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"verify", &"softmax", &"counting_sort"];
        arguments.extend([&"--quick" as &dyn AsRef<std::ffi::OsStr>, &"--adapter", &slug, &"--verdicts", &file]);
        if json {
            arguments.push(&"--json");
        }
        loom(&arguments)
    };
    let (code, out, err) = run(false);
    assert_eq!(code, 0, "{out}{err}");
    let lines: Vec<_> = out.lines().take(6).collect();
    assert!(lines[0].starts_with("tileloom ") && lines[0].contains(" on "), "{out}");
    assert!(lines[2].starts_with("right: ") && lines[2].ends_with("softmax, counting_sort"), "{out}");
    assert_eq!([lines[3], lines[4]], ["banned:  none", "refused: none"], "{out}");
    let last = out.trim_end().lines().last().unwrap();
    assert!(last.contains(" calls in ") && last.ends_with(" s") && !last.starts_with("0 "), "{out}");
    // What is known is not tried again.
    let (code, out, err) = run(true);
    assert_eq!(code, 0, "{out}{err}");
    let facts: serde_json::Value = serde_json::from_str(&out).unwrap();
    let findings = facts[0]["findings"].as_array().unwrap();
    assert!(findings.len() >= 3, "{out}");
    assert!(findings.iter().all(|finding| finding["calls"] == 0 && finding["config"].is_string()), "{out}");
    assert_eq!(facts[0]["ok"], true);
}

#[test]
fn adapters_and_checks() {
    let folder = Folder::new("check");
    let case = folder.case("case", &quarters(Dtype::F32, 1));
    let (code, _, err) = loom(&[&"check", &"softmix"]);
    let known: Vec<_> = registry::all().iter().map(|kernel| kernel.name()).collect();
    let expected = format!("kernel `softmix` is not known, expected one of: {}", known.join(", "));
    assert!(code == 2 && err.contains(&expected), "{err}");
    adapter(&case);
    let (code, out, err) = loom(&[&"adapters", &"--json"]);
    assert_eq!(code, 0, "{err}");
    let facts: serde_json::Value = serde_json::from_str(&out).unwrap();
    let slug = facts[0]["adapter"].as_str().unwrap();
    assert!(loom(&[&"adapters"]).1.contains(slug));
    let avoided = facts[0]["avoided"].as_array().unwrap();
    let (code, out, _) = loom(&[&"adapters", &"--verbose"]);
    for row in avoided {
        let line = format!("  avoided         {}: {}", row["what"].as_str().unwrap(), row["why"].as_str().unwrap());
        assert!(code == 0 && out.contains(&line), "{line}\n{out}");
    }
    let report = folder.file("report.jsonl");
    let (code, out, err) = loom(&[&"check", &"softmax", &"--adapter", &slug, &"--report", &report]);
    assert_eq!(code, 0, "{out}{err}");
    let (code, out, _) = loom(&[&"matrix", &report]);
    assert!(code == 0 && out.contains(slug), "{out}");
}

/// A kernel whose results are wrong.
struct Wrong;

/// Whether its case `once` has run.
static ONCE: AtomicBool = AtomicBool::new(false);

impl Kernel for Wrong {
    fn name(&self) -> &'static str {
        "wrong"
    }
    fn ops(&self) -> &'static [&'static str] {
        &[]
    }

    fn list(&self) -> Vec<Box<dyn Run>> {
        let cases = ["panics", "wrong", "lacks", "once"].map(|name| (name, Use::Test(Depth::Narrow)));
        let entries = cases.into_iter().chain([("1", Use::Bench { quick: true })]);
        entries.map(|(name, what)| Box::new(WrongRun(name, what)) as Box<dyn Run>).collect()
    }
    fn replay(&self, _: &Case) -> Result<Box<dyn Replay>, Fault> {
        unreachable!("nothing is replayed")
    }
}

struct WrongRun(&'static str, Use);

impl Run for WrongRun {
    fn name(&self) -> &str {
        self.0
    }
    fn what(&self) -> Use {
        self.1
    }
    fn problem(&self) -> String {
        "wrong".into()
    }
    fn cost(&self) -> Cost {
        Cost { flops: 1e9, bytes: 1e9 }
    }
    fn candidates(&self, _: &Caps) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
    fn lack(&self, _: &Caps) -> Result<Option<String>, String> {
        Ok(None)
    }
    fn shaders_of(&self, _: &Caps, _: &mut dyn FnMut(&str) -> bool) -> Result<Vec<(String, Shader)>, String> {
        Ok(Vec::new())
    }
    fn meant(&self, _: &Caps) -> Result<Vec<(String, Shader)>, String> {
        Ok(Vec::new())
    }
    fn outputs(&self, _: &Gpu) -> Result<Vec<Vec<f64>>, String> {
        Ok(Vec::new())
    }
    fn subject(&self) -> &dyn tileloom::verify::Subject {
        unreachable!("nothing is verified")
    }
    fn chosen(&self, _: &Caps) -> Result<(String, Vec<Shader>), String> {
        Err("wrong".into())
    }
    fn test_with(&self, _: &Gpu, _: &mut dyn FnMut(&Values)) -> harness::Outcome {
        match self.0 {
            "panics" => panic!("device gone"),
            "once" if ONCE.swap(true, Ordering::Relaxed) => harness::Outcome::Ran(Verdict::default()),
            "wrong" | "once" => {
                harness::Outcome::Ran(Verdict { wrong: 1, checked: 2, ratio: 3.0, ..Verdict::default() })
            }
            _ => harness::Outcome::Skipped("no such thing".into()),
        }
    }
    fn load(&self, _: &Kernels) -> Result<Result<Vec<Held>, String>, String> {
        Ok(Ok(Vec::new()))
    }
    fn case(&self) -> Case {
        Case::new("wrong")
    }
    fn prepare(&self, gpu: &Gpu, pool: &Pool, sets: usize, config: Option<&str>) -> Result<Prepared, String> {
        let softmax = registry::named(&["softmax".into()])?[0].list();
        let short = softmax.iter().find(|run| run.name() == "65536x64 f32").expect("it is measured");
        let check = Box::new(|_: &Gpu, _, _| Ok(Verdict { wrong: 1, checked: 2, ..Verdict::default() }));
        Ok(Prepared { check, ..short.prepare(gpu, pool, sets, config)? })
    }
}

#[test]
fn a_wrong_kernel_gets_no_figure() {
    let Some(adapter) = gpu::adapters().into_iter().next() else {
        eprintln!("not tested: {}", gpu::NO_ADAPTER);
        return;
    };
    let gpu = Gpu::open(&adapter).unwrap();
    let quick = bench::Options { quick: true, ..Default::default() };
    let report = bench::measure(&gpu, &[&Wrong], &Pool::new(1), &quick).unwrap();
    assert!(!report.ok() && report.lines[0].figures.is_none());
    assert!(bench::render(&report).contains("FAILED: wrong: 1 of 2 wrong"), "{}", bench::render(&report));

    let tally = Tally::of(&Wrong, &gpu, |_| {});
    assert!(!tally.ok());
    let text = check::render(&[tally]);
    for part in [
        " 0/3 ",
        ", panics: panicked: device gone\n",
        ", wrong: 1 of 2 wrong\n",
        ", once: failed, then not: 1 of 2 wrong\n",
        &format!("skipped wrong on {}, lacks: no such thing\n", gpu.slug),
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

/// What a browser does not answer, and what it leaves as it was, is wrong.
#[test]
fn a_browser_that_computes_nothing_is_told() {
    let folder = Folder::new("export");
    let json = |file: &str| -> serde_json::Value {
        serde_json::from_str(&std::fs::read_to_string(folder.file(file)).unwrap()).unwrap()
    };
    let (code, out, _) = loom(&[&"export", &folder.0, &"moe_bias", &"--subgroups", &"4:4"]);
    assert!(code == 0 && out.contains(" calls, "), "{out}");
    let (code, _, err) = loom(&[&"judge", &folder.0]);
    assert!(code == 2 && err.contains("there is no answer to flush.0"), "{err}");
    for id in json("index.json")["calls"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()) {
        let before = std::fs::read(folder.file(&format!("calls/{id}.bin"))).unwrap();
        let (mut rest, mut answer) = (&before[..], Vec::new());
        for buffer in json(&format!("calls/{id}.json"))["buffers"].as_array().unwrap() {
            let (own, others) = rest.split_at(buffer["bytes"].as_u64().unwrap() as usize);
            if buffer["written"] == true {
                answer.extend_from_slice(own);
            }
            rest = others;
        }
        assert!(rest.is_empty() && !answer.is_empty(), "{id}");
        std::fs::write(folder.file(&format!("answers/{id}.bin")), answer).unwrap();
    }
    let (code, out, _) = loom(&[&"judge", &folder.0, &"--adapter", &"idle"]);
    assert!(code == 1 && out.contains(" 0/2 ") && out.matches("FAILED  moe_bias on idle").count() == 2, "{out}");
}

/// `--enabled` leaves calls of which a shader enables f16 or subgroups, and those alone.
#[test]
fn an_export_of_what_enables_f16_or_subgroups() {
    let folder = Folder::new("enabled");
    let read = |file: &str| std::fs::read_to_string(folder.file(file)).unwrap();
    let json = |file: &str| -> serde_json::Value { serde_json::from_str(&read(file)).unwrap() };
    let export = |more: &[&dyn AsRef<std::ffi::OsStr>]| {
        let mut words: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"export", &folder.0, &"moe_bias", &"axpby", &"--quick"];
        words.extend(more);
        let (code, out, err) = loom(&words);
        assert!(code == 0, "{out}{err}");
        let index = json("index.json");
        let ids = index["calls"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_string());
        ids.filter(|id| !id.starts_with("flush")).collect::<Vec<_>>()
    };
    let enables = |id: &String| {
        let call = json(&format!("calls/{id}.json"));
        let shaders = call["steps"].as_array().unwrap().iter().map(|step| step["shader"].as_str().unwrap());
        shaders.into_iter().any(|shader| read(&format!("shaders/{shader}.wgsl")).starts_with("enable f16;"))
    };
    let all = export(&[&"--f16"]);
    let wanted: Vec<String> = all.iter().filter(|id| enables(id)).cloned().collect();
    assert!(!wanted.is_empty() && wanted.len() < all.len(), "{wanted:?} of {all:?}");
    assert_eq!(export(&[&"--f16", &"--enabled"]).len(), wanted.len());
    assert!(export(&[&"--enabled"]).is_empty());
}

/// What fails leaves a file that fails again.
#[test]
fn a_failure_leaves_its_case_file() {
    let Some(adapter) = gpu::adapters().into_iter().next() else {
        eprintln!("not tested: {}", gpu::NO_ADAPTER);
        return;
    };
    let gpu = Gpu::open(&adapter).unwrap();
    let problem = tileloom::softmax::Problem { rows: 3, cols: 7, lse: Some(0), ..Default::default() };
    let call = harness::Call::random(problem, 1).named("lse in x");
    let refused = call.clone().in_memory(Memory::shared(&[&["x", "lse"]]));
    let error = refused.check(&gpu, &gpu.kernels, None).unwrap_err();
    let path = error.rsplit("loom run --check ").next().unwrap();
    assert!(error.contains("overlap") && path.ends_with("softmax-lse-in-x.safetensors"), "{error}");
    let (code, text, _) = loom(&[&"run", &path]);
    assert!(code == 1 && text.contains("overlap"), "{text}");
    let right = Case::read(Path::new(path)).unwrap().option("memory", "x y");
    std::fs::remove_file(path).unwrap();
    let folder = Folder::new("left");
    let (code, text, err) = loom(&[&"run", &folder.case("right", &right)]);
    assert!(code == 0 && text.contains("in_place: true"), "{text}{err}");
    let (code, _, err) = loom(&[&"run", &folder.case("wrong", &right.option("memory", "x z"))]);
    assert!(code == 2 && err.contains("expected arena, or groups of x y lse"), "{err}");
}

/// Adapters without TIMESTAMP_QUERY go by wall time.
#[test]
fn a_roofline_by_wall_time() {
    let Some(adapter) = gpu::adapters().into_iter().next() else {
        eprintln!("not tested: {}", gpu::NO_ADAPTER);
        return;
    };
    let gpu = Gpu::open(&adapter).unwrap();
    let mut timer = Timer::new(&gpu).unwrap();
    timer.source = Source::Wall("asked for".into());
    let roofline = Roofline::of(&gpu, &Pool::new(1), &mut timer, true).unwrap();
    assert!(roofline.rate(Limit::Dispatch).unwrap() > 0.0 && roofline.submit_s > 0.0 && timer.step().unwrap() > 0.0);
    let limits = [Limit::Copy, Limit::Read, Limit::Workgroup, Limit::Fma, Limit::Dot8];
    for limit in limits.into_iter().chain(roofline.matrix()) {
        assert!(roofline.rate(limit).unwrap() > 1e6, "{limit:?}");
    }
    for ceiling in &roofline.ceilings {
        assert!(ceiling.rate.is_some() != ceiling.reason.is_some(), "{ceiling:?}");
        for tried in &ceiling.shapes {
            assert!(tried.reason.is_none(), "{}: {tried:?}", ceiling.name);
        }
        assert!(ceiling.shapes.len() >= 2 || ceiling.rate.is_none(), "one shape is not enough: {ceiling:?}");
    }
    let [copy, fma] = [Limit::Copy, Limit::Fma].map(|limit| roofline.program(limit).unwrap());
    assert_eq!(timer.sample(&[&|pass| copy.record(pass), &|pass| fma.record(pass)]).unwrap().len(), 1);
}

/// Figures of before, made a page and compared: no adapter is needed.
#[test]
fn figures_are_shown_and_compared() {
    let folder = Folder::new("figures");
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/bench-of-0.1.json");
    let (code, text, err) = loom(&[&"report", &old, &"--out", &folder.file("page")]);
    assert!(code == 0 && text.contains("The page is ") && text.contains("report.html"), "{text}{err}");
    for name in ["report.html", "report.md", "report.csv", "report.txt"] {
        assert!(folder.file("page").join(name).metadata().unwrap().len() > 0, "{name}");
    }
    let (code, text, err) = loom(&[&"compare", &old, &old]);
    assert!(code == 0 && text.contains("0 of 64 shapes differ"), "{text}{err}");

    let mut reports = figures::read(&old).unwrap();
    let slow = reports[0].lines.iter_mut().find(|line| line.kernel == "gemm").unwrap();
    slow.figures.as_mut().unwrap().share /= 2.0;
    let new = folder.file("new.json");
    std::fs::write(&new, serde_json::to_string(&reports).unwrap()).unwrap();
    let (code, text, _) = loom(&[&"compare", &old, &new]);
    assert!(code == 1 && text.contains("1 of 64 shapes differ") && text.contains("SLOWER"), "{text}");
    assert!(text.contains("would have been seen"), "{text}");

    let (code, _, err) = loom(&[&"report", &folder.file("none.json")]);
    assert!(code == 2 && err.contains("none.json: "), "{err}");
    std::fs::write(folder.file("other.json"), "{}").unwrap();
    let (code, _, err) = loom(&[&"compare", &old, &folder.file("other.json")]);
    assert!(code == 2 && err.contains("other.json: "), "{err}");
    let (code, _, err) = loom(&[&"compare", &"--run", &"none", &"none"]);
    assert!(code == 2 && err.contains("none: "), "{err}");
    let (code, _, err) = loom(&[&"compare", &"--run", &"none", &"none", &"--pairs", &"5"]);
    assert!(code == 2 && err.contains("too few pairs"), "{err}");
    let (code, _, err) = loom(&[&"bench", &"--suite", &"quack"]);
    assert!(code == 2 && err.contains("quick, full, models, sweep"), "{err}");
    let (code, _, err) = loom(&[&"bench", &"softmax", &"--config", &"x"]);
    assert!(code == 2 && err.contains("--shape"), "{err}");
}

/// A shape is tuned by the program itself, whose child holds the adapter; then the table is read.
#[test]
fn a_shape_is_tuned_and_its_table_is_read() {
    let folder = Folder::new("tune");
    let (code, _, err) = loom(&[&"tune", &"softmix"]);
    assert!(code == 2 && err.contains("softmix"), "{err}");
    let (code, _, err) = loom(&[&"tune", &"softmax", &"--shape", &"1x1 f64"]);
    assert!(code == 2 && err.contains("no shape is called `1x1 f64`"), "{err}");
    let (code, _, err) = loom(&[&"tune", &"--resume"]);
    assert!(code == 2 && err.contains("--out"), "{err}");
    let (code, _, err) = loom(&[&"tune", &"--export", &folder.file("none")]);
    assert!(code == 2 && err.contains("none: "), "{err}");
    adapter(&folder.case("case.safetensors", &quarters(Dtype::F32, 1)));
    let slug = gpu::slug(&gpu::select(None).unwrap()[0].get_info());
    let out = folder.file("tuned.txt");
    let tune = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loom"));
        command.args(["tune", "softmax", "--shape", "65536x64 f32", "--adapter", &slug, "--out"]).arg(&out);
        let output = command.args(more).output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(output.status.code(), Some(0), "{text:?}");
        text
    };
    let [text, err] = tune(&[]);
    assert!(
        text.contains("1 classes, 1 shapes: shipped choices take 1.") && text.contains("0 Configs are wrong"),
        "{text}"
    );
    assert!(err.contains("softmax 65536x64 f32"), "{err}");
    let table = Table::read(&out);
    let key = table.keys().next().unwrap().to_string();
    let entry = table.get(&key, "softmax", "rows=65536 cols=64 dims=[1,1] x=F32 y=F32 scale=x").unwrap().clone();
    assert!(entry.facts.starts_with("65536x64 f32: "), "{entry:?}");
    // What is known is not measured again; of other shaders it is.
    let [text, _] = tune(&["--resume"]);
    assert!(text.contains("1 classes were in the table") && text.contains("0 classes, 0 shapes"), "{text}");
    let mut stale = table.clone();
    stale.insert(&key, Entry { sources: entry.sources ^ 1, ..entry.clone() });
    stale.write(&out).unwrap();
    let [text, _] = tune(&["--resume", "--budget", "0"]);
    assert!(text.contains("1 classes are left: the budget is spent"), "{text}");

    // A table that names another candidate is gone by; a damaged one is not.
    let gpu = Gpu::open(&gpu::select(Some(&slug)).unwrap()[0]).unwrap();
    let problem = tileloom::softmax::Problem { rows: 65536, cols: 64, ..Default::default() };
    let configs = problem.candidates(&gpu.kernels.caps()).unwrap();
    let other = configs.last().unwrap().to_string();
    let sources = problem.sources(&other).unwrap();
    let mut by_hand = Table::default();
    by_hand.insert(&Table::key(&gpu.kernels), Entry { config: Some(other.clone()), sources, ..entry });
    by_hand.write(&out).unwrap();
    let json = folder.file("figures.json");
    let words =
        ["bench", "softmax", "--shape", "65536x64 f32", "--adapter", &slug, "--table", out.to_str().unwrap(), "--out"];
    let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> = words.iter().map(|word| word as _).collect();
    arguments.push(&json);
    let (code, text, err) = loom(&arguments);
    assert_eq!(code, 0, "{text}{err}");
    assert_eq!(figures::read(&json).unwrap()[0].lines[0].config, other);
    let bytes = std::fs::read(&out).unwrap();
    std::fs::write(&out, &bytes[..bytes.len() - 10]).unwrap();
    let options = bench::Options { table: Some(out.clone()), ..Default::default() }.kernels_options();
    let kernels = Gpu::open_with(&gpu.adapter, options).unwrap().kernels;
    assert_eq!(problem.chosen(&kernels).unwrap(), configs[0]);

    // The runs of all that was timed.
    let mut runs = out.into_os_string();
    runs.push(".runs");
    let (code, text, err) = loom(&[&"tune", &"--export", &runs]);
    assert!(code == 0 && text.contains("rows=65536 cols=64") && text.contains("100 %"), "{text}{err}");
}

/// The binary itself, where no adapter is needed.
#[test]
fn exit_codes_of_the_binary() {
    let folder = Folder::new("binary");
    let code = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loom"));
        command.args(arguments).current_dir(&folder.0).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().unwrap().code()
    };
    let record = |outcome| Record {
        adapter: "a".into(),
        kernel: "softmax".into(),
        case: "c".into(),
        outcome,
        reason: String::new(),
        dtype: String::new(),
        shape: String::new(),
        ms: 0,
    };
    report::append(&folder.file("good"), &[record(Outcome::Passed), record(Outcome::Skipped)]).unwrap();
    report::append(&folder.file("failed"), &[record(Outcome::Failed)]).unwrap();
    report::append(&folder.file("empty"), &[]).unwrap();
    std::fs::write(folder.file("other"), "{}\n").unwrap();
    assert_eq!(code(&["--help"]), Some(0));
    assert_eq!(code(&["matrix", "good"]), Some(0));
    assert_eq!(code(&["matrix", "good", "failed"]), Some(1));
    assert_eq!(code(&["matrix", "empty"]), Some(1));
    assert_eq!(code(&["matrix", "other"]), Some(2));
    assert_eq!(code(&["matrix", "none"]), Some(2));
    assert_eq!(code(&["matrix"]), Some(2));
    assert_eq!(code(&["weave"]), Some(2));
    assert_eq!(code(&["run", "none"]), Some(2));

    // A reader that leaves at once.
    let mut command = Command::new(env!("CARGO_BIN_EXE_loom"));
    let mut child = command.args(["matrix", "failed"]).current_dir(&folder.0).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
