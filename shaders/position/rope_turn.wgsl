// sin and cos of a fixed-point fraction of a turn, in integer arithmetic and polynomials of our own: within
// three units in the last place of f32 all around (the test `every angle of a turn`), and the same bits on
// drivers that fuse alike. F, U and I are vectors of f32, u32 and i32 of one size, or these scalars.
struct SinCos {
  sin: F,
  cos: F,
}

// The upper 32 bits of a * b, by halves.
fn multiply_high(a: U, b: U) -> U {
  let low = U(0xffffu);
  let half = U(16u);
  let a0 = a & low;
  let a1 = a >> half;
  let b0 = b & low;
  let b1 = b >> half;
  let p01 = a0 * b1;
  let p10 = a1 * b0;
  let middle = ((a0 * b0) >> half) + (p01 & low) + (p10 & low);
  return a1 * b1 + (p01 >> half) + (p10 >> half) + (middle >> half);
}

// Of (upper * 2^32 + lower) / 2^64 turns.
fn sincos_turn(upper: U, lower: U) -> SinCos {
  // The nearest quarter turn, and the signed rest of at most an eighth.
  let quarter = (upper + U(0x20000000u)) >> U(30u);
  let rest = bitcast<I>(upper - (quarter << U(30u)));
  let x = (F(rest) + F(lower) * 0x1p-32) * 1.4629180792671596e-9; // 2 pi / 2^32
  // Minimax on [-pi/4, pi/4], Remez: relative error 2^-28 of sin, absolute error 2^-33 of cos.
  let z = x * x;
  let s = x + x * z * (z * (z * -0.0001951729937 + 0.008332177997) - 0.1666665524);
  let c = 1.0 - z * (0.5 - z * (z * (z * 2.443845187e-05 - 0.001388736768) + 0.04166664556));
  let swap = (quarter & U(1u)) != U(0u);
  let sin_sign = (quarter & U(2u)) << U(30u);
  let cos_sign = ((quarter + U(1u)) & U(2u)) << U(30u);
  return SinCos(
    bitcast<F>(bitcast<U>(select(s, c, swap)) ^ sin_sign),
    bitcast<F>(bitcast<U>(select(c, s, swap)) ^ cos_sign),
  );
}
