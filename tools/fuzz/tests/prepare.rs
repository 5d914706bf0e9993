//! What `prepare` refuses and what it accepts, at the edges: of 32 bits, of empty problems, of small devices. Runs as a
//! 32-bit target, too.

use fuzz::gpu::Gpu;
use tileloom::attention::{Packed, Paged, Segments};
use tileloom::gemm::Matrix;
use tileloom::vq_lookup::Order;
use tileloom::vq_train::{KMeansBuffers, prepare_kmeans};
use tileloom::{
    AttentionOptions, Binding, Caps, Context, Dispatch, Dtype, Error, ErrorKind, Kernels, KernelsOptions, Layout,
    MatmulOptions, Op, PositionEncoding, PositionOptions, Tensor, attention, attention_merge, gemm, norm, rope,
    softmax, vq_assign, vq_lookup, vq_scatter, vq_train,
};

fn kernels(gpu: &Gpu) -> Kernels {
    Kernels::new(&gpu.device, Caps::of(&gpu.adapter, &gpu.device))
}

fn buffer(gpu: &Gpu, size: u64) -> wgpu::Buffer {
    let usage = wgpu::BufferUsages::STORAGE;
    gpu.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
}

#[track_caller]
fn recorded(gpu: &Gpu, prepared: Result<Dispatch, Error>) {
    gpu.submit(&prepared.unwrap()).unwrap();
}

#[track_caller]
fn refused<T>(prepared: Result<T, Error>, text: &str) {
    let error = prepared.map(drop).unwrap_err().to_string();
    assert!(error.contains(text), "{error}, expected {text}");
}

/// An element past the last one that a shader can index, whatever `usize` is.
const FAR: usize = u32::MAX as usize;

#[test]
fn ends_of_views_do_not_wrap() {
    let gpu = Gpu::open("baseline");
    let (kernels, small) = (kernels(&gpu), buffer(&gpu, 256));
    let past = |arg: &str| format!("`{arg}` reaches element 4294967296, past the last one");

    let problem = softmax::Problem { rows: 2, lse: Some(FAR), ..Default::default() };
    refused(softmax::prepare(&kernels, &problem, softmax::Buffers::new(&small, &small).lse(&small)), &past("lse"));
    let problem =
        norm::Problem { cols: 2, weight: Some(norm::Vector { dtype: Dtype::F32, offset: FAR }), ..Default::default() };
    refused(norm::prepare(&kernels, &problem, norm::Buffers::new(&small, &small).weight(&small)), &past("weight"));
    let plain = attention::Problem { seq_q: 2, heads: 2, kv_heads: 2, ..Default::default() };
    let buffers = attention::Buffers::new(&small, &small, &small, &small);
    let problem = attention::Problem { lse: Some(FAR - 2), ..plain };
    refused(attention::prepare(&kernels, &problem, buffers.lse(&small)), &past("lse"));
    let problem = attention::Problem { sinks: Some(FAR), ..plain };
    refused(attention::prepare(&kernels, &problem, buffers.tables(&small)), &past("tables"));
    let problem = attention::Problem { batch: 2, lengths: Some(FAR), ..plain };
    refused(attention::prepare(&kernels, &problem, buffers.indices(&small)), &past("indices"));
    let problem = attention_merge::Problem { rows: 2, lse_out: Some(FAR), ..Default::default() };
    let buffers = attention_merge::Buffers::new(&small, &small, &small).lse_out(&small);
    refused(attention_merge::prepare(&kernels, &problem, buffers), &past("lse_out"));
    let problem = gemm::Problem { n: 2, d: Matrix::strided(Dtype::F32, FAR, [0; 3]), ..Default::default() };
    refused(gemm::prepare(&kernels, &problem, gemm::Buffers::new(&small, &small, &small)), &past("d"));
    let problem = vq_lookup::Problem { code_dim: 2, codebook: Layout::at(FAR), ..Default::default() };
    let buffers = vq_lookup::Buffers::new(&small, &small, &small);
    refused(vq_lookup::prepare(&kernels, &problem, buffers), &past("codebook"));
    let problem = vq_assign::Problem { n: 2, indices: FAR, ..Default::default() };
    refused(vq_assign::prepare(&kernels, &problem, vq_assign::Buffers::new(&small, &small, &small)), &past("indices"));
    let problem = vq_scatter::Problem { num_codes: 2, sums: FAR, ..Default::default() };
    refused(vq_scatter::prepare(&kernels, &problem, vq_scatter::Buffers::new(&small, &small, &small)), &past("sums"));

    // The last element that there is: the buffer is too small, by numbers that do not wrap.
    let problem = vq_lookup::Problem { bad: Some(FAR), ..Default::default() };
    let buffers = vq_lookup::Buffers::new(&small, &small, &small).bad(&small);
    refused(vq_lookup::prepare(&kernels, &problem, buffers), "`bad` is too small: 17179869184 bytes are needed");
    let problem =
        softmax::Problem { x_layout: Layout::strided(3, [0, 0, 1 << 20]), rows: 4096, cols: 7, ..Default::default() };
    let problem = softmax::Problem { dims: [1, 4096], ..problem };
    let text = format!("`x` is too small: {} bytes are needed", 4 * (3 + (4095u64 << 20) + 7));
    refused(softmax::prepare(&kernels, &problem, softmax::Buffers::new(&small, &small)), &text);
}

#[test]
fn products_of_sizes_do_not_wrap() {
    let gpu = Gpu::open("baseline");
    let (kernels, caps) = (kernels(&gpu), Caps::of(&gpu.adapter, &gpu.device));
    let small = buffer(&gpu, 256);
    // x is one vector, read 2^20 times; what books leave of them, [2^20, 2^13] f32, is 2^35 bytes.
    let problem = vq_assign::Problem { n: 1 << 20, code_dim: 1 << 13, books: 2, residual: true, ..Default::default() };
    let problem = vq_assign::Problem { x_layout: Layout::strided(0, [0, 0]), ..problem };
    for config in problem.candidates(&caps).unwrap() {
        assert!(problem.scratch_bytes(&config).unwrap() >= 1 << 35);
    }
    let buffers = vq_assign::Buffers::new(&small, &small, &small);
    assert!(vq_assign::prepare(&kernels, &problem, buffers).is_err());
    let problem = vq_train::Problem { books: 1 << 16, num_codes: 1 << 16, code_dim: 2, ..Default::default() };
    let all = &small;
    let all = vq_train::Buffers {
        counts: all.into(),
        sums: all.into(),
        x: all.into(),
        ema_counts: all.into(),
        ema_sums: all.into(),
        codebook: all.into(),
        stats: all.into(),
    };
    refused(vq_train::prepare(&kernels, &problem, all), "`codebook` reaches element 8589934591");
    // Sizes that make 0 modulo 2^32.
    let problem = softmax::Problem { rows: 1 << 16, cols: 1 << 16, ..Default::default() };
    let buffers = softmax::Buffers::new(&small, &small);
    refused(softmax::prepare(&kernels, &problem, buffers), "too small: 17179869184 bytes");
    let problem = gemm::Problem { m: 1 << 16, n: 1 << 16, ..Default::default() };
    let buffers = gemm::Buffers::new(&small, &small, &small);
    refused(gemm::prepare(&kernels, &problem, buffers), "too small: 262144 bytes");
    let problem = attention::Problem { heads: 1 << 16, kv_heads: 1, seq_q: 1 << 16, ..Default::default() };
    let buffers = attention::Buffers::new(&small, &small, &small, &small);
    refused(attention::prepare(&kernels, &problem, buffers), "too small: 17179869184 bytes");
}

#[test]
fn strided_outputs_and_fused_views() {
    let gpu = Gpu::open("baseline");
    let (kernels, arena) = (kernels(&gpu), buffer(&gpu, 1 << 16));
    let of = |offset, strides| rope::Heads {
        from: Layout::strided(offset, strides),
        to: Layout::strided(offset, strides),
        ..rope::Heads::new(2)
    };
    // Tokens of [q: 2 | k: 2 | v: 2] heads of 8, turned where they lie.
    let fused = |first: usize| of(8 * first, [5 * 48, 8, 48]);
    let problem = rope::Problem { batch: 2, seq: 5, head_dim: 8, q: fused(0), k: Some(fused(2)), ..Default::default() };
    let buffers = rope::Buffers::in_place(&arena).k_in_place(&arena);
    recorded(&gpu, rope::prepare(&kernels, &problem, buffers));
    let problem = rope::Problem { k: Some(of(12, [5 * 48, 8, 48])), ..problem };
    refused(rope::prepare(&kernels, &problem, buffers), "overlap");
    // Strides near 2^32 interleave by 64-bit arithmetic.
    let far = |offset| of(offset, [3_000_000_000, 8, 48]);
    let problem = rope::Problem { batch: 2, q: far(40), k: Some(far(2_999_999_999)), ..problem };
    refused(rope::prepare(&kernels, &problem, buffers), "`k` reaches element 6000000206");
    let problem = softmax::Problem { rows: 2, cols: 4, y_layout: Layout::strided(0, [3, 0, 0]), ..Default::default() };
    refused(softmax::prepare(&kernels, &problem, softmax::Buffers::new(&arena, &arena)), "rows overlap");
}

#[test]
fn empty_tensors_need_no_buffer() {
    let gpu = Gpu::open("baseline");
    let kernels = kernels(&gpu);
    let [none, none2, none3] = [(); 3].map(|()| buffer(&gpu, 0));
    let [a, b, c, d] = [(); 4].map(|()| buffer(&gpu, 4));
    for order in [Order::ChannelsLast, Order::ChannelsFirst] {
        let sums = buffer(&gpu, 48);
        let problem = vq_scatter::Problem { spatial: 0, num_codes: 3, code_dim: 4, order, ..Default::default() };
        for (indices, x) in [(&none, &none2), (&a, &b)] {
            let buffers = vq_scatter::Buffers::new(indices, x, &sums);
            recorded(&gpu, vq_scatter::prepare(&kernels, &problem, buffers));
        }
        refused(vq_scatter::prepare(&kernels, &problem, vq_scatter::Buffers::new(&a, &b, &c)), "48 bytes are needed");
    }
    // No k: d is what c and bias make.
    let problem = gemm::Problem { k: 0, c: Some(Matrix::new(Dtype::F32)), ..Default::default() };
    recorded(&gpu, gemm::prepare(&kernels, &problem, gemm::Buffers::new(&none, &none2, &a).c(&b)));
    let problem = gemm::Problem { m: 0, n: u32::MAX as usize / 2, ..Default::default() };
    recorded(&gpu, gemm::prepare(&kernels, &problem, gemm::Buffers::new(&none, &none2, &none3)));
    for problem in [
        vq_train::Problem { n: 0, num_codes: 1, code_dim: 1, ..Default::default() },
        vq_train::Problem { n: 0, least: 1.0, ..Default::default() },
    ] {
        let [sums, stats, codebook] = [buffer(&gpu, 4), buffer(&gpu, 8), buffer(&gpu, 4)];
        let step = vq_train::Buffers {
            counts: (&a).into(),
            sums: (&sums).into(),
            x: (&none).into(),
            ema_counts: (&b).into(),
            ema_sums: (&c).into(),
            codebook: (&codebook).into(),
            stats: (&stats).into(),
        };
        recorded(&gpu, vq_train::prepare(&kernels, &problem, step));
        for indices in [&none2, &d] {
            let buffers = KMeansBuffers { indices: indices.into(), step };
            recorded(&gpu, prepare_kmeans(&kernels, &problem, 2, buffers));
        }
    }
    let problem = vq_assign::Problem { n: 0, code_dim: 4, loss: Some(0), usage: Some(0), ..Default::default() };
    let codebook = buffer(&gpu, 16);
    let buffers = vq_assign::Buffers::new(&none, &codebook, &none2).loss(&a).usage(&b);
    recorded(&gpu, vq_assign::prepare(&kernels, &problem, buffers));
    let problem = attention::Problem { seq_kv: 0, lse: Some(0), ..Default::default() };
    let buffers = attention::Buffers::new(&a, &none, &none2, &b).lse(&c);
    recorded(&gpu, attention::prepare(&kernels, &problem, buffers));
    let problem = attention::Problem { seq_q: 0, ..Default::default() };
    recorded(&gpu, attention::prepare(&kernels, &problem, attention::Buffers::new(&none, &a, &b, &none2)));
    let problem = softmax::Problem { rows: 0, cols: 5, ..Default::default() };
    recorded(&gpu, softmax::prepare(&kernels, &problem, softmax::Buffers::new(&none, &none2)));
    let problem = norm::Problem { rows: 0, ..norm::Problem::of(norm::Kind::Layer) };
    recorded(&gpu, norm::prepare(&kernels, &problem, norm::Buffers::new(&none, &none2)));
}

#[test]
fn absurd_places_are_refused() {
    let gpu = Gpu::open("baseline");
    let (kernels, x, y) = (kernels(&gpu), buffer(&gpu, 4096), buffer(&gpu, 4096));
    let at = |offset, size| -> Binding {
        wgpu::BufferBinding { buffer: &x, offset, size: wgpu::BufferSize::new(size) }.into()
    };
    let problem = softmax::Problem { rows: 2, cols: 4, ..Default::default() };
    for offset in [u64::MAX - 255, 1 << 63, 4096, 8192] {
        let buffers = softmax::Buffers::new(at(offset, 32), &y);
        refused(softmax::prepare(&kernels, &problem, buffers), "the binding has 0");
        let buffers = softmax::Buffers::in_place(at(offset, u64::MAX));
        refused(softmax::prepare(&kernels, &problem, buffers), "the binding has 0");
    }
    // Nothing reaches an empty view, wherever it is.
    let empty =
        softmax::Problem { rows: 0, x_layout: Layout::at(usize::MAX), y_layout: Layout::at(usize::MAX), ..problem };
    recorded(&gpu, softmax::prepare(&kernels, &empty, softmax::Buffers::new(&x, &y)));
    let strides = Layout::strided(usize::MAX, [usize::MAX; 3]);
    let empty = softmax::Problem { x_layout: strides, y_layout: strides, ..empty };
    recorded(&gpu, softmax::prepare(&kernels, &empty, softmax::Buffers::new(at(u64::MAX - 255, 1), &y)));
    let problem =
        gemm::Problem { k: 0, a: Matrix::strided(Dtype::F32, usize::MAX, [usize::MAX; 3]), ..Default::default() };
    recorded(&gpu, gemm::prepare(&kernels, &problem, gemm::Buffers::new(at(u64::MAX - 255, 1), &x, &y)));
    // Gradients of a problem without elements.
    let huge = gemm::Problem { n: 0, m: 1 << 30, batch: [1 << 30, 1 << 30], ..Default::default() };
    let _ = gemm::backward(&huge);
    // A page table that cannot be.
    let paged = Some(Paged { pages: 1, page_size: 1 << 28, block_table: usize::MAX, max_pages: 1 << 28 });
    let problem = attention::Problem { paged, lengths: Some(usize::MAX), ..Default::default() };
    let buffers = attention::Buffers::new(&x, &x, &x, &y).indices(&x);
    assert!(attention::prepare(&kernels, &problem, buffers).is_err());
    let packed = Some(Packed { cu_q: usize::MAX, cu_kv: 0, total_q: 1, total_kv: 1 });
    let problem = attention::Problem { packed, ..Default::default() };
    assert!(attention::prepare(&kernels, &problem, buffers).is_err());
    let segments = Segments { numbers: usize::MAX, per_batch: true, flags: usize::MAX, count: 1 << 28, ordered: true };
    let problem = attention::Problem { segments: Some(segments), ..Default::default() };
    assert!(attention::prepare(&kernels, &problem, buffers).is_err());
    // More steps than anyone waits for.
    let problem = vq_assign::Problem { books: 1 << 20, residual: true, ..Default::default() };
    let buffers = vq_assign::Buffers::new(&x, &y, &y);
    refused(vq_assign::prepare(&kernels, &problem, buffers), "1048576 are searched one after the other");
}

#[test]
fn axes_of_empty_tensors() {
    let gpu = Gpu::open("baseline");
    let context = Context::from_wgpu(&gpu.adapter, gpu.device.clone(), gpu.queue.clone());
    const MAX: usize = usize::MAX;
    let zeros = |shape: &[usize]| -> Tensor<f32> { context.zeros(shape).unwrap() };
    refused(context.zeros::<u8>(&[MAX]), "out of device memory");
    refused(context.zeros::<f32>(&[MAX, MAX]), "out of device memory");
    let q = zeros(&[MAX, MAX, 0, 8]);
    let options =
        AttentionOptions { tokens_first: true, slopes: Some(&[1.0]), parents: Some(&[0]), ..Default::default() };
    let _ = q.attention(&q, &q, &options);
    let _ = q.attention(&q, &q, &AttentionOptions { slopes: None, ..options });
    let _ = q.attention(&q, &q, &AttentionOptions { slopes: None, parents: None, ..options });
    let pages = zeros(&[0, MAX, 1, 8]);
    let paged = AttentionOptions { block_table: Some(&[0; 6]), lengths: Some(&[1, 1, 1]), ..Default::default() };
    let _ = zeros(&[3, 1, 0, 8]).attention(&pages, &pages, &paged);
    let b = zeros(&[0, MAX]);
    let a = zeros(&[MAX, 0]);
    let _ = a.matmul(&b, &MatmulOptions { gate: Some(&b), bias: Some(&a), ..Default::default() });
    let picture = zeros(&[0, MAX, MAX, 2]);
    let positions: Tensor<i32> = context.zeros(&[0]).unwrap();
    let waves = PositionEncoding::Waves(&[]);
    let _ = picture.add_positions(&PositionOptions { positions: Some(&positions), ..PositionOptions::new(waves) });
    let _ = attention::bshd(MAX, MAX, MAX);
    let _ = attention::fused(MAX, MAX, MAX, MAX);
    let _ = rope::Heads::fused(MAX, MAX, MAX, MAX, MAX);
    let shape = [0, MAX, MAX, 3, 4];
    let _ = softmax::broadcast(tileloom::MaskKind::Bytes, &shape, &shape);
    assert_eq!(gpu.heard(), None);
}

#[test]
fn devices_without_compute_are_refused() {
    let gpu = Gpu::open("webgl");
    let (kernels, x) = (kernels(&gpu), buffer(&gpu, 256));
    let text = "the device is too small: its limit max_compute_invocations_per_workgroup is 0, kernels need 64";
    refused(softmax::prepare(&kernels, &Default::default(), softmax::Buffers::new(&x, &x)), text);
    let buffers = attention::Buffers::new(&x, &x, &x, &x);
    refused(attention::prepare(&kernels, &Default::default(), buffers), text);
    refused(vq_lookup::choose(&kernels.caps(), &Default::default()), text);
    refused(vq_assign::choose(&kernels.caps(), &Default::default()), text);
    refused(gemm::candidates(&kernels.caps(), &Default::default()), text);
    let step = vq_train::Buffers {
        counts: (&x).into(),
        sums: (&x).into(),
        x: (&x).into(),
        ema_counts: (&x).into(),
        ema_sums: (&x).into(),
        codebook: (&x).into(),
        stats: (&x).into(),
    };
    refused(vq_train::prepare(&kernels, &Default::default(), step), text);
    refused(prepare_kmeans(&kernels, &Default::default(), 1, KMeansBuffers { indices: (&x).into(), step }), text);
    assert_eq!(gpu.heard(), None);
}

#[test]
fn caps_of_another_device_are_cut_to_this_one() {
    let gpu = Gpu::open("baseline");
    let own = Caps::of(&gpu.adapter, &gpu.device);
    let half = gemm::Problem::new(64, 64, 64, Dtype::F16);
    for preset in tileloom::caps::presets() {
        let options = KernelsOptions { cache_dir: Some("there/is/no/such/folder".into()), ..Default::default() };
        let kernels = Kernels::with_options(&gpu.device, preset.clone(), options);
        let caps = kernels.caps();
        let (coop, cache) = (caps.coop_probed || !caps.coop.is_empty(), caps.pipeline_cache);
        assert!(!coop && !cache && !caps.f16 && caps.subgroup.is_none(), "{preset}\n{caps}");
        assert_eq!((caps.backend, caps.vendor, caps.trusted_subgroup_size()), (own.backend, own.vendor, None));
        assert_eq!((caps.immediate_bytes, &caps.limits), (0, &own.limits.clone().or_worse_values_from(&preset.limits)));
        // What the preset would choose is refused here.
        let config = gemm::choose(&preset, &half).unwrap();
        let [a, b, d] = [(); 3].map(|()| buffer(&gpu, 8192));
        let prepared = gemm::prepare_with(&kernels, &half, &config, gemm::Buffers::new(&a, &b, &d));
        let shuffles = config.algorithm == gemm::Algorithm::Direct && config.lanes > 1;
        match config.native_f16 || shuffles || config.algorithm == gemm::Algorithm::Coop {
            true => assert!(matches!(prepared.unwrap_err().kind, ErrorKind::ConfigUnfit { .. }), "{config}"),
            false => recorded(&gpu, prepared),
        }
        recorded(&gpu, gemm::prepare(&kernels, &half, gemm::Buffers::new(&a, &b, &d)));
        kernels.save_pipeline_cache().unwrap();
        assert_eq!(gpu.heard(), None);
    }
    // What the device has and the Caps do not is left alone.
    let gpu = Gpu::open("all");
    let caps = Caps { f16: false, immediate_bytes: 0, subgroup: None, ..Caps::of(&gpu.adapter, &gpu.device) };
    assert!(Caps::of(&gpu.adapter, &gpu.device).f16);
    let caps = (*Kernels::new(&gpu.device, caps).caps()).clone();
    assert_eq!((caps.f16, caps.immediate_bytes, caps.subgroup), (false, 0, None));
}
