// The natural logarithm of a normal number, to 3 units of the last place away from 1: x = 2^n m, m from sqrt(1/2) to sqrt(2), and ln m = 2 atanh
// of (m - 1) / (m + 1) by its series. WGSL promises little of its own.
fn ln_of(x: f32) -> f32 {
  let bits = bitcast<i32>(x) - 0x3f3504f3;
  let m = bitcast<f32>((bits & 0x7fffff) + 0x3f3504f3);
  let s = (m - 1.0) / (m + 1.0);
  let z = s * s;
  let p = 2.0 + z * (0.6666667 + z * (0.4 + z * (0.2857143 + z * 0.22222222)));
  return f32(bits >> 23u) * 0.6931472 + s * p;
}
