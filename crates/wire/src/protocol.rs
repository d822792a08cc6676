//! The messages that a PostgreSQL backend and the encoder process exchange over a
//! Unix socket. Its own file, and free of I/O, because both ends use it: the encoder
//! on its event loop, the backend on a non-blocking socket that it waits on with latches.
//!
//! A client opens with [`Request::Hello`] and may go on at once. Each later request
//! carries an id that the client chose; each but [`Request::Cancel`] gets exactly one
//! answer with that id, in any order. Closing the connection cancels everything on it.
//! Every list, text and blob has a bound that is checked while it is read, so that no
//! sequence of bytes makes the reader allocate more than a small multiple of the frame.

mod frame;
#[cfg(test)]
mod tests;

pub use frame::{FrameReader, Incoming, ProtocolError, encode_frame};

use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
pub use serde_bytes::ByteBuf;
use std::fmt;
use std::marker::PhantomData;

/// The version that both ends say in their Hello. It grows with any change to a message.
pub const VERSION: u32 = 4;

/// The most images or texts in one request.
pub const MAX_ITEMS: usize = 4096;

/// The most bytes of one text. CLIP reads 77 tokens, so a text beyond this is a mistake.
pub const MAX_TEXT_BYTES: usize = 32 * 1024;

/// The most bytes of one path.
pub const MAX_PATH_BYTES: usize = 4096;

/// Names a model: where it lies, what it must be, and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ModelRef {
    /// An absolute path of a model directory.
    pub directory: String,
    /// SHA-256 of the bytes of its `clip.json`.
    pub digest: [u8; 32],
    /// The language that texts are in, by the name that the model's tokeniser has for it, such as
    /// `deu_Latn`; without it the one that the model was registered for, where it has any.
    pub language: Option<String>,
}

/// An image of a request: its file's bytes, or where the encoder finds them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Image {
    /// The bytes of a file of an image, in one of the formats that are decoded.
    Bytes(ByteBuf),
    /// A regular file that lies beneath a directory, with no link on the way: an absolute path, and
    /// one relative to it.
    File { root: String, path: String },
}

impl Image {
    /// Bytes of the image that are sent.
    pub fn sent_bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File { .. } => 0,
        }
    }
}

impl From<Vec<u8>> for Image {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(ByteBuf::from(bytes))
    }
}

/// What a client asks. The order of the variants is part of the format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// The first message of a connection. Its form is the same in every version.
    Hello { version: u32 },
    /// Encode images.
    Images {
        id: u64,
        model: ModelRef,
        #[serde(deserialize_with = "bounded")]
        images: Vec<Image>,
    },
    /// Encode texts, exactly as they are written.
    Texts {
        id: u64,
        model: ModelRef,
        #[serde(deserialize_with = "bounded")]
        texts: Vec<String>,
    },
    /// Load the model in a directory, check it by encoding a probe, and describe it.
    Describe { id: u64, directory: String },
    /// Describe the encoder process.
    Status { id: u64 },
    /// Forget an earlier request. There is no answer to this, nor to that request.
    Cancel { id: u64 },
}

/// What the encoder answers. The order of the variants is part of the format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Response {
    /// The answer to Hello. Its form is the same in every version.
    Hello { version: u32 },
    /// One item for each image or text, in the order of the request.
    Embeddings {
        id: u64,
        /// Numbers in each embedding.
        dimensions: u32,
        /// A unit-length embedding as `dimensions` little-endian halves (fp16), or why
        /// there is none. One bad item leaves the others alone.
        #[serde(deserialize_with = "bounded")]
        items: Vec<Result<ByteBuf, ItemError>>,
    },
    /// The answer to Describe.
    Model { id: u64, model: ModelInfo },
    /// The answer to Status.
    Status { id: u64, status: Box<Status> },
    /// The request as a whole has failed. An id of 0 in answer to Hello, or to bytes that
    /// are no message, concerns the connection, which is then closed.
    Failed { id: u64, kind: ErrorKind, message: String, hint: String },
}

/// Why one image or text of a request has no embedding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemError {
    pub kind: ErrorKind,
    /// A sentence without capital and full stop, as PostgreSQL's messages are.
    pub message: String,
}

/// What went wrong. The extension maps each kind to an SQLSTATE. New kinds go at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ErrorKind {
    /// The bytes are no image that can be decoded, or a damaged one.
    BadImage,
    /// The image has more bytes or pixels, or needs more memory, than the limits allow.
    ImageTooLarge,
    /// The text is longer than [`MAX_TEXT_BYTES`].
    TextTooLong,
    /// The queue is full: the request may be sent again later.
    Overloaded,
    /// There is no model directory at that path.
    ModelNotFound,
    /// The model directory is not the one that was registered.
    ModelDigestMismatch,
    /// The directory is no valid model, or ONNX Runtime refuses it.
    ModelInvalid,
    /// ONNX Runtime's library is missing, or too old.
    RuntimeMissing,
    /// The device that was asked for explicitly is not there.
    DeviceMissing,
    /// The two ends speak different versions of this protocol.
    VersionMismatch,
    /// The request breaks a rule of this protocol.
    BadRequest,
    /// A fault of the encoder's own.
    Internal,
    /// The model has ended the encoder too often while it was loaded.
    ModelRefused,
    /// The device has no memory left for even one item.
    OutOfMemory,
    /// The encoder may not read the model directory.
    ModelClosed,
    /// There is no file of that path beneath the root, or no such root.
    FileNotFound,
    /// The path leaves its root or comes by a link, it is no regular file, or cannot be read.
    FileRefused,
    /// The file was written to while it was read.
    FileChanged,
    /// An image, in a format or with a feature that is not read.
    UnsupportedImage,
    /// The model has no such language, or no languages at all.
    NoLanguage,
}

/// What is inside a model directory, as found by loading it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// The name that its `clip.json` gives.
    pub name: String,
    /// The architecture, free text.
    pub architecture: String,
    /// SHA-256 of the bytes of `clip.json`, which itself pins every other file.
    pub digest: [u8; 32],
    /// Numbers in an embedding.
    pub dimensions: u32,
    /// Width and height in pixels of what the image tower reads.
    pub image_size: u32,
    /// Tokens that the text tower reads.
    pub context_length: u32,
    /// The multiplier of cosine similarities in zero-shot probabilities.
    pub logit_scale: f32,
    /// `fp32` or `fp16`.
    pub precision: String,
    /// The mean of many texts' embeddings, for centring, where the model has one.
    pub mean_text_embedding: Option<Vec<f32>>,
    /// The device that it runs on: `cpu`, `cuda` or `tensorrt`.
    pub device: String,
}

/// A model that the encoder holds in memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadedModel {
    pub name: String,
    pub directory: String,
    pub digest: [u8; 32],
    pub dimensions: u32,
    pub device: String,
    /// Bytes of the graphs and weights that are loaded of it.
    pub bytes: u64,
    /// Seconds since somebody used it.
    pub idle_seconds: f64,
}

/// The encoder process at one moment. Counters count from its start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Process id.
    pub pid: u32,
    /// Version of the encoder.
    pub version: String,
    /// Seconds since its start.
    pub uptime_seconds: f64,
    /// What was asked for: `auto`, `cpu`, `cuda` or `tensorrt`.
    pub device: String,
    /// Version of ONNX Runtime, empty as long as it could not be loaded.
    pub runtime_version: String,
    /// Why ONNX Runtime could not be loaded, else empty.
    pub runtime_error: String,
    /// Models in memory, the last used first.
    #[serde(deserialize_with = "bounded")]
    pub models: Vec<LoadedModel>,
    /// Open connections, the asking one included.
    pub connections: u32,
    /// Images that wait to be put into a batch.
    pub queued_images: u64,
    /// Texts that wait to be put into a batch.
    pub queued_texts: u64,
    /// Requests that were turned away because a queue was full.
    pub overloaded: u64,
    /// Requests dropped unanswered: cancelled, or their connection closed.
    pub cancelled: u64,
    /// Images that were encoded.
    pub images: u64,
    /// Texts that were encoded, those out of the cache not counted.
    pub texts: u64,
    /// Images and texts that got an error of their own.
    pub item_errors: u64,
    /// Batches of images that went through inference.
    pub image_batches: u64,
    /// Batches of texts that went through inference.
    pub text_batches: u64,
    /// Mean share of the maximum batch that an image batch filled, 0 to 1.
    pub image_batch_fill: f64,
    /// Texts answered out of the cache.
    pub cache_hits: u64,
    /// Texts that were not in the cache.
    pub cache_misses: u64,
    /// Images a second over the last minute, or since the start where that is later.
    pub images_per_second: f64,
    /// Median, over the last 1,024 requests, of milliseconds from arrival to answer.
    pub latency_p50_ms: f64,
    /// The 99th percentile of the same.
    pub latency_p99_ms: f64,
    /// Encoders that ran before this one under the same supervisor.
    pub restarts: u32,
    /// Models that are not loaded any more, since they ended the encoder, by name.
    #[serde(deserialize_with = "bounded")]
    pub refused: Vec<String>,
    /// What the process has given up, in words.
    pub confinement: String,
}

impl Request {
    /// The id that the client chose; 0 for Hello, which has none.
    pub fn id(&self) -> u64 {
        match *self {
            Request::Hello { .. } => 0,
            Request::Images { id, .. }
            | Request::Texts { id, .. }
            | Request::Describe { id, .. }
            | Request::Status { id }
            | Request::Cancel { id } => id,
        }
    }
}

impl Response {
    /// The id of the request that this answers; 0 for Hello.
    pub fn id(&self) -> u64 {
        match *self {
            Response::Hello { .. } => 0,
            Response::Embeddings { id, .. }
            | Response::Model { id, .. }
            | Response::Status { id, .. }
            | Response::Failed { id, .. } => id,
        }
    }
}

/// Reads a list of at most [`MAX_ITEMS`]: an empty item takes one byte of a frame but
/// twenty-four of memory, so the frame's bound alone is not enough.
fn bounded<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Bounded<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Bounded<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            write!(f, "a list of at most {MAX_ITEMS} items")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut items = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(MAX_ITEMS));
            while let Some(item) = seq.next_element()? {
                if items.len() == MAX_ITEMS {
                    return Err(A::Error::custom("too many items"));
                }
                items.push(item);
            }
            Ok(items)
        }
    }

    deserializer.deserialize_seq(Bounded(PhantomData))
}
