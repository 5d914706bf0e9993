//! burn's device and tensors as those of wgpu, for tileloom.

use burn::tensor::Tensor;
use burn_wgpu::graphics::AutoGraphicsApi;
use burn_wgpu::{AutoCompiler, CubeTensor, RuntimeOptions, Wgpu, WgpuDevice, WgpuResource, WgpuSetup, init_setup};
use cubecl::wgpu::WgpuServer;
use cubecl_runtime::storage::ManagedResource;
use tileloom::wgpu;

/// The device that burn opens for its default tensors: adapter, device, queue.
pub fn open() -> WgpuSetup {
    init_setup::<AutoGraphicsApi>(&WgpuDevice::default(), RuntimeOptions::default())
}

/// A tensor in memory of burn's, which stays there as long as this does.
pub struct Held {
    tensor: CubeTensor,
    resource: ManagedResource<WgpuResource>,
}

impl Held {
    /// What burn has recorded before is submitted.
    pub fn of<const D: usize>(tensor: Tensor<D>) -> Held {
        let tensor = tensor.try_into_primitive::<Wgpu>().expect("a tensor of wgpu");
        tensor.client.flush().expect("burn submits");
        let resource = tensor.client.get_resource::<WgpuServer<AutoCompiler>>(tensor.handle.clone()).expect("a buffer");
        Held { tensor, resource }
    }

    /// Its part of a buffer that other tensors share.
    pub fn binding(&self) -> wgpu::BufferBinding<'_> {
        let WgpuResource { buffer, offset, size, .. } = self.resource.resource();
        wgpu::BufferBinding { buffer, offset: *offset, size: wgpu::BufferSize::new(size.next_multiple_of(4)) }
    }

    /// burn's again.
    pub fn back<const D: usize>(self) -> Tensor<D> {
        Tensor::from_primitive::<Wgpu>(self.tensor)
    }
}
