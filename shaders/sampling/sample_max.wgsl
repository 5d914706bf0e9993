// The largest key of each row, and where HISTORY the logits after the penalties, in place of the counts. A workgroup has a part of
// a row.
#import sample_row

var<workgroup> largest: atomic<u32>;

fn penalised(z: f32, count: u32, s: Settings) -> f32 {
  if count == 0u { return z; }
  let repeated = select(z * s.repetition, z / s.repetition, z > 0.0);
  return repeated - s.frequency * f32(count) - s.presence;
}

@compute @workgroup_size(WG_SIZE)
fn sample_max(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let w = wg.y * params.grid_x + wg.x;
  if w >= params.rows * params.parts { return; }
  let p = part_of(w);
  let s = settings_of(p.row);
  if local == 0u { atomicStore(&largest, 0u); }
  workgroupBarrier();
  let base = x_base(p.row);
  var top = 0u;
  for (var c = p.first + local; c < p.end; c += WG_SIZE) {
    let v = x_chunk(base, c, 0u, params.vocab);
    for (var j = 0u; j < VEC; j++) {
      var key = key_of(lane_of(v, j));
      if HISTORY {
        let at = p.row * params.stride + VEC * c + j;
        let z = bitcast<u32>(penalised(value_of(key), count_of(at), s));
        // What is hidden stays so.
        let bits = select(z, NEG_INF_BITS, key < FIRST);
        adjust(at, bits);
        key = key_of_bits(bits);
      }
      top = max(top, key);
    }
  }
  atomicMax(&largest, top);
  workgroupBarrier();
  if local == 0u { atomicMax(&state[row_at(p.row) + TOP], atomicLoad(&largest)); }
}
