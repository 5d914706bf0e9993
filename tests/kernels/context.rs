//! The high level, the probe, and what survives a lost device.

use loom::Gpu;
use pollster::block_on;
use tileloom::{Context, Error, ErrorKind, Kernels, KernelsOptions, SoftmaxOptions, softmax};

use crate::Suite;

fn context(gpu: &Gpu) -> Result<Context, String> {
    block_on(Context::open(&gpu.adapter)).map_err(|error| error.to_string())
}

fn near(have: &[f32], want: &[f32]) -> Result<(), String> {
    let close = have.len() == want.len() && have.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6);
    if close { Ok(()) } else { Err(format!("{have:?}, expected {want:?}")) }
}

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("context", cases);

pub fn cases(suite: &mut Suite) {
    suite.case("upload, softmax, read", |gpu| {
        let run = async {
            let context = Context::from_kernels(gpu.kernels.clone(), gpu.queue.clone());
            let ln = |v: f32| v.ln();
            let x = context.upload(&[0.0, ln(2.0), ln(5.0), 1.0, 1.0, 1.0], &[2, 3])?;
            let (y, lse) = x.softmax_with_lse(&SoftmaxOptions::default())?;
            // In one batch: a second softmax of the first's result, masked by bytes, and a log-softmax.
            let mask = context.upload(&[1u8, 1, 0], &[3])?;
            let mut batch = context.batch();
            let masked = SoftmaxOptions { mask: Some((&mask).into()), scale: 0.0, ..Default::default() };
            let half = batch.softmax(&y, &masked)?;
            let all = context.upload(&[1u8], &[1])?;
            let causal = SoftmaxOptions { log: true, causal: true, mask: Some((&all).into()), ..Default::default() };
            let log = batch.softmax(&x, &causal)?;
            batch.submit()?;
            Ok::<_, Error>((y.read().await?, lse.read().await?, half.read().await?, log.read().await?))
        };
        let (y, lse, half, log) = block_on(run).map_err(|error| error.to_string())?;
        let third = 1.0 / 3.0;
        near(&y, &[0.125, 0.25, 0.625, third, third, third])?;
        near(&lse, &[8f32.ln(), 1.0 + 3f32.ln()])?;
        near(&half, &[0.5, 0.5, 0.0, 0.5, 0.5, 0.0])?;
        // Query 0 of 2 sees 2 of 3 keys.
        near(&log[..2], &[-(3f32.ln()), 2f32.ln() - 3f32.ln()])?;
        near(&log[3..], &[-(3f32.ln()); 3])?;
        if log[2] == f32::NEG_INFINITY { Ok(()) } else { Err(format!("a hidden log-softmax is {}", log[2])) }
    });
    suite.case("tensors refuse what does not fit", |gpu| {
        let (context, other) = (context(gpu)?, context(gpu)?);
        let fail = |what: &str, error: Option<Error>| Err(format!("{what}: {error:?}"));
        match context.upload(&[1.0f32; 5], &[2, 3]) {
            Err(Error { kind: ErrorKind::DataLength { need: 6, have: 5, .. }, .. }) => {}
            r => return fail("length", r.err()),
        }
        match context.zeros::<f32>(&[1 << 20, 1 << 20]) {
            Err(Error { kind: ErrorKind::OutOfMemory { bytes: Some(0x400_0000_0000), .. }, .. }) => {}
            r => return fail("memory", r.err()),
        }
        let x = context.upload(&[1.0f32; 6], &[2, 3]).map_err(|e| e.to_string())?;
        let mask = context.upload(&[1.0f32; 4], &[4]).map_err(|e| e.to_string())?;
        match x.softmax(&SoftmaxOptions { mask: Some((&mask).into()), ..Default::default() }) {
            Err(Error { kind: ErrorKind::Shape { arg: "mask", .. }, .. }) => {}
            r => return fail("shape", r.err()),
        }
        match (x.reshape(&[3, 2, 1]), x.reshape(&[7]), x.reshape(&[usize::MAX, 2])) {
            (Ok(y), Err(Error { op: "reshape", kind: ErrorKind::Shape { .. } }), Err(_))
                if y.shape() == [3, 2, 1] && y.buffer() == x.buffer() => {}
            r => return Err(format!("reshape: {r:?}")),
        }
        match other.batch().softmax(&x, &SoftmaxOptions::default()) {
            Err(Error { kind: ErrorKind::ForeignTensor { arg: "x", .. }, .. }) => {}
            r => return fail("foreign", r.err()),
        }
        match block_on(Context::named("no adapter has this name")) {
            Err(Error { kind: ErrorKind::NoAdapter { .. }, .. }) => {}
            r => return fail("adapter", r.err()),
        }
        let empty = context.upload::<f32>(&[], &[0, 3]).map_err(|e| e.to_string())?;
        let y = empty.softmax(&SoftmaxOptions::default()).map_err(|e| e.to_string())?;
        if block_on(y.read()).is_ok_and(|v| v.is_empty()) { Ok(()) } else { Err("an empty tensor".into()) }
    });
    suite.case("a lost device is an error", |gpu| {
        let context = context(gpu)?;
        let x = context.upload(&[1.0f32; 6], &[2, 3]).map_err(|e| e.to_string())?;
        let mut batch = context.batch();
        batch.softmax(&x, &SoftmaxOptions::default()).map_err(|e| e.to_string())?;
        context.device().destroy();
        let lost = |what: &str, error: Option<Error>| match error {
            Some(Error { kind: ErrorKind::DeviceLost { .. }, .. }) => Ok(()),
            other => Err(format!("{what} on a lost device: {other:?}")),
        };
        // The first call may find out, the next ones know.
        let first = block_on(x.read()).err();
        lost("read", first)?;
        lost("submit", batch.submit().err())?;
        lost("upload", context.upload(&[1.0f32], &[1]).err())?;
        lost("softmax", x.softmax(&SoftmaxOptions::default()).err())?;
        lost("read", block_on(x.read()).err())?;
        // The low level survives: no panic, and nothing reaches a handler.
        let problem = softmax::Problem { rows: 2, cols: 3, ..Default::default() };
        let kernels = context.kernels();
        let _ = softmax::prepare(kernels, &problem, softmax::Buffers::new(x.buffer(), x.buffer()));
        Ok(())
    });
    let caps = tileloom::Caps::of(&suite.gpu.adapter, &suite.gpu.device); // as it is before the probe
    let lack = match (caps.coop.is_empty(), caps.coop_denied) {
        (_, Some(reason)) => Some(reason),
        (true, None) => Some("EXPERIMENTAL_COOPERATIVE_MATRIX"),
        (false, None) => None,
    };
    suite.case_unless(lack, "the probe proves cooperative matrices", |gpu| {
        let kernels = Kernels::new(&gpu.device, tileloom::Caps::of(&gpu.adapter, &gpu.device));
        let before = kernels.caps().coop.clone();
        let caps = block_on(kernels.probe(&gpu.queue)).map_err(|error| error.to_string())?;
        match caps.coop_probed && caps.coop == before && *kernels.caps() == caps {
            true => Ok(()),
            false => Err(format!("listed {before:?}, right are {:?}", caps.coop)),
        }
    });
    let lack = (!caps.pipeline_cache).then_some("PIPELINE_CACHE");
    suite.case_unless(lack, "the pipeline cache is kept on disk", |gpu| {
        let dir = std::env::temp_dir().join(format!("tileloom-cache-{}-{}", std::process::id(), gpu.slug));
        let options = KernelsOptions { cache_dir: Some(dir.clone()), ..Default::default() };
        let caps = (*gpu.kernels.caps()).clone();
        let call = loom::harness::Call::random(softmax::Problem { rows: 3, cols: 8, ..Default::default() }, 1);
        let mut sizes = Vec::new();
        for _ in 0..2 {
            let kernels = Kernels::with_options(&gpu.device, caps.clone(), options.clone());
            call.check(gpu, &kernels, None)?;
            kernels.save_pipeline_cache().map_err(|error| error.to_string())?;
            let files = std::fs::read_dir(&dir).map_err(|error| error.to_string())?;
            sizes.push(files.flatten().filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum::<u64>());
        }
        std::fs::remove_dir_all(&dir).map_err(|error| error.to_string())?;
        // A file where the folder should be.
        std::fs::write(&dir, "").map_err(|error| error.to_string())?;
        let kernels = Kernels::with_options(&gpu.device, caps, options);
        call.check(gpu, &kernels, None)?;
        let refused = kernels.save_pipeline_cache();
        std::fs::remove_file(&dir).map_err(|error| error.to_string())?;
        match (sizes.iter().all(|&size| size > 0), refused) {
            (true, Err(Error { kind: ErrorKind::Io { .. }, .. })) => Ok(()),
            other => Err(format!("sizes {sizes:?}, {other:?}")),
        }
    });
}
