//! Images of buffers: views scattered into canaries, and gathered from them.

use tileloom::{Dtype, Layout};

/// Bytes before each view's binding, and after its end: 256 suits every offset alignment.
pub const FRONT: u64 = 256;
pub const BACK: u64 = 64;

/// A NaN in f32, f16 and bf16 alike: what stands where nothing may be read, or has not been written.
pub const POISON: u8 = 0xff;

/// The bytes of one buffer, of which a kernel call binds what follows [`FRONT`].
#[derive(Debug, Clone)]
pub struct Image {
    pub bytes: Vec<u8>,
}

/// Rows of `cols` elements by a layout.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    pub layout: Layout<3>,
    pub sizes: [usize; 3],
    pub cols: usize,
    pub dtype: Dtype,
}

impl Rows {
    fn element(&self, row: usize, col: usize) -> usize {
        self.layout.row_start(self.sizes, self.cols, row) + col
    }

    fn rows(&self) -> usize {
        self.sizes.iter().product()
    }

    /// One past the last element.
    fn end(&self) -> usize {
        (0..self.rows()).map(|row| self.element(row, 0) + self.cols).max().unwrap_or(0)
    }

    fn byte_range(&self, row: usize) -> std::ops::Range<usize> {
        let width = self.dtype.bytes() as usize;
        let start = FRONT as usize + self.element(row, 0) * width;
        start..start + self.cols * width
    }
}

impl Image {
    /// Poison, with room for `elements` of `bytes` each (words are whole) between the canaries.
    pub fn poison(elements: usize, bytes: u64) -> Image {
        let len = FRONT + (elements as u64 * bytes).next_multiple_of(4) + BACK;
        Image { bytes: vec![POISON; len as usize] }
    }

    /// Poison, with room for these views.
    pub fn with_room(views: &[Rows]) -> Image {
        let bytes = views.iter().map(|v| v.end() as u64 * v.dtype.bytes()).max().unwrap_or(0);
        Image::poison(bytes as usize, 1)
    }

    /// The bytes after the front canary are these.
    pub fn of(data: &[u8]) -> Image {
        let mut image = Image::poison(data.len(), 1);
        image.bytes[FRONT as usize..][..data.len()].copy_from_slice(data);
        image
    }

    /// Writes contiguous `values` by `view`.
    pub fn scatter(&mut self, view: &Rows, values: &[f64]) {
        for row in 0..view.rows() {
            let range = view.byte_range(row);
            let bytes = view.dtype.encode(&values[row * view.cols..(row + 1) * view.cols]);
            let len = range.len();
            self.bytes[range].copy_from_slice(&bytes[..len]);
        }
    }

    /// The values of `view`, contiguous.
    pub fn gather(&self, view: &Rows) -> Vec<f64> {
        (0..view.rows()).flat_map(|row| view.dtype.decode(&self.bytes[view.byte_range(row)])).collect()
    }

    /// The first byte outside `view` that differs from `before`, relative to the start of the binding.
    pub fn spilled(&self, before: &Image, view: &Rows) -> Option<i64> {
        let mut inside = vec![false; self.bytes.len()];
        for row in 0..view.rows() {
            inside[view.byte_range(row)].fill(true);
        }
        let differs = |&i: &usize| !inside[i] && self.bytes[i] != before.bytes[i];
        (0..self.bytes.len()).find(differs).map(|i| i as i64 - FRONT as i64)
    }

    /// What a kernel call binds: all after the front canary, the back canary included.
    pub fn binding<'a>(&self, buffer: &'a tileloom::wgpu::Buffer) -> tileloom::wgpu::BufferBinding<'a> {
        tileloom::wgpu::BufferBinding { buffer, offset: FRONT, size: None }
    }
}
