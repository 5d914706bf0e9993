// A token's place in the cache; from params.places on there is none.
fn slot_of(token: u32) -> u32 {
  if (params.flags & WIDE) == 0u { return slots[params.slots_offset + token]; }
  let at = 2u * (params.slots_offset + token);
  return select(slots[at], 0xffffffffu, slots[at + 1u] != 0u);
}
