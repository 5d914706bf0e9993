//! candle's side, on the CPU: what the same cores do without a driver between. It is a program of its own, `peers-candle`, which gets its
//! inputs by files and is told by lines what to compute; it says how long that took.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;

use tileloom::Dtype;
use tileloom::weights::{Format, Packed};

use crate::duel::{Inputs, Machine, Peer, Side};

/// An input as candle gets it.
#[derive(Clone)]
pub enum Input {
    /// A tensor of this dtype and shape; what is beyond tileloom's is 0.
    Tensor(&'static str, Dtype, Vec<usize>),
    /// u32 `[n]`, none of which is above a limit.
    Indices(&'static str, usize, u32),
    /// The blocks of packed weights `[n, k]` as GGUF files have them: q4_0 or q8_0.
    Blocks(Format, usize, usize),
    /// f32 of this shape, the same in all sets.
    Table(&'static str, Vec<f32>, Vec<usize>),
}

/// candle computes `op`, with these options, of `inputs` of each set. The result is tileloom's output `name`.
pub fn candle(op: &'static str, options: &str, inputs: Vec<Input>, name: &'static str) -> Peer {
    let options = options.to_string();
    let prepare = move |_: &Machine, sets: &Rc<Inputs>| {
        let mut program = Program::start()?;
        for set in 0..sets.sets() {
            for input in &inputs {
                let (name, kind, shape, bytes) = input.bytes(sets, set)?;
                let shape: Vec<_> = shape.iter().map(usize::to_string).collect();
                std::fs::write(program.folder.join("input"), bytes).map_err(|error| error.to_string())?;
                program.ask(&format!("input {set} {name} {kind} {}", shape.join(" ")))?;
            }
        }
        let widen: f64 = program.ask(&format!("op {op} {options}"))?.parse().map_err(|_| "candle tells no bound")?;
        let (program, sets) = (Rc::new(RefCell::new(program)), sets.clone());
        let other = program.clone();
        let run =
            move |Range { start, end }: Range<usize>| program.borrow_mut().ask(&format!("run {start} {end}")).map(drop);
        let check = move || {
            let mut program = other.borrow_mut();
            program.ask("output")?;
            let bytes = std::fs::read(program.folder.join("output")).map_err(|error| error.to_string())?;
            sets.judge(name, bytes.as_chunks::<8>().0.iter().map(|&value| f64::from_le_bytes(value)).collect(), widen)
        };
        Ok(Side { run: Box::new(run), check: Box::new(check), config: String::new() })
    };
    Peer { name: "candle (CPU)", prepare: Box::new(prepare) }
}

impl Input {
    /// Its name, kind, shape and bytes in a set.
    fn bytes(&self, inputs: &Inputs, set: usize) -> Result<(&'static str, String, Vec<usize>, Vec<u8>), String> {
        let cut = |name, len| -> Result<Vec<u8>, String> {
            let mut bytes = inputs.bytes(set, name)?;
            bytes.resize(len, 0);
            Ok(bytes)
        };
        Ok(match self {
            Input::Tensor(name, dtype, shape) => {
                let len = shape.iter().product::<usize>() * dtype.bytes() as usize;
                (name, dtype.to_string(), shape.clone(), cut(name, len)?)
            }
            Input::Indices(name, n, most) => {
                let bytes = cut(name, 4 * n)?;
                let words = bytes.as_chunks::<4>().0.iter().map(|&word| u32::from_le_bytes(word).min(*most));
                (name, "u32".into(), vec![*n], words.flat_map(u32::to_le_bytes).collect())
            }
            &Input::Blocks(format, n, k) => {
                let words = |name, bytes: u64| -> Result<Vec<u32>, String> {
                    let bytes = cut(name, bytes as usize)?;
                    Ok(bytes.as_chunks::<4>().0.iter().map(|&word| u32::from_le_bytes(word)).collect())
                };
                let (codes, scales) =
                    (words("codes", format.code_bytes(n, k))?, words("scales", format.scale_bytes(n, k))?);
                let packed = Packed { format, n, k, codes, scales };
                let mut unpacked = packed.unpack("weight").map_err(|error| error.to_string())?;
                let kind = if format == Format::Q8_0 { "q8_0" } else { "q4_0" };
                ("weight", kind.into(), vec![n, k], unpacked.tensors.remove(0).bytes)
            }
            Input::Table(name, values, shape) => {
                let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                (name, "f32".into(), shape.clone(), bytes)
            }
        })
    }
}

/// `peers-candle`, running.
struct Program {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    folder: PathBuf,
}

impl Program {
    /// It lies beside this program.
    fn start() -> Result<Program, String> {
        let own = std::env::args().next().unwrap_or_default();
        let path = Path::new(&own).with_file_name("peers-candle");
        let folder = std::env::temp_dir().join(format!("peers-candle-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut command = Command::new(&path);
        command.arg(&folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", path.display()))?;
        let (to, from) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        Ok(Program { child, to, from: BufReader::new(from), folder })
    }

    /// What it answers.
    fn ask(&mut self, line: &str) -> Result<String, String> {
        let mut answer = String::new();
        writeln!(self.to, "{line}")
            .and_then(|()| self.from.read_line(&mut answer))
            .map_err(|error| error.to_string())?;
        match (answer.strip_prefix("ok"), answer.strip_prefix("error")) {
            (Some(rest), _) => Ok(rest.trim().into()),
            (None, Some(reason)) => Err(format!("candle: {}", reason.trim())),
            (None, None) => Err("candle has ended".into()),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
