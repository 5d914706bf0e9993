// The words of the residual.
fn residual_words(w: vec4<u32>) -> vec4<u32> { return vec4<u32>(residual[w.x], residual[w.y], residual[w.z], residual[w.w]); }
