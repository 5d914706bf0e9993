// Units of BITS bits, in words that neighbours may share: each is changed by a pair of atomics.
const MASK: u32 = (1u << BITS) - 1u;

fn k_move(to: u32, source: u32) {
  let value = (atomicLoad(&k_cache[source / (32u / BITS)]) >> (source % (32u / BITS) * BITS)) & MASK;
  atomicAnd(&k_cache[to / (32u / BITS)], ~(MASK << (to % (32u / BITS) * BITS)));
  atomicOr(&k_cache[to / (32u / BITS)], value << (to % (32u / BITS) * BITS));
}

fn v_move(to: u32, source: u32) {
  let value = (atomicLoad(&v_cache[source / (32u / BITS)]) >> (source % (32u / BITS) * BITS)) & MASK;
  atomicAnd(&v_cache[to / (32u / BITS)], ~(MASK << (to % (32u / BITS) * BITS)));
  atomicOr(&v_cache[to / (32u / BITS)], value << (to % (32u / BITS) * BITS));
}
