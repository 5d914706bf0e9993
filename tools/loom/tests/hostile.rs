//! Case files that lie: each is refused by one line, at once, and costs no memory to speak of. No GPU is asked.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use loom::case::{Case, Tensor};
use loom::kernel::Use;
use loom::random::Random;
use loom::registry;
use safetensors::Dtype as Stored;
use tileloom::Dtype;

/// Knows the largest allocation of the process.
struct Watching;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Watching = Watching;

// SAFETY: forwards to the system's allocator; what it remembers is a number.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.fetch_max(size, Ordering::Relaxed);
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }
}

/// One file at a time is read, so that the largest allocation is its own.
static ALONE: Mutex<()> = Mutex::new(());

/// Reads a file as `loom run` does, and writes again what it understands. Gives what is wrong with it.
///
/// # Panics
/// Where the reader does, takes long, or takes much memory.
fn read(bytes: &[u8]) -> Result<(), String> {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    LARGEST.store(0, Ordering::Relaxed);
    let start = Instant::now();
    let read = || -> Result<(), String> {
        let case = Case::parse(bytes).map_err(|fault| fault.to_string())?;
        let replay = registry::replay(&case).map_err(|fault| fault.to_string())?;
        replay.case().to_bytes().map(drop).map_err(|fault| format!("written again: {fault}"))
    };
    let result = catch_unwind(AssertUnwindSafe(read));
    let (took, largest) = (start.elapsed(), LARGEST.load(Ordering::Relaxed));
    assert!(took < Duration::from_secs(30), "{took:?}"); // on a machine that does other things, too
    assert!(largest < 1 << 30, "{largest} bytes at a time");
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn values(shape: &[usize], values: &[f64]) -> Tensor {
    Tensor::values(Dtype::F32, shape, values)
}

fn integers(values: &[i32]) -> Tensor {
    let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor { dtype: Stored::I32, shape: vec![values.len()], data }
}

/// A header, and data of so many bytes.
fn file(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; data]].concat()
}

#[test]
fn axes_beside_a_zero() {
    let most = i32::MAX as usize;
    let empty = |shape: &[usize]| values(shape, &[]);
    let softmax = |shape: &[usize]| Case::new("softmax").tensor("x", empty(shape));
    let product = |a: &[usize], b: &[usize]| Case::new("gemm").tensor("a", empty(a)).tensor("b", empty(b));
    let attention = |shape: &[usize]| {
        ["q", "k", "v"].into_iter().fold(Case::new("attention"), |case, name| case.tensor(name, empty(shape)))
    };
    for (case, name) in [
        (softmax(&[most, 0]), "x"),
        (softmax(&[0, most]), "x"),
        (softmax(&[1025, 1024, 0]), "x"),
        (product(&[most, 0], &[0, 1]), "a"),
        (product(&[1, 0], &[0, most]), "b"),
        (Case::new("rope").tensor("x", empty(&[0, 1, 1, most - 1])), "x"),
        (attention(&[most, most, 0, 8]), "k"),
    ] {
        let fault = read(&case.to_bytes().unwrap()).unwrap_err();
        let meant = format!("tensor `{name}` has shape");
        assert!(fault.starts_with(&meant) && fault.ends_with("those of 0 left out, is at most 1048576"), "{fault}");
    }
    for case in [softmax(&[1024, 1024, 0]), product(&[8, 0], &[0, 8]), attention(&[2, 3, 0, 8])] {
        assert_eq!(read(&case.to_bytes().unwrap()), Ok(()));
    }
    // An output, and what a layout moves apart.
    let large = |case: &Case| read(&case.to_bytes().unwrap()).unwrap_err();
    assert!(large(&product(&[1 << 20, 0], &[0, 1 << 20])).starts_with("`d` would take 4398046511104 bytes"));
    let slopes = Case::new("attention_bias").tensor("alibi_slopes", values(&[1], &[0.5]));
    assert!(large(&slopes.option("seq_q", 1 << 20).option("seq_kv", 1 << 20)).starts_with("`bias` would take "));
    let apart = Case::new("softmax").tensor("x", values(&[2, 1], &[0.0; 2])).option("x_layout", "0:0,0,2000000000");
    assert!(large(&apart).starts_with("`x` would take 8000000004 bytes, a case may ask for 1073741824"));
}

#[test]
fn keys_that_sequences_use() {
    let keys = |used: &[i32]| {
        let case =
            Case::new("attention").tensor("q", values(&[1, 1, 1, 1], &[0.0])).tensor("seqused_k", integers(used));
        ["k", "v"].into_iter().fold(case, |case, name| case.tensor(name, values(&[1, 1, 2, 1], &[0.0; 2])))
    };
    let packed = |starts: &[i32], used: &[i32]| {
        let case = Case::new("attention").tensor("q", values(&[2, 1, 1], &[0.0; 2]));
        let case = case.tensor("cu_seqlens_q", integers(&[0, 1, 2])).tensor("cu_seqlens_k", integers(starts));
        let case = ["k", "v"].into_iter().fold(case, |case, name| case.tensor(name, values(&[4, 1, 1], &[0.0; 4])));
        case.tensor("seqused_k", integers(used))
    };
    let paged = |used: i32| {
        let table = Tensor::indices(&[1, 2], &[0, 1]);
        let case = Case::new("attention").tensor("q", values(&[1, 1, 1, 1], &[0.0])).tensor("block_table", table);
        let case = ["k", "v"].into_iter().fold(case, |case, name| case.tensor(name, values(&[2, 3, 1, 1], &[0.0; 6])));
        case.tensor("seqused_k", integers(&[used]))
    };
    for (case, meant) in [
        (keys(&[2]), None),
        (keys(&[-1]), Some("[1], expected 0 to 2 keys of sequence 0, not -1")),
        (keys(&[1000]), Some("[1], expected 0 to 2 keys of sequence 0, not 1000")),
        (packed(&[0, 2, 4], &[1, 1]), None),
        (packed(&[0, 1, 4], &[1, 3]), None),
        (packed(&[0, 1, 4], &[3, 3]), Some("[2], expected 0 to 1 keys of sequence 0, not 3")),
        (paged(6), None),
        (paged(7), Some("[1], expected 0 to 6 keys of sequence 0, not 7")),
        (paged(-1), Some("[1], expected 0 to 6 keys of sequence 0, not -1")),
    ] {
        let meant = meant.map_or(Ok(()), |reason| Err(format!("tensor `seqused_k` has shape {reason}")));
        assert_eq!(read(&case.to_bytes().unwrap()), meant);
    }
}

#[test]
fn doubled_keys() {
    let x = r#""x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    for (header, key) in [
        (format!(r#"{{"__metadata__":{{"op":"softmax","op":"gemm"}},{x}}}"#), "op"),
        (format!(r#"{{"__metadata__":{{"op":"softmax"}},{x},{x}}}"#), "x"),
        (format!(r#"{{"__metadata__":{{"op":"softmax"}},"__metadata__":{{"op":"softmax"}},{x}}}"#), "__metadata__"),
        (r#"{"x":{"dtype":"F32","shape":[2],"shape":[1],"data_offsets":[0,4]}}"#.into(), "shape"),
    ] {
        let fault = read(&file(&header, 4)).unwrap_err();
        assert!(fault.contains(&format!("`{key}`")), "{fault}");
    }
    let scaling = r#"{"rope_type": "linear", "factor": 2, "factor": 4}"#;
    let case = Case::new("rope").option("scaling", scaling).tensor("x", values(&[1, 1, 1, 2], &[0.0; 2]));
    let fault = read(&case.to_bytes().unwrap()).unwrap_err();
    assert!(fault.starts_with("option `scaling` is ") && fault.ends_with("expected `factor` once"), "{fault}");
}

/// Sizes of axes, as they might stand in a header by mistake or malice.
const AXES: [u64; 12] = [0, 1, 2, 3, 5, 8, 64, 1 << 20, (1 << 31) - 1, 1 << 32, i64::MAX as u64, u64::MAX];

/// What options might say.
const WORDS: &str = "arena|x y; q k v o||-1|0|1|2|3|64|1048577|2147483647|4294967296|9223372036854775807|\
    -9223372036854775808|18446744073709551615|1e38|-1e-40|nan|inf|\
    true|none|bf16|bshd|rows|0:0|1:8,4|3:2147483647,2147483647,2147483647|1,2|8,5,5|{\"rope_type\":\"linear\",\"factor\":1e300}|\
    {\"type\":\"yarn\",\"factor\":0,\"original_max_position_embeddings\":0}";

/// Files that are valid, of every kernel; and all options that they have, by op.
fn seeds() -> (Vec<Case>, BTreeMap<String, Vec<String>>) {
    let (mut cases, mut options) = (Vec::new(), BTreeMap::<String, Vec<String>>::new());
    for kernel in registry::all() {
        let mut names = Vec::new();
        for run in kernel.list().iter().filter(|run| matches!(run.what(), Use::Test(_))) {
            // One of a name and op, and nothing large.
            let key = (run.name().to_string(), run.problem().len() % 4);
            if names.contains(&key) || run.cost().bytes > 20_000.0 {
                continue;
            }
            names.push(key);
            let case = run.case();
            assert_eq!(read(&case.to_bytes().unwrap()), Ok(()), "{}: {}", kernel.name(), run.problem());
            let known = options.entry(case.metadata["op"].clone()).or_default();
            known.extend(case.metadata.keys().filter(|name| *name != "op").cloned());
            known.extend(["layout", "out_dtype", "memory", "config", "tolerance"].map(String::from));
            known.sort();
            known.dedup();
            cases.push(case);
        }
    }
    // Convolutions of one dimension are written as those of two.
    for (one, two, weight, dy) in [
        ("conv1d", "conv2d", [4, 5, 3], None),
        ("conv1d_backward", "conv2d_backward", [4, 5, 3], Some([2, 4, 1])),
        ("conv_transpose1d", "conv_transpose2d", [5, 4, 3], None),
    ] {
        let case = Case::new(one).tensor("x", values(&[2, 5, 3], &[0.5; 30]));
        let mut case = case.tensor("weight", values(&weight, &[0.5; 60]));
        if let Some(shape) = dy {
            case = case.tensor("dy", values(&shape, &[0.5; 8]));
        }
        assert_eq!(read(&case.to_bytes().unwrap()), Ok(()));
        cases.push(case);
        options.insert(one.into(), options[two].clone());
    }
    let all: Vec<_> = registry::all().iter().flat_map(|kernel| kernel.ops()).copied().collect();
    assert!(all.iter().all(|op| options.contains_key(*op)), "{all:?} are not all of {:?}", options.keys());
    (cases, options)
}

/// A file like `case`, which is wrong in one place or several.
fn mutated(case: &Case, options: &BTreeMap<String, Vec<String>>, random: &mut Random) -> Vec<u8> {
    let mut case = case.clone();
    for _ in 0..=random.below(2) {
        let names: Vec<_> = case.tensors.keys().cloned().collect();
        let name = names.get(random.below(names.len())).cloned().unwrap_or_default();
        let other = names.get(random.below(names.len())).and_then(|name| case.tensors.get(name)).cloned();
        let known = &options[&case.metadata["op"]];
        let Some(tensor) = case.tensors.get_mut(&name) else { continue };
        match random.below(8) {
            // Other axes, with as many elements as they ask for, where that is little.
            0..3 => {
                for _ in 0..=random.below(2) {
                    let (size, axes) = (AXES[random.below(AXES.len())] as usize, tensor.shape.len());
                    match random.below(6) {
                        0 => tensor.shape.push(size),
                        1 => drop(tensor.shape.pop()),
                        _ if axes > 0 => tensor.shape[random.below(axes)] = size,
                        _ => {}
                    }
                }
                let elements = tensor.shape.iter().fold(1usize, |all, &size| all.saturating_mul(size));
                if elements <= 1 << 12 {
                    tensor.data = (0..elements * tensor.dtype.bitsize() / 8).map(|i| (i * 5 % 61) as u8).collect();
                }
            }
            3 => drop(case.tensors.remove(&name)),
            4 => *tensor = other.unwrap_or_else(|| values(&[1], &[1.0])),
            // Words of any value, among them indices and starts.
            5 => {
                let word = [0, 1, 2, u32::MAX, i32::MAX as u32, 0x7fc0_0000, random.word() as u32][random.below(7)];
                let at = random.below(tensor.data.len().max(4) - 3) / 4 * 4;
                if let Some(bytes) = tensor.data.get_mut(at..at + 4) {
                    bytes.copy_from_slice(&word.to_le_bytes());
                }
            }
            _ => {
                let option = known.get(random.below(known.len())).cloned().unwrap_or_default();
                let words: Vec<_> = WORDS.split('|').collect();
                case.metadata.insert(option, words[random.below(words.len())].into());
            }
        }
    }
    let Ok(mut bytes) = case.to_bytes() else {
        // Sizes that do not fit the data: as a header says them.
        let tensors: Vec<_> = case.tensors.iter().map(|(name, tensor)| (name, tensor.dtype, &tensor.shape)).collect();
        let entry = |(name, dtype, shape): &(&String, Stored, &Vec<usize>)| {
            format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[0,0]}}"#)
        };
        let header = tensors.iter().map(entry).collect::<Vec<_>>().join(",");
        return file(&format!(r#"{{"__metadata__":{{"op":"{}"}},{header}}}"#, case.metadata["op"]), 0);
    };
    match random.below(6) {
        0 => bytes.truncate(random.below(bytes.len())),
        1 => {
            for _ in 0..=random.below(3) {
                let at = random.below(bytes.len());
                bytes[at] ^= 1 << random.below(8);
            }
        }
        // A digit of the header.
        2 => {
            let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let digits: Vec<_> = (8..8 + header).filter(|&at| bytes[at].is_ascii_digit()).collect();
            if let Some(&at) = digits.get(random.below(digits.len())) {
                bytes[at] = b'0' + random.below(10) as u8;
            }
        }
        _ => {}
    }
    bytes
}

/// Wrong files. `TILELOOM_SEED` begins at another one, and `TILELOOM_CASES` takes so many.
#[test]
fn fuzz() {
    let of = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (first, count) = (of("TILELOOM_SEED", 1u64), of("TILELOOM_CASES", 30_000u64));
    let (cases, options) = seeds();
    let (mut understood, mut refused) = (0, 0);
    for seed in first..first + count {
        let mut random = Random::new(seed);
        let case = &cases[random.below(cases.len())];
        let bytes = mutated(case, &options, &mut random);
        match catch_unwind(|| read(&bytes)) {
            Ok(Ok(())) => understood += 1,
            Ok(Err(fault)) => {
                assert!(!fault.is_empty() && !fault.contains('\n'), "TILELOOM_SEED={seed}: {fault}");
                refused += 1;
            }
            Err(_) => panic!("TILELOOM_SEED={seed}, a case of {}", case.metadata["op"]),
        }
    }
    println!("{} seeds, {understood} understood, {refused} refused", cases.len());
    // Neither all nor nothing: the files are near to valid ones.
    assert!(count < 100 || understood > count / 10 && refused > count / 10, "{understood} and {refused}");
}
