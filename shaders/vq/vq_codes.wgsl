// Codes as they lie in memory: all invocations of a workgroup read the same one.
const TILE: u32 = 0x40000000u;

fn stage(codes: u32, tile: u32, end: u32, local: u32) {}

fn code_chunk(codes: u32, tile: u32, code: u32, j: u32) -> V {
  return codebook_chunk(codes + code * params.codebook.w, j, 0u, params.cols);
}
