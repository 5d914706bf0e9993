// Words of q, k and v as those of f16, which they are.
fn f16_words(w: vec4<u32>) -> vec4<u32> { return w; }
