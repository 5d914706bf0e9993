//! Dispatches that run, on data that nobody should hand them: indices, lengths and bounds of any value, NaN, infinities.

use std::ops::Range;
use std::time::{Duration, Instant};

use tileloom::Dispatch;

use crate::dice::Dice;
use crate::gpu::Gpu;

/// What an argument may touch of a buffer of [`Gpu::own`].
#[derive(Debug, Clone)]
pub struct View {
    pub name: &'static str,
    pub buffer: usize,
    pub bytes: Range<u64>,
}

/// Fillings of the buffers that a dispatch runs on.
const ROUNDS: usize = 4;

/// Bytes before and after the views that are looked at, at most.
const AROUND: u64 = 4096;

/// No small call takes so long once it is compiled: a loop is bounded by data.
const LONG: Duration = Duration::from_secs(5);

/// What a call writes by slots.
const CACHES: [&str; 4] = ["k_cache", "v_cache", "k_scale", "v_scale"];

/// Runs it on several fillings, and twice on each, where the bytes outside of the views differ. Those must stay as they are,
/// and what is inside must not depend on them.
///
/// # Errors
/// What is wrong.
pub fn rounds(dice: &mut Dice, gpu: &Gpu, dispatch: &Dispatch, views: &[View]) -> Result<(), String> {
    let mut buffers: Vec<usize> = views.iter().map(|view| view.buffer).collect();
    buffers.sort_unstable();
    buffers.dedup();
    // Of each buffer: the words that are written, and which of them lie in a view.
    let parts: Vec<(usize, Range<usize>, Vec<bool>)> = buffers
        .into_iter()
        .map(|buffer| {
            let own = || views.iter().filter(|view| view.buffer == buffer);
            let start = own().map(|view| view.bytes.start).min().unwrap_or(0).saturating_sub(AROUND) / 4;
            let end = own().map(|view| view.bytes.end).max().unwrap_or(0).saturating_add(AROUND).min(gpu.room) / 4;
            let within = |word: u64| own().any(|view| view.bytes.contains(&(4 * word)));
            (buffer, start as usize..end as usize, (start..end).map(within).collect())
        })
        .collect();
    for _ in 0..ROUNDS {
        let inside: Vec<Vec<u32>> = parts.iter().map(|(_, words, _)| filling(dice, words.len())).collect();
        let mut given = Vec::with_capacity(2);
        let mut results = Vec::with_capacity(2);
        for turn in 0..2 {
            let mut before = inside.clone();
            for (words, (_, _, within)) in before.iter_mut().zip(&parts) {
                let around = filling(dice, words.len());
                let words = words.iter_mut().zip(around).zip(within);
                words.filter(|(_, within)| !**within).for_each(|((word, other), _)| *word = other);
            }
            let start = Instant::now();
            let after = run(gpu, dispatch, &parts, &before)?;
            // The first time, drivers compile.
            if turn > 0 && start.elapsed() > LONG {
                return Err(format!("it took {:.1} s", start.elapsed().as_secs_f64()));
            }
            for ((before, after), (buffer, words, within)) in before.iter().zip(&after).zip(&parts) {
                let changed = (0..within.len()).find(|&i| !within[i] && before[i] != after[i]);
                if let Some(i) = changed {
                    let (byte, near) = (4 * (words.start + i), nearest(views, *buffer, 4 * (words.start + i) as u64));
                    return Err(format!("byte {byte} of buffer {buffer} is outside of its views, and written: {near}"));
                }
            }
            results.push(after);
            given.push(before);
        }
        // Two tokens must not name one slot, nor two batches: which of them is written then is not said.
        let words_of = |view: &View| {
            let (own, (_, words, _)) =
                inside.iter().zip(&parts).find(|(_, part)| part.0 == view.buffer).expect("it has a part");
            let bytes = &view.bytes;
            own[bytes.start as usize / 4 - words.start..bytes.end as usize / 4 - words.start].to_vec()
        };
        let twice = |view: &View| {
            let mut words = words_of(view);
            words.sort_unstable();
            view.name == "path" || view.name == "slots" && words.windows(2).any(|two| two[0] == two[1])
        };
        let unsaid = views.iter().any(twice);
        for (index, (buffer, words, within)) in parts.iter().enumerate() {
            // What a dispatch leaves in its scratch is its own affair.
            let free = |name| name == "scratch" || unsaid && CACHES.contains(&name);
            if views.iter().any(|view| view.buffer == *buffer && free(view.name)) {
                continue;
            }
            let (a, b) = (&results[0][index], &results[1][index]);
            if let Some(i) = (0..within.len()).find(|&i| within[i] && a[i] != b[i]) {
                let (byte, near) = (4 * (words.start + i), nearest(views, *buffer, 4 * (words.start + i) as u64));
                // Where starts of packed sequences are wrong, two of them may have a row: which one writes last is not said. That differs
                // from run to run, while what depends on bytes does not.
                let sequences = views.iter().any(|view| view.name == "indices");
                for _ in 0..3 {
                    for (given, result) in given.iter().zip(&results) {
                        let again = run(gpu, dispatch, &parts, given)?;
                        match again[index][i] == result[index][i] {
                            true => {}
                            false if sequences => return Ok(()),
                            false => {
                                return Err(format!("byte {byte} of buffer {buffer} differs from run to run, {near}"));
                            }
                        }
                    }
                }
                return Err(format!(
                    "byte {byte} of buffer {buffer} depends on what is outside of the views: {:#x} and {:#x}, {near}",
                    a[i], b[i]
                ));
            }
        }
    }
    Ok(())
}

/// The views of a buffer, and where a byte is.
fn nearest(views: &[View], buffer: usize, byte: u64) -> String {
    let own = views.iter().filter(|view| view.buffer == buffer);
    let told = own.map(|View { name, bytes, .. }| match bytes.contains(&byte) {
        true => format!("{} bytes into `{name}` of {}", byte - bytes.start, bytes.end - bytes.start),
        false => format!("{} bytes from the start of `{name}` at {bytes:?}", byte as i64 - bytes.start as i64),
    });
    told.collect::<Vec<_>>().join("; ")
}

/// What the buffers hold after the dispatch.
fn run(
    gpu: &Gpu,
    dispatch: &Dispatch,
    parts: &[(usize, Range<usize>, Vec<bool>)],
    before: &[Vec<u32>],
) -> Result<Vec<Vec<u32>>, String> {
    let bytes = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    for ((buffer, words, _), before) in parts.iter().zip(before) {
        gpu.queue.write_buffer(&gpu.own[*buffer], 4 * words.start as u64, &bytes(before));
    }
    let size = parts.iter().map(|(_, words, _)| 4 * words.len() as u64).sum::<u64>().max(4);
    let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
    let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
    let copy = gpu.device.create_buffer(&descriptor);
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    dispatch.record(&mut encoder);
    let mut at = 0;
    for (buffer, words, _) in parts {
        let size = 4 * words.len() as u64;
        encoder.copy_buffer_to_buffer(&gpu.own[*buffer], 4 * words.start as u64, &copy, at, size);
        at += size;
    }
    gpu.queue.submit([encoder.finish()]);
    copy.map_async(wgpu::MapMode::Read, .., |_| ());
    gpu.device
        .poll(wgpu::PollType::wait_indefinitely())
        .map_err(|error| format!("the device does not finish: {error}"))?;
    if let Some(error) = gpu.heard() {
        return Err(format!("nothing caught: {error}"));
    }
    let view = copy.get_mapped_range(..).map_err(|error| format!("cannot be read: {error}"))?;
    let all: Vec<u32> = view.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let mut rest = &all[..];
    let after = parts.iter().map(|(_, words, _)| {
        let (own, others) = rest.split_at(words.len());
        rest = others;
        own.to_vec()
    });
    Ok(after.collect())
}

/// Words that are 0, at the ends of 32 and 16 bits and their signs, NaN and infinite in f32, or in both halves as f16.
const ODD: [u32; 16] = [
    0,
    1,
    u32::MAX,
    u32::MAX - 1,
    i32::MAX as u32,
    1 << 31,
    0xffff,
    0x1_0000,
    0x7fc0_0000,
    0x7f80_0000,
    0xff80_0000,
    0x7f7f_ffff,
    0x7e00_7e00,
    0x7c00_fc00,
    0x0100_0000,
    0xffff_ff00,
];

/// Numbers of one kind, or mostly of it.
fn filling(dice: &mut Dice, len: usize) -> Vec<u32> {
    let (kind, odd) = (dice.below(6), dice.of_these(&[0, 0, 64, 4]));
    let word = |dice: &mut Dice| match kind {
        _ if odd > 0 && dice.one_in(odd) => dice.of_these(&ODD),
        0 => (dice.below(4096) as f32 / 1024.0 - 2.0).to_bits(),
        1 => dice.below(8) as u32,
        2 => dice.below(100) as u32,
        // Halves in f16: 0.5 to 2, either sign.
        3 => [0, 16]
            .map(|shift| (0x3800 + dice.below(0x800) as u32 + 0x8000 * dice.below(2) as u32) << shift)
            .iter()
            .sum(),
        4 => dice.word() as u32,
        _ => dice.of_these(&ODD),
    };
    (0..len).map(|_| word(dice)).collect()
}
