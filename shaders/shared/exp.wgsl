// exp of one value from -87 to 88: x = n ln 2 + r, a polynomial in r, times 2^n. WGSL promises little of its own. 0 below, above that of 88.
fn exp_of(x: f32) -> f32 {
  let y = clamp(x, -87.0, 88.0);
  let n = floor(y * 1.44269504 + 0.5);
  // ln 2 in two parts: the product of n and the first is exact.
  let r = (y - n * 0.693359375) + n * 2.12194440e-4;
  let p = 1.0 + r * (1.0 + r * (0.5 + r * (0.16666667 + r * (0.041666668 + r * (0.0083333338 + r * 0.0013888889)))));
  return select(p * bitcast<f32>(u32(i32(n) + 127) << 23u), 0.0, x < -87.0);
}
