// Keys and values of a cache from the slots of the nodes of a path to the first slots of their batch, in place.
//
// Bindings (group 0)
//   0 k_cache, 1 v_cache  [pages, kv_heads, page_size, ..] by strides, in units: four words, a word, or an element of BITS bits in atomic words
//   2 k_scale, 3 v_scale  bits of f32 [pages, page_size, kv_heads] (where CODES)
//   4 slots               u32 [batch, len] by a stride, or where params.wide 64 bits each, the lower word first
//   5 path                i32 [batch, depth]
//
// An invocation has a unit of a head of k or v of a batch, and makes all moves of it one after the other: so each sees what those before
// have written, and none needs another invocation.

// From params.places on there is none.
fn slot_of(row: u32, node: u32) -> u32 {
  let i = params.slots_offset + row * params.slots_step + node;
  if params.wide == 0u { return slots[i]; }
  return select(slots[2u * i], 0xffffffffu, slots[2u * i + 1u] != 0u);
}

// The first unit of a head at a slot.
fn unit_at(view: vec4<u32>, slot: u32, head: u32) -> u32 {
  return view.x + slot / params.page_size * view.y + head * view.z + slot % params.page_size * view.w;
}

@compute @workgroup_size(WG_SIZE)
fn kv_move(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let i = (wg.y * params.grid_x + wg.x) * WG_SIZE + local;
  if i >= params.items { return; }
  let units = params.k_units + params.v_units;
  let unit = i % units;
  let head = i / units % params.kv_heads;
  let row = i / units / params.kv_heads;
  for (var at = 0u; at < params.moves; at++) {
    let node = u32(path[params.path_offset + row * params.depth + at]);
    if node < params.len {
      let source = slot_of(row, node);
      let to = slot_of(row, at);
      if max(source, to) < params.places && source != to {
        if unit < params.k_units {
          k_move(unit_at(params.k_cache, to, head) + unit, unit_at(params.k_cache, source, head) + unit);
          if unit == 0u { k_scale_move(to * params.kv_heads + head, source * params.kv_heads + head); }
        } else {
          let v_unit = unit - params.k_units;
          v_move(unit_at(params.v_cache, to, head) + v_unit, unit_at(params.v_cache, source, head) + v_unit);
          if v_unit == 0u { v_scale_move(to * params.kv_heads + head, source * params.kv_heads + head); }
        }
      }
    }
  }
}
