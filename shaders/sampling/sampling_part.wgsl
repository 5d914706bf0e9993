// A workgroup has one of `parts` runs of a row's chunks.
struct Part {
  row: u32,
  part: u32,
  first: u32,  // chunk
  end: u32,
}

fn chunks_of_part(part: u32) -> vec2<u32> {
  let chunks = chunk_count(params.vocab, 0u);
  let first = min(part * params.part_chunks, chunks);
  return vec2<u32>(first, min(first + params.part_chunks, chunks));
}

fn part_of(w: u32) -> Part {
  let part = w % params.parts;
  let chunks = chunks_of_part(part);
  return Part(w / params.parts, part, chunks.x, chunks.y);
}
