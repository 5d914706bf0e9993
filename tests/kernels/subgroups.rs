//! What kernels that shuffle take for granted of subgroups.

use loom::Gpu;
use tileloom::wgpu;

use crate::Suite;

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("subgroups", cases);

pub fn cases(suite: &mut Suite) {
    let lack =
        suite.gpu.kernels.caps().least_subgroup().is_none().then_some("a least subgroup size that can be trusted");
    suite.case_unless(lack, "runs of neighbours lie in one subgroup, in order", |gpu| {
        let least = gpu.kernels.caps().least_subgroup().expect("a size");
        // The second does not fill its last subgroup where subgroups are wider than the least.
        [least, 3 * least, 256].into_iter().try_for_each(|size| shuffles(gpu, size, least))
    });
}

/// Every invocation of a workgroup of `size` shuffles its number within runs of `least`.
fn shuffles(gpu: &Gpu, size: u32, least: u32) -> Result<(), String> {
    let source = format!(
        "@group(0) @binding(0) var<storage, read_write> wrong: array<u32>;
        @compute @workgroup_size({size})
        fn shuffles(@builtin(local_invocation_index) local: u32) {{
          var bits = 0u;
          for (var step = 1u; step < {least}u; step <<= 1u) {{ bits |= subgroupShuffleXor(local, step) ^ local ^ step; }}
          wrong[local] = bits;
        }}"
    );
    let wrong = words(gpu, source, 1, size as usize)?;
    match wrong.iter().position(|&bits| bits != 0) {
        None => Ok(()),
        Some(i) => Err(format!("of {size} invocations, {i} reaches others than its neighbours: {:#x}", wrong[i])),
    }
}

/// The first `count` words of the one binding of a shader, which are 0 before, once `workgroups` of it have run.
pub fn words(gpu: &Gpu, source: String, workgroups: u32, count: usize) -> Result<Vec<u32>, String> {
    let device = &gpu.device;
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: None,
        source: wgpu::ShaderSource::Wgsl(source.into()),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: None,
        compilation_options: Default::default(),
        cache: None,
    });
    let buffer = gpu.buffer(&vec![0; 4 * count]);
    let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[wgpu::BindGroupEntry { binding: 0, resource: buffer.as_entire_binding() }],
    });
    let mut encoder = device.create_command_encoder(&Default::default());
    {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(workgroups, 1, 1);
    }
    gpu.queue.submit([encoder.finish()]);
    Ok(bytemuck::pod_collect_to_vec(&gpu.read(&buffer)?))
}
