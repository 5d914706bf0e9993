//! A program that draws: what a kernel computes is vertex data of a render pass in the same encoder.

use consumer::Gpu;
use tileloom::{Caps, Kernels, gemm};

const SIDE: u32 = 64;

/// A matrix moves the corners of two triangles, from the left half of the picture to the right one.
#[test]
fn vertices_of_a_product() {
    let gpu = Gpu::open();
    let kernels = Kernels::new(&gpu.device, Caps::of(&gpu.adapter, &gpu.device));
    let storage = wgpu::BufferUsages::STORAGE;
    // Homogeneous corners [6, 3] of the left half, and a move by one to the right.
    let left: [[f32; 3]; 6] =
        [[-1.0, -1.0, 1.0], [0.0, -1.0, 1.0], [0.0, 1.0, 1.0], [-1.0, -1.0, 1.0], [0.0, 1.0, 1.0], [-1.0, 1.0, 1.0]];
    let right: [[f32; 2]; 3] = [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]];
    let (corners, matrix) = (gpu.buffer(&left, storage), gpu.buffer(&right, storage));
    let vertices = gpu.buffer(&[[f32::NAN; 2]; 6], storage | wgpu::BufferUsages::VERTEX);
    let problem = gemm::Problem { m: 6, n: 2, k: 3, ..Default::default() };
    let moved = gemm::prepare(&kernels, &problem, gemm::Buffers::new(&corners, &matrix, &vertices)).expect("gemm");

    let module = gpu.module(
        "@vertex fn place(@location(0) at: vec2<f32>) -> @builtin(position) vec4<f32> { return vec4(at, 0.0, 1.0); }
        @fragment fn shade() -> @location(0) vec4<f32> { return vec4(1.0, 0.5, 0.0, 1.0); }",
    );
    let format = wgpu::TextureFormat::Rgba8Unorm;
    let pipeline = gpu.device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
        label: None,
        layout: None,
        vertex: wgpu::VertexState {
            module: &module,
            entry_point: None,
            compilation_options: Default::default(),
            buffers: &[Some(wgpu::VertexBufferLayout {
                array_stride: 8,
                step_mode: wgpu::VertexStepMode::Vertex,
                attributes: &wgpu::vertex_attr_array![0 => Float32x2],
            })],
        },
        primitive: Default::default(),
        depth_stencil: None,
        multisample: Default::default(),
        fragment: Some(wgpu::FragmentState {
            module: &module,
            entry_point: None,
            compilation_options: Default::default(),
            targets: &[Some(format.into())],
        }),
        multiview_mask: None,
        cache: None,
    });
    let texture = gpu.device.create_texture(&wgpu::TextureDescriptor {
        label: None,
        size: wgpu::Extent3d { width: SIDE, height: SIDE, depth_or_array_layers: 1 },
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format,
        usage: wgpu::TextureUsages::RENDER_ATTACHMENT | wgpu::TextureUsages::COPY_SRC,
        view_formats: &[],
    });
    let picture = gpu.buffer(&[0u32; (SIDE * SIDE) as usize], wgpu::BufferUsages::COPY_DST);

    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    moved.record(&mut encoder);
    {
        let view = texture.create_view(&Default::default());
        let mut pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
            label: None,
            color_attachments: &[Some(wgpu::RenderPassColorAttachment {
                view: &view,
                depth_slice: None,
                resolve_target: None,
                ops: wgpu::Operations { load: wgpu::LoadOp::Clear(wgpu::Color::BLACK), store: wgpu::StoreOp::Store },
            })],
            ..Default::default()
        });
        pass.set_pipeline(&pipeline);
        pass.set_vertex_buffer(0, vertices.slice(..));
        pass.draw(0..6, 0..1);
    }
    let layout = wgpu::TexelCopyBufferLayout { offset: 0, bytes_per_row: Some(4 * SIDE), rows_per_image: None };
    let target = wgpu::TexelCopyBufferInfo { buffer: &picture, layout };
    encoder.copy_texture_to_buffer(texture.as_image_copy(), target, texture.size());
    gpu.queue.submit([encoder.finish()]);

    let pixels: Vec<[u8; 4]> = gpu.read(&picture, 0..u64::from(4 * SIDE * SIDE));
    for (i, pixel) in pixels.iter().enumerate() {
        let drawn = i as u32 % SIDE >= SIDE / 2;
        let near = pixel[0] == if drawn { 255 } else { 0 } && pixel[1].abs_diff(if drawn { 128 } else { 0 }) <= 1;
        assert!(near, "pixel {i} is {pixel:?}");
    }
}
