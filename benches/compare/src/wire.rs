//! What goes over the wire in PostgreSQL's binary formats: vectors out, EXPLAIN's JSON in. Both
//! extensions' types have the same bytes, so one encoding serves both.

use std::error::Error;

use half::f16;
use postgres::types::private::BytesMut;
use postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// A vector as `embedding` and `halfvec` send and receive it: int2 dimensions, int2 zero, then the
/// fp16 elements, all big-endian.
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

    #[cfg(test)]
    pub fn bytes(&self) -> &[u8] {
        &self.0
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

    fn accepts(_type: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// A value of type `json`.
#[derive(Debug)]
pub struct Json(pub serde_json::Value);

impl<'a> FromSql<'a> for Json {
    fn from_sql(_type: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(serde_json::from_slice(raw)?))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::JSON
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_big_endian() {
        let vector = Vector::new(&[f16::ONE, f16::from_f32(-2.0)]);
        assert_eq!(vector.bytes(), [0, 2, 0, 0, 0x3c, 0, 0xc0, 0]);
    }
}
