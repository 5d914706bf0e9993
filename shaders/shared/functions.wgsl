// exp and erfc of four values: WGSL promises little of its own. Errors: the tests `functions over their range`.

// exp, for x from -87 to 88 (beyond, that of the nearest): x = n ln 2 + r, a polynomial in r, times 2^n.
fn own_exp(x: vec4<f32>) -> vec4<f32> {
  let y = clamp(x, vec4<f32>(-87.0), vec4<f32>(88.0));
  let n = floor(y * 1.44269504 + 0.5);
  // ln 2 in two parts: the product of n and the first is exact.
  let r = (y - n * 0.693359375) + n * 2.12194440e-4;
  let p = 1.0 + r * (1.0 + r * (0.5 + r * (0.16666667 + r * (0.041666668 + r * (0.0083333338 + r * 0.0013888889)))));
  return p * bitcast<vec4<f32>>((vec4<i32>(n) + 127) << vec4<u32>(23u));
}

// exp(z z) erfc(z): a polynomial in t = 1 / (1 + 0.3 z), to 2.5e-8 of it up to z = 10.
fn erfc_scaled(z: vec4<f32>) -> vec4<f32> {
  let t = 1.0 / (1.0 + 0.3 * z);
  return t * (0.169173058 + t * (0.17094912 + t * (0.146796022 + t * (0.220539169 + t * (-0.106983363
    + t * (0.564514242 + t * (-0.526151663 + t * (0.491934271 - t * 0.130770877))))))));
}
