//! What kernels take for granted of workgroup barriers: shapes that drivers have got wrong.

use loom::Gpu;

use crate::Suite;

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("barriers", cases);

const GROUPS: u32 = 16;

/// Each workgroup takes 64 words of `out`, and stores the sum of 1 to 64 in them. The first word counts what is taken.
const SOURCE: &str = "
@group(0) @binding(0) var<storage, read_write> out: array<atomic<u32>>;
var<workgroup> sums: array<u32, 64>;
var<workgroup> taken: u32;
@compute @workgroup_size(64)
fn barriers(@builtin(local_invocation_index) local: u32) {
  sums[local] = local + 1u;
  workgroupBarrier();
  for (var step = 32u; step > 0u; step >>= 1u) {
    if local < step { sums[local] += sums[local + step]; }
    workgroupBarrier();
  }
  if local == 63u { taken = atomicAdd(&out[0], 64u); }
  workgroupBarrier();
  if taken >= 0x10000u { return; }
  atomicAdd(&out[1u + taken + local], sums[0]);
}";

pub fn cases(suite: &mut Suite) {
    suite.case("what one invocation writes, all read", |gpu: &Gpu| {
        let count = 64 * GROUPS;
        let words = crate::subgroups::words(gpu, SOURCE.into(), GROUPS, 1 + count as usize)?;
        if words[0] != count {
            return Err(format!("{} words are taken, not {count}", words[0]));
        }
        match words[1..].iter().position(|&sum| sum != 2080) {
            None => Ok(()),
            Some(i) => Err(format!("the sum of 1 to 64 is {}, for invocation {} of 64", words[1 + i], i % 64)),
        }
    });
}
