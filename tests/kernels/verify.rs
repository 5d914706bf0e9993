//! `verify`: what is wrong is banned and replaced, or refused; what is known is kept.

use std::ops::ControlFlow;
use std::sync::Arc;

use loom::Gpu;
use loom::harness::Call;
use pollster::block_on;
use tileloom::compose::Slots;
use tileloom::kernels::Rewrite;
use tileloom::verify::{Known, Report, Subject, Verdicts, verify};
use tileloom::{Caps, Error, ErrorKind, Kernels, KernelsOptions, Op, gemm, softmax};

use crate::Suite;

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("verify", cases);

fn problem() -> softmax::Problem {
    softmax::Problem { rows: 300, cols: 1000, ..Default::default() }
}

/// Kernels whose softmax is wrong by each of these Configs.
fn broken(gpu: &Gpu, configs: &[softmax::Config], allow_banned: bool) -> Kernels {
    let shaders = configs.iter().flat_map(|config| problem().shaders(config, Slots::NONE).unwrap());
    let wrong: Vec<String> = shaders.flat_map(|shader| [true, false].map(|by| shader.source(by))).collect();
    let rewrite = move |_: &str, source: String| match wrong.contains(&source) {
        true => source.replace("exp2(", "0.5 + exp2("),
        false => source,
    };
    let options =
        KernelsOptions { rewrite: Some(Rewrite(Arc::new(rewrite))), allow_banned, ..KernelsOptions::default() };
    let kernels = Kernels::with_options(&gpu.device, Caps::of(&gpu.adapter, &gpu.device), options);
    kernels.with_caps((*gpu.kernels.caps()).clone())
}

fn all(gpu: &Gpu, kernels: &Kernels, subjects: &[&dyn Subject], verdicts: &mut Verdicts) -> Result<Report, String> {
    let report = verify(kernels, &gpu.queue, subjects, verdicts, |_| ControlFlow::Continue(()));
    block_on(report).map_err(|error| error.to_string())
}

fn run(gpu: &Gpu, kernels: &Kernels, verdicts: &mut Verdicts) -> Result<Report, String> {
    all(gpu, kernels, &[&problem()], verdicts)
}

fn candidates(gpu: &Gpu) -> Result<Vec<softmax::Config>, String> {
    problem().candidates(&gpu.kernels.caps()).map_err(|error| error.to_string())
}

/// # Errors
/// Where `holds` does not.
fn expect(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

pub fn cases(suite: &mut Suite) {
    suite.case("a wrong Config is banned, and the next one is right", |gpu| {
        let configs = candidates(gpu)?;
        let kernels = broken(gpu, &configs[..1], false);
        let call = Call::random(problem(), 3);
        expect(!call.judge_on(&call.run(gpu, &kernels, Some(&configs[0]))?, gpu.flushes()).ok(), || {
            "the fault changes nothing".into()
        })?;
        let mut verdicts = Verdicts::new(&kernels);
        let report = run(gpu, &kernels, &mut verdicts)?;
        let (first, next) = (configs[0].to_string(), configs.get(1).map(ToString::to_string));
        let finding = &report.findings[0];
        let banned: Vec<_> = finding.banned.iter().map(|(config, _)| config).collect();
        expect(finding.config == next && banned == [&first] && finding.calls > 0, || format!("{report:?}"))?;
        let text = report.to_string();
        let said = text.lines().count() == 6 && text.contains(&format!("banned:  softmax {first} ("));
        expect(said && text.contains("replaced by"), || text)?;
        // `choose` is pure; what `prepare` takes is right now.
        expect(call.chosen(&kernels.caps())? == configs[0], || "choose goes by bans".into())?;
        let x = gpu.buffer(&tileloom::Dtype::F32.encode(&call.values["x"]));
        let y = gpu.buffer(&vec![0xff; 4 * 300 * 1000]);
        let dispatch = softmax::prepare(&kernels, &problem(), softmax::Buffers::new(&x, &y));
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        dispatch.map_err(|error| error.to_string())?.record(&mut encoder);
        gpu.queue.submit([encoder.finish()]);
        let mut y = tileloom::Dtype::F32.decode(&gpu.read(&y)?);
        y.truncate(300 * 1000);
        let output = loom::harness::Output { values: [("y", y)].into(), steps: Vec::new() };
        let verdict = call.judge_on(&output, gpu.flushes());
        expect(verdict.ok(), || verdict.to_string())?;
        // The caller's own word does not lift the ban.
        match call.load(&kernels, Some(&configs[0])).err() {
            Some(Error { op: "softmax", kind: ErrorKind::Banned { config, .. } }) if config == first => Ok(()),
            other => Err(format!("prepare_with of a banned Config: {other:?}")),
        }
    });
    suite.case("where all Configs are wrong, the op is refused", |gpu| {
        let configs = candidates(gpu)?;
        let kernels = broken(gpu, &configs, false);
        let report = run(gpu, &kernels, &mut Verdicts::new(&kernels))?;
        let refused = !report.ok() && report.to_string().contains("refused: softmax");
        expect(refused && report.findings[0].banned.len() == configs.len(), || format!("{report}"))?;
        let (x, y) = (gpu.buffer(&vec![0; 4 * 300 * 1000]), gpu.buffer(&vec![0; 4 * 300 * 1000]));
        let told = match softmax::prepare(&kernels, &problem(), softmax::Buffers::new(&x, &y)) {
            Err(error @ Error { kind: ErrorKind::Banned { .. }, .. }) => error.to_string(),
            other => return Err(format!("{other:?}")),
        };
        let clear = told.starts_with("softmax: the config is banned on this adapter: each that fits (");
        expect(clear && told.contains("wrong"), || told)?;
        // Who knows better may say so.
        let kernels = broken(gpu, &configs, true);
        run(gpu, &kernels, &mut Verdicts::new(&kernels))?;
        Call::random(problem(), 3).load(&kernels, Some(&configs[0])).map_err(|error| error.to_string()).map(drop)
    });
    suite.case("verdicts are kept", |gpu| {
        let configs = candidates(gpu)?;
        let path = std::env::temp_dir().join(format!("tileloom-verdicts-{}-{}", std::process::id(), gpu.slug));
        let _ = std::fs::remove_file(&path);
        let kernels = broken(gpu, &configs[..1], false);
        run(gpu, &kernels, &mut Verdicts::open(&kernels, &path))?;
        // Another process: nothing runs, and the ban holds.
        let kernels = broken(gpu, &configs[..1], false);
        let mut verdicts = Verdicts::open(&kernels, &path);
        let report = run(gpu, &kernels, &mut verdicts)?;
        let finding = &report.findings[0];
        expect(finding.calls == 0 && finding.banned.len() == 1 && finding.config.is_some(), || format!("{report:?}"))?;
        expect(verdicts.iter().count() == 2, || format!("{verdicts:?}"))?;
        let bytes = std::fs::read(&path).map_err(|error| error.to_string())?;
        std::fs::remove_file(&path).map_err(|error| error.to_string())?;
        expect(verdicts.to_bytes() == bytes, || "the file is not what is known".into())?;
        expect(Verdicts::from_bytes(&kernels, &bytes).iter().eq(verdicts.iter()), || {
            "bytes are read otherwise".into()
        })?;
        // What is damaged, cut, or of another adapter is not there; the latter stays in the file.
        let text = String::from_utf8(bytes).map_err(|error| error.to_string())?;
        let cut: String = text.lines().take(3).map(|line| format!("{line}\n")).collect();
        let foreign = text.replace("tileloom 0", "tileloom 9");
        for damaged in [&cut, "", "garbage", &text.replace("right", "wrong"), &foreign] {
            let none = Verdicts::from_bytes(&kernels, damaged.as_bytes()).iter().count() == 0;
            expect(none, || format!("taken for verdicts: {damaged}"))?;
        }
        expect(Verdicts::from_bytes(&kernels, &[0xff, 0xfe]).iter().count() == 0, || "no text".into())?;
        let kept = String::from_utf8(Verdicts::from_bytes(&kernels, foreign.as_bytes()).to_bytes());
        expect(kept.is_ok_and(|kept| kept.contains("tileloom 9") && kept.contains("banned")), || "foreign".into())?;
        // What was not finished is tried once more, then banned.
        for (word, last) in [("running", Known::Suspect), ("again", Known::Banned("twice not finished".into()))] {
            let killed = text.replace("\tright\t", &format!("\t{word}\t"));
            let found = Verdicts::from_bytes(&kernels, killed.as_bytes());
            let known: Vec<_> = found.iter().map(|(_, known)| known.clone()).collect();
            expect(known.len() == 2 && known.contains(&last), || format!("{word}: {known:?}"))?;
        }
        // Who keeps bytes has the mark before the trial.
        let (kernels, problem) = (broken(gpu, &[], false), problem());
        let (mut verdicts, mut stored) = (Verdicts::new(&kernels), Vec::new());
        let subjects: [&dyn Subject; 1] = [&problem];
        let stopped = block_on(verify(&kernels, &gpu.queue, &subjects, &mut verdicts, |now| {
            stored = now.verdicts.to_bytes();
            ControlFlow::Break(())
        }));
        expect(stopped.is_ok_and(|report| report.cancelled), || "not stopped".into())?;
        expect(verdicts.iter().count() == 0, || format!("{verdicts:?}"))?;
        let after = Verdicts::from_bytes(&kernels, &stored);
        expect(after.iter().all(|(_, known)| *known == Known::Suspect) && after.iter().count() == 1, || {
            format!("{after:?}")
        })?;
        let report = run(gpu, &kernels, &mut Verdicts::from_bytes(&kernels, &stored))?;
        expect(report.ok() && report.findings[0].calls > 0, || format!("{report:?}"))
    });
    suite.case("processes share a file of verdicts", |gpu| {
        let path = std::env::temp_dir().join(format!("tileloom-shared-{}-{}", std::process::id(), gpu.slug));
        let lock = path.with_extension("lock");
        let _ = std::fs::remove_file(&path);
        let kernels = broken(gpu, &[], false);
        let mut first = Verdicts::open(&kernels, &path);
        let mut second = Verdicts::open(&kernels, &path);
        run(gpu, &kernels, &mut first)?;
        let product = gemm::Problem { m: 8, n: 8, k: 8, ..Default::default() };
        all(gpu, &kernels, &[&product], &mut second)?;
        let both = Verdicts::from_bytes(&kernels, &std::fs::read(&path).map_err(|error| error.to_string())?);
        let ops: Vec<_> = both.iter().map(|(tried, _)| tried.op.clone()).collect();
        second.forget("gemm").map_err(|error| error.to_string())?;
        let left = Verdicts::from_bytes(&kernels, &std::fs::read(&path).map_err(|error| error.to_string())?);
        let _ = (std::fs::remove_file(&path), std::fs::remove_file(lock));
        expect(ops == ["gemm", "softmax"], || format!("{ops:?}"))?;
        expect(left.iter().all(|(tried, _)| tried.op == "softmax"), || format!("{left:?}"))
    });
    suite.case("it can be stopped", |gpu| {
        let (kernels, problem) = (broken(gpu, &[], false), problem());
        let product = gemm::Problem { m: 64, n: 64, k: 64, ..Default::default() };
        let subjects: [&dyn Subject; 2] = [&problem, &product];
        let mut verdicts = Verdicts::new(&kernels);
        let mut heard = Vec::new();
        let report = verify(&kernels, &gpu.queue, &subjects, &mut verdicts, |now| {
            heard.push((now.done, now.total, now.op.to_string()));
            if now.op == "gemm" { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let report = block_on(report).map_err(|error| error.to_string())?;
        let right = heard == [(0, 2, "softmax".into()), (1, 2, "gemm".into())] && report.cancelled && !report.ok();
        expect(right && report.findings.len() == 1, || format!("{heard:?} {report:?}"))
    });
    suite.case("a Config that loses the device is banned", |gpu| {
        for during in [true, false] {
            let lost = Gpu::open(&gpu.adapter)?;
            let device = lost.device.clone();
            let rewrite = move |stem: &str, source: String| {
                if during && stem.starts_with("softmax") {
                    device.destroy();
                }
                source
            };
            let rewrite = Some(Rewrite(Arc::new(rewrite)));
            let options = KernelsOptions { rewrite, ..KernelsOptions::default() };
            let kernels = Kernels::with_options(&lost.device, Caps::of(&lost.adapter, &lost.device), options);
            let kernels = kernels.with_caps((*gpu.kernels.caps()).clone());
            let (mut verdicts, subject) = (Verdicts::new(&kernels), problem());
            let result = block_on(verify(&kernels, &lost.queue, &[&subject], &mut verdicts, |_| {
                if !during {
                    lost.device.destroy();
                }
                ControlFlow::Continue(())
            }));
            let known: Vec<_> = verdicts.iter().map(|(_, known)| known.clone()).collect();
            // One that was lost before is no fault of the Config.
            let meant = if during { vec![Known::Banned("it lost the device".into())] } else { Vec::new() };
            match result {
                Err(Error { kind: ErrorKind::DeviceLost { .. }, .. }) if known == meant => {}
                other => return Err(format!("{during}: {other:?} {known:?}")),
            }
        }
        Ok(())
    });
    suite.case("a shader that does not compile is told in a line", |gpu| {
        let rewrite = |_: &str, source: String| source.replace("@workgroup_size", "@workgroup_sizes");
        let rewrite = Some(Rewrite(Arc::new(rewrite)));
        let options = KernelsOptions { rewrite, ..KernelsOptions::default() };
        let kernels = Kernels::with_options(&gpu.device, Caps::of(&gpu.adapter, &gpu.device), options);
        let kernels = kernels.with_caps((*gpu.kernels.caps()).clone());
        let report = run(gpu, &kernels, &mut Verdicts::new(&kernels))?;
        let text = report.to_string();
        expect(text.lines().count() == 6 && text.contains("refused: softmax"), || text)
    });
    let lack = suite.gpu.kernels.caps().coop.is_empty().then_some("the device has no cooperative matrices");
    suite.case_unless(lack, "matrices that are wrong are not used", |gpu| {
        let rewrite = |_: &str, source: String| source.replace("coopMultiplyAdd(", "(");
        let options = KernelsOptions { rewrite: Some(Rewrite(Arc::new(rewrite))), ..KernelsOptions::default() };
        let kernels = Kernels::with_options(&gpu.device, Caps::of(&gpu.adapter, &gpu.device), options);
        let mut verdicts = Verdicts::new(&kernels);
        let product = gemm::Problem { m: 64, n: 64, k: 64, ..Default::default() };
        let report = all(gpu, &kernels, &[&product], &mut verdicts)?;
        let caps = kernels.caps();
        let coop = caps.coop.iter().any(|shape| shape.acc == tileloom::caps::CoopScalar::F32);
        expect(report.ok() && caps.coop_probed && !coop, || format!("{report:?} {:?}", caps.coop))?;
        // Known: nothing is tried again.
        let banned = verdicts.iter().filter(|(_, known)| matches!(known, Known::Banned(_))).count();
        expect(banned > 0, || format!("{verdicts:?}"))
    });
}
