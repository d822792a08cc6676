//! Protobuf messages taken apart into fields and put together again with nothing lost: graphs that
//! others made hold fields that `proto` does not know. Bytes stay where they are (in a mapped file);
//! only what is changed is copied.

use std::io::{self, Write};

/// A message as a list of its fields, in their order.
#[derive(Clone, Debug, Default)]
pub struct Message<'a> {
    pub fields: Vec<(u32, Field<'a>)>,
}

/// The value of one field.
#[derive(Clone, Debug)]
pub enum Field<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    /// A text, bytes or a message that nobody looked into.
    Bytes(&'a [u8]),
    Owned(Vec<u8>),
    Message(Message<'a>),
}

impl<'a> Message<'a> {
    /// Takes a message apart; `None` where the bytes are none.
    pub fn parse(mut bytes: &'a [u8]) -> Option<Self> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes)?;
            let number = u32::try_from(key >> 3).ok().filter(|number| *number > 0)?;
            let field = match key & 7 {
                0 => Field::Varint(varint(&mut bytes)?),
                1 => Field::Fixed64(*bytes.split_off(..8)?.as_array()?),
                2 => {
                    let length = usize::try_from(varint(&mut bytes)?).ok()?;
                    Field::Bytes(bytes.split_off(..length)?)
                }
                5 => Field::Fixed32(*bytes.split_off(..4)?.as_array()?),
                _ => return None,
            };
            fields.push((number, field));
        }
        Some(Self { fields })
    }

    /// All fields of this number that are bytes.
    pub fn all(&self, number: u32) -> impl Iterator<Item = &'a [u8]> {
        self.fields.iter().filter_map(move |(of, field)| match field {
            Field::Bytes(bytes) if *of == number => Some(*bytes),
            _ => None,
        })
    }

    /// The last field of this number that is bytes.
    pub fn bytes(&self, number: u32) -> Option<&'a [u8]> {
        self.all(number).last()
    }

    /// The same as a text.
    pub fn text(&self, number: u32) -> &'a str {
        self.bytes(number).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// The message in the field of this number.
    pub fn message(&self, number: u32) -> Option<Message<'a>> {
        Self::parse(self.bytes(number)?)
    }

    pub fn number(&self, number: u32) -> Option<u64> {
        self.fields.iter().rev().find_map(|(of, field)| match field {
            Field::Varint(value) if *of == number => Some(*value),
            _ => None,
        })
    }

    /// A repeated number, one by one or packed.
    pub fn numbers(&self, number: u32) -> Option<Vec<i64>> {
        let mut all = Vec::new();
        for (of, field) in &self.fields {
            match field {
                Field::Varint(value) if *of == number => all.push(*value as i64),
                Field::Bytes(bytes) if *of == number => {
                    let mut bytes = *bytes;
                    while !bytes.is_empty() {
                        all.push(varint(&mut bytes)? as i64);
                    }
                }
                _ => {}
            }
        }
        Some(all)
    }

    /// Bytes of the whole message.
    pub fn len(&self) -> usize {
        self.fields.iter().map(|(number, field)| key_len(*number) + field.len()).sum()
    }

    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for (number, field) in &self.fields {
            let key = |kind: u64| u64::from(*number) << 3 | kind;
            match field {
                Field::Varint(value) => {
                    put_varint(out, key(0))?;
                    put_varint(out, *value)?;
                }
                Field::Fixed64(bytes) => {
                    put_varint(out, key(1))?;
                    out.write_all(bytes)?;
                }
                Field::Fixed32(bytes) => {
                    put_varint(out, key(5))?;
                    out.write_all(bytes)?;
                }
                Field::Bytes(bytes) => {
                    put_varint(out, key(2))?;
                    put_varint(out, bytes.len() as u64)?;
                    out.write_all(bytes)?;
                }
                Field::Owned(bytes) => {
                    put_varint(out, key(2))?;
                    put_varint(out, bytes.len() as u64)?;
                    out.write_all(bytes)?;
                }
                Field::Message(message) => {
                    put_varint(out, key(2))?;
                    put_varint(out, message.len() as u64)?;
                    message.write(out)?;
                }
            }
        }
        Ok(())
    }

    pub fn put_text(&mut self, number: u32, text: &str) {
        self.fields.push((number, Field::Owned(text.as_bytes().to_vec())));
    }

    pub fn put_number(&mut self, number: u32, value: i64) {
        self.fields.push((number, Field::Varint(value as u64)));
    }

    pub fn put_message(&mut self, number: u32, message: Message<'a>) {
        self.fields.push((number, Field::Message(message)));
    }

    /// Drops all fields of this number.
    pub fn remove(&mut self, number: u32) {
        self.fields.retain(|(of, _)| *of != number);
    }
}

impl Field<'_> {
    fn len(&self) -> usize {
        let delimited = |length: usize| varint_len(length as u64) + length;
        match self {
            Self::Varint(value) => varint_len(*value),
            Self::Fixed64(_) => 8,
            Self::Fixed32(_) => 4,
            Self::Bytes(bytes) => delimited(bytes.len()),
            Self::Owned(bytes) => delimited(bytes.len()),
            Self::Message(message) => delimited(message.len()),
        }
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn put_varint(out: &mut impl Write, mut value: u64) -> io::Result<()> {
    while value >= 0x80 {
        out.write_all(&[value as u8 | 0x80])?;
        value >>= 7;
    }
    out.write_all(&[value as u8])
}

fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn key_len(number: u32) -> usize {
    varint_len(u64::from(number) << 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{AttributeProto, NodeProto};
    use prost::Message as _;

    fn node() -> NodeProto {
        NodeProto {
            input: vec!["x".into(), String::new()],
            output: vec!["y".repeat(300)],
            name: "n".into(),
            op_type: "Relu".into(),
            attribute: vec![AttributeProto {
                name: "a".into(),
                f: Some(0.5),
                i: Some(-3),
                s: Some(vec![1]),
                ints: vec![1, -1, 1 << 40],
                r#type: 7,
            }],
        }
    }

    #[test]
    fn what_is_taken_apart_is_put_together_to_the_byte() {
        let bytes = node().encode_to_vec();
        let mut message = Message::parse(&bytes).unwrap();
        assert_eq!((message.text(4), message.all(1).count()), ("Relu", 2));
        let attribute = message.message(5).unwrap();
        assert_eq!(attribute.numbers(8).unwrap(), [1, -1, 1 << 40]);
        message.fields.iter_mut().for_each(|(number, field)| {
            if *number == 5 {
                *field = Field::Message(attribute.clone());
            }
        });
        let mut out = Vec::new();
        message.write(&mut out).unwrap();
        assert_eq!((out.len(), &out), (message.len(), &bytes));
    }

    /// A length that reaches beyond the file, or a key of no kind, once made readers of such files
    /// panic.
    #[test]
    fn bytes_that_are_no_message_are_refused() {
        let bytes = node().encode_to_vec();
        for end in 1..bytes.len() {
            let _ = Message::parse(&bytes[..end]);
        }
        for bad in [&[0x0a, 5, 1][..], &[0x0b], &[0x00, 1], &[0xff; 12], &[0x09, 1, 2]] {
            assert!(Message::parse(bad).is_none(), "{bad:?}");
        }
    }
}
