fn dq_store(c: u32, v: V) {
  dq[2u * c] = v.x;
  if 2u * c + 1u < params.cols { dq[2u * c + 1u] = v.y; }
}
