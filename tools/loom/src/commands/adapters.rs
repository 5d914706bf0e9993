//! `loom adapters`: what the adapters of this machine can do.

use serde_json::{Value, json};
use tileloom::Caps;
use tileloom::caps::CoopShape;
use tileloom::traps::Overrides;

use crate::Gpu;
use crate::table::table;

/// `8x8x8 F16 to F32`.
fn shape(s: &CoopShape) -> String {
    format!("{}x{}x{} {:?} to {:?}", s.m, s.n, s.k, s.ab, s.acc)
}

fn subgroup(caps: &Caps) -> String {
    match (caps.subgroup, caps.trusted_subgroup_size()) {
        (_, Some(size)) => size.to_string(),
        (Some(s), None) => format!("{} to {}", s.min, s.max),
        (None, _) => "none".into(),
    }
}

/// What is left alone, and what the environment says of it.
fn avoided(caps: &Caps) -> String {
    let words: Vec<_> = caps.avoided().map(|(what, _)| what.name()).collect();
    match caps.overrides == Overrides::default() {
        true => words.join(", "),
        false => format!("{} ({})", words.join(", "), caps.overrides),
    }
}

/// A table of adapters and what they can do.
pub fn render(gpus: &[Gpu]) -> String {
    let rows = gpus.iter().map(|gpu| {
        let caps = gpu.kernels.caps();
        let coop: Vec<_> = caps.coop.iter().map(shape).collect();
        let limits = &caps.limits;
        vec![
            gpu.slug.clone(),
            caps.name.clone(),
            format!("{:?}", caps.backend),
            format!("{:?}", caps.device_type),
            caps.driver.clone(),
            if caps.f16 { "native" } else { "packed" }.into(),
            gpu.flushes().word().into(),
            subgroup(&caps),
            match caps.coop_denied {
                Some(_) => "denied".into(),
                None if coop.is_empty() => "none".into(),
                None => coop.join(", "),
            },
            limits.max_compute_invocations_per_workgroup.to_string(),
            (limits.max_compute_workgroup_storage_size / 1024).to_string(),
            limits.max_storage_buffers_per_shader_stage.to_string(),
            (caps.binding_bytes() >> 20).to_string(),
            if caps.timestamps { "yes" } else { "no" }.into(),
            avoided(&caps),
        ]
    });
    let header = [
        "adapter",
        "name",
        "backend",
        "type",
        "driver",
        "f16",
        "subnormals",
        "subgroup",
        "coop. matrices",
        ">wg size",
        ">wg KiB",
        ">bindings",
        ">binding MiB",
        "timestamps",
        "avoided",
    ];
    table(&header, rows)
}

/// The facts of one adapter.
pub fn facts(gpu: &Gpu) -> Value {
    let caps = gpu.kernels.caps();
    let l = &caps.limits;
    json!({
        "adapter": gpu.slug,
        "name": caps.name,
        "driver": caps.driver,
        "backend": format!("{:?}", caps.backend),
        "type": format!("{:?}", caps.device_type),
        "vendor": format!("{:?}", caps.vendor),
        "class": format!("{:?}", caps.class()),
        "f16": caps.f16,
        "subnormals": gpu.flushes().word(),
        "subgroup": caps.subgroup.map(|s| json!({
            "min": s.min, "max": s.max, "trusted": caps.trusted_subgroup_size().is_some(),
        })),
        "coop": caps.coop.iter().map(shape).collect::<Vec<_>>(),
        "coop_denied": caps.coop_denied,
        "coop_probed": caps.coop_probed,
        "avoided": caps.avoided().map(|(what, why)| json!({ "what": what.name(), "why": why })).collect::<Vec<_>>(),
        "overrides": caps.overrides.to_string(),
        "immediate_bytes": caps.immediate_bytes,
        "timestamps": caps.timestamps,
        "pipeline_cache": caps.pipeline_cache,
        "limits": {
            "invocations_per_workgroup": l.max_compute_invocations_per_workgroup,
            "workgroup_bytes": l.max_compute_workgroup_storage_size,
            "workgroups_per_dimension": l.max_compute_workgroups_per_dimension,
            "storage_buffers": l.max_storage_buffers_per_shader_stage,
            "storage_binding_bytes": l.max_storage_buffer_binding_size,
            "storage_offset_alignment": l.min_storage_buffer_offset_alignment,
            "buffer_bytes": l.max_buffer_size,
        },
    })
}
