// What an adapter can do at most: bytes copied, products added.
//
// Constants: WG_SIZE; PER, vectors that an invocation copies; FUSED, whether `fma` or a product and a sum.
// Every invocation has its vectors: the grid is exact, folded into y.

@group(0) @binding(0) var<storage, read> source: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> sink: array<vec4<f32>>;
@group(0) @binding(2) var<uniform> rounds: vec4<u32>;

@compute @workgroup_size(WG_SIZE)
fn copy(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = (workgroup.y * grid.x + workgroup.x) * (WG_SIZE * PER) + lane;
    for (var i = 0u; i < PER; i++) {
        sink[first + i * WG_SIZE] = source[first + i * WG_SIZE];
    }
}

fn mad(a: vec4<f32>, b: vec4<f32>, c: vec4<f32>) -> vec4<f32> {
    if FUSED {
        return fma(a, b, c);
    }
    return a * b + c;
}

// Two chains of vec4: eight independent sums hide the latency of CPUs, occupancy that of GPUs; more
// would not fit the 16 vector registers of AVX2. 4 steps * 2 chains * 4 lanes * 2 = 64 operations a round.
@compute @workgroup_size(WG_SIZE)
fn fma_chain(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let id = (workgroup.y * grid.x + workgroup.x) * WG_SIZE + lane;
    var a = source[id];
    var b = a.wzyx;
    // Near 1, so that no chain overflows or becomes subnormal.
    let factor = vec4<f32>(1.0 - a.x * 1e-6);
    let shift = vec4<f32>(a.y * 1e-6);
    for (var i = 0u; i < rounds.x; i++) {
        a = mad(a, factor, shift);
        b = mad(b, factor, shift);
        a = mad(a, factor, shift);
        b = mad(b, factor, shift);
        a = mad(a, factor, shift);
        b = mad(b, factor, shift);
        a = mad(a, factor, shift);
        b = mad(b, factor, shift);
    }
    sink[id] = a + b;
}
