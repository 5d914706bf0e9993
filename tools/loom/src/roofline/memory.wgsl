// Bytes read and written. Constants: WG_SIZE; PER, vectors that an invocation takes. The grid is exact, folded into y.

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

@compute @workgroup_size(WG_SIZE)
fn take(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = workgroup.y * grid.x + workgroup.x;
    let first = number * (WG_SIZE * PER) + lane;
    var sum = vec4<u32>(0u);
    for (var i = 0u; i < PER; i++) {
        sum += source[first + i * WG_SIZE];
    }
    sink[number * WG_SIZE + lane] = sum;
}
