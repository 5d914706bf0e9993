// One mask element as an additive bias: of the bits of minus infinity where it hides its score.
// `i` counts elements of the mask: f32, f16, bf16, bytes (0 hides) or bits (0 hides).
fn mask_bias(i: u32) -> f32 {
  switch MASK_KIND {
    case MASK_F32: { return bitcast<f32>(mask[i]); }
    case MASK_F16: {
      let half = (mask[i >> 1u] >> (16u * (i & 1u))) & 0xffffu;
      return select(unpack2x16float(half).x, params.neg_inf, half == 0xfc00u);
    }
    case MASK_BF16: { return bitcast<f32>((mask[i >> 1u] >> (16u * (i & 1u))) << 16u); }
    case MASK_BYTES: { return select(0.0, params.neg_inf, ((mask[i >> 2u] >> (8u * (i & 3u))) & 0xffu) == 0u); }
    default: { return select(0.0, params.neg_inf, ((mask[i >> 5u] >> (i & 31u)) & 1u) == 0u); }
  }
}
