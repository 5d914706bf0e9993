//! Keys and values of an accepted path on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use loom::harness::Call;
use tileloom::kv_append::{self, Cache};
use tileloom::kv_move::{self, Buffers, Problem};
use tileloom::{Dtype, ErrorKind};

use crate::{Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("kv_move", cases);

fn cases(suite: &mut Suite) {
    suite.case("a tree that is moved is a chain", chain);
    suite.case("errors", errors);
}

/// What kv_append writes of a tree and kv_move makes of it has, where the path lies, the bits of what it writes of the path alone.
fn chain(gpu: &Gpu) -> Result<(), String> {
    let (len, path) = (9, [1usize, 3, 4, 8]);
    let slots: Vec<f64> = [11, 3, 7, 14, 0, 9, 2, 5, 12].map(f64::from).to_vec();
    for cache in [Cache::Float(Dtype::F32), Cache::Int8, Cache::E4m3] {
        let append = kv_append::Problem {
            tokens: len,
            kv_heads: 2,
            head_dim: 12,
            value_dim: 12,
            pages: 4,
            page_size: 4,
            cache,
            ..Default::default()
        };
        let tree = Call::random(append.clone(), 1).with("slots", slots.clone());
        let tokens = |name: &str| -> Vec<f64> {
            path.iter().flat_map(|&node| tree.values[name][node * 24..][..24].to_vec()).collect()
        };
        let mut alone = tree.values.clone();
        alone.insert("k", tokens("k"));
        alone.insert("v", tokens("v"));
        alone.insert("slots", slots[..path.len()].to_vec());
        let alone = Call::new(kv_append::Problem { tokens: path.len(), ..append.clone() }, alone);
        let alone = alone.run(gpu, &gpu.kernels, None)?.values;

        let mut values = tree.run(gpu, &gpu.kernels, None)?.values;
        values.insert("slots", slots.clone());
        values.insert("path", path.map(|node| node as f64).into_iter().chain([-1.0]).collect());
        let (pages, page_size) = (append.pages, append.page_size);
        let sizes = Problem { kv_heads: 2, head_dim: 12, value_dim: 12, pages, page_size, cache, ..Problem::default() };
        let moved = Call::new(Problem { len, depth: path.len() + 1, ..sizes }, values);
        let (moved, _) = moved.check(gpu, &gpu.kernels, None)?;
        for (name, have) in &moved.values {
            let inner = have.len() / 16;
            let at = |place: usize| place * inner..(place + 1) * inner;
            for &slot in &slots[..path.len()] {
                let place = at(slot as usize);
                if have[place.clone()] != alone[name][place] {
                    return Err(format!("{cache:?}: {name} at slot {slot}"));
                }
            }
        }
    }
    Ok(())
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let words = |n: usize| gpu.buffer(&vec![0; 4 * n]);
    let [k, v, k_scale, v_scale, slots, path] = [32, 32, 4, 4, 6, 4].map(words);
    let good =
        Problem { batch: 2, len: 3, depth: 2, head_dim: 8, value_dim: 8, pages: 2, page_size: 2, ..Problem::default() };
    let buffers = Buffers::new(&k, &v, &slots, &path);
    let prepare = |problem: &Problem, buffers| kv_move::prepare(&gpu.kernels, problem, buffers).map(drop);
    prepare(&good, buffers).map_err(|error| error.to_string())?;
    let codes = Problem { cache: Cache::Int8, ..good };
    prepare(&codes, buffers.k_scale(&k_scale).v_scale(&v_scale)).map_err(|error| error.to_string())?;
    invalid("page_size", prepare(&Problem { page_size: 0, ..good }, buffers))?;
    invalid("pages", prepare(&Problem { pages: 1 << 30, ..good }, buffers))?;
    let overlapping = tileloom::Layout::strided(0, [16, 8, 4]);
    invalid("v_cache", prepare(&Problem { v_cache: overlapping, ..good }, buffers))?;
    refused("no scales", prepare(&codes, buffers), |error| {
        matches!(error.kind, ErrorKind::MissingBuffer { buffer: "k_scale" })
    })?;
    refused("scales of floats", prepare(&good, buffers.k_scale(&k_scale)), |error| {
        matches!(error.kind, ErrorKind::UnusedBuffer { buffer: "k_scale" })
    })?;
    refused("wide slots", prepare(&Problem { wide: true, ..good }, buffers), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "slots", need: 48, have: 24 })
    })?;
    refused("a long path", prepare(&Problem { depth: 3, ..good }, buffers), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "path", need: 24, have: 16 })
    })?;
    refused("one cache twice", prepare(&good, Buffers::new(&k, &k, &slots, &path)), |error| {
        matches!(error.kind, ErrorKind::Aliased { .. })
    })
}
