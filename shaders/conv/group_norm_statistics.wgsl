// The statistics of the sets of a chunk's elements: mean, what it has lost where it was rounded, and 1 / deviation.
struct Norm {
  mean: V,
  rest: V,
  rstd: V,
}
