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

fn run(gpu: &Gpu, kernels: &Kernels, verdicts: &mut Verdicts) -> Result<Report, String> {
    let problem = problem();
    block_on(verify(kernels, &gpu.queue, &[&problem], verdicts, |_| ControlFlow::Continue(())))
        .map_err(|error| error.to_string())
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
        // What is damaged, cut, or of another adapter is not there.
        let text = String::from_utf8(bytes).map_err(|error| error.to_string())?;
        let cut = &text[..text.trim_end().rfind('\n').unwrap_or(0) + 1];
        for damaged in [cut, "", "garbage", &text.replace("right", "wrong"), &text.replace("tileloom 0", "tileloom 9")]
        {
            let none = Verdicts::from_bytes(&kernels, damaged.as_bytes()).iter().count() == 0;
            expect(none, || format!("taken for verdicts: {damaged}"))?;
        }
        expect(Verdicts::from_bytes(&kernels, &[0xff, 0xfe]).iter().count() == 0, || "no text".into())?;
        // What ran when the process ended is banned.
        let killed = text.replace("\tright\t", "\trunning\t");
        let banned = Verdicts::from_bytes(&kernels, killed.as_bytes());
        let all = banned.iter().all(|(_, known)| matches!(known, Known::Banned(_)));
        expect(all && banned.iter().count() == 2, || format!("{banned:?}"))
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
        let lost = Gpu::open(&gpu.adapter)?;
        let kernels = lost.kernels.with_caps((*gpu.kernels.caps()).clone());
        let mut verdicts = Verdicts::new(&kernels);
        let subject = problem();
        let result = block_on(verify(&kernels, &lost.queue, &[&subject], &mut verdicts, |_| {
            lost.device.destroy();
            ControlFlow::Continue(())
        }));
        let known: Vec<_> = verdicts.iter().map(|(_, known)| known.clone()).collect();
        match result {
            Err(Error { kind: ErrorKind::DeviceLost { .. }, .. }) => {
                expect(known == [Known::Banned("it lost the device".into())], || format!("{known:?}"))
            }
            other => Err(format!("{other:?}")),
        }
    });
}
