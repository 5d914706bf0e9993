// Activations of four values, by their numbers, and their derivatives. Whatever x is, what vanishes for large |x| does so without a product
// of 0 and infinity: an exponential exp(-t) is applied as exp(-t / 2), twice. At corners a derivative is that of the side away from 0, at 0
// that of negative numbers.
#import functions

// exp(-t / 2) for t from 0 on; 0 where exp(-t) would have no place in f32.
fn half_exp(t: vec4<f32>) -> vec4<f32> { return select(own_exp(-0.5 * t), vec4<f32>(0.0), t > vec4<f32>(174.0)); }

// A value, and its derivative.
struct Activated {
  y: vec4<f32>,
  d: vec4<f32>,
}

// x s(w), s being 1 / (1 + exp(-w)); w has the sign of x, and w and v = x w' are finite.
fn gated_by(x: vec4<f32>, w: vec4<f32>, v: vec4<f32>) -> Activated {
  let h = half_exp(abs(w));
  let q = 1.0 / (1.0 + h * h);
  let below = w < vec4<f32>(0.0);
  // s is q, or below 0 h h q; s (1 - s) is h h q q.
  let y = select(x * q, ((max(x, vec4<f32>(-200.0)) * q) * h) * h, below);
  let bent = ((v * q * q) * h) * h;
  return Activated(y, bent + select(q, (q * h) * h, below));
}

// x times the share of a normal distribution below x.
fn gelu_of(x: vec4<f32>) -> Activated {
  // From |x| = 20 on it is 0 or x, and the square cannot overflow.
  let near = clamp(x, vec4<f32>(-20.0), vec4<f32>(20.0));
  let h = half_exp(0.5 * near * near);
  let tail = 0.5 * erfc_scaled(min(abs(x) * 0.70710678, vec4<f32>(10.0)));
  let below = x < vec4<f32>(0.0);
  // The density is 0.39894228 h h, the share h h tail, or above 0 the rest of 1.
  let rest = ((near * tail) * h) * h;
  let y = select(x - rest, rest, below);
  let dense = 0.39894228 * near;
  let d = select(1.0 + ((dense - tail) * h) * h, ((dense + tail) * h) * h, below);
  return Activated(y, d);
}

// 2 / (1 + exp(-2 x)) - 1; near 0 a polynomial (Cephes' tanhf).
fn tanh_of(x: vec4<f32>) -> Activated {
  let h = half_exp(2.0 * abs(x));
  let e = h * h;
  let q = 1.0 / (1.0 + e);
  let s = x * x;
  let p = 1.0 + s * (-0.333332819422 + s * (0.133314422036 + s * (-0.0537397155531 + s * (0.0206390887954 - s * 0.00570498872745))));
  let far = sign(x) * (1.0 - e) * q;
  return Activated(select(far, x * p, abs(x) < vec4<f32>(0.625)), 4.0 * ((q * q) * h) * h);
}

// exp(x) - 1 for x up to 0: x = n ln 2 + r, and exp(r) - 1 without the 1.
fn expm1_of(x: vec4<f32>) -> Activated {
  let y = max(x, vec4<f32>(-87.0));
  let n = floor(y * 1.44269504 + 0.5);
  let r = (y - n * 0.693359375) + n * 2.12194440e-4;
  let p = r * (1.0 + r * (0.5 + r * (0.16666667 + r * (0.041666668 + r * (0.0083333338 + r * 0.0013888889)))));
  let two = bitcast<vec4<f32>>((vec4<i32>(n) + 127) << vec4<u32>(23u));
  return Activated(two * p + (two - 1.0), select(two * p + two, vec4<f32>(0.0), x < vec4<f32>(-87.0)));
}

// x / 6 + 1 / 2, from 0 to 1.
fn hard_sigmoid_of(x: vec4<f32>) -> Activated {
  let y = clamp((x + 3.0) * 0.16666667, vec4<f32>(0.0), vec4<f32>(1.0));
  return Activated(y, select(vec4<f32>(0.0), vec4<f32>(0.16666667), abs(x) < vec4<f32>(3.0)));
}

fn activated(activation: u32, slope: f32, x: vec4<f32>) -> Activated {
  let zero = vec4<f32>(0.0);
  let one = vec4<f32>(1.0);
  let above = x > zero;
  switch activation {
    case ACTIVATION_RELU: { return Activated(max(x, zero), select(zero, one, above)); }
    case ACTIVATION_LEAKY_RELU: { return Activated(select(slope * x, x, above), select(vec4<f32>(slope), one, above)); }
    case ACTIVATION_RELU6: {
      let six = vec4<f32>(6.0);
      return Activated(clamp(x, zero, six), select(zero, one, above & (x < six)));
    }
    case ACTIVATION_HARD_SWISH: {
      let s = hard_sigmoid_of(x);
      return Activated(x * s.y, select(s.y, x * 0.33333333 + 0.5, abs(x) < vec4<f32>(3.0)));
    }
    case ACTIVATION_HARD_SIGMOID: { return hard_sigmoid_of(x); }
    case ACTIVATION_SIGMOID: {
      let h = half_exp(abs(x));
      let q = 1.0 / (1.0 + h * h);
      return Activated(select(q, (q * h) * h, x < zero), ((q * q) * h) * h);
    }
    case ACTIVATION_TANH: { return tanh_of(x); }
    case ACTIVATION_ELU: {
      let e = expm1_of(min(x, zero));
      return Activated(select(slope * e.y, x, above), select(slope * e.d, one, above));
    }
    case ACTIVATION_GELU: { return gelu_of(x); }
    case ACTIVATION_GELU_TANH: {
      // s of w = 2 sqrt(2 / pi) (x + 0.044715 x^3). From |x| = 16 on it is 0 or 1, and the cube cannot overflow.
      let y = clamp(x, vec4<f32>(-16.0), vec4<f32>(16.0));
      let s = 0.044715 * y * y;
      return gated_by(x, 1.59576912 * y * (1.0 + s), 1.59576912 * y * (1.0 + 3.0 * s));
    }
    case ACTIVATION_SILU: {
      let w = clamp(x, vec4<f32>(-200.0), vec4<f32>(200.0));
      return gated_by(x, w, w);
    }
    default: { return Activated(x, one); }
  }
}
