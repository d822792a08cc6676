//! An embedding as PostgreSQL's binary format has it: what `embedding` and pgvector's `halfvec` send and
//! receive.

use std::error::Error;

use half::f16;
use postgres::types::private::BytesMut;
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};

/// int2 dimensions, int2 zero, then the fp16 elements, all big-endian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vector(Vec<u8>);

impl Vector {
    pub fn new(values: &[f16]) -> Self {
        let mut bytes = Vec::with_capacity(4 + 2 * values.len());
        bytes.extend((values.len() as u16).to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(values.iter().flat_map(|x| x.to_bits().to_be_bytes()));
        Self(bytes)
    }

    /// Of these numbers, rounded.
    pub fn of(numbers: impl IntoIterator<Item = f32>) -> Self {
        Self::new(&numbers.into_iter().map(f16::from_f32).collect::<Vec<f16>>())
    }

    /// The elements.
    pub fn values(&self) -> impl Iterator<Item = f16> {
        self.0[4..].chunks_exact(2).map(|pair| f16::from_be_bytes([pair[0], pair[1]]))
    }
}

impl ToSql for Vector {
    fn to_sql(
        &self,
        _type: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    // The types are an extension's: their numbers and schemas differ from database to database.
    fn accepts(_type: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_big_endian() {
        let vector = Vector::new(&[f16::ONE, f16::from_f32(-2.0)]);
        assert_eq!(vector.0, [0, 2, 0, 0, 0x3c, 0, 0xc0, 0]);
        assert_eq!(vector.values().collect::<Vec<_>>(), [f16::ONE, f16::from_f32(-2.0)]);
    }
}
