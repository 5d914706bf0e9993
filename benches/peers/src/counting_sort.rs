//! Positions sorted by small keys: lampshade's stable radix sort of keys and values, by as many bits as the keys have. It takes and gives
//! pairs of key and value, which are made beforehand, and gives no offsets of runs.

use std::rc::Rc;

use lampshade::KeyValueSorter;
use loom::Gpu;
use tileloom::wgpu::{Buffer, BufferDescriptor, BufferUsages};

use crate::duel::{Duel, Inputs, Machine, Peer, Side, known};

pub fn duels() -> Vec<Duel> {
    [(4096, 64), (65_536, 1024), (1 << 20, 256), (1 << 20, 32_000)]
        .map(|(n, keys)| Duel::new(known("counting_sort", &format!("{n} by {keys}")), vec![peer(n, keys)]))
        .into()
}

/// Pairs of an input set: keys that are out of range follow all others, as in tileloom.
fn pairs(bytes: &[u8], keys: u32) -> Vec<u8> {
    let words = bytes.as_chunks::<4>().0.iter().map(|&word| u32::from_le_bytes(word).min(keys));
    words.zip(0u32..).flat_map(|(key, place)| [key.to_le_bytes(), place.to_le_bytes()].concat()).collect()
}

fn output(gpu: &Gpu, size: u64) -> Buffer {
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
    gpu.device.create_buffer(&BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
}

fn peer(n: u32, keys: u32) -> Peer {
    let prepare = move |machine: &Machine, inputs: &Rc<Inputs>| {
        let (gpu, inputs) = (machine.gpu.clone(), inputs.clone());
        let mut sorter = KeyValueSorter::new_for_adapter(&gpu.device, &gpu.queue, &gpu.device.adapter_info());
        let bits = u32::BITS - keys.leading_zeros();
        let sets = (0..inputs.sets()).map(|set| {
            let bytes = pairs(&inputs.bytes(set, "keys")?[..4 * n as usize], keys);
            Ok((gpu.buffer(&bytes), output(&gpu, bytes.len() as u64)))
        });
        let sets = Rc::new(sets.collect::<Result<Vec<(Buffer, Buffer)>, String>>()?);
        let (own, other) = (gpu.clone(), sets.clone());
        let run = move |range: std::ops::Range<usize>| {
            let mut encoder = own.device.create_command_encoder(&Default::default());
            for i in range {
                let (from, to) = &sets[i % sets.len()];
                let recorded = sorter.record_sort_with_key_bits(&mut encoder, from, to, n, bits);
                recorded.map_err(|error| error.to_string())?;
            }
            own.queue.submit([encoder.finish()]);
            own.wait()
        };
        let check = move || {
            let bytes = gpu.read(&other[0].1)?;
            let word = |pair: &[u8; 8], at: usize| f64::from(u32::from_le_bytes(std::array::from_fn(|i| pair[at + i])));
            let pairs = bytes.as_chunks::<8>().0;
            let order = pairs.iter().map(|pair| word(pair, 4)).collect();
            // It gives none: where the runs of its keys begin.
            let offsets = (0..=keys).map(|key| pairs.partition_point(|pair| word(pair, 0) < f64::from(key)) as f64);
            inputs.judge_all([("order", order), ("offsets", offsets.collect())].into(), 0.0)
        };
        Ok(Side { run: Box::new(run), check: Box::new(check), config: String::new() })
    };
    Peer { name: "lampshade", prepare: Box::new(prepare) }
}
