//! Case files: one kernel call as a safetensors file, its inputs as tensors, its options as metadata.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype as Stored, SafeTensors};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use tileloom::{Dtype, Layout};

use crate::image::Number;

/// What is wrong with a case file: names the tensor or the option, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("cannot be read: {0}")]
    Io(String),
    #[error("is not a safetensors file: {0}")]
    Format(String),
    #[error("`{0}` stands twice in the header")]
    Duplicate(String),
    #[error("metadata `op` is missing, expected one of: {}", known.join(", "))]
    NoOp { known: Vec<&'static str> },
    #[error("op `{op}` is not known, expected one of: {}", known.join(", "))]
    UnknownOp { op: String, known: Vec<&'static str> },
    #[error("option `{name}` is not known, expected one of: {}", known.join(", "))]
    UnknownOption { name: String, known: Vec<&'static str> },
    #[error("option `{name}` is {value:?}, expected {expected}")]
    BadOption { name: &'static str, value: String, expected: String },
    #[error("tensor `{name}` is missing, expected {expected}")]
    MissingTensor { name: &'static str, expected: &'static str },
    #[error("tensor `{name}` is not used by this op, expected only: {}", known.join(", "))]
    UnusedTensor { name: String, known: Vec<String> },
    #[error("tensor `{name}` has dtype {have}, expected {expected}")]
    BadDtype { name: String, have: String, expected: &'static str },
    #[error("tensor `{name}` has shape {have:?}, expected {expected}")]
    BadShape { name: String, have: Vec<usize>, expected: String },
    #[error("`{name}` has {have} values, by the options it has {need}")]
    BadCount { name: &'static str, have: usize, need: usize },
    #[error("`{name}` would take {need} bytes, a case may ask for {most}")]
    TooLarge { name: &'static str, need: u64, most: u64 },
    #[error("{0}")]
    Weights(String),
    #[error("there is no tensor `expected.*` to check against, expected one of: {}", known.join(", "))]
    NothingExpected { known: Vec<String> },
}

pub const VALUES: &str = "F32, F16 or BF16";
pub const INDICES: &str = "I32, U32, I64 or U16";
pub const VALUES_OR_BOOLEANS: &str = "F32, F16, BF16, BOOL or U8";

/// A tensor as stored: contiguous, little-endian.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub dtype: Stored,
    pub shape: Vec<usize>,
    pub data: Vec<u8>,
}

fn stored(dtype: Dtype) -> Stored {
    match dtype {
        Dtype::F32 => Stored::F32,
        Dtype::F16 => Stored::F16,
        Dtype::Bf16 => Stored::BF16,
    }
}

impl Tensor {
    /// `values`, rounded to `dtype`.
    ///
    /// # Panics
    /// If the shape does not hold as many.
    pub fn values(dtype: Dtype, shape: &[usize], values: &[f64]) -> Tensor {
        let mut data = dtype.encode(values);
        data.truncate(values.len() * dtype.bytes() as usize); // `encode` pads to words
        Self::of(stored(dtype), shape, values.len(), data)
    }

    /// A boolean mask.
    ///
    /// # Panics
    /// If the shape does not hold as many.
    pub fn bools(shape: &[usize], values: &[bool]) -> Tensor {
        Self::of(Stored::BOOL, shape, values.len(), values.iter().map(|&v| u8::from(v)).collect())
    }

    /// Indices.
    ///
    /// # Panics
    /// If the shape does not hold as many.
    pub fn indices(shape: &[usize], values: &[u32]) -> Tensor {
        Self::of(Stored::U32, shape, values.len(), values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// `values` as they are stored; single bits as booleans.
    ///
    /// # Panics
    /// If the shape does not hold as many.
    pub fn numbers_of(number: Number, shape: &[usize], values: &[f64]) -> Tensor {
        let dtype = match number {
            Number::F(dtype) => stored(dtype),
            Number::U32 => Stored::U32,
            Number::I32 => Stored::I32,
            Number::U16 => Stored::U16,
            Number::U8 => Stored::U8,
            Number::I8 => Stored::I8,
            Number::I64 => Stored::I64,
            Number::Bit => Stored::BOOL,
        };
        let number = if number == Number::Bit { Number::U8 } else { number };
        Self::of(dtype, shape, values.len(), number.encode(values))
    }

    fn of(dtype: Stored, shape: &[usize], have: usize, data: Vec<u8>) -> Tensor {
        assert_eq!(shape.iter().product::<usize>(), have, "shape {shape:?}");
        Tensor { dtype, shape: shape.to_vec(), data }
    }

    /// The dtype, where it is one of values.
    pub fn float(&self) -> Option<Dtype> {
        Dtype::ALL.into_iter().find(|&dtype| stored(dtype) == self.dtype)
    }

    pub fn is_boolean(&self) -> bool {
        matches!(self.dtype, Stored::BOOL | Stored::U8)
    }

    /// The elements as numbers, for every dtype that a case may have; a boolean is its byte, of which 0 is false.
    pub fn numbers(&self) -> Option<Vec<f64>> {
        if let Some(dtype) = self.float() {
            return Some(dtype.decode(&self.data));
        }
        if self.is_boolean() {
            return Some(self.data.iter().map(|&b| f64::from(b)).collect());
        }
        self.integers().map(|values| values.into_iter().map(|v| v as f64).collect())
    }

    /// The elements of an index tensor.
    pub fn integers(&self) -> Option<Vec<i64>> {
        fn words<const N: usize>(data: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
            data.as_chunks::<N>().0.iter().copied()
        }
        match self.dtype {
            Stored::I32 => Some(words(&self.data).map(|b| i32::from_le_bytes(b) as i64).collect()),
            Stored::U32 => Some(words(&self.data).map(|b| u32::from_le_bytes(b) as i64).collect()),
            Stored::I64 => Some(words(&self.data).map(i64::from_le_bytes).collect()),
            Stored::U16 => Some(words(&self.data).map(|b| u16::from_le_bytes(b) as i64).collect()),
            Stored::I8 => Some(self.data.iter().map(|&b| i64::from(b as i8)).collect()),
            _ => None,
        }
    }
}

/// The place of element `at` in a tensor of this shape.
pub fn place(shape: &[usize], mut at: usize) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (i, &size) in index.iter_mut().zip(shape).rev() {
        *i = at % size.max(1);
        at /= size.max(1);
    }
    index
}

/// `values` of shape `from`, broadcast to shape `to`.
pub fn expand(from: &[usize], values: &[f64], to: &[usize]) -> Vec<f64> {
    let at = |i: usize| {
        let index = place(to, i);
        let own = &index[to.len() - from.len()..];
        own.iter().zip(from).fold(0, |at, (&i, &size)| at * size + if size == 1 { 0 } else { i })
    };
    (0..to.iter().product()).map(|i| values[at(i)]).collect()
}

/// The most that the other axes of a tensor with an axis of 0 may multiply to: a file that holds nothing must not cost what
/// one of that many elements does.
const MOST_BESIDE_ZERO: u64 = 1 << 20;

/// Whether a tensor that has no elements has axes that may be gone through.
fn affordable(shape: &[usize]) -> bool {
    let others = shape.iter().filter(|&&size| size > 0);
    !shape.contains(&0) || others.fold(1u64, |all, &size| all.saturating_mul(size as u64)) <= MOST_BESIDE_ZERO
}

/// One kernel call: all of a case file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Case {
    /// `op` and the options.
    pub metadata: BTreeMap<String, String>,
    pub tensors: BTreeMap<String, Tensor>,
}

impl Case {
    pub fn new(op: &str) -> Case {
        Case::default().option("op", op)
    }

    pub fn option(mut self, name: &str, value: impl fmt::Display) -> Case {
        self.metadata.insert(name.into(), value.to_string());
        self
    }

    pub fn tensor(mut self, name: &str, tensor: Tensor) -> Case {
        self.tensors.insert(name.into(), tensor);
        self
    }

    /// Reads a case file.
    ///
    /// # Errors
    /// [`Fault::Io`], and as [`parse`](Self::parse).
    pub fn read(path: &Path) -> Result<Case, Fault> {
        Case::parse(&std::fs::read(path).map_err(|error| Fault::Io(error.to_string()))?)
    }

    /// The case that `bytes` hold.
    ///
    /// # Errors
    /// [`Fault::Format`] and [`Fault::Duplicate`].
    pub fn parse(bytes: &[u8]) -> Result<Case, Fault> {
        let format = |error: &dyn fmt::Display| Fault::Format(error.to_string());
        let (header, info) = SafeTensors::read_metadata(bytes).map_err(|error| format(&error))?;
        if let Some(key) = doubled_key(&bytes[8..8 + header]).map_err(|error| format(&error))? {
            return Err(Fault::Duplicate(key));
        }
        let file = SafeTensors::deserialize(bytes).map_err(|error| format(&error))?;
        let lies = file.iter().filter(|(_, tensor)| !affordable(tensor.shape()));
        if let Some((name, tensor)) = lies.min_by_key(|(name, _)| *name) {
            let (name, have) = (name.to_string(), tensor.shape().to_vec());
            let expected = format!("axes whose product, those of 0 left out, is at most {MOST_BESIDE_ZERO}");
            return Err(Fault::BadShape { name, have, expected });
        }
        let tensors = file
            .iter()
            .map(|(name, view)| {
                let tensor = Tensor { dtype: view.dtype(), shape: view.shape().to_vec(), data: view.data().to_vec() };
                (name.to_string(), tensor)
            })
            .collect();
        let metadata = info.metadata().clone().unwrap_or_default().into_iter().collect();
        Ok(Case { metadata, tensors })
    }

    /// The bytes of a case file.
    ///
    /// # Errors
    /// Those of the format, such as a header that is too large, and axes that no number of bytes fits.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Fault> {
        let format = |error: &dyn fmt::Display| Fault::Format(error.to_string());
        let elements = |shape: &[usize]| shape.iter().try_fold(1usize, |all, &size| all.checked_mul(size));
        let countable = |shape: &[usize]| elements(shape).and_then(|all| all.checked_mul(64)).is_some();
        if let Some((name, tensor)) = self.tensors.iter().find(|(_, tensor)| !countable(&tensor.shape)) {
            return Err(bad_shape(name, tensor, "axes whose product can be told"));
        }
        let views: Result<Vec<_>, _> = self
            .tensors
            .iter()
            .map(|(name, t)| TensorView::new(t.dtype, t.shape.clone(), &t.data).map(|view| (name.as_str(), view)))
            .collect();
        let metadata: HashMap<String, String> = self.metadata.clone().into_iter().collect();
        // An empty map without tensors would come out as a broken header.
        let metadata = (!metadata.is_empty()).then_some(metadata);
        safetensors::serialize(views.map_err(|error| format(&error))?, metadata).map_err(|error| format(&error))
    }

    /// Writes a case file: beside `path` first, then moved into place, so that half a file never stands there.
    ///
    /// # Errors
    /// [`Fault::Io`], and as [`to_bytes`](Self::to_bytes).
    pub fn write(&self, path: &Path) -> Result<(), Fault> {
        let bytes = self.to_bytes()?;
        let io = |error: std::io::Error| Fault::Io(error.to_string());
        // A pipe or a device must not be replaced by a file.
        if path.metadata().is_ok_and(|there| !there.is_file()) {
            return std::fs::write(path, bytes).map_err(io);
        }
        let mut part = path.as_os_str().to_owned();
        part.push(format!(".part{}", std::process::id()));
        let moved = std::fs::write(&part, bytes).and_then(|()| std::fs::rename(&part, path));
        moved.map_err(|error| {
            let _ = std::fs::remove_file(&part);
            io(error)
        })
    }
}

/// The first key that an object of this JSON has twice, however deep it lies: parsers keep one of the two and say nothing.
///
/// # Errors
/// What is no JSON.
pub fn doubled_key(json: &[u8]) -> Result<Option<String>, serde_json::Error> {
    serde_json::from_slice::<Doubled>(json).map(|doubled| doubled.0)
}

struct Doubled(Option<String>);

impl<'de> Deserialize<'de> for Doubled {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyJson)
    }
}

struct AnyJson;

macro_rules! without_keys {
    ($($visit:ident($($value:ty)?),)*) => {$(
        fn $visit<E>(self $(, _: $value)?) -> Result<Doubled, E> {
            Ok(Doubled(None))
        }
    )*};
}

impl<'de> Visitor<'de> for AnyJson {
    type Value = Doubled;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("JSON")
    }

    without_keys! { visit_unit(), visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str), }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Doubled, A::Error> {
        let mut doubled = None;
        while let Some(value) = seq.next_element::<Doubled>()? {
            doubled = doubled.or(value.0);
        }
        Ok(Doubled(doubled))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Doubled, A::Error> {
        let (mut seen, mut doubled) = (HashSet::new(), None);
        while let Some(key) = map.next_key::<String>()? {
            doubled = doubled.or(map.next_value::<Doubled>()?.0);
            if !seen.insert(key.clone()) {
                doubled = doubled.or(Some(key));
            }
        }
        Ok(Doubled(doubled))
    }
}

/// A type of option values.
pub trait OptionValue: Sized {
    const EXPECTED: &'static str;
    fn parse(text: &str) -> Option<Self>;
    fn text(&self) -> String;
}

/// Types that read what they print.
macro_rules! option_values {
    ($($ty:ty: $expected:literal, $ok:expr;)*) => {$(
        impl OptionValue for $ty {
            const EXPECTED: &'static str = $expected;
            fn parse(text: &str) -> Option<$ty> {
                text.parse().ok().filter($ok)
            }
            fn text(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

option_values! {
    bool: "true or false", |_| true;
    f32: "a finite decimal number", |v: &Self| v.is_finite();
    f64: "a finite decimal number", |v: &Self| v.is_finite();
    i64: "an integer", |_| true;
    u32: "a number from 0 to 4294967295", |_| true;
    u64: "a number from 0 to 18446744073709551615", |_| true;
    usize: "a number from 0 to 2147483647", |&v: &Self| i32::try_from(v).is_ok();
    Dtype: "f32, f16 or bf16", |_| true;
    String: "text", |_| true;
}

impl<const N: usize> OptionValue for [usize; N] {
    const EXPECTED: &'static str = "numbers with commas between";
    fn parse(text: &str) -> Option<[usize; N]> {
        let numbers: Option<Vec<usize>> = text.split(',').map(|n| OptionValue::parse(n.trim())).collect();
        numbers?.try_into().ok()
    }
    fn text(&self) -> String {
        self.map(|n| n.to_string()).join(",")
    }
}

impl<T: OptionValue> OptionValue for Vec<T> {
    const EXPECTED: &'static str = "a list with commas between";
    fn parse(text: &str) -> Option<Vec<T>> {
        let words = text.split(',').filter(|_| !text.is_empty());
        words.map(|word| T::parse(word.trim())).collect()
    }
    fn text(&self) -> String {
        self.iter().map(T::text).collect::<Vec<_>>().join(",")
    }
}

impl<const N: usize> OptionValue for Layout<N> {
    const EXPECTED: &'static str = "an offset, as in 3, or an offset and strides, as in 3:40,8";
    fn parse(text: &str) -> Option<Layout<N>> {
        let (offset, strides) = text.split_once(':').map_or((text, None), |(offset, rest)| (offset, Some(rest)));
        let strides = match strides {
            None => None,
            Some(text) => Some(OptionValue::parse(text)?),
        };
        Some(Layout { offset: OptionValue::parse(offset)?, strides })
    }
    fn text(&self) -> String {
        let strides = self.strides.map(|strides| format!(":{}", strides.text()));
        format!("{}{}", self.offset, strides.unwrap_or_default())
    }
}

impl<T: OptionValue> OptionValue for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    fn parse(text: &str) -> Option<Option<T>> {
        if text == "none" { Some(None) } else { T::parse(text).map(Some) }
    }
    fn text(&self) -> String {
        self.as_ref().map_or("none".into(), T::text)
    }
}

/// The options of a case, of which a description tells once how they are read and written.
pub enum Options<'a, 'c> {
    Read(&'a mut Reader<'c>),
    Write(&'a mut Case),
}

impl Options<'_, '_> {
    /// Whether a case of this op is read.
    pub fn op_is(&self, op: &str) -> bool {
        matches!(self, Options::Read(reader) if reader.op() == op)
    }

    /// An option; without it `value` stays.
    ///
    /// # Errors
    /// [`Fault::BadOption`].
    pub fn value<T: OptionValue + Clone>(&mut self, name: &'static str, value: &mut T) -> Result<(), Fault> {
        match self {
            Options::Read(reader) => *value = reader.option(name, value.clone())?,
            Options::Write(case) => drop(case.metadata.insert(name.into(), value.text())),
        }
        Ok(())
    }

    /// One of a few words; without it `value` stays.
    ///
    /// # Errors
    /// [`Fault::BadOption`].
    pub fn word<T: Copy + PartialEq>(
        &mut self,
        name: &'static str,
        value: &mut T,
        words: &[(&'static str, T)],
    ) -> Result<(), Fault> {
        match self {
            Options::Read(reader) => {
                if let Some(word) = reader.optional_word(name, words.iter().map(|(word, _)| *word))? {
                    *value = words[word].1;
                }
            }
            Options::Write(case) => {
                let (word, _) = words.iter().find(|(_, have)| have == value).expect("every value has a word");
                case.metadata.insert(name.into(), (*word).into());
            }
        }
        Ok(())
    }
}

/// An output as its case has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    pub name: &'static str,
    pub shape: Vec<usize>,
    /// The tensor is `[a, c, b, d]` of a view `[a, b, c, d]`.
    pub swapped: bool,
}

impl Shown {
    pub fn new(name: &'static str, shape: impl Into<Vec<usize>>) -> Shown {
        Shown { name, shape: shape.into(), swapped: false }
    }
}

/// Takes a case apart, and knows at the end what was left.
pub struct Reader<'a> {
    case: &'a Case,
    tensors: BTreeSet<&'static str>,
    options: BTreeSet<&'static str>,
}

/// What every op's case may have.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Expected {
    /// By the name of the output.
    pub tensors: BTreeMap<&'static str, Tensor>,
    /// `tolerance` and `rtolerance`.
    pub widen: (f64, f64),
}

impl<'a> Reader<'a> {
    pub fn new(case: &'a Case) -> Reader<'a> {
        Reader { case, tensors: BTreeSet::new(), options: ["op", "format", "host"].into() }
    }

    /// The most bytes that one argument of the case may take, be it an output or moved apart by a layout: so much, or many times
    /// what the case holds itself.
    pub fn most_bytes(&self) -> u64 {
        let held: u64 = self.case.tensors.values().map(|tensor| tensor.data.len() as u64).sum();
        (1 << 30).max(16 * held)
    }

    /// The op.
    pub fn op(&self) -> &'a str {
        self.case.metadata.get("op").map_or("", String::as_str)
    }

    /// How weights are stored; other programs write words of their own there.
    pub fn format(&self) -> Option<&'a str> {
        self.case.metadata.get("format").map(String::as_str)
    }

    /// A tensor that must be there.
    ///
    /// # Errors
    /// [`Fault::MissingTensor`].
    pub fn tensor(&mut self, name: &'static str, expected: &'static str) -> Result<&'a Tensor, Fault> {
        self.optional(name).ok_or(Fault::MissingTensor { name, expected })
    }

    pub fn optional(&mut self, name: &'static str) -> Option<&'a Tensor> {
        self.tensors.insert(name);
        self.case.tensors.get(name)
    }

    /// An option, or its default.
    ///
    /// # Errors
    /// [`Fault::BadOption`].
    pub fn option<T: OptionValue>(&mut self, name: &'static str, default: T) -> Result<T, Fault> {
        self.options.insert(name);
        match self.case.metadata.get(name) {
            None => Ok(default),
            Some(value) => T::parse(value).ok_or_else(|| Fault::BadOption {
                name,
                value: value.clone(),
                expected: T::EXPECTED.into(),
            }),
        }
    }

    /// One of a few words; the first is the default.
    ///
    /// # Errors
    /// [`Fault::BadOption`].
    pub fn word(&mut self, name: &'static str, words: &[&'static str]) -> Result<&'static str, Fault> {
        Ok(words[self.optional_word(name, words.iter().copied())?.unwrap_or(0)])
    }

    /// Which of the words stands there.
    fn optional_word(
        &mut self,
        name: &'static str,
        words: impl Iterator<Item = &'static str>,
    ) -> Result<Option<usize>, Fault> {
        self.options.insert(name);
        let Some(value) = self.case.metadata.get(name) else {
            return Ok(None);
        };
        let words: Vec<_> = words.collect();
        let found = words.iter().position(|word| word == value);
        found.map(Some).ok_or_else(|| Fault::BadOption { name, value: value.clone(), expected: words.join(" or ") })
    }

    /// Values of a tensor that must be there, with its shape; they are of a dtype of values.
    ///
    /// # Errors
    /// [`Fault::MissingTensor`] and [`Fault::BadDtype`].
    pub fn values(&mut self, name: &'static str, expected: &'static str) -> Result<(&'a Tensor, Dtype), Fault> {
        let tensor = self.tensor(name, expected)?;
        Ok((tensor, float(name, tensor)?))
    }

    /// What is expected of `outputs`, which are name and shape; all else must have been read.
    ///
    /// # Errors
    /// [`Fault::UnknownOption`], [`Fault::UnusedTensor`], and what is wrong with a tensor `expected.*`.
    pub fn finish(mut self, outputs: &[(&'static str, Vec<usize>)]) -> Result<Expected, Fault> {
        // An option of every op; those without heads have nothing to lay out, or layouts of their own.
        if !self.options.contains("layout") {
            self.word("layout", &["bhsd", "bshd"])?;
        }
        let mut tolerance = |name| match self.option(name, 0.0)? {
            value if value >= 0.0 => Ok(value),
            value => Err(Fault::BadOption { name, value: value.to_string(), expected: "at least 0".into() }),
        };
        let widen = (tolerance("tolerance")?, tolerance("rtolerance")?);
        if let Some(name) = self.case.metadata.keys().find(|name| !self.options.contains(name.as_str())) {
            return Err(Fault::UnknownOption { name: name.clone(), known: self.options.into_iter().collect() });
        }
        let mut expected = Expected { tensors: BTreeMap::new(), widen };
        for (name, tensor) in &self.case.tensors {
            if self.tensors.contains(name.as_str()) {
                continue;
            }
            let output = outputs.iter().find(|(output, _)| name.strip_prefix("expected.") == Some(output));
            let Some((output, shape)) = output else {
                let known = self.tensors.iter().map(|name| name.to_string());
                let known = known.chain(outputs.iter().map(|(name, _)| format!("expected.{name}"))).collect();
                return Err(Fault::UnusedTensor { name: name.clone(), known });
            };
            if tensor.shape != *shape {
                let (have, expected) = (tensor.shape.clone(), format!("{shape:?}"));
                return Err(Fault::BadShape { name: name.clone(), have, expected });
            }
            if tensor.numbers().is_none() {
                let have = tensor.dtype.to_string();
                return Err(Fault::BadDtype { name: name.clone(), have, expected: VALUES });
            }
            expected.tensors.insert(output, tensor.clone());
        }
        Ok(expected)
    }
}

/// A tensor whose shape is not the one that is expected.
pub fn bad_shape(name: &str, tensor: &Tensor, expected: impl Into<String>) -> Fault {
    Fault::BadShape { name: name.into(), have: tensor.shape.clone(), expected: expected.into() }
}

/// The integers of a tensor of indices, as numbers.
///
/// # Errors
/// [`Fault::BadDtype`].
pub fn integers(name: &str, tensor: &Tensor) -> Result<Vec<i64>, Fault> {
    let have = || tensor.dtype.to_string();
    tensor.integers().ok_or_else(|| Fault::BadDtype { name: name.into(), have: have(), expected: INDICES })
}

/// The dtype of a tensor of values.
///
/// # Errors
/// [`Fault::BadDtype`].
pub fn float(name: &str, tensor: &Tensor) -> Result<Dtype, Fault> {
    tensor.float().ok_or_else(|| Fault::BadDtype {
        name: name.into(),
        have: tensor.dtype.to_string(),
        expected: VALUES,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case() -> Case {
        Case::new("softmax")
            .option("scale", 0.5)
            .tensor("x", Tensor::values(Dtype::F16, &[1, 3], &[1.0, 2.0, 3.0]))
            .tensor("mask", Tensor::bools(&[3], &[true, false, true]))
            .tensor("indices", Tensor::indices(&[2], &[7, u32::MAX]))
            .tensor("empty", Tensor::values(Dtype::F32, &[0, 4], &[]))
    }

    #[test]
    fn what_is_written_is_read() {
        let read = Case::parse(&case().to_bytes().unwrap()).unwrap();
        assert_eq!(read, case());
        assert_eq!(read.tensors["x"].numbers().unwrap(), [1.0, 2.0, 3.0]);
        assert_eq!(read.tensors["mask"].numbers().unwrap(), [1.0, 0.0, 1.0]);
        assert_eq!(read.tensors["indices"].integers().unwrap(), [7, u32::MAX as i64]);
        assert_eq!(read.tensors["x"].integers(), None);
        assert_eq!(Case::parse(&Case::default().to_bytes().unwrap()).unwrap(), Case::default());
    }

    #[test]
    fn integers_of_every_width() {
        let data: Vec<u8> = [-1i64, 1 << 40].iter().flat_map(|v| v.to_le_bytes()).collect();
        let tensor = Tensor { dtype: Stored::I64, shape: vec![2], data };
        assert_eq!(tensor.integers().unwrap(), [-1, 1 << 40]);
        let data: Vec<u8> = (-2i32).to_le_bytes().into();
        assert_eq!(Tensor { dtype: Stored::I32, shape: vec![1], data }.numbers().unwrap(), [-2.0]);
    }

    #[test]
    fn files_that_are_none() {
        let text = |bytes: &[u8]| Case::parse(bytes).unwrap_err().to_string();
        assert_eq!(text(b"abc"), "is not a safetensors file: header too small");
        let mut bytes = case().to_bytes().unwrap();
        bytes.pop();
        assert_eq!(text(&bytes), "is not a safetensors file: incomplete metadata, file not fully covered");
        let error = Case::read(Path::new("/no/such/file")).unwrap_err().to_string();
        assert!(error.starts_with("cannot be read: "), "{error}");
        for header in [
            r#"{"__metadata__":{"op":"softmax","op":"gemm"}}"#,
            r#"{"op":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"op":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#,
        ] {
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend(header.as_bytes());
            assert_eq!(text(&bytes), "`op` stands twice in the header");
        }
    }

    #[test]
    fn what_is_left_over_is_refused() {
        let case = case();
        let text = |read: &dyn Fn(&mut Reader) -> Result<(), Fault>, case: &Case| {
            let mut reader = Reader::new(case);
            match read(&mut reader).and_then(|()| reader.finish(&[("y", vec![1, 3])])) {
                Ok(_) => String::new(),
                Err(fault) => fault.to_string(),
            }
        };
        let all = |reader: &mut Reader| -> Result<(), Fault> {
            reader.tensor("x", "[.., cols]")?;
            for name in ["mask", "indices", "empty"] {
                reader.optional(name);
            }
            reader.option("scale", 1f32).map(drop)
        };
        assert_eq!(text(&all, &case), "");
        assert_eq!(text(&all, &case.clone().option("host", "axes moved")), "");
        assert_eq!(
            text(&|_| Ok(()), &case),
            "option `scale` is not known, expected one of: format, host, layout, op, rtolerance, tolerance"
        );
        let only_scale = |reader: &mut Reader| reader.option("scale", 1f32).map(drop);
        assert_eq!(text(&only_scale, &case), "tensor `empty` is not used by this op, expected only: expected.y");
        assert_eq!(text(&|r| r.tensor("z", "[n]").map(drop), &case), "tensor `z` is missing, expected [n]");
        assert_eq!(
            text(&|r| r.option("scale", true).map(drop), &case),
            "option `scale` is \"0.5\", expected true or false"
        );
        assert_eq!(
            text(&|r| r.word("scale", &["a", "b"]).map(drop), &case),
            "option `scale` is \"0.5\", expected a or b"
        );
        assert_eq!(
            text(&|r| float("mask", r.optional("mask").unwrap()).map(drop), &case),
            "tensor `mask` has dtype BOOL, expected F32, F16 or BF16"
        );
        let infinite = case.clone().option("scale", "inf");
        assert_eq!(text(&all, &infinite), "option `scale` is \"inf\", expected a finite decimal number");
        let negative = case.clone().option("tolerance", -1);
        assert_eq!(text(&all, &negative), "option `tolerance` is \"-1\", expected at least 0");
        let other = case.clone().tensor("expected.z", case.tensors["x"].clone());
        assert_eq!(
            text(&all, &other),
            "tensor `expected.z` is not used by this op, expected only: empty, indices, mask, x, expected.y"
        );
        let shape = case.clone().tensor("expected.y", Tensor::values(Dtype::F32, &[3], &[0.0; 3]));
        assert_eq!(text(&all, &shape), "tensor `expected.y` has shape [3], expected [1, 3]");
        let expected = Tensor { dtype: Stored::F64, shape: vec![1, 3], data: vec![0; 24] };
        let dtype = case.tensor("expected.y", expected);
        assert_eq!(text(&all, &dtype), "tensor `expected.y` has dtype F64, expected F32, F16 or BF16");
    }

    #[test]
    fn places() {
        assert_eq!(place(&[2, 3, 4], 23), [1, 2, 3]);
        assert_eq!(place(&[2, 3, 4], 4), [0, 1, 0]);
        assert_eq!(place(&[], 0), [0usize; 0]);
    }
}
