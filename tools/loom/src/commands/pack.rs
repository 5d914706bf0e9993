//! Packs the weights of a GGUF file, and tells how large they are and how long it takes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use tileloom::weights::{Data, Format, Source};

use crate::gguf;
use crate::table::table;

/// Tensors of one type, or one of them.
#[derive(Default)]
struct Sum {
    count: usize,
    bytes: u64,
    packed: u64,
    time: Duration,
}

impl Sum {
    fn add(&mut self, other: &Sum) {
        self.count += other.count;
        self.bytes += other.bytes;
        self.packed += other.packed;
        self.time += other.time;
    }

    /// MB in the file, MB packed, their share, ms, GB/s.
    fn cells(&self) -> Vec<String> {
        let mb = |bytes: u64| format!("{:.2}", bytes as f64 / 1e6);
        let seconds = self.time.as_secs_f64();
        vec![
            mb(self.bytes),
            mb(self.packed),
            format!("{:.3}", self.packed as f64 / self.bytes.max(1) as f64),
            format!("{:.2}", seconds * 1e3),
            format!("{:.2}", self.bytes as f64 / seconds.max(1e-9) / 1e9),
        ]
    }
}

/// The tables.
///
/// # Errors
/// What is wrong with the file, or cannot be packed.
pub fn render(path: &Path, each: bool) -> Result<String, String> {
    let told = |reason: String| format!("{}: {reason}", path.display());
    let start = Instant::now();
    let file = std::fs::read(path).map_err(|error| told(error.to_string()))?;
    let read = start.elapsed();
    let (mut types, mut rows, mut all) = (BTreeMap::<String, Sum>::new(), Vec::new(), Sum::default());
    let mut left = BTreeMap::<String, (usize, u64)>::new();
    for gguf::Tensor { name, kind, n, k, bytes } in gguf::tensors(&file).map_err(told)? {
        let Some(format) = Format::ggml(&kind) else {
            let (count, size) = left.entry(kind).or_default();
            (*count, *size) = (*count + 1, *size + bytes.len() as u64);
            continue;
        };
        let start = Instant::now();
        let packed = format.pack(&name, n, k, Source::Ggml(Data::Bytes(&file[bytes.clone()])));
        let packed = packed.map_err(|error| told(error.to_string()))?;
        let time = start.elapsed();
        let one = Sum { count: 1, bytes: bytes.len() as u64, packed: packed.bytes(), time };
        if each {
            rows.push([vec![name, kind.clone(), n.to_string(), k.to_string()], one.cells()].concat());
        }
        types.entry(kind).or_default().add(&one);
        all.add(&one);
    }
    let mut text = format!(
        "{}: {:.2} MB, read in {:.0} ms\n\n",
        path.display(),
        file.len() as f64 / 1e6,
        read.as_secs_f64() * 1e3
    );
    let numbers = [">MB in the file", ">MB packed", ">packed / file", ">ms", ">GB/s"];
    if each {
        text += &table(&[&["tensor", "type", ">n", ">k"][..], &numbers].concat(), rows);
        text += "\n";
    }
    let cells = |(kind, sum): (String, &Sum)| [vec![kind, sum.count.to_string()], sum.cells()].concat();
    let types = types.iter().map(|(kind, sum)| (kind.clone(), sum)).chain([("all".into(), &all)]);
    text += &table(&[&["type", ">tensors"][..], &numbers].concat(), types.map(cells));
    for (kind, (count, bytes)) in left {
        text += &format!("\n{count} tensors of {kind}, {:.2} MB, are not packed weights\n", bytes as f64 / 1e6);
    }
    Ok(text)
}
