//! Activations in 8 bits on a GPU: what is more than a Problem of the list.

use loom::Gpu;
use tileloom::ErrorKind;
use tileloom::quantize::{self, Buffers, Format, Problem};

use crate::{Suite, invalid, refused};

#[linkme::distributed_slice(crate::SUITES)]
static SUITE: (&str, crate::Cases) = ("quantize", cases);

fn cases(suite: &mut Suite) {
    suite.case("worked out", worked_out);
    suite.case("errors", errors);
}

/// A row whose codes are known, byte by byte.
fn worked_out(gpu: &Gpu) -> Result<(), String> {
    let row = |values: &[f32]| gpu.buffer(bytemuck::cast_slice(values));
    let [codes, scales] = [2, 1].map(|words: usize| gpu.buffer(&vec![0xa5; 4 * words]));
    let run = |problem: &Problem, x: &tileloom::wgpu::Buffer| -> Result<(Vec<u8>, f32), String> {
        let dispatch = quantize::prepare(&gpu.kernels, problem, Buffers::new(x, &codes, &scales));
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        dispatch.map_err(|error| error.to_string())?.record(&mut encoder);
        gpu.queue.submit([encoder.finish()]);
        let scale = gpu.read(&scales)?;
        Ok((gpu.read(&codes)?, f32::from_le_bytes([scale[0], scale[1], scale[2], scale[3]])))
    };
    let int8 = Problem { cols: 6, ..Problem::default() };
    // 1.0625 and 1.1875 lie in the middle of two codes, 2^-10 between 0 and the least one; of int8 odd numbers do.
    let e4m3 = Problem { format: Format::E4m3, power_of_two: true, ..int8 };
    for (problem, x, right, by) in [
        (int8, [254.0, -254.0, 2.0, -2.0, 0.0, 1.0e-3], [127, 129, 1, 255, 0, 0, 0, 0], 2.0),
        (int8, [254.0, 1.0, -1.0, 3.0, -5.0, 249.0], [127, 0, 0, 2, 254, 124, 0, 0], 2.0),
        (
            e4m3,
            [448.0, 2.5 * 2f32.powi(-9), -1.5 * 2f32.powi(-9), 7.5 * 2f32.powi(-9), 2f32.powi(-9), 6.5 * 2f32.powi(-9)],
            [0x7e, 2, 0x82, 8, 1, 6, 0, 0],
            1.0,
        ),
        (e4m3, [448.0, -1.0625, 1.1875, 0.0, 2.0f32.powi(-10), -3.0], [0x7e, 0xb8, 0x3a, 0, 0, 0xc4, 0, 0], 1.0),
    ] {
        let (codes, scale) = run(&problem, &row(&x))?;
        if codes != right || (scale - by).abs() > 1e-6 {
            return Err(format!("{problem:?}: codes {codes:?}, scale {scale}"));
        }
    }
    Ok(())
}

/// Every way to be refused, once; nothing reaches the device's handlers.
fn errors(gpu: &Gpu) -> Result<(), String> {
    let [x, codes, scales] = [24, 6, 4].map(|words| gpu.buffer(&vec![0; words * 4]));
    let good = Problem { rows: 4, cols: 6, ..Problem::default() };
    let prepare =
        |problem: &Problem| quantize::prepare(&gpu.kernels, problem, Buffers::new(&x, &codes, &scales)).map(drop);
    refused("few words of codes", prepare(&good), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "codes", need: 32, have: 24 })
    })?;
    let good = Problem { rows: 3, ..good };
    prepare(&good).map_err(|error| error.to_string())?;
    refused("many rows", prepare(&Problem { rows: 5, ..good }), |error| {
        matches!(error.kind, ErrorKind::BufferTooSmall { buffer: "x", need: 120, have: 96 })
    })?;
    invalid("power_of_two", prepare(&Problem { power_of_two: true, ..good }))
}
