//! What a program has before it depends on tileloom: a device, buffers and shaders of its own.

use std::ops::Range;

use wgpu::util::DeviceExt;

/// An adapter, and a device with WebGPU's default limits and no feature.
pub struct Gpu {
    pub adapter: wgpu::Adapter,
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
}

impl Gpu {
    /// On the first adapter of the backends that `WGPU_BACKEND` names. What no error scope catches ends the program.
    pub fn open() -> Gpu {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
        let adapter = pollster::block_on(instance.request_adapter(&Default::default())).expect("an adapter");
        let (device, queue) = pollster::block_on(adapter.request_device(&Default::default())).expect("a device");
        Gpu { adapter, device, queue }
    }

    /// A buffer that holds these.
    pub fn buffer<T: bytemuck::Pod>(&self, values: &[T], usage: wgpu::BufferUsages) -> wgpu::Buffer {
        self.device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
            label: None,
            contents: bytemuck::cast_slice(values),
            usage: usage | wgpu::BufferUsages::COPY_SRC,
        })
    }

    /// A compute pipeline of this program's own, with the layout that its shader has.
    pub fn pipeline(&self, wgsl: &str) -> wgpu::ComputePipeline {
        self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &self.module(wgsl),
            entry_point: None,
            compilation_options: Default::default(),
            cache: None,
        })
    }

    pub fn module(&self, wgsl: &str) -> wgpu::ShaderModule {
        let source = wgpu::ShaderSource::Wgsl(wgsl.into());
        self.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source })
    }

    /// The group 0 of a pipeline: bindings 0, 1 ..
    pub fn bind(&self, layout: &wgpu::BindGroupLayout, bindings: &[wgpu::BufferBinding]) -> wgpu::BindGroup {
        let resources = bindings.iter().map(|binding| wgpu::BindingResource::Buffer(binding.clone()));
        let entries = (0..).zip(resources).map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource });
        let entries: Vec<_> = entries.collect();
        self.device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries })
    }

    /// Bytes of a buffer, after all that was submitted.
    pub fn read<T: bytemuck::Pod>(&self, buffer: &wgpu::Buffer, bytes: Range<u64>) -> Vec<T> {
        let size = bytes.end - bytes.start;
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        let copy = self.device.create_buffer(&descriptor);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, bytes.start, &copy, 0, size);
        self.queue.submit([encoder.finish()]);
        copy.map_async(wgpu::MapMode::Read, .., |mapped| mapped.expect("mapped"));
        self.device.poll(wgpu::PollType::wait_indefinitely()).expect("the device works");
        let view = copy.get_mapped_range(..).expect("mapped");
        bytemuck::pod_collect_to_vec(&view)
    }
}

/// A range of a buffer.
pub fn part(buffer: &wgpu::Buffer, bytes: Range<u64>) -> wgpu::BufferBinding<'_> {
    wgpu::BufferBinding { buffer, offset: bytes.start, size: wgpu::BufferSize::new(bytes.end - bytes.start) }
}
