// The learned value of the bucket that the distance falls into; buckets read from their table are clamped.
fn distance_bias(distance: u32) -> f32 {
  let at = u32(clamp(bitcast<i32>(distance), -params.reach, params.reach) + params.reach);
  let bucket = min(buckets[at], params.num_buckets - 1u);
  let i = params.table.x + bucket * params.table.z + head * params.table.w;
  if TABLE_KIND == TABLE_F32 { return bitcast<f32>(table[i]); }
  let half = (table[i >> 1u] >> (16u * (i & 1u))) & 0xffffu;
  if TABLE_KIND == TABLE_F16 { return unpack2x16float(half).x; }
  return bitcast<f32>(half << 16u);
}
