// Codes in workgroup memory, TILE at a time, KEEP chunks each.
var<workgroup> staged: array<V, STAGED>;

fn stage(codes: u32, tile: u32, end: u32, local: u32) {
  workgroupBarrier();
  for (var i = local; i < STAGED; i += WG_SIZE) {
    staged[i] = codebook_chunk(codes + min(tile + i / KEEP, end - 1u) * params.codebook.w, i % KEEP, 0u, params.cols);
  }
  workgroupBarrier();
}

fn code_chunk(codes: u32, tile: u32, code: u32, j: u32) -> V { return staged[(code - tile) * KEEP + j]; }
