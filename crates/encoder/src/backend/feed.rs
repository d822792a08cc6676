//! A batch, and the values that it gives each input of a graph, in the types that the graph has.

use half::f16;
use ort::memory::Allocator;
use ort::session::SessionInputValue;
use ort::value::{PrimitiveTensorElementType, Tensor, TensorElementType, TensorRef};
use pgclip_clip::towers::{ElementType, Holds, Input};
use std::borrow::Cow;
use std::fmt::Debug;
use std::ops::Range;

/// A batch as a tower's inputs are made of it. The first number of a shape counts the items.
#[derive(Clone, Debug)]
pub enum Feed<'a> {
    /// [N, 3, S, S] or [N, S, S, 3], as the preprocessor was told.
    Pixels { shape: Vec<i64>, pixels: Cow<'a, [f32]> },
    /// [N, L]: ids, and 1 for each that belongs to the text.
    Tokens { shape: Vec<i64>, ids: Cow<'a, [i64]>, mask: Cow<'a, [i64]> },
}

impl Feed<'_> {
    pub(super) fn items(&self) -> usize {
        let (Self::Pixels { shape, .. } | Self::Tokens { shape, .. }) = self;
        shape[0] as usize
    }

    /// Some of its items.
    pub(super) fn part(&self, range: Range<usize>) -> Feed<'_> {
        let cut = |shape: &[i64]| {
            let stride: i64 = shape[1..].iter().product();
            let bytes = range.start * stride as usize..range.end * stride as usize;
            ([&[range.len() as i64], &shape[1..]].concat(), bytes)
        };
        match self {
            Self::Pixels { shape, pixels } => {
                let (shape, part) = cut(shape);
                Feed::Pixels { shape, pixels: pixels[part].into() }
            }
            Self::Tokens { shape, ids, mask } => {
                let (shape, part) = cut(shape);
                Feed::Tokens { shape, ids: ids[part.clone()].into(), mask: mask[part].into() }
            }
        }
    }

    /// What one input is fed with.
    pub(super) fn value(&self, input: &Input) -> ort::Result<SessionInputValue<'_>> {
        let (Self::Pixels { shape, .. } | Self::Tokens { shape, .. }) = self;
        match (&input.holds, self) {
            (Holds::Constant { shape: wanted, value }, _) => {
                let batch = |&side: &i64| if side < 0 { shape[0] } else { side };
                let shape: Vec<i64> = wanted.iter().map(batch).collect();
                let elements = shape.iter().product::<i64>() as usize;
                owned(input.element, shape, &vec![*value; elements])
            }
            (Holds::Pixels { .. }, Self::Pixels { pixels, .. }) => match input.element {
                ElementType::F32 => borrowed(shape, pixels),
                element => owned(element, shape.clone(), pixels),
            },
            (Holds::Tokens, Self::Tokens { ids, .. }) => whole(input.element, shape, ids),
            (Holds::Mask, Self::Tokens { mask, .. }) => whole(input.element, shape, mask),
            (_, Self::Tokens { ids, .. }) => {
                owned(input.element, shape.clone(), &vec![0.0; ids.len()])
            }
            (_, Self::Pixels { pixels, .. }) => {
                owned(input.element, shape.clone(), &vec![0.0; pixels.len()])
            }
        }
    }
}

fn borrowed<'v, T>(shape: &'v [i64], data: &'v [T]) -> ort::Result<SessionInputValue<'v>>
where
    T: PrimitiveTensorElementType + Debug + Copy + 'static,
{
    Ok(TensorRef::from_array_view((shape, data))?.into())
}

/// Whole numbers in the type that an input has.
fn whole<'v>(
    element: ElementType,
    shape: &'v [i64],
    values: &'v [i64],
) -> ort::Result<SessionInputValue<'v>> {
    if element == ElementType::I64 {
        return borrowed(shape, values);
    }
    // Ids are below 2^24, which f32 holds exactly.
    let floats: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    owned(element, shape.to_vec(), &floats)
}

fn owned(
    element: ElementType,
    shape: Vec<i64>,
    values: &[f32],
) -> ort::Result<SessionInputValue<'static>> {
    fn tensor<T>(
        shape: Vec<i64>,
        values: &[f32],
        of: impl Fn(f32) -> T,
    ) -> ort::Result<SessionInputValue<'static>>
    where
        T: PrimitiveTensorElementType + Debug + Clone + Default + 'static,
    {
        let values: Vec<T> = values.iter().map(|&value| of(value)).collect();
        if values.is_empty() {
            return Ok(Tensor::<T>::new(&Allocator::default(), shape)?.into());
        }
        Ok(Tensor::from_array((shape, values))?.into())
    }
    match element {
        ElementType::F32 => tensor(shape, values, |value| value),
        ElementType::F16 => tensor(shape, values, f16::from_f32),
        ElementType::U8 => tensor(shape, values, |value| value as u8),
        ElementType::I32 => tensor(shape, values, |value| value as i32),
        ElementType::I64 => tensor(shape, values, |value| value as i64),
        ElementType::Bool => tensor(shape, values, |value| value != 0.0),
    }
}

pub(super) fn type_of(element: ElementType) -> TensorElementType {
    match element {
        ElementType::F32 => TensorElementType::Float32,
        ElementType::F16 => TensorElementType::Float16,
        ElementType::U8 => TensorElementType::Uint8,
        ElementType::I32 => TensorElementType::Int32,
        ElementType::I64 => TensorElementType::Int64,
        ElementType::Bool => TensorElementType::Bool,
    }
}
