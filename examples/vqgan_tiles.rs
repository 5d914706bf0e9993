//! A codebook of the 8 x 8 tiles of an image, fitted on the GPU: k-means, then moving averages, as a VQGAN's
//! quantiser is trained. Writes the image and what 16, 64 and 256 codes make of it, side by side, and tells PSNR
//! and perplexity.
//!
//! ```sh
//! cargo run --example vqgan_tiles                       # an image that it draws, to target/vqgan_tiles.png
//! cargo run --example vqgan_tiles -- photo.png out.png
//! ```

use std::error::Error;
use std::fs::{File, create_dir_all};
use std::io::{BufReader, BufWriter};
use std::path::Path;

use tileloom::vq_assign::{self, Quantized};
use tileloom::vq_train::{self, KMeansBuffers};
use tileloom::{Context, Dispatch, Dtype, Layout, Tensor, vq_scatter};

const TILE: usize = 8;
const DIM: usize = TILE * TILE * 3;
const ROUNDS: u32 = 16;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// RGB, values 0 to 1.
struct Image {
    width: usize,
    height: usize,
    pixels: Vec<f32>,
}

impl Image {
    /// Waves of colour, discs and stripes.
    fn drawn() -> Image {
        let (width, height) = (256, 256);
        let mut pixels = Vec::with_capacity(width * height * 3);
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y as f32, x as f32))) {
            let mut color = [0.5 + 0.4 * (x / 40.0).sin(), 0.5 + 0.4 * (y / 31.0).cos(), (x + y) / 512.0];
            for (cx, cy, radius, disc) in [(80.0, 90.0, 45.0, [0.9, 0.2, 0.1]), (180.0, 150.0, 60.0, [0.1, 0.3, 0.8])] {
                let inside: f32 = radius - f32::hypot(x - cx, y - cy);
                let cover = inside.clamp(0.0, 1.0);
                color = std::array::from_fn(|i| color[i] * (1.0 - cover) + disc[i] * cover);
            }
            if y > 200.0 && (x + 2.0 * y) % 23.0 < 6.0 {
                color = [0.95, 0.9, 0.3];
            }
            pixels.extend(color);
        }
        Image { width, height, pixels }
    }

    /// A PNG file, cut to whole tiles.
    fn read(path: &str) -> Result<Image> {
        let mut decoder = png::Decoder::new(BufReader::new(File::open(path)?));
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let mut reader = decoder.read_info()?;
        let mut bytes = vec![0; reader.output_buffer_size().ok_or("the image is too large")?];
        let info = reader.next_frame(&mut bytes)?;
        let samples = info.color_type.samples();
        let (width, height) = (info.width as usize / TILE * TILE, info.height as usize / TILE * TILE);
        if width == 0 || height == 0 {
            return Err(format!("{path} is smaller than a tile of {TILE} x {TILE}").into());
        }
        let mut pixels = Vec::with_capacity(width * height * 3);
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let at = y * info.line_size + x * samples;
            // Grey has one sample, and perhaps an opacity, which has no say.
            let rgb = if samples < 3 { [at; 3] } else { [at, at + 1, at + 2] };
            pixels.extend(rgb.map(|i| f32::from(bytes[i]) / 255.0));
        }
        Ok(Image { width, height, pixels })
    }

    /// Where each element of each tile lies in `pixels`.
    fn places(&self) -> Vec<usize> {
        let across = self.width / TILE;
        let place = |tile: usize, d: usize| {
            let (y, x) = (tile / across * TILE + d / 3 / TILE, tile % across * TILE + d / 3 % TILE);
            (y * self.width + x) * 3 + d % 3
        };
        (0..across * (self.height / TILE))
            .flat_map(|tile| (0..DIM).map(move |d| (tile, d)))
            .map(|(t, d)| place(t, d))
            .collect()
    }
}

/// What a codebook makes of tiles, and the perplexity of its codes.
fn fit(context: &Context, tiles: &Tensor<f32>, num_codes: usize) -> Result<(Vec<f32>, f32)> {
    let (kernels, n) = (context.kernels(), tiles.shape()[0]);
    let indices: Tensor<u32> = context.zeros(&[n])?;
    let counts: Tensor<u32> = context.zeros(&[num_codes])?;
    let [sums, ema_sums, codebook] = [(); 3].map(|()| context.zeros::<f32>(&[num_codes, DIM]));
    let (sums, ema_sums, codebook) = (sums?, ema_sums?, codebook?);
    let ema_counts: Tensor<f32> = context.zeros(&[num_codes])?;
    let stats: Tensor<f32> = context.zeros(&[2])?;
    let quantized: Tensor<f32> = context.zeros(&[n, DIM])?;

    let buffers = vq_train::Buffers {
        counts: counts.buffer().into(),
        sums: sums.buffer().into(),
        x: tiles.buffer().into(),
        ema_counts: ema_counts.buffer().into(),
        ema_sums: ema_sums.buffer().into(),
        codebook: codebook.buffer().into(),
        stats: stats.buffer().into(),
    };
    // A code that less than a third of a tile uses starts anew.
    let train = vq_train::Problem { n, num_codes, code_dim: DIM, decay: 0.8, least: 0.3, ..Default::default() };
    let start = KMeansBuffers { indices: indices.buffer().into(), step: buffers };
    let mut steps: Vec<Dispatch> = vec![vq_train::prepare_kmeans(kernels, &train, 6, start)?];
    let assign = vq_assign::Problem { n, num_codes, code_dim: DIM, ..Default::default() };
    let nearest = || vq_assign::Buffers::new(tiles.buffer(), codebook.buffer(), indices.buffer());
    let scatter = vq_scatter::Problem {
        spatial: n,
        num_codes,
        code_dim: DIM,
        x_layout: Layout::default(),
        counts: Some(0),
        ..Default::default()
    };
    for round in 0..ROUNDS {
        steps.push(vq_assign::prepare(kernels, &assign, nearest())?);
        let summed = vq_scatter::Buffers::new(indices.buffer(), tiles.buffer(), sums.buffer()).counts(counts.buffer());
        steps.push(vq_scatter::prepare(kernels, &scatter, summed)?);
        // The last step replaces nothing: what it would draw has no tile yet.
        let least = if round + 1 < ROUNDS { train.least } else { 0.0 };
        steps.push(vq_train::prepare(kernels, &vq_train::Problem { seed: round, least, ..train }, buffers)?);
    }
    let whole = vq_assign::Problem { quantized: Some(Quantized { dtype: Dtype::F32, offset: 0 }), ..assign };
    steps.push(vq_assign::prepare(kernels, &whole, nearest().quantized(quantized.buffer()))?);

    let mut encoder = context.device().create_command_encoder(&Default::default());
    steps.iter().for_each(|step| step.record(&mut encoder));
    context.queue().submit([encoder.finish()]);
    let (quantized, stats) =
        pollster::block_on(async { Ok::<_, tileloom::Error>((quantized.read().await?, stats.read().await?)) })?;
    Ok((quantized, stats[1]))
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let image = arguments.next().map_or_else(|| Ok(Image::drawn()), |path| Image::read(&path))?;
    let out = arguments.next().unwrap_or_else(|| "target/vqgan_tiles.png".into());
    let context = pollster::block_on(Context::new())?;
    let places = image.places();
    let tiles: Vec<f32> = places.iter().map(|&at| image.pixels[at]).collect();
    let tiles = context.upload(&tiles, &[places.len() / DIM, DIM])?;

    let mut panels = vec![image.pixels.clone()];
    println!("{} x {}, {} tiles of {TILE} x {TILE}", image.width, image.height, tiles.shape()[0]);
    println!("codes    PSNR  perplexity");
    for num_codes in [16, 64, 256] {
        let (quantized, perplexity) = fit(&context, &tiles, num_codes)?;
        let mut pixels = vec![0f32; image.pixels.len()];
        places.iter().zip(&quantized).for_each(|(&at, &v)| pixels[at] = v.clamp(0.0, 1.0));
        let squares: f64 = image.pixels.iter().zip(&pixels).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let psnr = -10.0 * (squares / pixels.len() as f64).log10();
        println!("{num_codes:5}  {psnr:5.2} dB  {perplexity:8.1}");
        panels.push(pixels);
    }

    let row = image.width * 3;
    let lines = (0..image.height).flat_map(|y| panels.iter().flat_map(move |panel| &panel[y * row..(y + 1) * row]));
    let bytes: Vec<u8> = lines.map(|v| (v * 255.0).round() as u8).collect();
    if let Some(folder) = Path::new(&out).parent() {
        create_dir_all(folder)?;
    }
    let file = BufWriter::new(File::create(&out)?);
    let mut encoder = png::Encoder::new(file, (image.width * panels.len()) as u32, image.height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(&bytes)?;
    println!("{out}: the image, then 16, 64, 256 codes");
    Ok(())
}
