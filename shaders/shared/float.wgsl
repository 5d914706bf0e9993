// Constants of f32.
const NEG_INF_BITS: u32 = 0xff800000u;
const LOG2_E: f32 = 1.4426950408889634;
// The lowest finite number. A maximum starts here: a real score cannot be lower, and an equal one gives the same maximum.
const LOWEST: f32 = -0x1.fffffep+127;
