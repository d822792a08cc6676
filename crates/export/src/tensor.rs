//! Tensors as they lie in a checkpoint, and recipes that make the graph's initialisers from them.
//!
//! A [`Recipe`] is carried out only when the initialiser is written, so that an export holds one
//! tensor in memory at a time, however large the model is.

use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::Dtype;

use crate::error::ExportError;

/// A tensor of a checkpoint: bytes of the mapped file, and what they mean.
#[derive(Clone, Debug)]
pub struct Tensor<'a> {
    pub name: String,
    pub shape: Vec<usize>,
    pub dtype: Dtype,
    /// Elements in row-major order, little-endian, not necessarily aligned.
    pub data: &'a [u8],
}

/// How the elements of an initialiser are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    F32,
    F16,
    I32,
    I64,
}

/// How an initialiser is made.
#[derive(Clone, Debug)]
pub struct Recipe<'a> {
    /// Shape of the result.
    pub dims: Vec<usize>,
    source: Source<'a>,
    /// The source is a matrix whose columns are the rows of the result.
    transposed: bool,
    scale: f32,
}

#[derive(Clone, Debug)]
enum Source<'a> {
    Tensor(Tensor<'a>),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
}

impl Element {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::I64 => 8,
        }
    }
}

impl<'a> Tensor<'a> {
    /// `count` rows (indices of the first axis), starting at `first`.
    pub fn rows(&self, first: usize, count: usize) -> Self {
        let row_bytes = self.data.len() / self.shape[0].max(1);
        let mut shape = self.shape.clone();
        shape[0] = count;
        // Out of range only for a tensor that was reported as missing: it has no data.
        let range = first * row_bytes..(first + count) * row_bytes;
        let data = self.data.get(range).unwrap_or_default();
        let name = format!("{}[{first}..{}]", self.name, first + count);
        Self { name, shape, dtype: self.dtype, data }
    }

    /// The elements of a floating-point tensor as f32; none of an integer tensor.
    pub fn floats(&self) -> Vec<f32> {
        match self.dtype {
            Dtype::F32 => decode(self.data, f32::from_le_bytes),
            Dtype::F16 => decode(self.data, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => decode(self.data, |b| half::bf16::from_le_bytes(b).to_f32()),
            Dtype::F64 => decode(self.data, |b| f64::from_le_bytes(b) as f32),
            _ => Vec::new(),
        }
    }

    /// The elements of an integer tensor; none of another.
    pub fn ints(&self) -> Vec<i64> {
        match self.dtype {
            Dtype::I32 => decode(self.data, |b| i32::from_le_bytes(b).into()),
            Dtype::I64 => decode(self.data, i64::from_le_bytes),
            _ => Vec::new(),
        }
    }
}

impl<'a> Recipe<'a> {
    /// A tensor as it is.
    pub fn of(tensor: Tensor<'a>) -> Self {
        let dims = tensor.shape.clone();
        Self { dims, source: Source::Tensor(tensor), transposed: false, scale: 1.0 }
    }

    /// Values computed by the exporter: small ones, they are kept until they are written.
    pub fn floats(dims: &[usize], values: Vec<f32>) -> Self {
        Self { dims: dims.to_vec(), source: Source::Floats(values), transposed: false, scale: 1.0 }
    }

    /// Integers, stored as [`Element::I32`] or [`Element::I64`].
    pub fn ints(dims: &[usize], values: Vec<i64>) -> Self {
        Self { dims: dims.to_vec(), source: Source::Ints(values), transposed: false, scale: 1.0 }
    }

    /// The matrix `[in, out]` that a product `x · W` wants, from torch's `[out, in]`.
    pub fn transpose(mut self) -> Self {
        self.dims.reverse();
        self.transposed = !self.transposed;
        self
    }

    /// All elements multiplied by `factor`.
    pub fn scale(mut self, factor: f32) -> Self {
        self.scale *= factor;
        self
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Carries the recipe out: the elements in row-major order, little-endian. An element that is
    /// not finite, or not in fp16, is an error.
    pub fn bytes(&self, element: Element) -> Result<Vec<u8>, ExportError> {
        if let Source::Ints(values) = &self.source {
            return Ok(match element {
                Element::I32 => values.iter().flat_map(|&v| (v as i32).to_le_bytes()).collect(),
                _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            });
        }
        let values = self.values()?;
        if element != Element::F16 {
            return Ok(values.iter().flat_map(|v| v.to_le_bytes()).collect());
        }
        let mut halves = vec![f16::ZERO; values.len()];
        halves.convert_from_f32_slice(&values);
        match halves.iter().position(|v| !v.is_finite()) {
            Some(at) => Err(self.bad(format!("holds {}, too large for fp16", values[at]))),
            None => Ok(halves.iter().flat_map(|v| v.to_le_bytes()).collect()),
        }
    }

    fn values(&self) -> Result<Vec<f32>, ExportError> {
        let mut values = match &self.source {
            Source::Tensor(tensor) => tensor.floats(),
            Source::Floats(values) => values.clone(),
            Source::Ints(values) => values.iter().map(|&v| v as f32).collect(),
        };
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return Err(self.bad(format!("holds {} at element {at}", values[at])));
        }
        if self.scale != 1.0 {
            values.iter_mut().for_each(|v| *v *= self.scale);
        }
        Ok(if self.transposed { transposed(&values, self.dims[0]) } else { values })
    }

    fn bad(&self, message: String) -> ExportError {
        let tensor = match &self.source {
            Source::Tensor(tensor) => tensor.name.clone(),
            _ => "positional embedding".to_owned(),
        };
        ExportError::Value { tensor, message }
    }
}

/// The transpose of a row-major matrix of `columns` columns, in blocks that fit the cache.
pub fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    const BLOCK: usize = 32;
    let rows = values.len() / columns.max(1);
    let mut result = vec![0.0; values.len()];
    for top in (0..rows).step_by(BLOCK) {
        for left in (0..columns).step_by(BLOCK) {
            for row in top..(top + BLOCK).min(rows) {
                for column in left..(left + BLOCK).min(columns) {
                    result[column * rows + row] = values[row * columns + column];
                }
            }
        }
    }
    result
}

fn decode<const N: usize, T>(data: &[u8], element: impl Fn([u8; N]) -> T) -> Vec<T> {
    data.as_chunks::<N>().0.iter().map(|&bytes| element(bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(data: &[u8]) -> Tensor<'_> {
        Tensor { name: "w".into(), shape: vec![2, 3], dtype: Dtype::F32, data }
    }

    #[test]
    fn rows_are_cut_scaled_and_transposed() {
        let data: Vec<u8> = (1..=6).flat_map(|v| (v as f32).to_le_bytes()).collect();
        let both = Recipe::of(tensor(&data)).transpose();
        assert_eq!(both.dims, [3, 2]);
        assert_eq!(both.values().unwrap(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        let second = Recipe::of(tensor(&data).rows(1, 1)).scale(0.5);
        assert_eq!(second.dims, [1, 3]);
        assert_eq!(second.values().unwrap(), [2.0, 2.5, 3.0]);
    }

    #[test]
    fn transposing_twice_is_the_identity_beyond_one_block() {
        let values: Vec<f32> = (0..70 * 45).map(|v| v as f32).collect();
        assert_eq!(transposed(&transposed(&values, 45), 70), values);
    }

    #[test]
    fn what_a_model_cannot_hold_is_refused() {
        let data: Vec<u8> = [1.0f32, 1e6, 0.0, 0.0, 0.0, 0.0].map(f32::to_le_bytes).concat();
        let recipe = Recipe::of(tensor(&data));
        assert_eq!(recipe.bytes(Element::F32).unwrap(), data);
        let error = recipe.bytes(Element::F16).unwrap_err().to_string();
        assert!(error.contains("\"w\" holds 1000000, too large for fp16"), "{error}");
        let data: Vec<u8> = [0.0, f32::NAN, 0.0, 0.0, 0.0, 0.0].map(f32::to_le_bytes).concat();
        let error = Recipe::of(tensor(&data)).bytes(Element::F32).unwrap_err().to_string();
        assert!(error.contains("holds NaN at element 1"), "{error}");
    }
}
