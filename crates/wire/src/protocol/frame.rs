//! Frames: how messages lie in the byte stream. Its own file because nothing in it
//! depends on what the messages are.
//!
//! ```text
//! offset  size  what
//!      0     4  length of the body in bytes, u32 little-endian, 1 ..= MAX_FRAME
//!      4     …  body: one message in postcard's encoding
//!               ┌ variant of the message       varint u32
//!               ├ id (version for Hello)       varint u64 (u32 for Hello)
//!               └ the variant's other fields, in their order
//! ```
//!
//! Postcard writes integers as little-endian base-128 varints, lists, texts and blobs as
//! a varint length and their content, `f32` and `f64` as little-endian bytes, and options,
//! results and variants as a varint tag.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Bytes before the body.
pub(super) const HEADER: usize = 4;

/// The most bytes in a body: 256 MiB.
pub(super) const MAX_FRAME: usize = 256 * 1024 * 1024;

/// The longest that a variant and an id can be: five and ten bytes of varint.
const MAX_HEAD: usize = 15;

const _: () = assert!(HEADER == size_of::<u32>() && MAX_FRAME <= u32::MAX as usize);

/// The bytes of the stream are no messages. The connection can only be closed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProtocolError {
    #[error("a frame of {0} bytes is outside the bounds of 1 to {MAX_FRAME} bytes")]
    FrameLength(usize),
    #[error("a frame of {0} bytes holds no valid message")]
    Malformed(usize),
}

/// A message as header and body, ready to be written.
///
/// Fails with [`ProtocolError::FrameLength`] when the body is over 256 MiB: the sender
/// has to split its request.
pub fn encode_frame<T: Serialize>(message: &T) -> Result<Vec<u8>, ProtocolError> {
    // Only types that postcard can't express make this fail; the protocol has none.
    let mut frame =
        postcard::to_extend(message, vec![0; HEADER]).map_err(|_| ProtocolError::Malformed(0))?;
    let length = frame.len() - HEADER;
    if !(1..=MAX_FRAME).contains(&length) {
        return Err(ProtocolError::FrameLength(length));
    }
    frame[..HEADER].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(frame)
}

/// The frame at the front of the stream, as soon as its beginning has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Bytes of the whole body.
    pub length: usize,
    /// The second field of the message: the id of all but Hello.
    pub id: u64,
}

/// Cuts a stream of bytes into messages, however the bytes are cut on arrival.
///
/// After an error it stays in it: a stream that was lost track of can't be taken up again.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that were given out already.
    consumed: usize,
    /// Bytes of a skipped frame that are yet to arrive.
    skip: usize,
    error: Option<ProtocolError>,
}

impl FrameReader {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes in. The memory held is what has arrived and was not given out.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.error.is_some() {
            return;
        }
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        if self.consumed == self.buffer.len() {
            self.buffer.clear();
            self.consumed = 0;
        } else if self.consumed > self.buffer.len() / 2 {
            self.buffer.drain(..self.consumed);
            self.consumed = 0;
        }
        self.buffer.extend_from_slice(&bytes[skipped..]);
    }

    /// Gives out the next message, `None` as long as it has not arrived whole.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ProtocolError> {
        let Some(length) = self.length()? else { return Ok(None) };
        let start = self.consumed + HEADER;
        let Some(body) = self.buffer.get(start..start + length) else { return Ok(None) };
        match postcard::take_from_bytes(body) {
            Ok((message, [])) => {
                self.consumed = start + length;
                self.release();
                Ok(Some(message))
            }
            _ => Err(self.fail(ProtocolError::Malformed(length))),
        }
    }

    /// The frame that is arriving, once its length and id are known.
    pub fn incoming(&mut self) -> Result<Option<Incoming>, ProtocolError> {
        let Some(length) = self.length()? else { return Ok(None) };
        let body = &self.buffer[self.consumed + HEADER..];
        let head = &body[..body.len().min(length).min(MAX_HEAD)];
        let whole = head.len() == length.min(MAX_HEAD);
        match postcard::take_from_bytes::<(u32, u64)>(head) {
            Ok(((_, id), _)) => Ok(Some(Incoming { length, id })),
            Err(_) if whole => Err(self.fail(ProtocolError::Malformed(length))),
            Err(_) => Ok(None),
        }
    }

    /// Drops the frame that is arriving: what of it is here, and the rest as it comes.
    pub fn skip_incoming(&mut self) -> Result<(), ProtocolError> {
        if let Some(length) = self.length()? {
            let here = (self.buffer.len() - self.consumed).min(HEADER + length);
            self.consumed += here;
            self.skip = HEADER + length - here;
            self.release();
        }
        Ok(())
    }

    /// Bytes that have arrived and were not given out.
    pub fn buffered(&self) -> usize {
        self.buffer.len() - self.consumed
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// The length of the frame at the front, when its header is there.
    fn length(&mut self) -> Result<Option<usize>, ProtocolError> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let Some(header) = self.buffer[self.consumed..].first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*header) as usize;
        if (1..=MAX_FRAME).contains(&length) {
            Ok(Some(length))
        } else {
            Err(self.fail(ProtocolError::FrameLength(length)))
        }
    }

    fn fail(&mut self, error: ProtocolError) -> ProtocolError {
        self.buffer = Vec::new();
        self.consumed = 0;
        self.error = Some(error.clone());
        error
    }

    /// Gives the memory of a large frame back once nothing of it is left.
    fn release(&mut self) {
        if self.consumed == self.buffer.len() && self.buffer.capacity() > 1024 * 1024 {
            self.buffer = Vec::new();
            self.consumed = 0;
        }
    }
}
