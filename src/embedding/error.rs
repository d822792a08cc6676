//! What can be wrong with an embedding, as one enum: each variant knows its SQLSTATE, its message
//! and its hint. A file of its own because every other file of the type raises from it.
//!
//! Positions in messages count from 1, as SQL arrays do.

use std::fmt;

use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::pg_sys::panic::ErrorReport;

use super::value::Dims;

/// An embedding that cannot be made, or two that do not go together.
#[derive(Debug, Clone, PartialEq)]
pub enum EmbeddingError {
    /// Text that is not of the form `[1,2,3]`.
    Syntax { literal: String, detail: String },
    /// A NaN or an infinity at a position.
    NotFinite { value: f64, position: usize },
    /// A finite number that fp16 rounds to infinity.
    OutOfRange { value: String, position: usize },
    /// No element at all.
    Empty,
    /// More elements than [`Dims::MAX`].
    TooManyDimensions(usize),
    /// Text of more bytes than any embedding needs.
    TooLong { bytes: usize, most: usize },
    /// Not the number of dimensions that the column or the caller asks for.
    UnexpectedDimensions { expected: usize, found: usize },
    /// Two embeddings of different length in one operation.
    DifferentDimensions { left: usize, right: usize },
    /// An array of more than one dimension.
    NestedArray(usize),
    /// A NULL inside an array.
    NullElement { position: usize },
    /// A type modifier outside 1 to [`Dims::MAX`].
    TypeModifier(String),
    /// Bytes that no function of ours wrote.
    Corrupt { bytes: usize, dims: i64 },
    /// A binary message of so many bytes, which is too few.
    Truncated(usize),
    /// A binary message whose reserved field is set.
    Reserved(u16),
    /// `subvector` of an empty range.
    EmptyRange { start: i32, count: i32 },
}

impl EmbeddingError {
    pub fn code(&self) -> Code {
        match self {
            Self::Syntax { .. } => Code::ERRCODE_INVALID_TEXT_REPRESENTATION,
            Self::OutOfRange { .. } => Code::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
            Self::NotFinite { .. }
            | Self::Empty
            | Self::NestedArray(_)
            | Self::UnexpectedDimensions { .. }
            | Self::DifferentDimensions { .. } => Code::ERRCODE_DATA_EXCEPTION,
            Self::TooManyDimensions(_) | Self::TooLong { .. } => {
                Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED
            }
            Self::NullElement { .. } => Code::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            Self::TypeModifier(_) | Self::EmptyRange { .. } => {
                Code::ERRCODE_INVALID_PARAMETER_VALUE
            }
            Self::Corrupt { .. } => Code::ERRCODE_DATA_CORRUPTED,
            Self::Truncated(_) => Code::ERRCODE_PROTOCOL_VIOLATION,
            Self::Reserved(_) => Code::ERRCODE_INVALID_BINARY_REPRESENTATION,
        }
    }

    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Syntax { detail, .. } => Some(detail.clone()),
            _ => None,
        }
    }

    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Syntax { .. } => "Write an embedding as \"[0.1,0.2,0.3]\".".into(),
            Self::NotFinite { .. } => "Every element must be a finite number.".into(),
            Self::OutOfRange { .. } => {
                "fp16 holds magnitudes up to 65504; scale the values, for instance to unit length."
                    .into()
            }
            Self::Empty | Self::TooManyDimensions(_) => {
                format!("An embedding has 1 to {} elements.", Dims::MAX)
            }
            Self::TooLong { .. } => "Write fewer digits: fp16 holds about three.".into(),
            Self::UnexpectedDimensions { .. } => {
                "The number of elements must be that of the declared type.".into()
            }
            Self::DifferentDimensions { .. } => {
                "Embeddings of different models cannot be compared or combined.".into()
            }
            Self::NestedArray(_) => "Use a one-dimensional array.".into(),
            Self::NullElement { .. } => "Replace NULLs by numbers before the cast.".into(),
            Self::TypeModifier(_) => {
                format!("Declare embedding or embedding(d), d from 1 to {}.", Dims::MAX)
            }
            Self::EmptyRange { .. } => {
                "start counts from 1, and start and count must select at least one element.".into()
            }
            Self::Corrupt { .. } | Self::Truncated(_) | Self::Reserved(_) => return None,
        })
    }
}

impl fmt::Display for EmbeddingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { literal, .. } => {
                write!(f, "invalid input syntax for type embedding: \"{literal}\"")
            }
            Self::NotFinite { value, position } => {
                let name = if value.is_nan() {
                    "NaN"
                } else if *value > 0.0 {
                    "Infinity"
                } else {
                    "-Infinity"
                };
                write!(f, "{name} is not allowed in an embedding (element {position})")
            }
            Self::OutOfRange { value, position } => {
                write!(f, "{value} is out of range for type embedding (element {position})")
            }
            Self::Empty => write!(f, "an embedding must have at least 1 dimension"),
            Self::TooManyDimensions(dims) => {
                write!(f, "an embedding cannot have more than {} dimensions, got {dims}", Dims::MAX)
            }
            Self::TooLong { bytes, most } => {
                write!(f, "the text of an embedding has {bytes} bytes, more than {most}")
            }
            Self::UnexpectedDimensions { expected, found } => {
                write!(f, "expected {expected} dimensions, not {found}")
            }
            Self::DifferentDimensions { left, right } => {
                write!(f, "different embedding dimensions {left} and {right}")
            }
            Self::NestedArray(ndim) => {
                write!(f, "an array of {ndim} dimensions cannot become an embedding")
            }
            Self::NullElement { position } => {
                write!(f, "NULL is not allowed in an embedding (element {position})")
            }
            Self::TypeModifier(given) => write!(f, "invalid type modifier embedding({given})"),
            Self::Corrupt { bytes, dims } => {
                write!(f, "corrupt embedding: {bytes} bytes for {dims} dimensions")
            }
            Self::Truncated(bytes) => write!(f, "embedding message ends after {bytes} bytes"),
            Self::Reserved(value) => {
                write!(f, "invalid embedding message: reserved field is {value}, not 0")
            }
            Self::EmptyRange { start, count } => {
                write!(f, "subvector of {count} elements from {start} on is empty")
            }
        }
    }
}

impl std::error::Error for EmbeddingError {}

/// What a SQL function returns as its error: pgrx raises it with code, detail and hint.
impl From<EmbeddingError> for ErrorReport {
    #[track_caller]
    fn from(error: EmbeddingError) -> Self {
        let mut report = ErrorReport::new(error.code(), error.to_string(), "embedding");
        if let Some(detail) = error.detail() {
            report = report.set_detail(detail);
        }
        if let Some(hint) = error.hint() {
            report = report.set_hint(hint);
        }
        report
    }
}
