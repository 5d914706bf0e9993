//! tileloom as a program in a browser has it: a device of the browser's, pipelines that are awaited, checks against the CPU reference, and
//! rates. The page calls [`Page`], and shows what it says.

mod cases;
mod gpu;
mod refused;

use std::ops::ControlFlow;

use tileloom::verify::{Progress, Verdicts, verify};
use tileloom::{Context, KernelsOptions, SoftmaxOptions, wgpu};
use wasm_bindgen::prelude::*;

use cases::Work;
use gpu::Gpu;

#[wasm_bindgen]
extern "C" {
    /// Milliseconds.
    #[wasm_bindgen(js_namespace = performance)]
    fn now() -> f64;

    #[wasm_bindgen(js_namespace = console)]
    fn error(text: &str);
}

/// What the page shows of a kernel.
#[wasm_bindgen(getter_with_clone)]
pub struct Row {
    pub kernel: String,
    pub shape: String,
    /// How it was computed, as text.
    pub config: String,
    /// Whether no element breaks the rule.
    pub right: bool,
    /// How many were judged, and which is worst; or why there are none.
    pub told: String,
    /// The largest error over what the rule allows.
    pub ratio: f64,
    /// Milliseconds of a call.
    pub ms: f64,
    /// Giga-operations or gigabytes per second.
    pub rate: f64,
    pub unit: String,
}

/// What the page shows of a call that must be refused.
#[wasm_bindgen(getter_with_clone)]
pub struct Refusal {
    pub call: String,
    /// The error, or what came in its place.
    pub told: String,
    pub right: bool,
}

/// A device with its kernels.
#[wasm_bindgen]
pub struct Page {
    gpu: Gpu,
}

#[wasm_bindgen]
impl Page {
    /// Opens the adapter that the browser prefers.
    pub async fn open() -> Result<Page, JsError> {
        Ok(Page { gpu: Gpu::open(KernelsOptions::default(), |message| error(&message)).await? })
    }

    /// What the crate knows of it: names and facts, in turns.
    pub fn adapter(&self) -> Vec<String> {
        let caps = self.gpu.kernels.caps();
        let limits = &caps.limits;
        let facts = [
            ("kind", format!("{:?}, by {:?}", caps.device_type, caps.backend)),
            ("f16 in shaders", if caps.f16 { "yes" } else { "no" }.into()),
            (
                "subgroups",
                caps.subgroup.map_or("no: wgpu's web backend has none".into(), |s| format!("{} to {}", s.min, s.max)),
            ),
            (
                "workgroup",
                format!("{} invocations, {} bytes", caps.most_invocations(), limits.max_compute_workgroup_storage_size),
            ),
            ("storage buffers", format!("{} per shader", limits.max_storage_buffers_per_shader_stage)),
            ("a binding", format!("{} MiB", caps.binding_bytes() >> 20)),
            ("pointers", format!("{} bits", usize::BITS)),
        ];
        facts.into_iter().flat_map(|(name, fact)| [name.to_string(), fact]).collect()
    }

    /// The kernels, in order: see [`run`](Self::run).
    pub fn kernels(&self) -> usize {
        cases::COUNT
    }

    /// Checks kernel `i` against its reference, and times it where it is right.
    pub async fn run(&self, i: usize) -> Result<Row, JsError> {
        let case = cases::case(&self.gpu, i).await?;
        // A second call on what the first has written must give the same bits.
        let first = self.gpu.outputs(&case.dispatch, &case.written).await?;
        let second = self.gpu.outputs(&case.dispatch, &case.written).await?;
        let verdict = (case.judge)(&first.iter().map(gpu::Read::values).collect::<Vec<_>>());
        let same = first.iter().zip(&second).all(|(a, b)| a.bytes == b.bytes);
        let right = verdict.ok() && same;
        let told = if same { verdict.to_string() } else { "a second call gives other bits".into() };
        let ms = if right { self.gpu.milliseconds(&case.dispatch).await? } else { f64::NAN };
        let (amount, unit) = match case.work {
            Work::Operations(n) => (n, "GFLOP/s"),
            Work::Bytes(n) => (n, "GB/s"),
        };
        Ok(Row {
            kernel: case.kernel.into(),
            shape: case.shape,
            config: case.config,
            right,
            told,
            ratio: verdict.ratio,
            ms,
            rate: amount / ms / 1e6,
            unit: unit.into(),
        })
    }

    /// A tensor's way: its own device, upload, op, read; and an error of the device, which the next read tells.
    pub async fn tensors(&self) -> Result<bool, JsError> {
        let context = Context::new().await?;
        let x = context.upload(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3])?;
        let y = x.softmax(&SoftmaxOptions::default())?;
        let values = y.read().await?;
        // e^0, e^1 and e^2 over their sum.
        let expected = [0.090_030_57, 0.244_728_48, 0.665_240_94];
        let right = values.len() == 6 && values.iter().zip(expected.iter().cycle()).all(|(y, e)| (y - e).abs() < 1e-6);
        let source = wgpu::ShaderSource::Wgsl("fault".into());
        let _ = context.device().create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
        Ok(right && y.read().await.is_err() && y.read().await? == values)
    }

    /// Calls with sizes past 2^32, and a shader with a fault.
    pub async fn refused(&self) -> Result<Vec<Refusal>, JsError> {
        let mut all = refused::sizes(&self.gpu);
        all.push(refused::shader().await?);
        Ok(all)
    }

    /// What `verify` says of the same Problems: six lines. wgpu's web backend does not tell the adapter: `browser` is what the browser does, for
    /// the key of the verdicts.
    pub async fn verify(&self, browser: &str) -> Result<String, JsError> {
        let Gpu { kernels, queue } = &self.gpu;
        let subjects = cases::subjects()?;
        let subjects: Vec<_> = subjects.iter().map(|subject| &**subject).collect();
        let go_on = |_: Progress<'_>| ControlFlow::Continue(());
        let mut verdicts = Verdicts::with_key(kernels, browser);
        Ok(verify(kernels, queue, &subjects, &mut verdicts, go_on).await?.to_string())
    }
}
