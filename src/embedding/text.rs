//! The text form, `[0.1,0.2]`: reading and writing, with no call into the server but its
//! shortest-decimal printer. Apart from [`io`](super::io) because the grammar is worth a page of
//! its own.
//!
//! ```text
//! embedding = space "[" number { "," number } "]" space
//! number    = space ( decimal as in Rust and C, with or without exponent ) space
//! space     = { " " | tab | newline | return | vertical tab | form feed }
//! ```

use std::ffi::{c_char, c_int};

use half::f16;

use super::error::EmbeddingError;
use super::value::Dims;

/// Bytes of a text form: a thousand for each element that an embedding can have.
const LONGEST: usize = 1000 * Dims::MAX;

/// Reads the text form into single precision. Errors name the element and quote the text.
pub fn parse(literal: &[u8]) -> Result<Vec<f32>, EmbeddingError> {
    if literal.len() > LONGEST {
        return Err(EmbeddingError::TooLong { bytes: literal.len(), most: LONGEST });
    }
    let syntax = |detail: String| EmbeddingError::Syntax { literal: quoted(literal), detail };
    let mut rest = skip_space(literal);
    rest = match rest.split_first() {
        Some((b'[', rest)) => skip_space(rest),
        _ => return Err(syntax("An embedding starts with \"[\".".into())),
    };
    if rest.first() == Some(&b']') && skip_space(&rest[1..]).is_empty() {
        return Err(EmbeddingError::Empty);
    }

    let mut values = Vec::new();
    loop {
        rest = skip_space(rest);
        let position = values.len() + 1;
        let end = rest.iter().position(|&b| ends_number(b)).unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let value = parse_number(number, position)?;
        values.push(value.ok_or_else(|| syntax(format!("Element {position} is not a number.")))?);
        rest = skip_space(after);
        match rest.split_first() {
            Some((b',', after)) if values.len() == Dims::MAX => {
                let more = 1 + after.iter().filter(|&&b| b == b',').count();
                return Err(EmbeddingError::TooManyDimensions(Dims::MAX + more));
            }
            Some((b',', after)) => rest = after,
            Some((b']', after)) => {
                return match skip_space(after) {
                    [] => Ok(values),
                    _ => Err(syntax("There is more text after the closing \"]\".".into())),
                };
            }
            Some(_) => {
                return Err(syntax(format!("Expected \",\" or \"]\" after element {position}.")));
            }
            None => return Err(syntax("The closing \"]\" is missing.".into())),
        }
    }
}

/// Writes the text form: of each element the shortest decimal that reads back as the same number.
pub fn print(values: &[f16]) -> Vec<u8> {
    unsafe extern "C-unwind" {
        /// PostgreSQL's own printer of `real` (src/common/f2s.c): at most 15 bytes, no terminator.
        fn float_to_shortest_decimal_bufn(value: f32, buffer: *mut c_char) -> c_int;
    }
    const WIDEST: usize = 16;

    let mut text = Vec::with_capacity(2 + values.len() * 12);
    text.push(b'[');
    let mut single = vec![0.0; values.len()];
    pgclip_simd::widen(values, &mut single);
    for (index, value) in single.into_iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        let mut number = [0u8; WIDEST];
        // SAFETY: the buffer has the printer's documented size; the printer raises no error.
        let length = unsafe { float_to_shortest_decimal_bufn(value, number.as_mut_ptr().cast()) };
        text.extend_from_slice(&number[..length as usize]);
    }
    text.push(b']');
    text
}

/// The number written in `text`, if it is one. Errors: NaN, infinity, and a number beyond `real`.
pub fn parse_number(text: &[u8], position: usize) -> Result<Option<f32>, EmbeddingError> {
    let Some(value) = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f32>().ok())
    else {
        return Ok(None);
    };
    if value.is_finite() {
        Ok(Some(value))
    } else if text.iter().any(u8::is_ascii_digit) {
        Err(EmbeddingError::OutOfRange { value: quoted(text), position })
    } else {
        Err(EmbeddingError::NotFinite { value: value.into(), position })
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn ends_number(byte: u8) -> bool {
    is_space(byte) || byte == b',' || byte == b']'
}

fn skip_space(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|&b| !is_space(b)).unwrap_or(text.len());
    &text[start..]
}

/// A piece of input for a message: its beginning, with what is not ASCII escaped, since the
/// database may have any encoding.
fn quoted(text: &[u8]) -> String {
    const SHOWN: usize = 60;
    let start = text[..text.len().min(SHOWN)].escape_ascii().to_string();
    if text.len() > SHOWN { start + "..." } else { start }
}
