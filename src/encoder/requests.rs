//! Images and texts as requests to the encoder, and its answers as embeddings: in pieces that keep
//! the encoder busy and memory bounded, several of them under way at once.

use std::collections::VecDeque;

use half::f16;
use pgclip_wire::protocol::{
    ByteBuf, ErrorKind, Image, ItemError, MAX_PATH_BYTES, ModelInfo, Request, Response, Status,
};
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;

use super::client::{self, Ticket};
use super::refusal::refusal;
pub use super::socket::pause;
use crate::embedding::Embedding;
use crate::error::Failure;
use crate::limits;
use crate::models::Model;

/// Images in one request.
const MAX_IMAGES: usize = 32;
/// Bytes of images after which a request is full.
const FULL_BYTES: usize = 8 << 20;
/// The most bytes of one image: with it a request stays far below the bound of a frame.
const MAX_IMAGE_BYTES: usize = 128 << 20;
/// Requests under way at once: one that the encoder works on, one that it decodes, one on its way.
pub const IN_FLIGHT: usize = 3;
/// Texts in one request.
const MAX_TEXTS: usize = 256;

/// An embedding's elements, or why an item has none.
pub type Item = Result<Vec<f16>, Failure>;

/// Images that go to the encoder together.
#[derive(Debug, Default)]
pub struct Batch {
    images: Vec<Image>,
    bytes: usize,
}

impl Batch {
    /// Whether an image is small enough to be sent at all.
    pub fn check(image: &Image) -> Result<(), Failure> {
        if let Image::File { path, .. } = image
            && path.len() > MAX_PATH_BYTES
        {
            return Err(Failure::new(
                Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                format!("a path of {} bytes is longer than {MAX_PATH_BYTES} bytes", path.len()),
            ));
        }
        Self::check_bytes(image.sent_bytes())
    }

    /// The same for an image of this many bytes.
    pub fn check_bytes(bytes: usize) -> Result<(), Failure> {
        if bytes <= MAX_IMAGE_BYTES {
            return Ok(());
        }
        let message = format!(
            "an image of {bytes} bytes is larger than the {MAX_IMAGE_BYTES} bytes that are allowed"
        );
        Err(refusal(ErrorKind::ImageTooLarge, message, String::new()))
    }

    /// Adds an image that passed [`Batch::check`].
    pub fn push(&mut self, image: Image) {
        self.bytes += image.sent_bytes();
        self.images.push(image);
    }

    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Whether it is time to send.
    pub fn is_full(&self) -> bool {
        self.images.len() >= MAX_IMAGES || self.bytes >= FULL_BYTES
    }

    /// Sends the images and leaves the batch empty.
    pub fn send(&mut self, model: &Model) -> Result<Sent, Failure> {
        let images = std::mem::take(self).images;
        let count = images.len();
        let model_ref = model.reference.clone();
        let ticket = client::send(|id| Request::Images { id, model: model_ref, images })?;
        Ok(Sent { ticket, count, dimensions: model.dimensions })
    }
}

/// Items that are with the encoder.
#[derive(Debug)]
pub struct Sent {
    ticket: Ticket,
    count: usize,
    dimensions: usize,
}

impl Sent {
    /// Waits for the embeddings, one for each item in its order.
    pub fn wait(self) -> Result<Vec<Item>, Failure> {
        match self.ticket.wait()? {
            Response::Embeddings { items, .. } if items.len() == self.count => {
                items.into_iter().map(|item| elements(item, self.dimensions)).collect()
            }
            other => Err(unexpected(&other)),
        }
    }
}

/// What an item is: an embedding, or an error of its own. The outer error is the encoder's fault.
fn elements(item: Result<ByteBuf, ItemError>, dimensions: usize) -> Result<Item, Failure> {
    match item {
        Ok(bytes) if bytes.len() == dimensions * 2 => Ok(Ok(bytes
            .chunks_exact(2)
            .map(|pair| f16::from_le_bytes([pair[0], pair[1]]))
            .collect())),
        Ok(bytes) => Err(Failure::new(
            Code::ERRCODE_INTERNAL_ERROR,
            format!("the encoder sent {} bytes for {dimensions} dimensions", bytes.len()),
        )),
        Err(ItemError { kind, message }) => Ok(Err(refusal(kind, message, String::new()))),
    }
}

/// The embedding of one image.
pub fn image(model: &Model, image: Image) -> Result<Embedding, Failure> {
    let mut batch = Batch::default();
    Batch::check(&image)?;
    batch.push(image);
    let item = batch.send(model)?.wait()?.pop().expect("one item for one image");
    to_embedding(&item?)
}

/// The embeddings of `count` images that come from an iterator, at the places where they come from.
pub fn images<'a>(
    model: &Model,
    count: usize,
    source: impl Iterator<Item = Option<&'a [u8]>>,
) -> Result<Vec<Option<Embedding>>, Failure> {
    check_count(model, count)?;
    let mut embeddings = Vec::new();
    let mut places = VecDeque::new();
    let mut under_way: VecDeque<Sent> = VecDeque::new();
    let mut batch = Batch::default();
    let receive = |under_way: &mut VecDeque<Sent>,
                   places: &mut VecDeque<usize>,
                   embeddings: &mut Vec<Option<Embedding>>| {
        let Some(sent) = under_way.pop_front() else { return Ok(()) };
        for item in sent.wait()? {
            let place = places.pop_front().expect("every item has a place");
            let elements = item.map_err(|failure| match count > 1 {
                true => failure.detail(format!("It is element {} of the array.", place + 1)),
                false => failure,
            })?;
            embeddings[place] = Some(to_embedding(&elements)?);
        }
        Ok::<_, Failure>(())
    };
    for (round, image) in source.enumerate() {
        limits::poll(round);
        embeddings.push(None);
        let Some(image) = image else { continue };
        places.push_back(embeddings.len() - 1);
        Batch::check_bytes(image.len())?;
        batch.push(image.to_vec().into());
        if batch.is_full() {
            if under_way.len() == IN_FLIGHT {
                receive(&mut under_way, &mut places, &mut embeddings)?;
            }
            under_way.push_back(batch.send(model)?);
        }
    }
    if !batch.is_empty() {
        under_way.push_back(batch.send(model)?);
    }
    while !under_way.is_empty() {
        receive(&mut under_way, &mut places, &mut embeddings)?;
    }
    Ok(embeddings)
}

/// The embeddings of texts, exactly as they are written.
pub fn texts(model: &Model, texts: &[&str]) -> Result<Vec<Embedding>, Failure> {
    check_count(model, texts.len())?;
    texts.iter().try_for_each(|text| limits::text(text))?;
    let mut embeddings = Vec::with_capacity(texts.len());
    let mut under_way = VecDeque::new();
    let mut receive = |sent: Sent| {
        for item in sent.wait()? {
            embeddings.push(to_embedding(&item?)?);
        }
        Ok::<_, Failure>(())
    };
    for piece in texts.chunks(MAX_TEXTS) {
        if under_way.len() == IN_FLIGHT {
            under_way.pop_front().map_or(Ok(()), &mut receive)?;
        }
        let model_ref = model.reference.clone();
        let texts = piece.iter().map(|text| text.to_string()).collect();
        let ticket = client::send(|id| Request::Texts { id, model: model_ref, texts })?;
        under_way.push_back(Sent { ticket, count: piece.len(), dimensions: model.dimensions });
    }
    under_way.into_iter().try_for_each(receive)?;
    Ok(embeddings)
}

/// Whether so many embeddings may be asked for in one call.
fn check_count(model: &Model, count: usize) -> Result<(), Failure> {
    limits::check("elements to encode", count, limits::ITEMS)
        .map_err(|failure| failure.hint("Encode them in several calls."))?;
    limits::result(count, 2 * model.dimensions + 8)
}

/// What a model directory holds, found by loading it in the encoder.
pub fn describe(directory: &str) -> Result<ModelInfo, Failure> {
    let directory = directory.to_owned();
    match client::send(|id| Request::Describe { id, directory })?.wait()? {
        Response::Model { model, .. } => Ok(model),
        other => Err(unexpected(&other)),
    }
}

/// The encoder process now, if there is one: nobody has one started by looking.
pub fn status() -> Result<Status, Failure> {
    match client::ask_running(|id| Request::Status { id })? {
        Response::Status { status, .. } => Ok(*status),
        other => Err(unexpected(&other)),
    }
}

/// Waits for an encoder that answers, and has one started where there is none.
pub fn ready() -> Result<(), Failure> {
    client::send(|id| Request::Status { id })?.wait().map(|_| ())
}

/// Allocates an embedding in the current memory context.
pub fn to_embedding(elements: &[f16]) -> Result<Embedding, Failure> {
    Embedding::from_f16_slice(elements).map_err(|error| {
        Failure::new(Code::ERRCODE_INTERNAL_ERROR, "the model's output is no embedding")
            .detail(format!("{error}."))
            .hint("Check the model with \"pgclip-encoder check\".")
    })
}

fn unexpected(response: &Response) -> Failure {
    Failure::new(Code::ERRCODE_PROTOCOL_VIOLATION, "the encoder's answer does not fit the request")
        .detail(format!("It answered request {}.", response.id()))
}
