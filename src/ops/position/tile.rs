//! What rope and position encodings have in common: the Config, counted positions, parts of their shaders.

use crate::ops::prelude::*;

config! {
    /// How it is computed.
    pub struct Config {
        /// Invocations per workgroup.
        pub wg_size: u32,
        /// Vectors at one position that an invocation takes: rope's heads, a position encoding's batches. What a position
        /// costs is computed once for them.
        pub share: u32,
        /// f16 tensors are held natively, not packed in u32; needs `SHADER_F16`.
        pub native_f16: bool,
    }
}

/// The tile of one class of adapters.
struct Row {
    adapters: Adapters,
    wg_size: u32,
    /// At most.
    share: u32,
    /// Invocations to reach by sharing less.
    fill: u64,
}

/// Measured on: Software, rope on Mesa 26.2 lavapipe, 2 cores: `[4, 32, 512, 128]` takes 19.1, 16.2, 13.6, 14.9 ms in f32
/// with a share of 4, 8, 16, 32, and 14.3, 13.4, 10.7, 15.6 in f16; the workgroup size hardly counts. GPUs are not
/// measured. By the compilers, rope computes an angle by 340 instructions and turns a chunk of a vector by 84 on RADV (navi31;
/// NVK, Ada: 360, 341; nothing spills, and all waves fit): with a share of four 169 per vector, of eight 127, as long as the GPU is full.
const TABLE: [Row; 3] = [
    Row { adapters: Class::Software.any(), wg_size: 64, share: 16, fill: 256 },
    Row { adapters: Class::Integrated.any(), wg_size: 128, share: 4, fill: 1 << 14 },
    Row { adapters: Class::Discrete.any(), wg_size: 256, share: 4, fill: 1 << 17 },
];

/// Every Config of the table, the best first, of a Problem that has an f16 tensor or not.
pub(super) fn candidates(caps: &Caps, has_f16: bool, invocations: impl Fn(&Config) -> u64) -> Vec<Config> {
    let &Row { wg_size, share, fill, .. } = caps.row(&TABLE, |row| row.adapters);
    let (wg_size, native_f16) = (wg_size.min(caps.most_invocations()), caps.prefers_native_f16(has_f16));
    let mut best = Config { wg_size, share, native_f16 };
    while best.share > 1 && invocations(&best) < fill {
        best.share /= 2;
    }
    vec![best, Config { share: 1, ..best }]
}

impl Config {
    /// The first thing that does not fit this device.
    pub(super) fn check(&self, caps: &Caps, has_f16: bool, invocations: impl Fn(&Config) -> u64) -> Result<(), Misfit> {
        caps.check_wg_size(self.wg_size)?;
        caps.check_native_f16(self.native_f16, has_f16)?;
        Misfit::unless(self.share > 0, "share must be at least 1", self.share)?;
        // Of q and of k.
        caps.check_rounds(Rounds::plain(self.share).times(2))?;
        // Their numbers are u32, with those past the end of the grid, which are less than 2^16 workgroups.
        let room = u64::from(u32::MAX).saturating_sub(u64::from(self.wg_size) << 16);
        Misfit::at_most("invocations", invocations(self), room)
    }
}

/// Refuses counts of positions, each from its first one on, that do not fit in 32 bits, with a sign if any is negative.
pub(super) fn check_counted(counts: &[(i64, usize)]) -> Checked {
    let signed = counts.iter().any(|&(first, _)| first < 0);
    let most = if signed { i64::from(i32::MAX) } else { i64::from(u32::MAX) };
    for &(first, count) in counts {
        let last = first.saturating_add(count.max(1) as i64 - 1);
        if first < i64::from(i32::MIN) || last > most {
            return Err(ErrorKind::invalid("positions", format!("{first} to {last} do not fit in 32 bits")));
        }
    }
    Ok(())
}

/// An input and its output, or in place the output alone.
pub(super) fn in_out(
    shader: Shader,
    (binding, input, held): (u32, &'static str, Storage),
    (to, output, stored): (u32, &'static str, Storage),
    edge: bool,
    in_place: bool,
) -> Shader {
    match in_place {
        true => shader.output(to, output, stored, edge).in_place(input, output, stored, edge),
        false => shader.input(binding, input, held).output(to, output, stored, edge),
    }
}
